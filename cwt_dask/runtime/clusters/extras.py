"""Optional libraries of some kinds of cluster, and their errors in the user's terms."""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from cwt_dask.errors import InputError, RunError, SettingsError

if TYPE_CHECKING:
    from distributed import Client

Connect = Callable[[], AbstractContextManager["Client"]]


def load(module: str, kind: str) -> Any:
    """Import a library that a kind of cluster needs; if it is missing, InputError names the extra that installs it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # mpi4py: that there is no MPI to load
        raise InputError(
            f"cluster is {kind}, which needs {module.partition('.')[0]} ({error}): pip install 'cwt_dask[{kind}]'"
        ) from error
    finally:
        # Importing dask_jobqueue has Ctrl-C end the process without a message.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def options_of(library: str) -> Iterator[threading.Event]:
    """Translate errors of a library that is given `cluster.options`: SettingsError if it refuses them, else RunError.

    Yields an event, to be set once it has accepted them, where the block does more than that.
    """
    accepted = threading.Event()
    try:
        yield accepted
    except (TypeError, ValueError, RuntimeError) as error:
        first: BaseException = error
        while first.__cause__:
            first = first.__cause__
        text = " ".join(str(first).split())
        if accepted.is_set() or not isinstance(first, TypeError | ValueError):
            raise RunError(
                f"{library} has failed ({type(first).__name__}: {text}): give the same command again to resume"
            ) from error
        raise SettingsError(f"{library} does not take these cluster.options: {text}") from error
