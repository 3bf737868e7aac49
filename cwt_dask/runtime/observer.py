"""The state of a cluster, asked of its scheduler through a client now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cwt_dask.runtime.watchdog import Cluster, Worker

if TYPE_CHECKING:
    import distributed

# How long a scheduler may take to answer; one that does not is asked again at the next look.
SCHEDULER_SECONDS = 5.0
# Topics under which the scheduler keeps what has happened to workers, and nannies what they have done to theirs.
_ENDED, _TOO_LARGE = "all", "worker-restart-memory"


class Observer:
    """Looks at a cluster, and remembers what it needs of earlier looks.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    """

    def __init__(self, client: distributed.Client) -> None:
        self._client = client
        # Since when each worker is known to have each task, and when each had one less.
        self.since: dict[tuple[str, str], float] = {}
        self._less: dict[str, float] = {}
        # What the scheduler had heard of each worker, and since when it has been that.
        self._heard: dict[str, tuple[float, float]] = {}
        self._last: dict[str, Any] = {}
        self._pids: set[int] = set()
        # The latest time of day that the clock has shown.
        self._shown = time.time()
        self.landed()

    def landed(self) -> None:
        """Count anew what happens from here on."""
        self._ended = self._replaced = self._too_large = 0

    def look(self, now: float, tiles: Mapping[str, int]) -> Cluster:
        """The state of the cluster; raises OSError if the scheduler is lost.

        Parameters
        ----------
        now : float
            Seconds.
        tiles : mapping
            Tile of each task of this run, by its key.
        """
        # What was on its way comes back all the same.
        shown = time.time()
        self._shown = max(self._shown, shown)
        set_back = self._shown - shown
        try:
            holders, identity, ended, too_large = self._client.sync(
                _describe, self._client.scheduler, callback_timeout=SCHEDULER_SECONDS
            )
        except TimeoutError:
            return Cluster(answers=False, set_back=set_back)
        self._note_holders(now, holders)
        self._ended += sum(_has_ended(event) for event in self._new(_ENDED, ended))
        self._too_large += len(self._new(_TOO_LARGE, too_large))
        # Workers that end before the scheduler knows them have nannies in this process, or nobody knows them.
        before, self._pids = self._pids, _pids_of_nannies(self._client)
        self._replaced += len(before - self._pids)
        workers = tuple(self._worker(now, name, known, tiles) for name, known in identity["workers"].items())
        self._heard = {worker.name: self._heard[worker.name] for worker in workers}
        queue = getattr(self._client.cluster, "jobs_that_wait", "")
        return Cluster(workers, max(self._ended, self._replaced), self._too_large, set_back=set_back, queue=queue)

    def _note_holders(self, now: float, holders: Mapping[str, Collection[str]]) -> None:
        before = self.since
        self.since = {(where, key): before.get((where, key), now) for where, keys in holders.items() for key in keys}
        self._less |= {where: now for where, _ in before.keys() - self.since.keys()}

    def _worker(self, now: float, name: str, known: Mapping[str, Any], tiles: Mapping[str, int]) -> Worker:
        last_seen, metrics = known["last_seen"], known.get("metrics") or {}
        if self._heard.get(name, (None, now))[0] != last_seen:
            self._heard[name] = (last_seen, now)
        # With equal times the lower tile, which was sent first.
        held = [(first, tiles[key]) for (where, key), first in self.since.items() if where == name and key in tiles]
        first, tile = min(held, default=(now, None))
        return Worker(
            name=name,
            status=known["status"],
            memory=metrics.get("memory", 0),
            limit=known["memory_limit"] or 0,
            executing=metrics.get("task_counts", {}).get("executing", 0),
            unheard=now - self._heard[name][1],
            tile=tile,
            held=now - max(first, self._less.get(name, first)),
        )

    def _new(self, topic: str, events: Iterable[Any]) -> list[Any]:
        """Events since the last look; none at the first."""
        events = list(events)
        begun, last = topic in self._last, self._last.get(topic)
        self._last[topic] = events[-1] if events else None
        if not begun:
            return []
        return events[len(events) - events[::-1].index(last) :] if last in events else events


async def _describe(scheduler: Any) -> tuple[Any, ...]:
    return await asyncio.gather(
        scheduler.processing(workers=None),
        scheduler.identity(),
        scheduler.events(topic=_ENDED),
        scheduler.events(topic=_TOO_LARGE),
    )


def _has_ended(event: tuple[float, Mapping[str, Any]]) -> bool:
    """Whether a worker has, which nobody has asked to."""
    return event[1].get("action") == "remove-worker" and not event[1].get("expected")


def _pids_of_nannies(client: distributed.Client) -> set[int]:
    workers = getattr(client.cluster, "workers", {})
    return {pid for worker in list(workers.values()) if (pid := getattr(worker, "pid", None))}
