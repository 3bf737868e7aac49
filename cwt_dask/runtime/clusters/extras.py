"""Optional libraries of some kinds of cluster, and their errors in the user's terms."""

from __future__ import annotations

import importlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from cwt_dask.errors import CwtDaskError, InputError, RunError, SettingsError
from cwt_dask.runtime.clusters.script import GUARD

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
def starting(library: str, what: str, remedy: str, *, has_options: bool) -> Iterator[None]:
    """Say in one line what goes wrong where a library starts a cluster: its chain of causes has a hundred.

    Raises SettingsError if it refuses `cluster.options`, else InputError.

    Parameters
    ----------
    library : str
        What takes the options.
    what : str
        What it starts.
    remedy : str
        What to do.
    has_options : bool
        Whether any are given.
    """
    # Of an event loop that cannot go on.
    loop = logging.getLogger("asyncio")
    level = loop.level
    loop.setLevel(logging.CRITICAL)
    try:
        yield
    except CwtDaskError:
        raise
    except Exception as error:  # noqa: BLE001 - of Dask, of the system, and of what options name
        first = _first_cause(error)
        if has_options and isinstance(first, TypeError | ValueError):
            raise SettingsError(f"{library} does not take these cluster.options: {_text(first)}") from None
        if "failed to start worker process" in str(first):
            raise InputError(f"workers end as they start: {GUARD}") from None
        raise InputError(f"{what} cannot start here ({type(first).__name__}: {_text(first)}): {remedy}") from None
    finally:
        loop.setLevel(level)


@contextmanager
def options_of(library: str) -> Iterator[threading.Event]:
    """As `starting`, where the block does more than that; RunError for what goes wrong later.

    Yields an event, to be set once the options are accepted.
    """
    accepted = threading.Event()
    try:
        yield accepted
    except CwtDaskError:
        raise
    except Exception as error:
        first = _first_cause(error)
        if accepted.is_set() or not isinstance(first, TypeError | ValueError):
            raise RunError(
                f"{library} has failed ({type(first).__name__}: {_text(first)}): give the same command again to resume"
            ) from error
        raise SettingsError(f"{library} does not take these cluster.options: {_text(first)}") from error


def _first_cause(error: BaseException) -> BaseException:
    # Dask closes what could not start, and asserts that all of it had.
    while cause := error.__cause__ or (isinstance(error, AssertionError) and error.__context__):
        error = cause
    return error


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())
