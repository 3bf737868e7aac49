"""Trust flags: which pixels and sources deserve a second look."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter

from cwt_dask.tiling import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cwt_dask.survey import Survey
    from cwt_dask.tiling import Tile, TileGrid


class Trust(IntFlag):
    """Why a pixel deserves a second look: the values of `trust` in `maps.zarr`."""

    MAP_EDGE = 1
    """Within the kernels' reach of the map's edge: outside counts as zero."""
    MASKED_NEIGHBOUR = 2
    """Within the kernels' reach of a masked pixel, which counts as zero."""
    ERROR_UNDEFINED = 4
    """The expected error was zero or undefined at some scale and iteration: nothing could be detected then."""
    SEAM = 8
    """Within the kernels' reach of a seam at which two tiles differ by more than is promised."""
    OPEN_ISLAND = 16
    """Part of an island on whose fate tiles were not brought to agree."""


class SourceFlag(IntFlag):
    """Why a source deserves a second look: the values of `flags` in the catalogue."""

    MAP_EDGE = Trust.MAP_EDGE
    """The peak lies within the kernels' reach of the map's edge: outside counts as zero."""
    MASKED_NEIGHBOUR = Trust.MASKED_NEIGHBOUR
    """The peak lies within the kernels' reach of a masked pixel, which counts as zero."""
    ERROR_UNDEFINED = Trust.ERROR_UNDEFINED
    """The expected error was zero or undefined at the peak at some scale and iteration."""
    SEAM = Trust.SEAM
    """The peak lies within the kernels' reach of a seam at which two tiles differ by more than is promised."""
    OPEN_ISLAND = Trust.OPEN_ISLAND
    """The peak belongs to an island on whose fate tiles were not brought to agree."""
    CROSSES_SEAM = 32
    """Its island lies in the cores of several tiles, which is no fault; the only flag that depends on the tiles."""
    BLIND_NEARBY = 64
    """Within the kernels' reach of the peak the expected error was undefined: beside a very bright source (10^5 counts)
    such pixels form a ring, and what is found around them may not be there."""
    BLENDED = 128
    """Its disc overlaps another source's: counts that lie in both are counted for both."""
    NO_CENTROID = 256
    """No centroid was found near the peak, or masked pixels or the map's edge are so near that it would be biased: the
    position is that of the peak's pixel."""


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
        Whose core.
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
