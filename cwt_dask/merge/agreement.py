"""Whether tiles agree on the sources near their borders, and what is done again where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

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


@dataclass(frozen=True)
class Windows:
    """How far beyond their cores tiles are fitted, in pixels."""

    first: int
    wider: Mapping[int, int] = field(default_factory=dict)  # Of tiles that were done again.

    def __getitem__(self, tile: int) -> int:
        return self.wider.get(tile, self.first)


def until_they_agree(
    plan: Plan,
    reach: Reach,
    fit: Callable[[int, Iterable[int]], object],
    compare: Callable[[Windows], Mapping[int, list[int]]],
) -> tuple[Windows, dict[int, list[int]]]:
    """Fit all tiles, and those that do not agree again in wider windows, until all do or windows are as wide as may be.

    Parameters
    ----------
    plan : Plan
        Of the run.
    reach : Reach
        How far sources reach.
    fit : callable
        Has tiles fitted, given the margin and which.
    compare : callable
        `differing` of all tiles, given how they were fitted.

    Returns
    -------
    windows : Windows
        How each tile was fitted last.
    differ : dict of list
        By tile, others with sources near it that it does not find as they do.
    """
    windows, tiles = Windows(reach.margin), list(range(plan.grid.n_tiles))
    differ: dict[int, list[int]] = {}
    for margin in reach.margins:
        if margin != windows.first:
            windows = Windows(windows.first, {**windows.wider, **dict.fromkeys(tiles, margin)})
        fit(margin, tiles)
        if plan.grid.has_seams:
            differ = {tile: others for tile, others in sorted(compare(windows).items()) if others}
        tiles = sorted({*differ, *chain.from_iterable(differ.values())})
        if not tiles:
            break
    return windows, differ


def differing(run_dir: RunDir, run_id: str, plan: Plan, reach: Reach, windows: Windows, tile_id: int) -> list[int]:
    """Other tiles with sources near a tile's core that the tile does not find as they do.

    A source counts where its footprint overlaps that of a point source in the core.

    Parameters
    ----------
    run_dir, run_id, plan
        Of a run with all tiles fitted.
    reach : Reach
        How far sources reach.
    windows : Windows
        How tiles were fitted.
    tile_id : int
        The tile.
    """
    grid = plan.grid
    own, core = read_seen(run_dir, run_id, tile_id, windows[tile_id]), grid.tile(tile_id).core
    others = {other.id for other in grid.overlapping(core.grown(reach.point + reach.widest))} - {tile_id}
    found = []
    for other in sorted(others):
        theirs, their_core = read_seen(run_dir, run_id, other, windows[other]), grid.tile(other).core
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
        width = plan.grid.width
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
