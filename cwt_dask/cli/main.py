"""Where the command starts: signals are heard before anything is imported that takes its time."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from types import FrameType

from cwt_dask.cli.streams import give_up_output, take_streams
from cwt_dask.errors import InterruptedRun
from cwt_dask.runtime.signals import SIGNALS, forget_signals, ignore_signals, is_echo

INTERRUPTED = "cwt-dask: interrupted: give the same command again; a run goes on where it stopped\n"
# Commands that write files.
_WORKS = ("run", "reprocess", "ingest", "background", "simulate", "match", "measure", "report")
# In which Python leaves a callback.
_SOON = 0.1


class _Interrupted(KeyboardInterrupt):
    """As Ctrl-C. Of KeyboardInterrupt itself, `python -m` remembers that it has passed through an `exec` of text."""


def main() -> int:
    """Run the command line and return its exit status, 75 where a signal has come at any time."""
    for number in SIGNALS:
        signal.signal(number, _hear)
    sys.unraisablehook = _hear_again
    take_streams()
    # What libraries and a report make stays: looking for garbage among it is a tenth of a small run's time.
    gc.set_threshold(200_000, 50, 100)
    try:
        status = _run_command()
    except KeyboardInterrupt:
        sys.stderr.write(INTERRUPTED)
        status = 75
    finally:
        # One that comes while Python ends changes nothing any more.
        ignore_signals()
        # All memory goes with the process: Python need not look through it for garbage, a fifth of a small run's time.
        gc.freeze()
    if fault := give_up_output():
        works = "--help" not in sys.argv and sys.argv[1:2] and sys.argv[1] in _WORKS
        rest = ": all else is done" if works else ""
        sys.stderr.write(f"cwt-dask: standard output could not be written ({fault.strerror}){rest}\n")
        # What others print is all that they do.
        return status if works else status or 1
    return status


def _run_command() -> int:
    from cwt_dask.cli.commands import main as run_command  # noqa: PLC0415 - not before signals are heard

    return run_command()


def _hear(number: int, _: FrameType | None) -> None:
    # As Ctrl-C: what a run does not hear itself ends it.
    if not is_echo(number):
        raise _Interrupted


def _hear_again(lost: sys.UnraisableHookArgs) -> None:
    """Have a signal come once more that Python has lost: what is raised in its callbacks ends nothing."""
    if not issubclass(lost.exc_type, _Interrupted | InterruptedRun):
        sys.__unraisablehook__(lost)
        return
    forget_signals()
    again = threading.Timer(_SOON, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    again.daemon = True
    again.start()
