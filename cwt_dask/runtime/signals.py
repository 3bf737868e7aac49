"""The graceful end: a first signal lets what is begun be finished, a second one ends at once."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cwt_dask.errors import CwtDaskError, InterruptedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

# Job schedulers send the first before walltime, a terminal the second; the others are what Grid Engine and LSF warn
# with, and all that mpirun hands on.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

# A signal to the tasks of a job reaches each of them twice where SLURM sends it to processes and to their groups.
ECHO_SECONDS = 1.0
_heard: dict[int, float] = {}


def is_echo(number: int) -> bool:
    """Whether a signal that comes now is another copy of one that has just come."""
    now = time.monotonic()
    if now - _heard.get(number, -math.inf) < ECHO_SECONDS:
        return True
    _heard[number] = now
    return False


class Stop:
    """Whether somebody has asked to stop.

    Parameters
    ----------
    tell : callable, optional
        Says so to the user.

    Attributes
    ----------
    asked : bool
        Whether a signal has come.
    """

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        self.asked = False
        self._patient = False
        self._tell = tell
        self._reason: CwtDaskError | None = None

    def ask(self) -> None:
        """Ask to stop, as a signal does; from any thread."""
        self.asked = True

    def give_up(self, reason: CwtDaskError) -> None:
        """Have the run end with an error that was found beside it; from any thread."""
        self._reason = reason
        self._tell = lambda: None
        self.asked = True

    def notice(self) -> bool:
        """Whether somebody has asked to stop; the first time that this is so, it is told."""
        if self.asked:
            self._tell()
            self._tell = lambda: None
        return self.asked

    def check(self) -> None:
        """End here if somebody has asked to.

        Raises
        ------
        InterruptedRun
            If so.
        CwtDaskError
            The reason, if there is one beside.
        """
        if self._reason:
            raise self._reason
        if self.asked:
            raise InterruptedRun("interrupted: what was done is kept; give the same command again, it goes on with it")

    @contextmanager
    def patience(self) -> Iterator[None]:
        """For the length of a `with` block, a first signal is only noted: what is begun there looks for it itself."""
        before, self._patient = self._patient, True
        try:
            yield
        finally:
            self._patient = before

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to signals for the length of a `with` block; nothing outside the main thread, which alone can.

        Raises
        ------
        InterruptedRun
            At a signal that nobody has patience for, or at a second one that is no copy of the first.
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
