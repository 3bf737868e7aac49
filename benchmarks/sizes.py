"""Whole runs over map sizes, two workers: time a pixel and iteration, peak memory."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from common import MIB, markdown, say, show, survey
from runs import Figures, run

if TYPE_CHECKING:
    from pathlib import Path

SIZES = (1024, 2048, 4096, 8192, 16384)
REPETITIONS = 2


def measure(scratch: Path, sizes: tuple[int, ...], repetitions: int) -> dict[int, list[Figures]]:
    """Runs by map size, in turn."""
    stores = {size: survey(scratch, size) for size in sizes}
    found: dict[int, list[Figures]] = {size: [] for size in sizes}
    for repetition in range(repetitions):
        for size, store in stores.items():
            say(f"run {repetition + 1} of {size} x {size} pixels")
            found[size].append(run(store, scratch, stopping="fixed", workers=2))
    return found


def row(size: int, runs: list[Figures], first: list[Figures]) -> tuple[str, ...]:
    """Medians of times, and largest memory."""
    cost = median(figures.ns_per_pixel for figures in runs)
    against = cost / median(figures.ns_per_pixel for figures in first)
    one = runs[0]
    return (
        f"{size} x {size}",
        f"{one.n_tiles} of {one.core[0]} x {one.core[1]} in {one.box[0]} x {one.box[1]}",
        f"{median(figures.call for figures in runs):.1f}",
        f"{median(figures.run for figures in runs):.1f}",
        f"{cost:.1f}",
        f"{against:.2f}",
        f"{max(figures.worker for figures in runs) / MIB:.0f}",
        f"{one.predicted / MIB:.0f}",
        f"{max(figures.driver for figures in runs) / MIB:.0f}",
    )


def tables(quick: bool, scratch: Path) -> str:
    """A row a map size."""
    found = measure(scratch, (256, 512), 1) if quick else measure(scratch, SIZES, REPETITIONS)
    reference = sorted(found)[1]
    head = (
        "map",
        "tiles: cores in boxes",
        "whole call, s",
        "without starting workers, s",
        "ns a pixel and iteration",
        f"over that of {reference} x {reference}",
        "worker's peak, MiB",
        "as planned, MiB",
        "driver's peak, MiB",
    )
    return markdown(head, (row(size, runs, found[reference]) for size, runs in found.items()))


if __name__ == "__main__":
    show(tables, __doc__)
