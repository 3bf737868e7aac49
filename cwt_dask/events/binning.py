"""Event lists binned onto a map in bounded memory: each event is counted once, and what becomes of it is told."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from hashlib import sha256
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np

from cwt_dask.errors import SurveyError
from cwt_dask.events.lists import EventList
from cwt_dask.events.sky import AnyGrid
from cwt_dask.events.spool import Spool
from cwt_dask.events.tables import Columns

# Each holds a block of rows; more read no faster from one disk.
MOST_THREADS = 8


@dataclass(frozen=True)
class Tally:
    """What became of the events of a list.

    Parameters
    ----------
    n_rows : int
        All that were read: the sum of the others.
    n_binned : int
        Counted on the map.
    n_outside : int
        Beside the map, or where its projection has no pixel.
    n_other_energy : int
        Of energies that were not asked for, or of none where some were.
    n_no_position : int
        NaN, or a latitude beyond the poles.

    Examples
    --------
    >>> from cwt_dask.events import Tally
    >>> Tally(n_rows=3, n_binned=3) + Tally(n_rows=2, n_outside=2)
    Tally(n_rows=5, n_binned=3, n_outside=2, n_other_energy=0, n_no_position=0)
    """

    n_rows: int = 0
    n_binned: int = 0
    n_outside: int = 0
    n_other_energy: int = 0
    n_no_position: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Binned:
    """A list that was read."""

    events: EventList
    tally: Tally
    digest: str  # SHA-256 of its rows as they are stored.
    file_digest: str  # And of its file; read once more, while the machine still has it in memory.


def bin_lists(lists: Sequence[EventList], grid: AnyGrid, spool: Spool, n_threads: int) -> list[Binned]:
    """Put the pixels of all events into a spool, lists at once in threads; the order does not matter.

    Parameters
    ----------
    lists : sequence of EventList
    grid : Grid or SkyGrid
    spool : Spool
    n_threads : int
        Lists to read at once; no more than `MOST_THREADS` are.

    Raises SurveyError if a list is damaged, or two hold the same rows.
    """
    n_threads = max(min(n_threads, len(lists), MOST_THREADS), 1)
    spare: SimpleQueue[Any] = SimpleQueue()
    for _ in range(n_threads):
        spare.put(grid.new_wcs())
    stop = Event()

    def read(events: EventList) -> Binned:
        wcs = spare.get()
        try:
            return _read(events, grid, wcs, spool, stop)
        finally:
            spare.put(wcs)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="events") as pool:
        try:
            binned = list(pool.map(read, lists))
        except BaseException:
            stop.set()
            raise
    _refuse_same_rows(binned)
    return binned


def _read(events: EventList, grid: AnyGrid, wcs: Any, spool: Spool, stop: Event) -> Binned:
    digest, tally = sha256(), Tally()
    for n_rows, columns in events.table.blocks(events.columns, digest):
        if stop.is_set():
            break
        tally += _bin_block(n_rows, columns, events, grid, wcs, spool)
    return Binned(events, tally, digest.hexdigest(), "" if stop.is_set() else events.table.sha256())


def _bin_block(n_rows: int, columns: Columns, events: EventList, grid: AnyGrid, wcs: Any, spool: Spool) -> Tally:
    taken = events.energies.among(columns) if events.energies else np.ones(n_rows, bool)
    sky, known = events.positions.read({name: values[taken] for name, values in columns.items()})
    row, column = grid.pixels(wcs, sky)
    spool.add(row, column)
    n_taken, n_known = int(np.count_nonzero(taken)), int(np.count_nonzero(known))
    return Tally(n_rows, len(row), n_known - len(row), n_rows - n_taken, n_taken - n_known)


def _refuse_same_rows(binned: Sequence[Binned]) -> None:
    by_digest: dict[str, Any] = {}
    for each in binned:
        other = by_digest.setdefault(each.digest, each)
        if other is not each and each.tally.n_rows:
            raise SurveyError(
                f"{other.events.table.where} and {each.events.table.where} hold the same events: give one of them"
            )
