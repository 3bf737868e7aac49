"""One tile: read its window, iterate, publish its core, record it. Everything by path, no array through a scheduler."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.config.settings import ALGORITHM_VERSION
from cwt_dask.cwt.spectra import kernel_spectra
from cwt_dask.cwt.state import Field
from cwt_dask.cwt.step import step
from cwt_dask.cwt.stopping import stops_at
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.errors import InputError
from cwt_dask.storage.ledger import SCHEMA, BlockRecord, TileRecord, count_failures, refuse_another_run, write_record
from cwt_dask.storage.maps import publish_core, publish_history, publish_strips
from cwt_dask.storage.provenance import batch_job, peak_memory, processor
from cwt_dask.survey import Survey
from cwt_dask.tiles.checkpoint import TileState, read_checkpoint, write_checkpoint
from cwt_dask.tiles.decisions import contradicted_labels, open_decisions
from cwt_dask.tiles.detections import detect, write_detections
from cwt_dask.tiles.islands import WindowFilter
from cwt_dask.tiles.publish import bounds, core_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cwt_dask.geometry.tiling import Tile
    from cwt_dask.planning.job import Job
    from cwt_dask.survey import Window
    from cwt_dask.tiles.islands import IslandFilter


def run_tile(job: Job, tile_id: int) -> int:
    """Do one tile, and return its number.

    Raises
    ------
    InputError
        If the survey is not the one that the run began with.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    tile = job.grid.tile(tile_id)
    survey = Survey.open(job.survey, ring=job.grid.ring)
    if survey.statistics.digest != job.survey_digest:
        raise InputError(f"{job.survey} was replaced by another survey while the run went on: put the first one back")
    window = survey.read_window(tile.window, tile.box, digest=job.publishes)
    with _window_filter(job, tile) as islands:
        progress = iterate(job, tile, window, _start(job, tile), islands)

    def seconds() -> float:
        # A restarted tile has taken what its earlier blocks took, too.
        return progress.seconds + time.perf_counter() - clock

    refuse_another_run(job.run_dir, job.run_id)
    done: dict[str, Any] = {
        "schema": SCHEMA,
        "run": job.run_id,
        "tile": tile.id,
        "settings_digest": job.settings_digest,
        "algorithm_version": ALGORITHM_VERSION,
        "n_iter": progress.state.iteration,
        "converged": progress.converged,
        "moments": [(m.count, m.mean, m.sum_squared_deviations) for m in progress.moments],
        "attempt": count_failures(job.run_dir, tile.id) + 1,
        "host": socket.gethostname(),
        "processor": processor(),
        "job": batch_job(),
        "started": started.isoformat(timespec="seconds"),
    }
    if job.keeps:
        path = job.run_dir.checkpoint(job.stop, tile.id, job.round)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = write_checkpoint(path, replace(progress, seconds=seconds()))
        record = BlockRecord(**done, seconds=seconds(), block=job.stop, round=job.round, checkpoint=digest)
        write_record(job.run_dir, record)
    if job.publishes:
        digests = publish_core(job.run_dir.maps, tile.core, core_arrays(job, tile, survey, window, progress.state))
        digests |= publish_strips(job.run_dir.seams, job.grid, tile, progress.state)
        detections = detect(job.grid, job.kernels, tile, survey, window, progress.state)
        digests["detections"] = write_detections(job.run_dir.detections(tile.id), detections)
        core = tile.core.within(tile.box)
        write_record(
            job.run_dir,
            TileRecord(
                **done,
                seconds=seconds(),
                core=bounds(tile.core),
                window=bounds(tile.window),
                box=bounds(tile.box),
                wrap=job.grid.ring,
                input_digest=window.digest,
                model_max=float(progress.state.model[core].max()),
                empty=not progress.state.joined[(..., *core)].any(),
                near_threshold=int(np.count_nonzero(progress.state.near_threshold)),
                undefined=int(np.count_nonzero(progress.state.undefined)),
                chunk_digests=digests,
                peak_memory=peak_memory(),
            ),
        )
    window.close()
    progress.state.close()
    return tile_id


def settle_tile(job: Job, tile_id: int) -> bool:
    """Do a tile again if its support contradicts the fates of the whole map's islands; tell whether it did.

    A tile that was done again in this round, before an interruption, counts as done.
    """
    again = job.run_dir.checkpoint(job.stop, tile_id, job.round).exists() or bool(contradicted_labels(job, tile_id))
    if again and not job.run_dir.block_record(job.stop, tile_id, job.round).exists():
        run_tile(job, tile_id)
    return again


def iterate(
    job: Job, tile: Tile, window: Window, progress: TileState, islands: IslandFilter | None, *, ring: bool = False
) -> TileState:
    """Go on with a tile to the iteration at which the job, or the tile's own variance, stops it.

    The arrays of `progress` are taken over. With `ring` the tile's box is the whole of a ring.
    """
    core = tile.core.within(tile.box)
    state, moments = progress.state, list(progress.moments)
    converged = progress.converged
    if state.iteration == job.stop or converged:
        return replace(progress, islands={})
    field = Field(window.counts, window.background, window.valid)
    spectra = kernel_spectra(job.kernels, tile.box.shape, job.threads)
    workspace = Workspace(field, spectra, job.criteria, ring=ring)
    while state.iteration < job.stop and not converged:
        iteration = state.iteration + 1
        select = partial(islands.select, iteration, state.joined) if islands else None
        state = step(state, workspace, select)
        moments.append(workspace.residual_moments(state))
        if job.tol is not None:
            # A core without a pixel that takes part has nothing to wait for.
            converged = moments[-1].count == 0 or stops_at([m.variance for m in moments], job.tol) is not None
        if job.keep_history:
            refuse_another_run(job.run_dir, job.run_id)
            publish_history(job.run_dir.maps, tile.core, iteration, state.model[core], onwards=converged)
    workspace.close()
    return replace(
        progress,
        state=state,
        moments=tuple(moments),
        converged=converged,
        islands=islands.found if islands else {},
    )


def _start(job: Job, tile: Tile) -> TileState:
    start = job.starts.get(tile.id, job.start)
    if start == 0:
        return TileState.start(job.kernels.n_scale, tile)
    decides = job.criteria.significance_island_threshold is not None
    path = job.run_dir.latest_checkpoint if decides else partial(job.run_dir.checkpoint, round_=0)
    return read_checkpoint(path(start, tile.id), tile)


@contextmanager
def _window_filter(job: Job, tile: Tile) -> Iterator[WindowFilter | None]:
    """Who judges the islands in a tile's window; None where the window knows all of them."""
    if job.criteria.significance_island_threshold is None or not job.grid.has_seams:
        yield None
        return
    sound = job.grid.sound(tile, job.kernels.reach)
    with ExitStack() as stack:
        verdicts = None
        if job.decisions_block:
            verdicts = stack.enter_context(
                open_decisions(job.run_dir, job.grid, tile, job.decisions_block, job.round)
            ).verdicts
        yield WindowFilter(tile, sound, job.grid.x.length, job.criteria, verdicts)
