"""What a tile costs the driver: tasks that do nothing, on two workers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from common import MIB, apart, markdown, say, seconds, show

from cwt_dask.runtime.clusters.local import local_client
from cwt_dask.runtime.executors import OnDask
from cwt_dask.storage.provenance import peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TILES = (1_000, 10_000, 100_000)
MEMORY_LIMIT = 4 * 2**30


class Cost(NamedTuple):
    """Seconds for all tiles, and largest resident size of the driver in bytes."""

    seconds: float
    memory: int


def same(tile: int) -> int:
    """Do nothing."""
    return tile


def measure(n_tiles: int) -> Cost:
    """Do nothing with so many tiles."""
    # As the functions of a run are: workers import it, it does not travel as code.
    from driver import same as imported  # noqa: PLC0415

    with local_client(2, MEMORY_LIMIT) as client:
        executor = OnDask(client)
        # The first tasks wait for the workers to import.
        _all_of(executor, imported, 4)
        took = seconds(partial(_all_of, executor, imported, n_tiles))
        return Cost(took, peak_memory())


def _all_of(executor: OnDask, function: Callable[[int], int], n_tiles: int) -> None:
    for _ in executor.map(function, range(n_tiles)):
        pass


def tables(quick: bool, _: Path) -> str:
    """A row a number of tiles."""
    rows = []
    for n_tiles in (20, 50) if quick else TILES:
        say(f"{n_tiles} tiles that do nothing")
        cost = apart(measure, n_tiles)
        rows.append((n_tiles, f"{cost.seconds / n_tiles * 1e6:.0f}", f"{cost.memory / MIB:.0f}"))
    return markdown(["tiles", "microseconds a tile", "driver's peak, MiB"], rows)


if __name__ == "__main__":
    show(tables, __doc__)
