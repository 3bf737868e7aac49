"""What a tile leaves behind: a checkpoint, or chunks, strips and detections of its core; then the record of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cwt_dask.config.settings import ALGORITHM_VERSION
from cwt_dask.cwt.buffers import borrow, give_back
from cwt_dask.planning.job import Job
from cwt_dask.storage.joined import write_joined
from cwt_dask.storage.ledger import SCHEMA, BlockRecord, Record, TileRecord, count_failures, write_record
from cwt_dask.storage.maps import digest_of_models, publish_core, publish_strips
from cwt_dask.storage.paths import make_directory
from cwt_dask.storage.provenance import batch_job, peak_memory, processor, versions
from cwt_dask.storage.record_copies import write_record_copy
from cwt_dask.storage.schema import HISTORY, NOTHING
from cwt_dask.survey import Survey
from cwt_dask.survey.facets import FacetSurvey
from cwt_dask.tiles.checkpoint import write_checkpoint
from cwt_dask.tiles.compute import TileResult
from cwt_dask.tiles.detections import detect, write_detections
from cwt_dask.tiles.islands import AboveThreshold, Key
from cwt_dask.tiles.quality import trust_flags


def publish_tile(job: Job, survey: Survey, result: TileResult, began: float) -> None:
    """Write all that a tile publishes of its core, then its record.

    Parameters
    ----------
    job : Job
        What the tile was to do.
    survey : Survey
        Read where the window does not reach far enough.
    result : TileResult
        What was computed.
    began : float
        When the task began, by `time.perf_counter`.
    """
    tile, state = result.tile, result.reached.state
    digests = publish_core(job.run_dir.maps, tile.core, _owned(result, _core_arrays(job, survey, result)))
    digests |= publish_strips(job.run_dir.seams, job.grid, tile, state)
    detections = detect(job.grid, job.kernels, tile, survey, result.window, state)
    digests["detections"] = write_detections(job.run_dir.detections(tile.id), detections)
    if job.decides_islands:
        digests |= write_joined(job.run_dir, tile.id, state.joined)
    if job.keep_history:
        digests[HISTORY] = digest_of_models(result.reached.history)
    core = tile.core.within(tile.box)
    record = TileRecord(
        **vars(_done(job, result, began)),
        core=tile.core.bounds,
        window=tile.window.bounds,
        box=tile.box.bounds,
        wrap=job.grid.ring,
        input_digest=result.window.digest,
        model_max=float(state.model[core].max()),
        empty=not state.joined[(..., *core)].any(),
        near_threshold=int(np.count_nonzero(state.near_threshold)),
        undefined=int(np.count_nonzero(state.undefined)),
        chunk_digests=digests,
        peak_memory=peak_memory(),
        owned_counts=survey.owned_counts(tile.id) if isinstance(survey, FacetSurvey) else None,
    )
    write_record(job.run_dir, record)
    if job.decides_islands:
        write_record_copy(job.run_dir, record)


def publish_checkpoint(job: Job, result: TileResult, islands: Mapping[Key, AboveThreshold], began: float) -> None:
    """Write the state of a tile at the end of a block of iterations, then the record of it.

    Parameters
    ----------
    job : Job
        What the tile was to do.
    result : TileResult
        What was computed.
    islands : mapping of AboveThreshold
        What was seen of islands, by iteration and scale.
    began : float
        When the task began, by `time.perf_counter`.
    """
    path = job.run_dir.checkpoint(job.stop, result.tile.id, job.round)
    make_directory(path.parent)
    reached = replace(result.reached, seconds=result.reached.seconds + time.perf_counter() - began)
    digest = write_checkpoint(path, job.run_id, reached, islands)
    done = vars(_done(job, result, began))
    history = digest_of_models(result.reached.history) if job.keep_history else ""
    record = BlockRecord(**done, block=job.stop, round=job.round, checkpoint=digest, history=history)
    write_record(job.run_dir, record)


def _done(job: Job, result: TileResult, began: float) -> Record:
    """What records of tiles and of blocks share."""
    reached, elapsed = result.reached, time.perf_counter() - began
    return Record(
        schema=SCHEMA,
        run=job.run_id,
        tile=result.tile.id,
        settings_digest=job.settings_digest,
        algorithm_version=ALGORITHM_VERSION,
        n_iter=reached.state.iteration,
        converged=reached.converged,
        moments=[astuple(moments) for moments in reached.moments],
        attempt=count_failures(job.run_dir, result.tile.id) + 1,
        host=socket.gethostname(),
        processor=processor(),
        job=batch_job(),
        started=(datetime.now(UTC) - timedelta(seconds=elapsed)).isoformat(timespec="seconds"),
        # A tile that continues has taken what its earlier blocks took, too.
        seconds=reached.seconds + elapsed,
        survey_digest=job.survey_digest,
        versions=versions(),
    )


def _owned(
    result: TileResult, arrays: Iterator[tuple[str, NDArray[np.generic]]]
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """What a tile publishes, without what it does not own: what a facet shows beyond its cell."""
    if result.window.owned is None:
        yield from arrays
        return
    others = ~result.window.owned[result.tile.core.within(result.tile.box)]
    for name, values in arrays:
        kept = values.copy()
        np.copyto(kept, NOTHING.get(name, 0), where=others, casting="unsafe")
        yield name, kept


def _core_arrays(job: Job, survey: Survey, result: TileResult) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """What a tile publishes of its core: names, and images (y, x) or cubes (scale, y, x).

    Each lasts until the next is asked for.
    """
    tile, window, state = result.tile, result.window, result.reached.state
    core = tile.core.within(tile.box)
    image, cube = borrow(tile.core.shape), borrow((job.kernels.n_scale, *tile.core.shape), np.uint16)
    for name in ("model", "approx", "transform_2d"):
        np.copyto(image, getattr(state, name)[core])
        yield name, image
    np.add(state.model[core], state.approx[core], out=image)
    yield "residual", np.subtract(window.counts[core], image, out=image)
    undefined = state.significance == -np.inf
    yield "significance", np.where(undefined, 0.0, state.significance) if undefined.any() else state.significance
    yield "best_scale", state.best_scale
    yield "sigma", np.where(state.sigma == -np.inf, np.float32(0), state.sigma)
    yield "best_iteration", state.best_iteration
    np.copyto(cube, state.joined[(..., *core)])
    yield "joined", cube
    yield "support", cube > 0
    yield "mask", window.valid[core].astype(np.uint8)
    yield "trust", trust_flags(job.grid, job.kernels.reach, tile, survey, state.undefined)
    give_back(image, cube)
