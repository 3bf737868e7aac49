"""Loops over pixels that NumPy would pass over several times: compiled for the processor they run on, once.

Without permission to reorder sums or to fuse multiplications, so that they give the same bits everywhere.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# T/E that are nearer than this, relative to the larger, differ by rounding alone: no iteration and no pixel exceeds
# another by that.
TIE = 1e-9


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile when first called; keep the result on disk for other processes, where a directory for it can be found."""
    compile_ = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        return compile_(cache=True)(function)
    except RuntimeError:
        # Neither the package's directory nor the user's can be written.
        return compile_()(function)


@compiled
def multiply(spectrum: NDArray[Any], along_y: NDArray[Any], along_x: NDArray[Any], out: NDArray[Any]) -> None:
    """Multiply rows of a spectrum (y, x) by those of a kernel, given as factors (term, y) and (term, x)."""
    kernel = np.empty(spectrum.shape[1], along_x.dtype)
    for y in range(spectrum.shape[0]):
        _kernel_row(along_y[:, y], along_x, kernel)
        for x in range(kernel.size):
            out[y, x] = spectrum[y, x] * kernel[x]


@compiled
def multiply_difference(
    minuend: NDArray[Any], spectrum: NDArray[Any], along_y: NDArray[Any], along_x: NDArray[Any], out: NDArray[Any]
) -> None:
    """Multiply rows of the difference of two spectra (y, x) by those of a kernel, given as factors."""
    kernel = np.empty(spectrum.shape[1], along_x.dtype)
    for y in range(spectrum.shape[0]):
        _kernel_row(along_y[:, y], along_x, kernel)
        for x in range(kernel.size):
            out[y, x] = (minuend[y, x] - spectrum[y, x]) * kernel[x]


@compiled
def _kernel_row(along_y: NDArray[Any], along_x: NDArray[Any], kernel: NDArray[Any]) -> None:
    for x in range(kernel.size):
        kernel[x] = along_y[0] * along_x[0, x]
    for term in range(1, len(along_x)):
        for x in range(kernel.size):
            kernel[x] += along_y[term] * along_x[term, x]


@compiled
def find_significant(
    transform: NDArray[np.float64],
    variance: NDArray[np.float64],
    valid: NDArray[np.bool_],
    joined: NDArray[np.uint16],
    floor: float,
    rounding: float,
    thresholds: tuple[float, float],
    ratio: NDArray[np.float64],
    above: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    near: NDArray[np.bool_],
) -> None:
    """Compare T with E, the square root of `variance`. All arrays are (y, x); the last four are filled.

    `ratio` is T/E, -inf where E² is not above `floor`; `above` is where it exceeds the first threshold, `wanted` that
    or the support. `near` is where rounding could move it over a threshold: T is uncertain by `rounding`, E² by
    `floor`, so |T - threshold E| is at most rounding + |threshold| floor / 2E there.
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
    ratio: NDArray[np.float64],
    valid: NDArray[np.bool_],
    scale: int,
    iteration: int,
    significance: NDArray[np.float64],
    best_scale: NDArray[np.int16],
    best_iteration: NDArray[np.uint16],
    undefined: NDArray[np.bool_],
) -> None:
    """Take up T/E into the largest so far, its scale and iteration, and where it was undefined; images are (y, x)."""
    for y in range(ratio.shape[0]):
        for x in range(ratio.shape[1]):
            clearly = ratio[y, x] - significance[y, x] > TIE * abs(ratio[y, x])
            best_iteration[y, x] = iteration if clearly else best_iteration[y, x]
            better = ratio[y, x] > significance[y, x]
            significance[y, x] = ratio[y, x] if better else significance[y, x]
            best_scale[y, x] = scale if better else best_scale[y, x]
            undefined[y, x] |= valid[y, x] and ratio[y, x] == -math.inf


@compiled
def join(joined: NDArray[np.uint16], pixels: NDArray[np.int64], iteration: int) -> None:
    """Note at which iteration `pixels` have joined the support `joined` of a scale (pixel), unless they had before."""
    for pixel in pixels:
        if joined[pixel] == 0:
            joined[pixel] = iteration


@compiled
def sum_over_scales(
    joined: NDArray[np.uint16],
    scale: int,
    pixels: NDArray[np.int64],
    transform: NDArray[np.float64],
    transform_2d: NDArray[np.float64],
) -> None:
    """Add T of one scale at `pixels` of its support to the sum over scales; `joined` is (scale, pixel).

    Scales come in their order. What the sum holds from an iteration before is replaced by the first scale of a pixel:
    supports only grow.
    """
    for i in range(pixels.size):
        pixel = pixels[i]
        if joined[scale, pixel] > 0:
            first = True
            for finer in range(scale):
                first = first and joined[finer, pixel] == 0
            transform_2d[pixel] = transform[i] if first else transform_2d[pixel] + transform[i]


@compiled
def add_positive(
    joined: NDArray[np.uint16],
    scale: int,
    pixels: NDArray[np.int64],
    transform_2d: NDArray[np.float64],
    model: NDArray[np.float64],
) -> None:
    """Add the sum over scales, where it is positive, to the model: at those of `pixels` whose first scale this is."""
    for pixel in pixels:
        if joined[scale, pixel] > 0:
            first = True
            for finer in range(scale):
                first = first and joined[finer, pixel] == 0
            if first and transform_2d[pixel] > 0:
                model[pixel] += transform_2d[pixel]


@compiled
def not_isolated(mask: NDArray[np.bool_], pixels: NDArray[np.int64], ring: bool) -> NDArray[np.bool_]:
    """Whether each of `pixels`, flat indices of `mask` (y, x), has a 4-connected neighbour in it.

    On a ring the last column is the neighbour of the first.
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
def label(pixels: NDArray[np.int64], width: int, ring: bool) -> tuple[NDArray[np.int32], int]:
    """Number the 4-connected islands of `pixels`, ascending flat indices of an image `width` pixels wide.

    The label of each pixel, from 1 in the order of the islands' first pixels, and how many there are: union-find over
    the pixels alone, whatever the size of the image. On a ring the last column is the neighbour of the first.
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
            _join(parent, i, above)
        if pixel // width > pixels[first_of_row] // width:
            first_of_row = i
        if ring and pixel % width == width - 1 and pixels[first_of_row] == pixel - width + 1:
            _join(parent, i, first_of_row)
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
def _join(parent: NDArray[np.int64], i: int, j: int) -> None:
    one, other = _root(parent, i), _root(parent, j)
    # The root of an island is its first pixel.
    parent[max(one, other)] = min(one, other)


@compiled
def _root(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i
