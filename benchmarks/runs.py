"""Whole runs on simulated surveys, each in a process of its own, and what is to be known of them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from common import KERNELS, THRESHOLD, apart

from cwt_dask import run_survey
from cwt_dask.run import plan_survey
from cwt_dask.runtime.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cwt_dask.planning.plan import Plan

T = TypeVar("T")

N_ITER = 10
# All iterations, for any change of the variance.
OPTIONS = {
    "n_scale": KERNELS.n_scale,
    "min_scale": KERNELS.min_scale,
    "step_scale": KERNELS.step_scale,
    "significance_threshold": THRESHOLD,
    "max_iter": N_ITER,
    "tol": 0.0,
    "fits": "no",
}


@dataclass(frozen=True)
class Figures:
    """What a run took.

    Attributes
    ----------
    pixels, n_tiles, n_iter : int
        Of the map, tiles, iterations.
    core, box : tuple of int
        Pixels (y, x) of a tile.
    call, run : float
        Seconds of the call of `run_survey`, and without the start and end of its workers.
    stages : dict
        Seconds by stage.
    tasks : int
        Tasks of all stages.
    driver, worker, predicted : int
        Largest resident size of the driver and of a worker, and of a worker as planned, in bytes.
    written : int
        Bytes of all files in the end.
    """

    pixels: int
    n_tiles: int
    n_iter: int
    core: tuple[int, int]
    box: tuple[int, int]
    call: float
    run: float
    stages: dict[str, float]
    tasks: int
    driver: int
    worker: int
    predicted: int
    written: int

    @property
    def ns_per_pixel(self) -> float:
        """Nanoseconds of the run a pixel of the map and iteration."""
        return self.run / self.pixels / self.n_iter * 1e9


class StageClock(Reporter):
    """Adds up how long stages take, and their tasks."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.tasks = 0

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Pass on items."""
        started = time.perf_counter()
        yield from items
        self.seconds[stage] += time.perf_counter() - started
        self.tasks += total


def run(store: Path, scratch: Path, **options: Any) -> Figures:
    """Run on a survey's store, in a process of its own; what it writes is removed."""
    return apart(measured_run, store, scratch, OPTIONS | options)


def measured_run(store: Path, scratch: Path, options: dict[str, Any]) -> Figures:
    """Run in this process, which should do nothing else: its peak memory counts."""
    clock, started = StageClock(), time.perf_counter()
    with TemporaryDirectory(dir=scratch) as directory:
        done = run_survey(store, f"{directory}/run", progress=clock, **options)
        seconds = time.perf_counter() - started
        certificate, plan = done.certificate, done.stored.plan
        written = sum(path.stat().st_size for path in done.files.path.rglob("*") if path.is_file())
    return Figures(
        pixels=plan.grid.map_box.area,
        n_tiles=plan.grid.n_tiles,
        n_iter=certificate["n_iter"],
        core=plan.grid.core_shape,
        box=plan.grid.box_shape,
        call=seconds,
        run=certificate["seconds"]["run"],
        stages=dict(clock.seconds),
        tasks=clock.tasks,
        driver=certificate["peak_memory"]["driver"],
        worker=certificate["peak_memory"]["worker"],
        predicted=plan.worker_memory,
        written=written,
    )


def planned(store: Path, **options: Any) -> Plan:
    """The plan of such a run."""
    return plan_survey(store, **OPTIONS | options)
