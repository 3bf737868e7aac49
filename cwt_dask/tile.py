"""One tile: read its window, iterate, publish its core, record it. Everything by path, no array through a scheduler."""

from __future__ import annotations

import resource
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from cwt_dask.cwt.iterate import Criteria, Field, State, candidate_pixels, significance_of, step
from cwt_dask.cwt.stopping import Moments, stops_at
from cwt_dask.cwt.support import count_open_islands
from cwt_dask.cwt.transform import kernel_spectra
from cwt_dask.ledger import SCHEMA, TileRecord, write_record
from cwt_dask.maps import publish_core, publish_strips
from cwt_dask.survey import Survey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cwt_dask.cwt.kernels import CWTKernels
    from cwt_dask.cwt.transform import KernelSpectra
    from cwt_dask.layout import RunDir
    from cwt_dask.survey import Window
    from cwt_dask.tiling import Box, Tile, TileGrid


class Trust(IntFlag):
    """Why a pixel deserves a second look: the values of `trust` in `maps.zarr`."""

    MAP_EDGE = 1
    """Within the kernels' reach of the map's edge: outside counts as zero."""
    MASKED_NEIGHBOUR = 2
    """Within the kernels' reach of a masked pixel, which counts as zero."""
    ERROR_UNDEFINED = 4
    """The expected error was zero or undefined at some scale and iteration: nothing could be detected then."""


@dataclass(frozen=True)
class Job:
    """What all tiles of a run share.

    Attributes
    ----------
    run_dir : RunDir
        Where maps, seams and records go.
    survey : Path
        The survey's store.
    grid : TileGrid
        The tiles.
    kernels : CWTKernels
        The kernels.
    criteria : Criteria
        When pixels join the support.
    n_iter : int
        Iterations to run.
    tol : float or None
        With tile stopping, the tolerance by which each tile stops on its own.
    settings_digest : str
        Of the settings as resolved.
    threads : int
        Threads an FFT may use.
    """

    run_dir: RunDir
    survey: Path
    grid: TileGrid
    kernels: CWTKernels
    criteria: Criteria
    n_iter: int
    tol: float | None
    settings_digest: str
    threads: int


@dataclass(frozen=True)
class Outcome:
    """What the iteration of one tile ended with.

    Attributes
    ----------
    state : State
        After the last iteration, in the tile's box.
    moments : list of Moments
        Of the core's residual after each iteration.
    open_islands : int
        Islands, counted once an iteration and scale, whose fate the window could not know.
    converged : bool
        Whether the tile stopped by its own variance.
    """

    state: State
    moments: list[Moments]
    open_islands: int
    converged: bool


def run_tile(job: Job, tile_id: int) -> int:
    """Do one tile, and return its number."""
    started, clock = datetime.now(UTC), time.perf_counter()
    tile = job.grid.tile(tile_id)
    survey = Survey.open(job.survey)
    window = survey.read_window(tile.window, tile.box)
    outcome = _iterate(job, tile, window)
    digests = publish_core(job.run_dir.maps, tile.core, _core_arrays(job, tile, survey, window, outcome.state))
    digests |= publish_strips(job.run_dir.seams, job.grid, tile, outcome.state)
    core = tile.core.within(tile.box)
    write_record(
        job.run_dir.ledger,
        TileRecord(
            schema=SCHEMA,
            tile=tile.id,
            core=_bounds(tile.core),
            window=_bounds(tile.window),
            settings_digest=job.settings_digest,
            input_digest=survey.digest_window(tile.window),
            n_iter=outcome.state.iteration,
            converged=outcome.converged,
            moments=[(m.count, m.mean, m.sum_squared_deviations) for m in outcome.moments],
            model_max=float(outcome.state.model[core].max()),
            open_islands=outcome.open_islands,
            near_threshold=int(np.count_nonzero(outcome.state.near_threshold[core])),
            undefined=int(np.count_nonzero(outcome.state.undefined[core])),
            chunk_digests=digests,
            host=socket.gethostname(),
            started=started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - clock,
            peak_memory=peak_memory(),
        ),
    )
    return tile_id


