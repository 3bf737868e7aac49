"""Flags of doubtful pixels in a tile's core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from cwt_dask.geometry.tiling import Box, Tile, TileGrid
from cwt_dask.survey import Survey
from cwt_dask.trust import Trust


def trust_flags(
    grid: TileGrid, reach: int, tile: Tile, survey: Survey, undefined_core: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Flag the pixels of a core.

    Parameters
    ----------
    grid : TileGrid
        The tiles.
    reach : int
        The kernels' reach in pixels.
    tile : Tile
        The core's tile.
    survey : Survey
        Its mask is read, beyond the core too; a ring where the grid is one.
    undefined_core : ndarray of bool
        Pixels of the core (y, x) where the expected error was zero or undefined.

    Returns
    -------
    ndarray of uint8
        Values of `Trust` (y, x) of the core; 0 where masked.
    """
    # A margin below the reach does not show all neighbours that matter here.
    near = tile.core.grown(reach)
    seen = grid.on_map(near)
    core = tile.core.within(near)
    trust = np.zeros(tile.core.shape, dtype=np.uint8)
    masked = np.zeros(near.shape, dtype=bool)
    masked[seen.within(near)] = survey.read("mask", seen) == 0
    if masked.any():
        trust[near_any(masked, reach)[core]] |= np.uint8(Trust.MASKED_NEIGHBOUR)
    if seen != near:
        at_edge = np.ones(tile.core.shape, dtype=bool)
        at_edge[_interior(seen, near, reach).intersection(tile.core).within(tile.core)] = False
        trust[at_edge] |= np.uint8(Trust.MAP_EDGE)
    trust[undefined_core] |= np.uint8(Trust.ERROR_UNDEFINED)
    trust[masked[core]] = 0
    return trust


def _interior(seen: Box, near: Box, reach: int) -> Box:
    """Pixels of `seen` that are farther than `reach` from where it ends within `near`."""
    return Box(
        seen.y0 + reach * (seen.y0 > near.y0),
        seen.y1 - reach * (seen.y1 < near.y1),
        seen.x0 + reach * (seen.x0 > near.x0),
        seen.x1 - reach * (seen.x1 < near.x1),
    )


def near_any(pixels: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Whether one of `pixels` (y, x) is not farther off along either axis than `reach`."""
    near: NDArray[np.bool_] = maximum_filter(pixels.view(np.uint8), size=2 * reach + 1, mode="constant") != 0
    return near
