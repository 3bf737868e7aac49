"""What a peak of the maps is, and what is summed around it.

A peak is a pixel of the support (at any scale) with a significance that no pixel of its 3 x 3 neighbourhood in the
support exceeds; two peaks no farther apart than the finer of their scales are one: the more significant counts (the
earlier in row-major order, where they are equal). Significances are equal if they differ by less than 1e-9 of the
larger: where sky and background are symmetric they are the same number, and rounding, which depends on the tile, must
not choose. A peak's scale is that of its largest significance. Counts and background are summed over the pixels with
centres within sqrt(2) widths of that scale's kernel: the disc on which it is positive. Discs of neighbouring peaks may
overlap.

On a ring the edge of the map does not show: of two equal pixels in a row the western one is the earlier across it, too.
Where the ring is narrower than a neighbourhood or a disc, no pixel competes with itself or is summed twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.loops import TIE
from cwt_dask.geometry.tiling import Box


def disc_radii(kernels: CWTKernels) -> Floats:
    """Radius in pixels, by scale, of the disc in which counts are summed: where a Mexican hat is positive."""
    return np.asarray(np.sqrt(2) * kernels.widths)


def find_peaks(significance: Floats, separation: Floats | float, *, turn: int | None = None) -> tuple[Ints, Ints]:
    """Peaks of an image by the rule of this module: rows and columns.

    Peaks within the largest separation + 1 of the image's edge are right only where that is the map's edge.

    Parameters
    ----------
    significance : ndarray
        Image (y, x), -inf outside the support.
    separation : ndarray or float
        Scale of every pixel, or of all.
    turn : int, optional
        Columns of the map, where it is a ring: the image may hold a column several times, so far apart.
    """
    # Of equal neighbours the first in row-major order wins: it must exceed those before it and no other may exceed it.
    height, width = significance.shape
    y, x = np.divmod(np.flatnonzero(significance > -np.inf), width)
    values = significance[y, x]
    is_peak = np.ones(len(y), dtype=bool)
    # A ring of one column is its own neighbour.
    for before in ((-1, -1), (-1, 0), (-1, 1), *([(0, -1)] if turn != 1 else [])):
        for sign in (1, -1):
            row, column = y + sign * before[0], x + sign * before[1]
            there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            own, other = values[there], significance[row[there], column[there]]
            is_peak[there] &= _exceeds(own, other) if sign == 1 else ~_exceeds(other, own)
    y, x = y[is_peak], x[is_peak]
    if len(y) < 2:
        return y, x
    from scipy.spatial import cKDTree  # noqa: PLC0415 - it takes longer to load than a small map to search

    scale = np.broadcast_to(separation, significance.shape)[y, x]
    pairs = cKDTree(np.column_stack([y, x])).query_pairs(scale.max(), output_type="ndarray")
    one, other = pairs.T
    pairs = pairs[np.hypot(y[one] - y[other], x[one] - x[other]) <= np.minimum(scale[one], scale[other])]
    if turn is not None:
        dy, dx = (axis[pairs[:, 1]] - axis[pairs[:, 0]] for axis in (y, x))
        pairs = pairs[(dy != 0) | (dx % turn != 0)]
    # Pairs come as i < j and peaks in row-major order: on equality the second falls.
    first, second = significance[y, x][pairs.T]
    falls = np.where(_exceeds(second, first), pairs[:, 0], pairs[:, 1])
    kept = np.ones(len(y), dtype=bool)
    kept[falls] = False
    return y[kept], x[kept]


def _exceeds(one: Floats, other: Floats) -> Bools:
    """Whether one finite significance is larger than another by more than rounding."""
    return np.asarray(one - other > TIE * np.abs(one))


def disc_sums(
    images: Sequence[NDArray[Any]], box: Box, y: Ints, x: Ints, radius: Floats, *, turn: int | None = None
) -> list[Floats]:
    """Sums of images within `radius` of each pixel (y, x) of the map, each of its pixels once.

    Parameters
    ----------
    images : sequence of ndarray
        Of the pixels of `box`, (y, x); what lies outside counts as 0.
    box : Box
        Which those are.
    y, x, radius : ndarray
        Centres and radii of the discs, in pixels.
    turn : int, optional
        Columns of the map, where it is a ring.

    Returns
    -------
    list of ndarray of float64
        For each image, a sum for each disc.
    """
    sums = [np.zeros(len(y)) for _ in images]
    for size in np.unique(radius):
        offsets = np.arange(-math.floor(size), math.floor(size) + 1)
        dy, dx = (d.ravel() for d in np.meshgrid(offsets, offsets, indexing="ij"))
        disc = dy**2 + dx**2 <= size**2
        if turn is not None:
            # Of a pixel that the disc holds several times, the copy nearest to the peak.
            disc &= (-turn < 2 * dx) & (2 * dx <= turn)
        for k in np.nonzero(radius == size)[0]:
            rows, columns = y[k] + dy[disc], x[k] + dx[disc]
            inside = (box.y0 <= rows) & (rows < box.y1) & (box.x0 <= columns) & (columns < box.x1)
            pixels = rows[inside] - box.y0, columns[inside] - box.x0
            for image, total in zip(images, sums, strict=True):
                total[k] = image[pixels].sum(dtype=np.float64)
    return sums
