"""Trust flags that only the merge can set: seams at which tiles differ, islands left open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cwt_dask.geometry.margins import TOLERANCE
from cwt_dask.merge.open_islands import OpenIslands, read_open_pixels
from cwt_dask.merge.seams import Seam, seam_error
from cwt_dask.planning.plan import Plan
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import TileRecord, read_record, write_record
from cwt_dask.storage.maps import OPPOSITE, digest_pixels
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.trust import Trust


def bad_sides(seams: Iterable[Seam], records: Mapping[int, TileRecord]) -> dict[int, set[str]]:
    """Sides of tiles at which they and a neighbour differ by more than is promised, on both sides of the seam."""
    model_max = {tile: record.model_max for tile, record in records.items()}
    found: dict[int, set[str]] = {}
    for seam in seams:
        # Not "error > tolerance": NaN must show.
        if seam.support_flips or not seam_error(seam, model_max) <= TOLERANCE:
            found.setdefault(seam.tile, set()).add(seam.side)
            found.setdefault(seam.neighbour, set()).add(OPPOSITE[seam.side])
    return found


def flag_tile(
    run_dir: RunDir, plan: Plan, bad: Mapping[int, set[str]], unsettled: Sequence[OpenIslands], tile_id: int
) -> int:
    """Add flags to the trust map of a tile's core, and renew its record.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    plan : Plan
        Its plan.
    bad : mapping of set
        What `bad_sides` found.
    unsettled : sequence of OpenIslands
        What was left open.
    tile_id : int
        Number of the tile.
    """
    core = plan.grid.tile(tile_id).core
    maps = open_group(run_dir.maps, writable=True, whole="run")
    array = maps["trust"]
    trust = np.asarray(array[core.slices])
    used = maps["mask"][core.slices] != 0
    reach = plan.kernels.reach
    near = {"south": np.s_[:reach, :], "north": np.s_[-reach:, :], "west": np.s_[:, :reach], "east": np.s_[:, -reach:]}
    for side in bad.get(tile_id, ()):
        trust[near[side]] |= np.uint8(Trust.SEAM)
    for found in unsettled:
        if tile_id in found.pixels:
            trust[read_open_pixels(run_dir, found, tile_id)] |= np.uint8(Trust.OPEN_ISLAND)
    trust[~used] = 0
    # A chunk of zeros is written, too: one that is not there is lost.
    array.with_config({"write_empty_chunks": True})[core.slices] = trust
    record = read_record(run_dir.record(tile_id))
    digests = record.chunk_digests | {"trust": digest_pixels(trust, "trust")}
    write_record(run_dir, replace(record, chunk_digests=digests))
    return tile_id
