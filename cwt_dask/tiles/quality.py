"""Flags of doubtful pixels in a tile's core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from cwt_dask.cwt.arrays import Bools
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.tiling import Tile
from cwt_dask.survey import Survey
from cwt_dask.trust import Trust


def trust_flags(grid: AnyGrid, reach: int, tile: Tile, survey: Survey, undefined_core: Bools) -> NDArray[np.uint8]:
    """Values of `Trust` on the pixels of a core (y, x); 0 where masked.

    Parameters
    ----------
    grid : TileGrid or FacetGrid
        The tiles.
    reach : int
        The kernels' reach in pixels.
    tile : Tile
        The core's tile.
    survey : Survey
        Its mask is read, beyond the core too; a ring where the grid is one.
    undefined_core : ndarray of bool
        Pixels of the core (y, x) where the expected error was zero or undefined.
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
        beyond = np.ones(near.shape, dtype=bool)
        beyond[seen.within(near)] = False
        trust[near_any(beyond, reach)[core]] |= np.uint8(Trust.MAP_EDGE)
    trust[undefined_core] |= np.uint8(Trust.ERROR_UNDEFINED)
    trust[masked[core]] = 0
    return trust


def near_any(pixels: Bools, reach: int) -> Bools:
    """Whether one of `pixels` (y, x) is not farther off along either axis than `reach`."""
    near: Bools = maximum_filter(pixels.view(np.uint8), size=2 * reach + 1, mode="constant") != 0
    return near
