"""Planes of a source's shares of pixels and their derivatives: sums of products of lines along both axes."""

from __future__ import annotations

import math

from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.loops import compiled


@compiled
def along(values: Floats, start: int, half: int, knots: int, within: float, order: int, lines: Floats) -> None:
    """Fill lines with a spline at the pixels' distances from a position within the middle one.

    Parameters
    ----------
    values : ndarray
        Coefficients of splines, flat.
    start : int
        Where those of this one begin.
    half, knots : int
        Pixels on either side of the middle one; knots a pixel.
    within : float
        The position, in pixels from the centre of the middle one.
    order : int
        0 for values (line 0); 2 for derivatives by position as well.
    lines : ndarray
        (3, pixel), filled.
    """
    offset = -within * knots
    whole = math.floor(offset)
    t = offset - whole
    s = 1.0 - t
    first = start + math.ceil((half + 0.5) * knots) + 2 + whole - 1 - half * knots
    a, b, c, d = s**3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (3 * s**3 - 6 * s**2 + 4) / 6, t**3 / 6
    for i in range(2 * half + 1):
        k = first + i * knots
        lines[0, i] = a * values[k] + b * values[k + 1] + c * values[k + 2] + d * values[k + 3]
    if order > 0:
        e, f, g, h = s**2 / 2, (4 * t - 3 * t**2) / 2, -(4 * s - 3 * s**2) / 2, -(t**2) / 2
        for i in range(2 * half + 1):
            k = first + i * knots
            v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
            lines[1, i] = knots * (e * v0 + f * v1 + g * v2 + h * v3)
            lines[2, i] = knots**2 * (s * v0 + (3 * t - 2) * v1 + (3 * s - 2) * v2 + t * v3)


@compiled
def add_products(planes: Floats, lines: Floats, size: int, order: int, first: bool) -> None:
    """Add a term to planes.

    Parameters
    ----------
    planes : ndarray
        (6, y, x): share, d/dy, d/dx, d²/dy², d²/dx², d²/dydx.
    lines : ndarray
        (6, pixel): along y, then along x, value and derivatives.
    size : int
        Pixels along each axis.
    order : int
        0 for shares alone, 2 for all planes.
    first : bool
        Whether this term is the first: what planes hold is overwritten.
    """
    _multiply(planes[0], lines[0], lines[3], size, first)
    if order > 0:
        _multiply(planes[1], lines[1], lines[3], size, first)
        _multiply(planes[2], lines[0], lines[4], size, first)
        _multiply(planes[3], lines[2], lines[3], size, first)
        _multiply(planes[4], lines[0], lines[5], size, first)
        _multiply(planes[5], lines[1], lines[4], size, first)


@compiled
def _multiply(plane: Floats, along_y: Floats, along_x: Floats, size: int, first: bool) -> None:
    for i in range(size):
        factor, row = along_y[i], plane[i]
        if first:
            for j in range(size):
                row[j] = factor * along_x[j]
        else:
            for j in range(size):
                row[j] += factor * along_x[j]


@compiled
def fill_beside(
    planes: Floats,
    values: Floats,
    spline: tuple[int, int, int, int],
    knots: int,
    centres: Floats,
    corner: tuple[int, int, int],
    position: tuple[float, float],
    order: int,
) -> None:
    """Fill planes where the counts of pixels do not lie in their middles: the splines are evaluated where they do.

    Parameters
    ----------
    planes, order
        As of `add_products`; planes are filled where they lie in the image.
    values : ndarray
        Coefficients of splines, flat.
    spline : tuple of int
        Where they begin: those along y, term by term, then those along x; how many each has, and which of them is in
        the middle; number of terms.
    knots : int
        Knots a pixel.
    centres : ndarray
        As of `Shapes`, of an image.
    corner : tuple of int
        Row and column of the image at which planes begin, and their side.
    position : tuple of float
        Of the source, in pixels of the image.
    """
    start, side, middle, n_terms = spline
    top, left, size = corner
    height, width = centres.shape[1:]
    planes[: 6 if order > 0 else 1, :size, :size] = 0.0
    for i in range(max(0, -top), min(size, height - top)):
        for j in range(max(0, -left), min(size, width - left)):
            y = (top + i + centres[0, top + i, left + j] - position[0]) * knots + middle
            x = (left + j + centres[1, top + i, left + j] - position[1]) * knots + middle
            k, m = math.floor(y), math.floor(x)
            # Beyond the last knots there is nothing.
            if min(k, m) < 1 or max(k, m) > side - 3:
                continue
            t, u = y - k, x - m
            for term in range(n_terms):
                a0, a1, a2, a3 = _cubic(values, start + term * side + k)
                b0, b1, b2, b3 = _cubic(values, start + (n_terms + term) * side + m)
                a, b = a0 + t * (a1 + t * (a2 + t * a3)), b0 + u * (b1 + u * (b2 + u * b3))
                planes[0, i, j] += a * b
                if order > 0:
                    # By the position of the source, which is farther back where a pixel is farther on.
                    da, db = -knots * (a1 + t * (2 * a2 + 3 * t * a3)), -knots * (b1 + u * (2 * b2 + 3 * u * b3))
                    planes[1, i, j] += da * b
                    planes[2, i, j] += a * db
                    planes[3, i, j] += knots**2 * (2 * a2 + 6 * t * a3) * b
                    planes[4, i, j] += knots**2 * (2 * b2 + 6 * u * b3) * a
                    planes[5, i, j] += da * db


@compiled
def _cubic(values: Floats, k: int) -> tuple[float, float, float, float]:
    """Coefficients of a spline's polynomial from knot k on, by powers of the distance from it in knots."""
    v0, v1, v2, v3 = values[k - 1], values[k], values[k + 1], values[k + 2]
    return (v0 + 4 * v1 + v2) * (1 / 6), (v2 - v0) * 0.5, (v0 + v2) * 0.5 - v1, (v3 - v0) * (1 / 6) + (v1 - v2) * 0.5
