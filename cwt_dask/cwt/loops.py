"""Loops over pixels that NumPy would pass over several times: compiled for the processor they run on, once.

Without permission to reorder sums or to fuse multiplications, so that they give the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints

# T/E that are nearer than this, relative to the larger, differ by rounding alone: no iteration and no pixel exceeds
# another by that.
TIE = 1e-9


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the result on disk for other processes where a directory can be written."""
    compile_ = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        return compile_(cache=True)(function)
    except RuntimeError:
        # Neither the package's directory nor the user's can be written.
        return compile_()(function)


@compiled
def find_significant(
    transform: Floats,
    variance: Floats,
    valid: Bools,
    joined: NDArray[np.uint16],
    floor: float,
    rounding: float,
    thresholds: tuple[float, float],
    ratio: Floats,
    above: Bools,
    wanted: Bools,
    near: Bools,
) -> None:
    """Compare T with E; all arrays are (y, x).

    Parameters
    ----------
    transform, variance : ndarray
        T and E².
    valid, joined : ndarray
        Pixels that take part, and those of the support, where it is above 0.
    floor, rounding : float
        Uncertainty by rounding of E² and of T.
    thresholds : tuple of float
        The first is that of the support.
    ratio : ndarray
        Filled with T/E, -inf where E² is not above `floor`.
    above, wanted : ndarray of bool
        Filled with where T/E exceeds the first threshold, and where it does or the pixel is in the support.
    near : ndarray of bool
        Filled with where rounding could move T/E over a threshold: where |T - threshold E| is at most
        rounding + |threshold| floor / 2E.
    """
    first, second = thresholds
    for y in range(ratio.shape[0]):
        for x in range(ratio.shape[1]):
            defined = valid[y, x] and variance[y, x] > floor
            error = math.sqrt(variance[y, x])
            value = transform[y, x] / error if defined else -math.inf
            ratio[y, x] = value
            above[y, x] = value > first
            wanted[y, x] = value > first or joined[y, x] > 0
            least = 2 * error * rounding
            near_first = 2 * error * abs(transform[y, x] - first * error) <= least + abs(first) * floor
            near_second = 2 * error * abs(transform[y, x] - second * error) <= least + abs(second) * floor
            near[y, x] = defined and (near_first or near_second)


@compiled
def keep_largest(
    ratio: Floats,
    valid: Bools,
    scale: int,
    iteration: int,
    significance: Floats,
    best_scale: NDArray[np.int16],
    best_iteration: NDArray[np.uint16],
    undefined: Bools,
) -> None:
    """Update the largest T/E so far; all arrays are (y, x).

    Parameters
    ----------
    ratio, valid : ndarray
        T/E, -inf where it is undefined, and pixels that take part.
    scale, iteration : int
        Those of `ratio`.
    significance, best_scale, best_iteration : ndarray
        Updated: the largest T/E, its scale, and the first iteration within rounding of it.
    undefined : ndarray of bool
        Updated: pixels that take part where T/E was undefined.
    """
    for y in range(ratio.shape[0]):
        for x in range(ratio.shape[1]):
            clearly = ratio[y, x] - significance[y, x] > TIE * abs(ratio[y, x])
            best_iteration[y, x] = iteration if clearly else best_iteration[y, x]
            better = ratio[y, x] > significance[y, x]
            significance[y, x] = ratio[y, x] if better else significance[y, x]
            best_scale[y, x] = scale if better else best_scale[y, x]
            undefined[y, x] |= valid[y, x] and ratio[y, x] == -math.inf


