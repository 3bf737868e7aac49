"""Where the command starts: signals are heard before anything is imported that takes its time."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from cwt_dask.runtime.signals import SIGNALS, ignore_signals, is_echo

INTERRUPTED = "cwt-dask: interrupted: give the same command again; a run goes on where it stopped\n"


def main() -> int:
    """Run the command line and return its exit status, 75 where a signal has come at any time."""
    for number in SIGNALS:
        signal.signal(number, _hear)
    status = _run_command()
    if status == 75:
        # Another copy of the signal, while Python ends, must not become the status.
        ignore_signals()
    return status


def _run_command() -> int:
    try:
        from cwt_dask.cli.commands import main as run_command  # noqa: PLC0415 - it takes seconds
    except KeyboardInterrupt:
        sys.stderr.write(INTERRUPTED)
        return 75
    return run_command()


def _hear(number: int, _: FrameType | None) -> None:
    # As Ctrl-C: what a run does not hear itself ends it.
    if not is_echo(number):
        raise KeyboardInterrupt
