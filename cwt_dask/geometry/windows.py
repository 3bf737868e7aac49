"""Pixels of a box, read from any array of the map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
