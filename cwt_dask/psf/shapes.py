"""Shapes for the likelihood, made of a point spread function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.measure.shapes import WIDEST, Products, Shapes, gaussian_shapes, knots_for, make_shapes, widths
from cwt_dask.psf.point_spread import PointSpread

# Profiles are summed over this many parts of the step between knots, along each axis.
_PARTS = 4
# They end where this share lies outside, or at so many widths: beyond are counts of the whole source, but no pixels.
_OUTSIDE, _MOST_WIDTHS = 3e-7, 30.0
# Steps of what is convolved, in widths of the point spread function, at most.
_CONVOLVED = 0.8
# Pixels of zeros around an image while it is interpolated, beyond which the border is not felt.
_AROUND = 8


def shapes_at(spread: PointSpread, x: ArrayLike, y: ArrayLike, extensions: Sequence[float] = ()) -> tuple[Shapes, Ints]:
    """Make the shapes of a point spread function that hold at some positions.

    Parameters
    ----------
    spread : PointSpread
        On the pixels of the map.
    x, y : array-like
        Columns and rows of the map, from 0.
    extensions : sequence of float, optional
        Rising widths of extended sources that are tried, in pixels.

    Returns
    -------
    shapes : Shapes
        Of those nodes that are the nearest somewhere.
    node : ndarray of int64
        Which of them is at each position.

    Examples
    --------
    >>> from cwt_dask.psf import PointSpread
    >>> from cwt_dask.psf.shapes import shapes_at
    >>> shapes, node = shapes_at(PointSpread.gaussian(1.3), [10, 20], [5, 5], [2.6, 5.2])
    >>> print(node, shapes.extensions[shapes.tried].round(3), shapes.half.max())
    [0 0] [2.6 5.2] 30
    """
    x, y = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
    if spread.kind == "Gaussian":
        return gaussian_shapes(spread.sigma, extensions), np.zeros(len(x), np.int64)
    used, node = np.unique(spread.nearest(x, y), return_inverse=True)
    all_of_them, tried = widths(extensions)
    products = []
    for which in used:
        shares, knots, sigma = _shares(spread, int(which))
        products += [_convolved(shares, knots, sigma, width) for width in all_of_them]
    return make_shapes(products, all_of_them, tried), node.astype(np.int64).ravel()


def _shares(spread: PointSpread, node: int) -> tuple[Floats, int, float]:
    """Shares by pixel at steps of a part of a pixel around a source; knots a pixel; width."""
    if spread.image is not None:
        return _between_pixels(spread.image, knots_for(spread.sigma)), knots_for(spread.sigma), spread.sigma
    sigma, squared, within = float(spread.sigmas[node]), spread.radius**2, spread.within[node]
    last = np.interp((1 - _OUTSIDE) * within[-1], within, spread.radius)
    half, knots = math.ceil(min(last, _MOST_WIDTHS * sigma)), knots_for(sigma)
    reach, parts = half * knots, knots * _PARTS
    # One quarter: pixels around the last knot end half a pixel farther on.
    along = (np.arange(reach * _PARTS + parts // 2) + 0.5) / parts
    radius, density = np.sqrt((squared[:-1] + squared[1:]) / 2), np.diff(within) / (math.pi * np.diff(squared))
    distance = np.sqrt(np.add.outer(along**2, along**2))
    fine = np.interp(distance, radius, density, right=0.0)
    fine *= np.interp((half + 0.5) ** 2, squared, within) / (4 * fine[distance <= half + 0.5].sum())
    for axis in range(2):
        summed = np.insert(np.cumsum(np.concatenate([np.flip(fine, axis), fine], axis), axis), 0, 0.0, axis)
        # From half a pixel before each knot to half a pixel after it.
        n_knots = 2 * reach + 1
        first = np.take(summed, np.arange(n_knots) * _PARTS, axis)
        fine = np.take(summed, np.arange(n_knots) * _PARTS + parts, axis) - first
    return fine, knots, sigma


def _between_pixels(image: Floats, knots: int) -> Floats:
    """What an image of shares by pixel would be if the source lay elsewhere in its pixel, at knots.

    By a spline of fifth order through its pixels, which is nearer to what a smooth shape does than a cubic one;
    negative parts are cut, and the shares add up to 1 wherever the source lies.
    """
    from scipy.interpolate import make_interp_spline  # noqa: PLC0415 - it takes longer to load than a small map to measure

    half = max(length // 2 for length in image.shape) + 1
    around = half + _AROUND
    fine = np.pad(image, [(around - length // 2,) * 2 for length in image.shape])
    for axis in range(2):
        spline = make_interp_spline(np.arange(2 * around + 1) - around, fine, k=5, axis=axis)
        fine = spline(np.arange(-half * knots, half * knots + 1) / knots)
    fine = np.maximum(fine, 0.0)
    for y in range(knots):
        for x in range(knots):
            fine[y::knots, x::knots] /= fine[y::knots, x::knots].sum()
    return fine


def _convolved(shares: Floats, knots: int, sigma: float, width: float) -> Products:
    """Products of shares convolved with a round Gaussian of some width in pixels."""
    from scipy.signal import fftconvolve  # noqa: PLC0415 - it takes longer to load than a small map to measure

    if width == 0:
        return Products.of_image(shares, knots, sigma)
    # Wider shapes need fewer knots, but the narrow one must still be seen.
    needed = max(knots_for(math.hypot(sigma, width)), 1 << max(0, math.ceil(math.log2(_CONVOLVED / sigma))))
    stride = max(1, knots // needed)
    middle = len(shares) // 2
    half = middle // knots
    thinned = shares[middle % stride :: stride, middle % stride :: stride] * (stride**2 / knots**2)
    per_pixel = knots // stride
    reach = math.ceil(WIDEST * width * per_pixel)
    along = np.exp(-((np.arange(-reach, reach + 1) / per_pixel / width) ** 2) / 2)
    along *= per_pixel / along.sum()
    wide = fftconvolve(fftconvolve(thinned, along[np.newaxis]), along[:, np.newaxis])
    # As far as it goes, or as what is left of both does.
    middle, end = len(wide) // 2, min(half + math.ceil(WIDEST * width), math.ceil(math.hypot(half, WIDEST * width)))
    part = slice(middle - end * per_pixel, middle + end * per_pixel + 1)
    return Products.of_image(np.maximum(wide[part, part], 0.0), per_pixel, math.hypot(sigma, width))
