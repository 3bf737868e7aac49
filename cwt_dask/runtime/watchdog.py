"""What a stage waits for, in a line, and when it has waited for too long: judged from what the cluster's state is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from cwt_dask.config.validation import format_bytes
from cwt_dask.runtime import absence
from cwt_dask.runtime.progress import WARNING, duration

# A worker with a task for so long is computing it. One of which the scheduler has heard nothing for so long is not: it
# hears of workers every few seconds.
COMPUTING_SECONDS = 30.0
UNHEARD_SECONDS = 15.0
# A clock is corrected by less while a machine runs.
SET_BACK_SECONDS = 2.0


@dataclass(frozen=True)
class Worker:
    """What the scheduler knows of a worker."""

    name: str  # Its address.
    status: str = "running"  # In Dask's words.
    memory: int = 0  # Bytes that its process takes.
    limit: int = 0  # Bytes that it may take; 0 for no limit.
    executing: int = 0  # Tasks that it computes, of any client.
    unheard: float = 0.0  # Seconds since anything was heard of it.
    tile: int | None = None  # Of this run's tasks that it has, the one that it has had for longest.
    held: float = 0.0  # Seconds since it has that one, and no other to do before.

    @property
    def heard(self) -> bool:
        """Whether it is there."""
        return self.unheard < UNHEARD_SECONDS

    @property
    def paused(self) -> bool:
        """Whether Dask keeps it from starting tasks."""
        return self.status == "paused"

    @property
    def computes(self) -> bool:
        """Whether it is known to compute a task of this run."""
        return self.heard and self.executing > 0 and self.tile is not None and self.held >= COMPUTING_SECONDS


@dataclass(frozen=True)
class Cluster:
    """What the scheduler knows of its workers, and this process of the scheduler."""

    workers: tuple[Worker, ...] = ()
    ended: int = 0  # Workers that have ended, unasked, since something last came back.
    too_large: int = 0  # Of these, or before they were known: workers whose nanny has found them above their limit.
    answers: bool = True  # Whether the scheduler does.
    set_back: float = 0.0  # Seconds by which the clock of this machine is behind what it has shown before.
    queue: str = ""  # What jobs wait for of which no worker has come, as a batch system says; of some kinds of cluster.

    def waits_for_others(self) -> bool:
        """Whether it is for others to go on: to start workers, or to end what they compute."""
        idle = all(worker.tile is None for worker in self.workers)
        return self.answers and idle and all(worker.executing for worker in self.workers)

    def reason(self) -> str:
        """Why nothing comes back."""
        clock = self._clock()
        if self.answers:
            # Workers are not heard of before their clocks have caught up.
            found = [clock, self._ends(), self._paused(), "" if clock else self._unheard()]
        else:
            found = [clock, "the scheduler does not answer"]
        return "; ".join(filter(None, found)) or self._unstarted()

    def _clock(self) -> str:
        if self.set_back <= SET_BACK_SECONDS:
            return ""
        behind = duration(self.set_back)
        return f"the clock of this machine is {behind} behind what it has shown: Dask waits until it caught up"

    def _ends(self) -> str:
        ended = max(self.ended, self.too_large)
        queue = f" ({self.queue})" if self.queue and not self.workers else ""
        if not ended:
            return "" if self.workers else f"there is no worker{queue}"
        above = f" ({self.too_large} times one was above its memory limit)" if self.too_large else ""
        return f"workers have ended {ended} times since then{above}, and {len(self.workers) or 'none'} are there{queue}"

    def _paused(self) -> str:
        paused = [worker for worker in self.workers if worker.paused and worker.heard]
        if not paused:
            return ""
        most = max(paused, key=lambda worker: worker.memory / (worker.limit or math.inf))
        return (
            f"{len(paused)} of {len(self.workers)} workers are paused, as one that takes {format_bytes(most.memory)} "
            f"of its limit of {format_bytes(most.limit)}: Dask gives them no task until they take less"
        )

    def _unheard(self) -> str:
        silent = [worker for worker in self.workers if not worker.heard]
        if not silent:
            return ""
        longest = max(silent, key=lambda worker: worker.unheard)
        return (
            f"nothing is heard of {len(silent)} of {len(self.workers)} workers, of {longest.name} for "
            f"{duration(longest.unheard)}"
        )

    def _unstarted(self) -> str:
        holding = [worker for worker in self.workers if worker.tile is not None]
        if holding:
            worker = max(holding, key=lambda worker: worker.held)
            return f"tile {worker.tile} is at worker {worker.name} for {duration(worker.held)}, and is not computed"
        if all(worker.executing for worker in self.workers):
            return "all workers compute tasks of others"
        return f"{len(self.workers)} workers are there, and none is given a task"


class Look(NamedTuple):
    """What a look at a cluster has found."""

    lines: list[str]  # What is to be told.
    over: str  # Why the run is to end; empty where it goes on.


@dataclass
class Watchdog:
    """Looks at a cluster while a stage waits; a worker that computes for long is told of, and ends nothing."""

    patience: float = math.inf  # Seconds for which nothing may go on.
    for_others: float = math.inf  # The same where it is for others to go on.
    _stands: absence.Absence = field(default_factory=absence.Absence)
    _longest: float = 0.0

    def landed(self, now: float) -> None:
        """Note that a task has come back."""
        self._stands.look(now, absent=False)

    def look(self, now: float, cluster: Cluster) -> Look:
        """Judge the state of a cluster while tasks wait.

        Parameters
        ----------
        now : float
            Seconds.
        cluster : Cluster
            Its state.
        """
        computing = [worker for worker in cluster.workers if worker.computes]
        seconds, told = self._stands.look(now, absent=not computing)
        lines = self._told_of(computing)
        if not told and seconds < min(self.patience, self.for_others):
            return Look(lines, "")
        reason = f"no tile has come back for {duration(seconds)}: {cluster.reason()}"
        over = seconds >= (self.for_others if cluster.waits_for_others() else self.patience)
        return Look([*lines, f"{WARNING}{reason}"] if told and not over else lines, reason if over else "")

    def _told_of(self, computing: list[Worker]) -> list[str]:
        """A line at growing intervals about the tile that is computed for longest."""
        worker = max(computing, key=lambda worker: worker.held, default=None)
        if worker is None or worker.held < max(absence.QUIET_SECONDS, 2 * self._longest):
            return []
        self._longest = worker.held
        others = f"; {len(computing) - 1} other workers compute, too" if len(computing) > 1 else ""
        return [f"tile {worker.tile} has been computing for {duration(worker.held)} on worker {worker.name}{others}"]
