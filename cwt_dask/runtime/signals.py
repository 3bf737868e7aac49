"""The graceful end of a run: a first signal lets started tasks finish, a second one ends the run at once."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from cwt_dask.errors import CwtDaskError, InterruptedRun

# Job schedulers send the first before walltime, a terminal the second; Grid Engine and LSF warn with the others, which
# are also all that mpirun forwards.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

# SLURM sends a signal to the processes of a job and to their groups, so that each of them gets it twice.
ECHO_SECONDS = 1.0
_heard: dict[int, float] = {}


def is_echo(number: int) -> bool:
    """Whether a signal that arrives now is another copy of the one before."""
    now = time.monotonic()
    if now - _heard.get(number, -math.inf) < ECHO_SECONDS:
        return True
    _heard[number] = now
    return False


def forget_signals() -> None:
    """Take the next signal for none of a copy."""
    _heard.clear()


def ignore_signals() -> None:
    """Ignore all signals, where another process decides what they mean; in the main thread only."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def kept_from_others() -> Iterator[None]:
    """Within a `with` block: threads that start, and processes that these start ever after, get no signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        # It ignores Ctrl-C and SIGTERM by itself, and would die of the others. Its start ends the block of these here.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Stop:
    """A request to stop, from a signal or from another thread; `announce` is called when it is first noticed."""

    def __init__(self, announce: Callable[[], None] = lambda: None) -> None:
        self.asked = False  # Whether there is a request.
        self._patient = False
        self._announce = announce
        self._reason: CwtDaskError | None = None

    def ask(self) -> None:
        """Request to stop, as a signal does; from any thread."""
        self.asked = True

    def give_up(self, reason: CwtDaskError) -> None:
        """Request that the run ends with an error that was found in the background; from any thread."""
        self._reason = reason
        self._announce = lambda: None
        self.asked = True

    def notice(self) -> bool:
        """Whether there is a request, which is announced the first time."""
        if self.asked:
            self._announce()
            self._announce = lambda: None
        return self.asked

    def check(self) -> None:
        """Raise if there is a request: InterruptedRun for a signal, or `ask`, else the reason of `give_up`."""
        if self._reason:
            raise self._reason
        if self.asked:
            raise InterruptedRun("interrupted: finished tiles are kept; give the same command again to resume")

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Within a `with` block a first signal is only recorded: the block calls `notice` or `check` itself."""
        before, self._patient = self._patient, True
        try:
            yield
        finally:
            self._patient = before

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle signals within a `with` block; does nothing outside the main thread, where Python has no handlers.

        Raises InterruptedRun: at a signal outside of `patience`, or at a second one that is no copy of the first.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if is_echo(number):
            return
        at_once = self.asked or not self._patient
        self.asked = True
        if at_once:
            self.check()
