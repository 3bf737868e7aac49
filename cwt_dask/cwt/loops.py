"""Loops over pixels that NumPy would pass over several times: compiled for the processor they run on, once.

Without permission to reorder sums or to fuse multiplications, so that they give the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints

# T/E that are nearer than this, relative to the larger, differ by rounding alone: no iteration and no pixel exceeds
# another by that.
TIE = 1e-9
# Floors below zero from which on E² is negative, and not by rounding.
CLEARLY = 2.0**20


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the result on disk for other processes where a directory can be written."""
    compile_ = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        made: Any = compile_(cache=True)(function)
    except RuntimeError:
        # Neither the package's directory nor the user's can be written.
        return compile_()(function)
    if hasattr(made, "_cache"):
        # What was compiled of another version of its file is not taken; nor of others, whose functions it may call.
        kept = made._cache._cache_file  # noqa: SLF001
        kept._source_stamp = versions_of(Path(function.__code__.co_filename).parent)  # noqa: SLF001
    return made  # type: ignore[no-any-return]


@cache
def versions_of(folder: Path) -> list[tuple[str, int, int]]:
    """When the modules of a folder were written, and their sizes."""
    return [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.glob("*.py"))]


@compiled
def replace_by_sums(
    values: Floats,
    decisive: Floats,
    first_row: int,
    image: Floats,
    along_y: Floats,
    along_x: Floats,
    bounds: tuple[float, float],
    ring: bool,
) -> None:
    """Replace what FFTs have made of a convolution by sums over the kernel, where another lies between two bounds.

    Sums over the same pixels have the same bits in every box; what FFTs give differs by rounding from box to box.

    Parameters
    ----------
    values : ndarray
        Updated: rows (y, x) of the convolution.
    decisive : ndarray
        The same rows of the one that decides; it may be the same array.
    first_row : int
        Row of the image at which they begin.
    image : ndarray
        What is convolved (y, x); beyond its borders is nothing.
    along_y, along_x : ndarray
        The kernel as a sum of products (term, size), with its centre as 'same' convolution takes it.
    bounds : tuple of float
        Both exclusive.
    ring : bool
        Whether the last column is the neighbour of the first.
    """
    low, high = bounds
    for row in range(values.shape[0]):
        first, last = values.shape[1], -1
        for x in range(values.shape[1]):
            if low < decisive[row, x] < high:
                first, last = min(first, x), x
        if last >= 0:
            sums = _convolved(image, first_row + row, first, last + 1, along_y, along_x, ring)
            for x in range(first, last + 1):
                if low < decisive[row, x] < high:
                    values[row, x] = sums[x - first]


@compiled
def _convolved(image: Floats, row: int, first: int, end: int, along_y: Floats, along_x: Floats, ring: bool) -> Floats:
    """Columns `first` to `end` of a row of a convolution, each summed in the order of the kernel's pixels."""
    size, width = along_x.shape[1], image.shape[1]
    after = (size - 1) // 2
    # The columns that these depend on.
    start, stop = first - (size - 1 - after), end + after
    # On a ring the image comes again and again.
    laps = range(start // width, (stop - 1) // width + 1) if ring else range(1)
    along_columns, total = np.empty(stop - start), np.zeros(end - first)
    for term in range(len(along_x)):
        along_columns[:] = 0.0
        for i in range(size):
            y = row + after - i
            if 0 <= y < image.shape[0]:
                for lap in laps:
                    for x in range(max(start, lap * width), min(stop, (lap + 1) * width)):
                        along_columns[x - start] += along_y[term, i] * image[y, x - lap * width]
        for i in range(size):
            for x in range(end - first):
                total[x] += along_x[term, i] * along_columns[x + size - 1 - i]
    return total


@compiled
def find_significant(
    transform: Floats,
    variance: Floats,
    valid: Bools,
    joined: NDArray[np.uint16],
    floor: float,
    rounding: float,
    thresholds: tuple[float, float],
    exact: bool,
    ratio: Floats,
    above: Bools,
    wanted: Bools,
    near: Bools,
    hidden: Bools,
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
    exact : bool
        Whether E² near the floor has the same bits in every box (`replace_by_sums`).
    ratio : ndarray
        Filled with T/E, -inf where E² is not above `floor`.
    above, wanted : ndarray of bool
        Filled with where T/E exceeds the first threshold, and where it does or the pixel is in the support.
    near : ndarray of bool
        Filled with where rounding could decide about the support: where |T - threshold E| is at most
        rounding + |threshold| floor / 2E; and, unless `exact`, where E² is within a quarter of `floor` while T stands
        out.
    hidden : ndarray of bool
        Filled with where E² is not above the floor, which may hide something: if `exact` in any case, else where E² is
        clearly negative or T stands out. It does where T is above the first threshold with an E² at the floor.
    """
    first, second = thresholds
    # With twice the floor a threshold below zero is lower.
    standing = first * math.sqrt(floor if first > 0 else 2 * floor)
    for y in range(ratio.shape[0]):
        for x in range(ratio.shape[1]):
            square, amplitude = variance[y, x], transform[y, x]
            defined = valid[y, x] and square > floor
            error = math.sqrt(max(square, 0.0))
            value = amplitude / error if defined else -math.inf
            ratio[y, x] = value
            above[y, x] = value > first
            wanted[y, x] = value > first or joined[y, x] > 0
            stands_out = valid[y, x] and amplitude > standing
            least = 2 * error * rounding
            near_first = 2 * error * abs(amplitude - first * error) <= least + abs(first) * floor
            near_second = 2 * error * abs(amplitude - second * error) <= least + abs(second) * floor
            near_floor = stands_out and not exact and floor > 0 and abs(square - floor) <= floor / 4
            near[y, x] = (defined and (near_first or near_second)) or near_floor
            hidden[y, x] = valid[y, x] and not defined and (exact or stands_out or square < -CLEARLY * floor)


@compiled
def keep_largest(
    ratio: Floats,
    scale: int,
    iteration: int,
    significance: Floats,
    best_scale: NDArray[np.int16],
    best_iteration: NDArray[np.uint16],
) -> None:
    """Update the largest T/E so far; all arrays are (y, x).

    Parameters
    ----------
    ratio : ndarray
        T/E, -inf where it is undefined.
    scale, iteration : int
        Those of `ratio`.
    significance, best_scale, best_iteration : ndarray
        Updated: the largest T/E, its scale, and the first iteration within rounding of it.
    """
    for y in range(ratio.shape[0]):
        for x in range(ratio.shape[1]):
            clearly = ratio[y, x] - significance[y, x] > TIE * abs(ratio[y, x])
            best_iteration[y, x] = iteration if clearly else best_iteration[y, x]
            better = ratio[y, x] > significance[y, x]
            significance[y, x] = ratio[y, x] if better else significance[y, x]
            best_scale[y, x] = scale if better else best_scale[y, x]


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
