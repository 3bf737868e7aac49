"""One tile: read its window, iterate, publish its core, record it. Everything by path, no array through a scheduler."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.atomic import atomic_file
from cwt_dask.candidates import WindowJudge
from cwt_dask.checkpoint import Progress, read_checkpoint, write_checkpoint
from cwt_dask.config import ALGORITHM_VERSION
from cwt_dask.cwt.iterate import step
from cwt_dask.cwt.rooms import borrow, give_back
from cwt_dask.cwt.state import Criteria, Field
from cwt_dask.cwt.stopping import stops_at
from cwt_dask.cwt.transform import kernel_spectra
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.detections import detect, write_detections
from cwt_dask.errors import InputError
from cwt_dask.fates import open_fates
from cwt_dask.ledger import SCHEMA, BlockRecord, TileRecord, count_failures, refuse_another_run, write_record
from cwt_dask.maps import publish_core, publish_history, publish_strips
from cwt_dask.process import batch_job, peak_memory, processor
from cwt_dask.survey import Survey
from cwt_dask.trust import trust_flags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cwt_dask.candidates import Judge
    from cwt_dask.cwt.kernels import CWTKernels
    from cwt_dask.cwt.state import State
    from cwt_dask.layout import RunDir
    from cwt_dask.survey import Window
    from cwt_dask.tiling import Box, Tile, TileGrid


@dataclass(frozen=True)
class Job:
    """What is to be done with tiles of a run.

    Attributes
    ----------
    run_dir : RunDir
        Where maps, seams, checkpoints and records go.
    run_id : str
        Which run that is.
    survey : Path
        The survey's store.
    survey_digest : str
        Of its pixels and WCS.
    grid : TileGrid
        The tiles.
    kernels : CWTKernels
        The kernels.
    criteria : Criteria
        When pixels join the support.
    settings_digest : str
        Of the settings as resolved.
    threads : int
        Threads an FFT may use.
    keep_history : bool
        Publish the model of every iteration.
    start, stop : int
        Iterations after which to begin (0, or one of which there are checkpoints) and to end.
    ahead : mapping of int
        Iterations after which tiles begin that went ahead, where `start` is 0 for the others.
    tol : float or None
        The tolerance by which each tile stops on its own, where it does.
    keeps, publishes : bool
        Whether to leave a checkpoint, and whether to publish the core.
    round : int
        How often the fates of islands have been told in a block.
    fates_block : int
        Block, by its last iteration, whose fates of islands hold, as told in `round`; 0 where none are known.
    """

    run_dir: RunDir
    run_id: str
    survey: Path
    survey_digest: str
    grid: TileGrid
    kernels: CWTKernels
    criteria: Criteria
    settings_digest: str
    threads: int
    keep_history: bool
    stop: int
    start: int = 0
    ahead: Mapping[int, int] = field(default_factory=dict)
    tol: float | None = None
    keeps: bool = False
    publishes: bool = True
    round: int = 0
    fates_block: int = 0


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
    if survey.facts.digest != job.survey_digest:
        raise InputError(f"{job.survey} was replaced by another survey while the run went on: put the first one back")
    window = survey.read_window(tile.window, tile.box, digest=job.publishes)
    with _window_judge(job, tile) as judge:
        progress = iterate(job, tile, window, _start(job, tile), judge)

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
        digests = publish_core(job.run_dir.maps, tile.core, _core_arrays(job, tile, survey, window, progress.state))
        digests |= publish_strips(job.run_dir.seams, job.grid, tile, progress.state)
        detections = detect(job.grid, job.kernels, tile, survey, window, progress.state)
        digests["detections"] = write_detections(job.run_dir.detections(tile.id), detections)
        core = tile.core.within(tile.box)
        write_record(
            job.run_dir,
            TileRecord(
                **done,
                seconds=seconds(),
                core=_bounds(tile.core),
                window=_bounds(tile.window),
                box=_bounds(tile.box),
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
    again = job.run_dir.checkpoint(job.stop, tile_id, job.round).exists() or bool(contradicted_pieces(job, tile_id))
    if again and not job.run_dir.block_record(job.stop, tile_id, job.round).exists():
        run_tile(job, tile_id)
    return again


def contradicted_pieces(job: Job, tile_id: int) -> list[tuple[int, int, int, int]]:
    """Pieces of islands whose fates in the whole map are not those that this tile's support tells of.

    Returns
    -------
    list of tuple
        Iteration, scale index, tile in whose core the piece lies, and its number there, from 1.
    """
    tile = job.grid.tile(tile_id)
    with open_fates(job.run_dir, job.grid, tile, job.fates_block, job.round) as fates:
        return [
            (iteration, scale, *piece)
            for iteration, scale, candidates in fates.seen()
            for piece in fates.pieces_at(iteration, scale, candidates.contradicting(fates.verdicts(iteration, scale)))
        ]


def mark_open_pixels(job: Job, pieces: Mapping[int, Sequence[tuple[int, int, int]]], tile_id: int) -> int:
    """Keep which pixels of a tile's core lie in pieces (iteration, scale index, number) of islands left open."""
    tile = job.grid.tile(tile_id)
    marked = np.zeros(tile.core.shape, dtype=bool)
    with open_fates(job.run_dir, job.grid, tile, job.fates_block, job.round) as fates:
        for iteration, scale in sorted({(iteration, scale) for iteration, scale, _ in pieces[tile_id]}):
            numbers = [piece for *at, piece in pieces[tile_id] if at == [iteration, scale]]
            marked |= np.isin(fates.own_pieces(iteration, scale), numbers)
    with atomic_file(job.run_dir.open_pixels(job.stop, tile_id)) as file:
        np.save(file, marked)
    return tile_id


