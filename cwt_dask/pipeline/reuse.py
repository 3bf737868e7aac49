"""Tiles of an earlier run that would come out the same are reused in a new one without computing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cwt_dask.config.settings import ALGORITHM_VERSION
from cwt_dask.errors import RunError
from cwt_dask.geometry.tiling import Tile
from cwt_dask.planning.job import Job
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_record, read_run_id, write_record
from cwt_dask.storage.maps import copy_strips, publish_core, published_digests
from cwt_dask.storage.paths import read_file, write_atomically
from cwt_dask.storage.provenance import other_versions
from cwt_dask.storage.schema import maps_from
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import open_survey
from cwt_dask.trust import Trust

# Seams and islands are compared again.
_OF_THE_MERGE = Trust.SEAM | Trust.OPEN_ISLAND

# Tiles are named up to here.
MOST_NAMED = 20
_DAMAGED = "its maps are not as they were recorded"
NOT_WITH_ISLANDS = "with an island threshold islands are decided by all tiles together"


def reason_to_compute(earlier: RunDir, job: Job, tile_id: int) -> str:
    """Why a tile of the earlier run cannot be reused; empty if it can.

    It would come out the same if its window, the settings and the mathematics are the same; what is there of it must be
    as it was recorded.

    Parameters
    ----------
    earlier : RunDir
        The earlier run.
    job : Job
        Of the new run.
    tile_id : int
        The tile.
    """
    tile = job.grid.tile(tile_id)
    try:
        record = read_record(earlier.record(tile_id))
    except (OSError, RunError):
        return "the earlier run has no sound record of it"
    if (record.settings_digest, record.algorithm_version) != (job.settings_digest, ALGORITHM_VERSION):
        return "it was done under other settings, or by another version"
    if other_versions(record.versions):
        return "it was done under other versions of libraries"
    if open_survey(job.survey, job.grid).digest_window(tile.window) != record.input_digest:
        return "the survey has changed in its window"
    return "" if published_digests(earlier, job.grid, tile_id) == record.chunk_digests else _DAMAGED


def reuse_tiles(run: SurveyRun, earlier: RunDir, stages: Stages) -> None:
    """Reuse all tiles that can be and are not done yet, and report why the others are computed.

    Parameters
    ----------
    run : SurveyRun
        The new run.
    earlier : RunDir
        The earlier run.
    stages : Stages
        Where tiles are done.
    """
    job = run.stored.plan.job(run.files, read_run_id(run.files), run.survey.path)
    wanted = [tile for tile in range(job.grid.n_tiles) if not run.files.record(tile).exists()]
    if run.stored.plan.decides_islands:
        stages.progress.message(f"nothing is reused from {earlier.path}: {NOT_WITH_ISLANDS}")
        return
    for line in summary(stages.map_tiles(partial(_reuse_tile, earlier, job), wanted, "reusing tiles")):
        stages.progress.message(line)


def summary(reasons: Mapping[int, str]) -> list[str]:
    """How many tiles can be reused, and why the others cannot: a line for each reason."""
    tiles: dict[str, list[int]] = {}
    for tile, reason in sorted(reasons.items()):
        tiles.setdefault(reason, []).append(tile)
    lines = [f"{len(tiles.pop('', []))} of {len(reasons)} tiles are reused"]
    for reason, numbers in tiles.items():
        named = ", ".join(map(str, numbers[:MOST_NAMED])) + (", ..." if len(numbers) > MOST_NAMED else "")
        lines.append(f"{len(numbers)} are computed, {reason}: {named}")
    return lines


def _reuse_tile(earlier: RunDir, job: Job, tile_id: int) -> str:
    """Copy a tile, if it can be reused; else return why not."""
    if reason := reason_to_compute(earlier, job, tile_id):
        return reason
    tile, record = job.grid.tile(tile_id), read_record(earlier.record(tile_id))
    digests = publish_core(job.run_dir.maps, tile.core, _cores(earlier, tile))
    digests |= copy_strips(earlier.seams, job.run_dir.seams, tile_id)
    write_atomically(job.run_dir.detections(tile_id), read_file(earlier.detections(tile_id)))
    digests["detections"] = sha256_of_file(job.run_dir.detections(tile_id))
    changed = {name for name, digest in digests.items() if digest != record.chunk_digests.get(name)}
    if changed - {"trust"}:
        # It was damaged since it was looked at.
        return _DAMAGED
    taken = replace(record, taken_from=record.run, chunk_digests=digests)
    write_record(job.run_dir, replace(taken, run=job.run_id, survey_digest=job.survey_digest))
    return ""


def _cores(earlier: RunDir, tile: Tile) -> Iterator[tuple[str, NDArray[np.generic]]]:
    maps = open_group(earlier.maps, whole="run")
    for name in (spec.name for spec in maps_from("tile")):
        pixels = np.asarray(maps[name][(..., *tile.core.slices)])
        yield name, pixels & np.uint8(~_OF_THE_MERGE & 0xFF) if name == "trust" else pixels