def peak_memory() -> int:
    """Largest resident size that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux it starts at what the parent process held when it started this one.
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _iterate(job: Job, tile: Tile, window: Window) -> Outcome:
    spectra = kernel_spectra(job.kernels, job.grid.box_shape, job.threads)
    field = Field(window.counts, window.background, window.valid)
    core = tile.core.within(tile.box)
    state = State.start(job.kernels.n_scale, job.grid.box_shape)
    moments: list[Moments] = []
    open_islands = 0
    converged = False
    while state.iteration < job.n_iter and not converged:
        state = step(state, field, spectra, job.criteria)
        moments.append(Moments.of(state.residual[core][window.valid[core]]))
        open_islands += _open_islands(state, window, spectra, job, tile)
        converged = job.tol is not None and stops_at([m.variance for m in moments], job.tol) is not None
    return Outcome(state, moments, open_islands, converged)


def _core_arrays(job: Job, tile: Tile, survey: Survey, window: Window, state: State) -> dict[str, NDArray[np.generic]]:
    """What a tile publishes of its core: images (y, x) and the support (scale, y, x), by name."""
    core = tile.core.within(tile.box)
    significance = state.significance[core]
    return {
        "model": state.model[core],
        "approx": state.approx[core],
        "residual": state.residual[core],
        "transform_2d": state.transform_2d[core],
        "significance": np.where(np.isfinite(significance), significance, 0.0),
        "best_scale": state.best_scale[core],
        "support": state.support[(..., *core)],
        "mask": window.valid[core].astype(np.uint8),
        "trust": _trust(job, tile, survey, state),
    }


def _open_islands(state: State, window: Window, spectra: KernelSpectra, job: Job, tile: Tile) -> int:
    """Islands of this iteration whose peak may lie where this window cannot judge it, and which bear on its core."""
    threshold = job.criteria.significance_island_threshold
    if threshold is None or job.grid.n_tiles == 1:
        return 0
    trusted = np.zeros(window.valid.shape, dtype=bool)
    trusted[job.grid.sound(tile, job.kernels.reach).within(tile.box)] = True
    matters = np.zeros_like(trusted)
    matters[tile.core.grown(job.kernels.reach).intersection(tile.window).within(tile.box)] = True
    count = 0
    for i in range(job.kernels.n_scale):
        ratio = significance_of(state.transform[i], state.error[i], job.criteria.rounding * spectra.squared_sum[i])
        ratio[~window.valid] = -np.inf
        mask = candidate_pixels(ratio, job.criteria)
        count += count_open_islands(mask, ratio, threshold, trusted=trusted, matters=matters)
    return count


def _trust(job: Job, tile: Tile, survey: Survey, state: State) -> NDArray[np.uint8]:
    """Trust flags of a core (y, x)."""
    reach, map_box = job.kernels.reach, job.grid.map_box
    # A margin below the reach does not show all neighbours that matter here.
    near = tile.core.grown(reach).intersection(map_box)
    valid = survey.read("mask", near) != 0
    trust = np.zeros(near.shape, dtype=np.uint8)
    edge = np.ones(near.shape, dtype=bool)
    edge[map_box.grown(-reach).intersection(near).within(near)] = False
    trust[edge] |= np.uint8(Trust.MAP_EDGE)
    masked = scipy.ndimage.maximum_filter((~valid).astype(np.uint8), size=2 * reach + 1, mode="constant") != 0
    trust[masked] |= np.uint8(Trust.MASKED_NEIGHBOUR)
    core = trust[tile.core.within(near)]
    core[state.undefined[tile.core.within(tile.box)]] |= np.uint8(Trust.ERROR_UNDEFINED)
    core[~valid[tile.core.within(near)]] = 0
    return core


def _bounds(box: Box) -> list[int]:
    return [box.y0, box.y1, box.x0, box.x1]
