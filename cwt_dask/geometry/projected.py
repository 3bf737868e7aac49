"""Pixels of HEALPix maps on the image of a facet, and back: compiled, since every reading of a facet does it anew.

Formulas of K. M. Górski et al. 2005, ApJ 622, 759, sections 4 and 5, for pixels by base cell, row and column.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.geometry.frames import Frame
from cwt_dask.geometry.tiling import Box

Planes = tuple[Floats, Floats, NDArray[np.uint8]]


def places_at(frame: Frame, y: Ints, x: Ints, nside: int) -> tuple[Ints, Ints]:
    """Rows and columns, in the image of a sky, of the pixels at the centres of some of a facet's pixels.

    Parameters
    ----------
    frame : Frame
        Of the facet.
    y, x : ndarray of int64
        Pixels of its image, of one shape.
    nside : int
        Of the map.

    Returns
    -------
    rows, columns : ndarray of int64
        -1 beyond the sky.
    """
    places = np.full((2, y.size), -1)
    _fill_places(_axes(frame), frame.x, frame.y, frame.pixel, nside, np.ravel(y), np.ravel(x), *places)
    return places[0].reshape(y.shape), places[1].reshape(y.shape)


def add_held(frame: Frame, nside: int, box: Box, planes: Planes, images: Planes) -> None:
    """Add what the pixels of a sky hold to the pixels of a facet's image that hold their centres.

    Parameters
    ----------
    frame, nside, box
        As of `held_by`.
    planes : tuple of ndarray
        Two of float64 of the image of the sky, (y, x) in the box, and one of uint8, not 0 where pixels take part.
    images : tuple of ndarray
        The facet's (y, x), updated: sums of the two, and 1 where a pixel takes part.
    """
    bounds = box.y0, box.y1, box.x0, box.x1
    _add_held(_axes(frame), frame.x, frame.y, frame.pixel, nside, bounds, *planes, *images)


def add_centres(frame: Frame, nside: int, box: Box, area: Floats, images: Floats) -> None:
    """Add how much of a sky the pixels of a facet's image hold, and how far from their middles that lies.

    Parameters
    ----------
    frame, nside, box
        As of `held_by`.
    area : ndarray
        Of the pixels of the box, (y, x); 0 of those that take no part.
    images : ndarray
        (3, y, x), updated: sums of areas, and of these times distances along y and x.
    """
    bounds = box.y0, box.y1, box.x0, box.x1
    _add_centres(_axes(frame), frame.x, frame.y, frame.pixel, nside, bounds, area, images)


def held_by(frame: Frame, side: int, nside: int, box: Box) -> tuple[Ints, Ints, Floats, Floats]:
    """Pixels of the image of a sky with a centre on the image of a facet, and where there.

    Parameters
    ----------
    frame : Frame
        Of the facet.
    side : int
        Rows and columns of its image.
    nside : int
        Of the map.
    box : Box
        Where to look.

    Returns
    -------
    here, there : ndarray of int64
        Flat indices of them in the box, and of the facet's pixels that they are in.
    dy, dx : ndarray
        How far their centres are from those of these, in pixels.
    """
    places, off = np.empty((2, box.area), np.int64), np.empty((2, box.area))
    n = _fill_held(
        _axes(frame), frame.x, frame.y, frame.pixel, side, nside, (box.y0, box.y1, box.x0, box.x1), places, off
    )
    return places[0, :n].copy(), places[1, :n].copy(), off[0, :n].copy(), off[1, :n].copy()


def _axes(frame: Frame) -> Floats:
    return np.stack([frame.centre, frame.along_x, frame.along_y])


@compiled
def _fill_places(
    axes: Floats, x: float, y: float, pixel: float, nside: int, at_y: Ints, at_x: Ints, rows: Ints, columns: Ints
) -> None:
    for k in range(len(at_y)):
        a, b = (at_x[k] - x) * pixel, (at_y[k] - y) * pixel
        square = a * a + b * b
        if square < 4.0:
            outward = math.sqrt(max(1.0 - square / 4, 0.0))
            p, q, r = 1.0 - square / 2, outward * a, outward * b
            vx = p * axes[0, 0] + q * axes[1, 0] + r * axes[2, 0]
            vy = p * axes[0, 1] + q * axes[1, 1] + r * axes[2, 1]
            vz = p * axes[0, 2] + q * axes[1, 2] + r * axes[2, 2]
            rows[k], columns[k] = _place_of(vx, vy, vz, nside)


@compiled
def _place_of(x: float, y: float, z: float, nside: int) -> tuple[int, int]:
    """Row and column, in the image of a sky, of the pixel that holds a unit vector."""
    quarter = math.atan2(y, x) / (math.pi / 2)
    quarter += 4.0 if quarter < 0 else 0.0
    if abs(z) <= 2 / 3:
        along, across = nside * (0.5 + quarter), nside * z * 0.75
        rising, falling = math.floor(along - across), math.floor(along + across)
        one, other = rising // nside, falling // nside
        base = 4 + one % 4 if one == other else one % 4 if one < other else 8 + other % 4
        return base * nside + nside - 1 - rising % nside, falling % nside
    turn = min(math.floor(quarter), 3)
    part = quarter - turn
    # From the distance to the pole, which is exact where z is not.
    far = nside * math.hypot(x, y) * math.sqrt(3 / (1 + abs(z)))
    rising = min(math.floor(part * far), nside - 1)
    falling = min(math.floor((1 - part) * far), nside - 1)
    if z > 0:
        return turn * nside + nside - 1 - rising, nside - 1 - falling
    return (turn + 8) * nside + falling, rising


@compiled
def _fill_held(
    axes: Floats,
    x: float,
    y: float,
    pixel: float,
    side: int,
    nside: int,
    bounds: tuple[int, int, int, int],
    places: Ints,
    off: Floats,
) -> int:
    top, bottom, left, right = bounds
    n = 0
    for row in range(top, bottom):
        for column in range(left, right):
            at_y, at_x = _on_image(axes, x, y, pixel, nside, row, column)
            i, j = round(at_y), round(at_x)
            if 0 <= i < side and 0 <= j < side:
                places[0, n] = (row - top) * (right - left) + column - left
                places[1, n] = i * side + j
                off[0, n], off[1, n] = at_y - i, at_x - j
                n += 1
    return n


@compiled
def _add_held(
    axes: Floats,
    x: float,
    y: float,
    pixel: float,
    nside: int,
    bounds: tuple[int, int, int, int],
    one: Floats,
    other: Floats,
    used: NDArray[np.uint8],
    sum_of_one: Floats,
    sum_of_other: Floats,
    is_used: NDArray[np.uint8],
) -> None:
    top, bottom, left, right = bounds
    height, width = sum_of_one.shape
    for row in range(top, bottom):
        for column in range(left, right):
            at_y, at_x = _on_image(axes, x, y, pixel, nside, row, column)
            i, j = round(at_y), round(at_x)
            if 0 <= i < height and 0 <= j < width:
                sum_of_one[i, j] += one[row - top, column - left]
                sum_of_other[i, j] += other[row - top, column - left]
                if used[row - top, column - left] > 0:
                    is_used[i, j] = 1


@compiled
def _add_centres(
    axes: Floats,
    x: float,
    y: float,
    pixel: float,
    nside: int,
    bounds: tuple[int, int, int, int],
    area: Floats,
    images: Floats,
) -> None:
    top, bottom, left, right = bounds
    height, width = images.shape[1:]
    for row in range(top, bottom):
        for column in range(left, right):
            part = area[row - top, column - left]
            if part == 0.0:
                continue
            at_y, at_x = _on_image(axes, x, y, pixel, nside, row, column)
            i, j = round(at_y), round(at_x)
            if 0 <= i < height and 0 <= j < width:
                images[0, i, j] += part
                images[1, i, j] += part * (at_y - i)
                images[2, i, j] += part * (at_x - j)


@compiled
def _on_image(axes: Floats, x: float, y: float, pixel: float, nside: int, row: int, column: int) -> tuple[float, float]:
    """Where, along y and x, the centre of a pixel of the sky lies on the image of a facet; far off at its antipode."""
    vx, vy, vz = _centre_of(row // nside, row % nside, column, nside)
    towards = 1.0 + vx * axes[0, 0] + vy * axes[0, 1] + vz * axes[0, 2]
    if towards <= 0.0:
        return -1e9, -1e9
    factor = math.sqrt(2.0 / towards) / pixel
    return (
        (vx * axes[2, 0] + vy * axes[2, 1] + vz * axes[2, 2]) * factor + y,
        (vx * axes[1, 0] + vy * axes[1, 1] + vz * axes[1, 2]) * factor + x,
    )


@compiled
def _centre_of(base: int, y: int, x: int, nside: int) -> tuple[float, float, float]:
    """Unit vector of the centre of a pixel."""
    # Rings are counted from the north pole; those of a polar cap have fewer pixels.
    ring = (base // 4 + 2) * nside - x - y - 1
    n = min(ring, nside, 4 * nside - ring)
    middle = 2 * (base % 4) + (0 if base // 4 == 1 else 1)
    if n < nside:
        z = 1.0 - n * n / (3.0 * nside * nside)
        across = n / nside * math.sqrt((2.0 - n * n / (3.0 * nside * nside)) / 3.0)
        z = z if ring < 2 * nside else -z
    else:
        z = (2 * nside - ring) * 2.0 / (3.0 * nside)
        across = math.sqrt((1.0 - z) * (1.0 + z))
    # In quarters of a pixel's width from the first meridian.
    phi = (middle * n + x - y) * math.pi / (4.0 * n)
    return across * math.cos(phi), across * math.sin(phi), z
