"""What workers do with a tile. Everything by path and number: no array goes through a scheduler."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.state import State
from cwt_dask.errors import InputError
from cwt_dask.geometry.tiling import Tile
from cwt_dask.planning.job import Job
from cwt_dask.storage.copies import write_copies
from cwt_dask.storage.joined import read_joined
from cwt_dask.storage.ledger import read_record, refuse_another_run
from cwt_dask.storage.maps import publish_history
from cwt_dask.survey import open_survey
from cwt_dask.tiles.checkpoint import TileState, read_checkpoint
from cwt_dask.tiles.compute import compute
from cwt_dask.tiles.decisions import open_decisions
from cwt_dask.tiles.islands import IslandLabel, Replay, WindowFilter
from cwt_dask.tiles.publish import publish_checkpoint, publish_tile


def run_tile(job: Job, tile_id: int) -> int:
    """Do one tile, and return its number.

    Raises InputError if the survey is not the one that the run began with.
    """
    began = time.perf_counter()
    tile = job.grid.tile(tile_id)
    survey = open_survey(job.survey, job.grid)
    if not survey.is_that_of(job.survey_digest, job.survey_facts):
        raise InputError(f"{job.survey} was replaced by another survey while the run went on: put the first one back")
    window = survey.read_window(tile.window, tile.box, digest=job.publishes)
    with ExitStack() as stack:
        islands = _window_filter(job, tile, stack)
        begin = _begin(job, tile)
        history = _History(job, tile, window.owned, begin.history)
        observe = history.publish if job.keep_history else None
        result = compute(job, tile, window, begin, islands.select if islands else None, observe=observe)
        result = replace(result, reached=replace(result.reached, history=history.checksum))
    refuse_another_run(job.run_dir, job.run_id)
    if job.keeps:
        publish_checkpoint(job, result, islands.found if islands else {}, began)
    if job.publishes:
        publish_tile(job, survey, result, began)
    window.close()
    result.reached.state.close()
    return tile_id


def settle_tile(job: Job, tile_id: int) -> bool:
    """Do a tile again if its support contradicts the decisions on the whole map's islands; return whether it did.

    A tile that was done again in this round, before an interruption, counts as done.
    """
    again = job.run_dir.checkpoint(job.stop, tile_id, job.round).exists() or bool(contradicted_labels(job, tile_id))
    if again and not job.run_dir.block_record(job.stop, tile_id, job.round).exists():
        run_tile(job, tile_id)
    return again


def contradicted_labels(job: Job, tile_id: int) -> list[IslandLabel]:
    """Labels of the islands in a tile's window on which its support is not as decided."""
    with open_decisions(job, job.grid.tile(tile_id)) as decisions:
        return decisions.contradicted()


def mark_open_pixels(job: Job, labels: Mapping[int, Sequence[IslandLabel]], tile_id: int) -> str:
    """Store which pixels of a tile's core lie in islands that were left open; sha256 of the file.

    Parameters
    ----------
    job : Job
        The block of iterations.
    labels : mapping of list
        Labels of these islands, by tile.
    tile_id : int
        Number of the tile.
    """
    tile = job.grid.tile(tile_id)
    marked = np.zeros(tile.core.shape, dtype=bool)
    with open_decisions(job, tile) as decisions:
        for key in sorted({found[:2] for found in labels[tile_id]}):
            numbers = [found.label for found in labels[tile_id] if found[:2] == key]
            marked |= np.isin(decisions.own.label_image(key, tile), numbers)
    content = io.BytesIO()
    np.save(content, marked)
    write_copies(job.run_dir.copies(job.run_dir.open_pixels(job.stop, tile_id)), content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def _begin(job: Job, tile: Tile) -> TileState:
    start = job.starts.get(tile.id, job.start)
    if start == 0:
        return TileState.start(job.kernels.n_scale, tile)
    decides = job.criteria.significance_island_threshold is not None
    path = job.run_dir.latest_checkpoint if decides else partial(job.run_dir.checkpoint, round_=0)
    return read_checkpoint(path(start, tile.id), job.run_id, tile)


def _window_filter(job: Job, tile: Tile, stack: ExitStack) -> WindowFilter | Replay | None:
    """What decides on the islands in a tile's window; None where the window shows all of them."""
    if not job.decides_islands:
        return None
    if job.replays:
        recorded = read_record(job.run_dir.record(tile.id)).chunk_digests
        return Replay(read_joined(job.run_dir, tile.id, recorded, (job.kernels.n_scale, *tile.box.shape)))
    decided = stack.enter_context(open_decisions(job, tile)).of_pixels if job.decisions_block else None
    sound = job.grid.sound(tile, job.kernels.reach)
    return WindowFilter(tile, sound, job.grid.width, job.criteria, decided)


@dataclass
class _History:
    """The models of a tile's core, of a run that keeps its history."""

    job: Job
    tile: Tile
    owned: Bools | None  # As of the window.
    checksum: int  # Of all models that were written.

    def publish(self, state: State, converged: bool) -> None:
        """Write the model after an iteration."""
        refuse_another_run(self.job.run_dir, self.job.run_id)
        core, inside = self.tile.core, self.tile.core.within(self.tile.box)
        model = state.model[inside] if self.owned is None else np.where(self.owned[inside], state.model[inside], 0.0)
        maps, iteration = self.job.run_dir.maps, state.iteration
        self.checksum = publish_history(maps, core, iteration, model, self.checksum, onwards=converged)
