"""Libraries that only some kinds of cluster need, and what users hand on to them."""

from __future__ import annotations

import importlib
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cwt_dask.errors import InputError, RunError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from distributed import Client

    # How to reach a cluster.
    Connect = Callable[[], AbstractContextManager[Client]]


def load(module: str, kind: str) -> Any:
    """Import a library that a kind of cluster needs.

    Raises
    ------
    InputError
        Naming the extra that brings it, if it is not there.
    """
    with _signals_kept():
        try:
            return importlib.import_module(module)
        except (ImportError, RuntimeError) as error:  # mpi4py: that there is no MPI to load
            raise InputError(
                f"cluster is {kind}, which needs {module.partition('.')[0]} ({error}): pip install 'cwt_dask[{kind}]'"
            ) from error


@contextmanager
def options_of(what: str) -> Iterator[threading.Event]:
    """Say in the user's terms what a library does not take of `cluster.options`.

    Yields an event to set once it has taken them, where it does more than that within.

    Raises
    ------
    SettingsError
        If it refuses them.
    RunError
        If it fails for another reason.
    """
    taken = threading.Event()
    try:
        yield taken
    except (TypeError, ValueError, RuntimeError) as error:
        first: BaseException = error
        while first.__cause__:
            first = first.__cause__
        said = " ".join(str(first).split())
        if taken.is_set() or not isinstance(first, TypeError | ValueError):
            raise RunError(
                f"{what} has failed ({type(first).__name__}: {said}): give the same command again, a run goes on where "
                "it stopped"
            ) from error
        raise SettingsError(f"{what} does not take these cluster.options: {said}") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Importing dask_jobqueue has Ctrl-C end the process without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
