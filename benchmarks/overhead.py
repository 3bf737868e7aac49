"""Reading, scheduling, writing, digests and merging, over bare computing of the same tiles; one worker.

A whole run and bare computing take minutes each, and machines change their speed meanwhile by more than is looked for.
So two ratios are measured, each of things that meet the same weather: a run over the time that its tiles' tasks took,
and task over bare computing, tile by tile in turn. Their product is the run over bare computing.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from common import apart, markdown, say, seconds, show, survey
from runs import N_ITER, OPTIONS

from cwt_dask import run_survey
from cwt_dask.cwt.spectra import kernel_spectra
from cwt_dask.cwt.state import Field, State
from cwt_dask.cwt.step import step
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.results import SurveyRun
from cwt_dask.storage.ledger import read_run_id
from cwt_dask.survey import Survey
from cwt_dask.tiles.task import run_tile

if TYPE_CHECKING:
    from cwt_dask.geometry.tiling import Tile
    from cwt_dask.planning.plan import Plan
    from cwt_dask.survey import Window

SIZES = (4096, 8192)
REPETITIONS = 2
# Windows of which tiles are done in turn: others than the first, which loads what is compiled and touches memory first.
WARM_UP = 2


class Bare(NamedTuple):
    """Seconds that a tile takes: its iterations, and the moments of its residual after each."""

    steps: float
    moments: float


class Run(NamedTuple):
    """Seconds of a run without the start of its worker, and those of its tiles' tasks."""

    run: float
    tasks: float


def whole(store: Path, directory: Path, options: dict) -> Run:
    """A run with one worker."""
    done = run_survey(store, directory, workers=1, **OPTIONS | options)
    assert done.certificate["n_iter"] == N_ITER, "it stopped"  # noqa: S101 - not what is compared
    took = done.certificate["seconds"]
    return Run(took["run"], took["tiles"])


def in_turn(directory: Path) -> tuple[float, float, float]:
    """Seconds of the tasks, the iterations and the moments of a run's tiles, one after the other; all but the first."""
    run = SurveyRun.open(directory)
    plan = run.stored.plan
    job = plan.job(run.files, read_run_id(run.files), run.stored.survey)
    survey_store = Survey.open(run.stored.survey, ring=plan.grid.ring)
    took = np.zeros(3)
    for number in range(plan.grid.n_tiles):
        tile = plan.grid.tile(number)
        window = survey_store.read_window(tile.window, tile.box)
        alone = compute(plan, tile, window)
        window.close()
        task = seconds(lambda number=number: run_tile(job, number))
        if number >= min(WARM_UP, plan.grid.n_tiles - 1):
            took += task, *alone
    return tuple(took)


def compute(plan: Plan, tile: Tile, window: Window) -> Bare:
    """All iterations of a tile."""
    started, moments = time.perf_counter(), 0.0
    workspace = Workspace(
        Field(window.counts, window.background, window.valid),
        kernel_spectra(plan.kernels, tile.box.shape),
        plan.criteria,
    )
    state = State.start(plan.kernels.n_scale, tile.box.shape, tile.core.within(tile.box))
    for _ in range(N_ITER):
        state = step(state, workspace)
        clock = time.perf_counter()
        workspace.residual_moments(state)
        moments += time.perf_counter() - clock
    workspace.close()
    state.close()
    return Bare(time.perf_counter() - started - moments, moments)


def measure(store: Path, scratch: Path, options: dict) -> tuple[float, ...]:
    """Seconds of a run and of its tasks; of tasks, iterations and moments of the same tiles in turn."""
    with TemporaryDirectory(dir=scratch) as folder:
        directory = Path(folder, "run")
        # Each in a process that has done nothing else.
        return *apart(whole, store, directory, options), *apart(in_turn, directory)


def waiting(store: Path, scratch: Path, options: dict) -> float:
    """How much longer a run takes whose stopping rule might fire, by the default tolerance, than one without any."""
    with TemporaryDirectory(dir=scratch) as folder:
        with_rule, without = (
            apart(whole, store, Path(folder, str(tol)), options | {"tol": tol}).run for tol in (1e-5, 0.0)
        )
    return with_rule / without


def tables(quick: bool, scratch: Path) -> str:
    """A row a map size."""
    sizes, repetitions = ((512,), 1) if quick else (SIZES, REPETITIONS)
    options = {"tile_size": 128} if quick else {}
    rows = []
    for size in sizes:
        store = survey(scratch, size)
        found, waits = [], []
        for repetition in range(repetitions):
            say(f"run {repetition + 1} of {size} x {size} pixels, and its tiles in turn")
            found.append(measure(store, scratch, options))
            waits.append(waiting(store, scratch, options))
        rows.append((f"{size} x {size}", *row(found), f"{median(waits):.2f}"))
    head = ("map", "run, s", "its tasks, s", "run / tasks", "tasks / (iterations + moments), in turn")
    return markdown([*head, "overhead", "default tolerance / none"], rows)


def row(found: list[tuple[float, ...]]) -> tuple[str, ...]:
    """Medians, of seconds and of ratios."""
    run, tasks = (median(one[n] for one in found) for n in (0, 1))
    outside = median(one[0] / one[1] for one in found)
    inside = median(one[2] / (one[3] + one[4]) for one in found)
    return f"{run:.1f}", f"{tasks:.1f}", f"{outside:.3f}", f"{inside:.3f}", f"{outside * inside - 1:.1%}"


if __name__ == "__main__":
    show(tables, __doc__)