def iterate(
    job: Job, tile: Tile, window: Window, progress: Progress, judge: Judge | None, *, ring: bool = False
) -> Progress:
    """Go on with a tile to the iteration at which the job, or the tile's own variance, stops it.

    The arrays of `progress` are taken over. With `ring` the tile's box is the whole of a ring.
    """
    core = tile.core.within(tile.box)
    state, moments = progress.state, list(progress.moments)
    converged = progress.converged
    if state.iteration == job.stop or converged:
        return replace(progress, candidates={})
    field = Field(window.counts, window.background, window.valid)
    spectra = kernel_spectra(job.kernels, tile.box.shape, job.threads)
    workspace = Workspace(field, spectra, job.criteria, ring=ring)
    while state.iteration < job.stop and not converged:
        iteration = state.iteration + 1
        judged = partial(judge.judge, iteration, state.joined) if judge else None
        state = step(state, workspace, judged)
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
        candidates=judge.found if judge else {},
    )


def _start(job: Job, tile: Tile) -> Progress:
    start = job.ahead.get(tile.id, job.start)
    if start == 0:
        return Progress.start(job.kernels.n_scale, tile)
    judged = job.criteria.significance_island_threshold is not None
    path = job.run_dir.latest_checkpoint if judged else partial(job.run_dir.checkpoint, round_=0)
    return read_checkpoint(path(start, tile.id), tile)


@contextmanager
def _window_judge(job: Job, tile: Tile) -> Iterator[WindowJudge | None]:
    """Who judges the islands in a tile's window; None where the window knows all of them."""
    if job.criteria.significance_island_threshold is None or not job.grid.has_seams:
        yield None
        return
    sound = job.grid.sound(tile, job.kernels.reach)
    with ExitStack() as stack:
        verdicts = None
        if job.fates_block:
            verdicts = stack.enter_context(open_fates(job.run_dir, job.grid, tile, job.fates_block, job.round)).verdicts
        yield WindowJudge(tile, sound, job.grid.x.length, job.criteria, verdicts)


def _core_arrays(
    job: Job, tile: Tile, survey: Survey, window: Window, state: State
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """What a tile publishes of its core: names, and images (y, x) or cubes (scale, y, x).

    Each lasts until the next is asked for.
    """
    core = tile.core.within(tile.box)
    room, cube = borrow(tile.core.shape), borrow((job.kernels.n_scale, *tile.core.shape), np.uint16)
    for name in ("model", "approx", "transform_2d"):
        np.copyto(room, getattr(state, name)[core])
        yield name, room
    np.add(state.model[core], state.approx[core], out=room)
    yield "residual", np.subtract(window.counts[core], room, out=room)
    undefined = state.significance == -np.inf
    yield "significance", np.where(undefined, 0.0, state.significance) if undefined.any() else state.significance
    yield "best_scale", state.best_scale
    yield "best_iteration", state.best_iteration
    np.copyto(cube, state.joined[(..., *core)])
    yield "joined", cube
    yield "support", cube > 0
    yield "mask", window.valid[core].astype(np.uint8)
    yield "trust", trust_flags(job.grid, job.kernels.reach, tile, survey, state.undefined)
    give_back(room, cube)


def _bounds(box: Box) -> list[int]:
    return [box.y0, box.y1, box.x0, box.x1]
