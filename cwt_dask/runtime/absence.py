"""How long nobody has been at work: told at growing intervals, in time in which this process ran."""

from __future__ import annotations

import math
import time

# It is first told after this time, then after twice the time, and so on.
QUIET_SECONDS = 60.0
# Looks at what runs are closer together than this, unless the process was stopped between them.
MOST_BETWEEN_LOOKS = 10.0


class RunningTime:
    """Seconds in which this process ran, asked for often; a process that was stopped has waited for nobody.

    Signals stop a process, debuggers, batch systems that suspend jobs, and the lids of laptops.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._last = time.monotonic()

    def __call__(self) -> float:
        """Seconds so far."""
        now = time.monotonic()
        self._seconds += min(now - self._last, MOST_BETWEEN_LOOKS)
        self._last = now
        return self._seconds


class Absence:
    """How long something has been absent."""

    def __init__(self) -> None:
        self._since = math.inf
        self._quiet = QUIET_SECONDS

    def look(self, now: float, *, absent: bool) -> tuple[float, bool]:
        """Look once: seconds of absence so far, and whether these are to be told."""
        if not absent:
            self._since, self._quiet = math.inf, QUIET_SECONDS
            return 0.0, False
        self._since = min(self._since, now)
        seconds = now - self._since
        if told := seconds >= self._quiet:
            self._quiet *= 2
        return seconds, told
