"""Pixels of a box, read from any array of the map; and written as the chunk that a tile owns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.geometry.facets import FacetBox
from cwt_dask.geometry.tiling import Box, on_map, parts


def read_box(array: Any, box: Box, *, ring: bool) -> NDArray[Any]:
    """Read the pixels of a box.

    Parameters
    ----------
    array : array-like
        The last two axes are the map's (y, x); leading axes are kept whole.
    box : Box
        Rows within the map; on a ring any columns, else those within the map.
    ring : bool
        Whether columns count modulo the map's width.

    Returns
    -------
    ndarray
        Shape ``(..., *box.shape)``, in the type of `array`.
    """
    if isinstance(box, FacetBox):
        of_facet: NDArray[Any] = array[(..., *box.slices)]
        return of_facet
    width = array.shape[-1]
    if ring and box.shape[1] > width:
        # Columns that the box holds several times are read once.
        around: NDArray[Any] = array[..., box.y0 : box.y1, :]
        return around[..., np.arange(box.x0, box.x1) % width]
    if box == on_map(box, array.shape[-2:], ring=False):
        whole: NDArray[Any] = array[(..., *box.slices)]
        return whole
    pixels = np.empty((*array.shape[:-2], *box.shape), array.dtype)
    for part, inside in parts(box, array.shape[-2:], ring=ring):
        pixels[(..., *part.within(box))] = array[(..., *inside.slices)]
    return pixels


def chunk_of(core: Box, pixels: NDArray[Any], nothing: float = 0) -> tuple[tuple[Any, ...], NDArray[Any]]:
    """Index of the chunk of a map that a tile owns, and its pixels (..., y, x), with nothing beyond its core.

    Parameters
    ----------
    core : Box
        The core. Chunks are as large as the largest facet's: to write a part of one, what is there would be read first,
        be it damaged.
    pixels : ndarray
        (..., y, x), of the core.
    nothing : float, optional
        What stands for it.
    """
    if not isinstance(core, FacetBox):
        return (..., *core.slices), pixels
    whole = np.full((*pixels.shape[:-2], core.side, core.side), nothing, pixels.dtype)
    whole[..., : core.shape[0], : core.shape[1]] = pixels
    return (..., core.facet, slice(None), slice(None)), whole