@compiled
def sum_over_scales(
    joined: NDArray[np.uint16], scale: int, pixels: Ints, transform: Floats, transform_2d: Floats
) -> None:
    """Add T of one scale to the sum over the supports; scales come in their order.

    Parameters
    ----------
    joined : ndarray of uint16
        Above 0 in the supports (scale, pixel).
    scale : int
        Index of the scale.
    pixels : ndarray of int64
        All pixels of its support, and perhaps others.
    transform : ndarray
        T of these.
    transform_2d : ndarray
        Updated: the sum by pixel. The first scale of a pixel replaces that of the iteration before: supports only grow.
    """
    for i in range(pixels.size):
        pixel = pixels[i]
        if joined[scale, pixel] > 0:
            first = _is_first(joined, scale, pixel)
            transform_2d[pixel] = transform[i] if first else transform_2d[pixel] + transform[i]


@compiled
def add_positive(joined: NDArray[np.uint16], scale: int, pixels: Ints, transform_2d: Floats, model: Floats) -> None:
    """Add the sum over scales, where it is positive, to the model, at pixels that have this as their first scale.

    Parameters
    ----------
    joined, scale, pixels, transform_2d
        As of `sum_over_scales`.
    model : ndarray
        Updated, by pixel.
    """
    for pixel in pixels:
        if joined[scale, pixel] > 0 and _is_first(joined, scale, pixel) and transform_2d[pixel] > 0:
            model[pixel] += transform_2d[pixel]


@compiled
def _is_first(joined: NDArray[np.uint16], scale: int, pixel: int) -> bool:
    """Whether no finer scale has a pixel in its support."""
    first = True
    for finer in range(scale):
        first = first and joined[finer, pixel] == 0
    return first


@compiled
def not_isolated(mask: Bools, pixels: Ints, ring: bool) -> Bools:
    """Whether pixels have a 4-connected neighbour in a mask.

    Parameters
    ----------
    mask : ndarray of bool
        (y, x).
    pixels : ndarray of int64
        Flat indices in it.
    ring : bool
        Whether the last column is the neighbour of the first.
    """
    height, width = mask.shape
    kept = np.empty(pixels.size, np.bool_)
    for i in range(pixels.size):
        y, x = divmod(pixels[i], width)
        kept[i] = (
            (y > 0 and mask[y - 1, x])
            or (y + 1 < height and mask[y + 1, x])
            or (x > 0 and mask[y, x - 1])
            or (x + 1 < width and mask[y, x + 1])
            or (ring and width > 1 and ((x == 0 and mask[y, -1]) or (x == width - 1 and mask[y, 0])))
        )
    return kept


@compiled
def label(pixels: Ints, width: int, ring: bool) -> tuple[NDArray[np.int32], int]:
    """Number 4-connected islands, by union-find over their pixels alone: the size of the image costs nothing.

    Parameters
    ----------
    pixels : ndarray of int64
        Ascending flat indices in an image.
    width : int
        Its columns.
    ring : bool
        Whether the last column is the neighbour of the first.

    Returns
    -------
    labels : ndarray of int32
        Of each pixel, from 1 in the order of the islands' first pixels.
    count : int
        Number of islands.
    """
    parent = np.empty(pixels.size, np.int64)
    above = first_of_row = 0
    for i in range(pixels.size):
        pixel = pixels[i]
        parent[i] = i
        if i > 0 and pixels[i - 1] == pixel - 1 and pixel % width > 0:
            parent[i] = parent[i - 1]
        while pixels[above] < pixel - width:
            above += 1
        if pixels[above] == pixel - width:
            _unite(parent, i, above)
        if pixel // width > pixels[first_of_row] // width:
            first_of_row = i
        if ring and pixel % width == width - 1 and pixels[first_of_row] == pixel - width + 1:
            _unite(parent, i, first_of_row)
    labels = np.empty(pixels.size, np.int32)
    count = 0
    for i in range(pixels.size):
        root = _root(parent, i)
        if root == i:
            count += 1
            labels[i] = count
        else:
            labels[i] = labels[root]
    return labels, count


@compiled
def _unite(parent: Ints, i: int, j: int) -> None:
    one, other = _root(parent, i), _root(parent, j)
    # The root of an island is its first pixel.
    parent[max(one, other)] = min(one, other)


@compiled
def _root(parent: Ints, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i
