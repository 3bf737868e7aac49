"""Reading, scheduling, writing, digests, checkpoints and merging, over bare computing of the same tiles; one worker."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from common import apart, markdown, say, seconds, show, survey
from runs import N_ITER, planned, run

from cwt_dask.cwt.iterate import step
from cwt_dask.cwt.state import Field, State
from cwt_dask.cwt.transform import kernel_spectra
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cwt_dask.plan import Plan
    from cwt_dask.survey import Window
    from cwt_dask.tiling import Tile

SIZES = (4096, 8192)
REPETITIONS = 2
FILE_SIZE = 2**23
# The default, by which the rule might fire, and none.
TOLERANCES = (1e-5, 0.0)


class Overhead(NamedTuple):
    """Seconds of a run, of its tiles' iterations and moments alone, and for as many bytes in new files."""

    run: float
    steps: float
    moments: float
    files: float


class Bare(NamedTuple):
    """Seconds that tiles take: their iterations, and the moments of their residuals after each."""

    steps: float
    moments: float


def bare(store: Path, options: dict) -> Bare:
    """Compute the tiles of a run one after the other; reading their windows does not count."""
    plan = planned(store, **options)
    survey_store = Survey.open(store, ring=plan.grid.ring)
    warm_up(plan)
    took = [0.0, 0.0]
    for number in range(plan.grid.n_tiles):
        tile = plan.grid.tile(number)
        window = survey_store.read_window(tile.window, tile.box)
        for kind, passed in enumerate(compute(plan, tile, window)):
            took[kind] += passed
        window.close()
    return Bare(*took)


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


def warm_up(plan: Plan) -> None:
    """Have everything compiled and the spectra of the kernels there."""
    kernel_spectra(plan.kernels, plan.grid.box_shape)
    shape = (64, 64)
    field = Field(np.ones(shape), np.ones(shape), np.ones(shape, dtype=bool))
    workspace = Workspace(field, kernel_spectra(plan.kernels, shape), plan.criteria)
    workspace.residual_moments(step(State.start(plan.kernels.n_scale, shape), workspace))


def new_files(directory: Path, size: int) -> float:
    """Seconds that the system takes for so many bytes in new files, whatever they are and whoever writes them."""
    content = np.random.default_rng(0).bytes(FILE_SIZE)
    with TemporaryDirectory(dir=directory) as scratch:

        def write() -> None:
            for number in range(-(-size // FILE_SIZE)):
                Path(scratch, str(number)).write_bytes(content)

        return seconds(write)


def tables(quick: bool, scratch: Path) -> str:
    """A row a map size and tolerance."""
    sizes, repetitions = ((512,), 1) if quick else (SIZES, REPETITIONS)
    options = {"tile_size": 128} if quick else {}
    rows = []
    for size in sizes:
        store = survey(scratch, size)
        found: dict[float, list[Overhead]] = {tol: [] for tol in TOLERANCES}
        for repetition in range(repetitions):
            say(f"run {repetition + 1} of {size} x {size} pixels, and its tiles alone")
            alone = apart(bare, store, options)
            for tol, before in found.items():
                figures = run(store, scratch, workers=1, tol=tol, **options)
                assert figures.n_iter == N_ITER, "it stopped"  # noqa: S101 - not what is compared
                before.append(Overhead(figures.run, *alone, new_files(scratch, figures.written)))
        rows += [(f"{size} x {size}", f"{tol:g}", *row(measured)) for tol, measured in found.items()]
    head = ["map", "tolerance", "run, s", "iterations alone, s", "moments of residuals, s", "new files of that size, s"]
    return markdown([*head, "overhead", "without the system's time for new files"], rows)


def row(measured: list[Overhead]) -> Iterator[str]:
    """Medians, of seconds and of ratios."""
    yield from (f"{median(column):.1f}" for column in zip(*measured, strict=True))
    yield f"{median(one.run / (one.steps + one.moments) - 1 for one in measured):.1%}"
    yield f"{median((one.run - one.files) / (one.steps + one.moments) - 1 for one in measured):.1%}"


if __name__ == "__main__":
    show(tables, __doc__)
