"""Two workers against one: seconds of the stage in which tiles are iterated, and of the whole run."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from common import markdown, say, show, survey
from runs import run

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 8192
REPETITIONS = 3
WORKERS = (1, 2)


def tables(quick: bool, scratch: Path) -> str:
    """A row a number of workers, and what two gain."""
    size, repetitions = (512, 1) if quick else (SIZE, REPETITIONS)
    store = survey(scratch, size)
    small = {"tile_size": 256} if quick else {}
    tiles: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    whole: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for repetition in range(repetitions):
        for workers in WORKERS:
            say(f"run {repetition + 1} of {size} x {size} pixels, {workers} workers")
            figures = run(store, scratch, stopping="fixed", workers=workers, **small)
            tiles[workers].append(sum(seconds for stage, seconds in figures.stages.items() if "tiles" in stage))
            whole[workers].append(figures.run)
    rows = [(n, f"{median(tiles[n]):.1f}", f"{median(whole[n]):.1f}") for n in WORKERS]
    gains = (f"{median(seconds[1]) / median(seconds[2]):.2f}" for seconds in (tiles, whole))
    return markdown(
        [f"workers, {size} x {size}", "tiles, s", "run without starting workers, s"], [*rows, ("gain", *gains)]
    )


if __name__ == "__main__":
    show(tables, __doc__)
