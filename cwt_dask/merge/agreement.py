"""Whether tiles agree on the sources near their borders, and what is done again where they do not."""

from __future__ import annotations

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.geometry.tiling import Box
from cwt_dask.planning.plan import Plan
from cwt_dask.storage.layout import RunDir
from cwt_dask.tiles.fitted import Seen, read_seen
from cwt_dask.tiles.fitting import Reach

# Counts and TS that two tiles find are the same if they differ by no more than this, relative to the larger; positions
# if that moves no more counts by pixels than this share of them, or than `_MOVED`. What the flank of a bright source
# leaves of a faint neighbour is within 1e-6 then.
SAME = 1e-9
_MOVED = 1e-6


def differing(run_dir: RunDir, run_id: str, plan: Plan, reach: Reach, tile_id: int) -> list[int]:
    """Other tiles with sources near a tile's core that the tile does not find as they do.

    A source counts where its footprint overlaps that of a point source in the core.

    Parameters
    ----------
    run_dir, run_id, plan
        Of a run with all tiles fitted.
    reach : Reach
        How far sources reach.
    tile_id : int
        The tile.
    """
    grid = plan.grid
    own, core = read_seen(run_dir, run_id, tile_id), grid.tile(tile_id).core
    others = {other.id for other in grid.overlapping(core.grown(reach.point + reach.widest))} - {tile_id}
    found = []
    for other in sorted(others):
        theirs, their_core = read_seen(run_dir, run_id, other), grid.tile(other).core
        if not _agree(*(_near(seen, their_core, core, reach.point, plan) for seen in (own, theirs))):
            found.append(other)
    return found


def _near(seen: Seen, inside: Box, core: Box, point: int, plan: Plan) -> dict[tuple[int, int], Floats]:
    """Counts and TS of sources in a core that matter in another, by pixel."""
    y, x = seen.y, seen.x
    there = (inside.y0 <= y) & (y < inside.y1) & (inside.x0 <= x) & (x < inside.x1)
    apart_y = np.maximum(np.maximum(core.y0 - y, y - core.y1 + 1), 0)
    apart_x = np.maximum(np.maximum(core.x0 - x, x - core.x1 + 1), 0)
    if plan.grid.ring:
        width = plan.grid.x.length
        round_it = [np.maximum(np.maximum(core.x0 - x - turn, x + turn - core.x1 + 1), 0) for turn in (-width, width)]
        apart_x = np.minimum(apart_x, np.minimum(*round_it))
    there &= np.maximum(apart_y, apart_x) <= seen.half + point
    values = np.column_stack([seen.npred, seen.ts, seen.npred * seen.y_off, seen.npred * seen.x_off])
    return {(int(y[k]), int(x[k])): values[k] for k in np.flatnonzero(there)}


def _agree(one: dict[tuple[int, int], Floats], other: dict[tuple[int, int], Floats]) -> bool:
    if one.keys() != other.keys():
        return False
    most = np.array([0.0, 0.0, _MOVED, _MOVED])
    return all((np.abs(one[pixel] - other[pixel]) <= most + SAME * np.abs(other[pixel])).all() for pixel in one)
