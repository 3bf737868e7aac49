"""Cells of a coarse HEALPix map: the angle by which each fits the smallest box, and the image that is laid over it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.geometry.frames import Frame
from cwt_dask.geometry.healpix import N_BASE, axes_at, centres_of, edges_of

# Directions that are tried for the edges of a cell's box, a degree apart.
_TURNS = 90
# Cells of that order and finer ones have edges that are straight to a thousandth of their width.
STRAIGHT_ORDER = 6


@lru_cache(maxsize=2 * N_BASE)
def boxes_in(order: int, base: int) -> tuple[Floats, Floats, Floats]:
    """Of each cell in a base cell: the angle at which its box is least, its middle, (cell, 2), half its longer side.

    In radians, along the axes of `Frame`.
    """
    numbers = np.arange(base * 4**order, (base + 1) * 4**order)
    centres = centres_of(numbers, order)
    east, north = axes_at(centres)
    # Edges of small cells are all but straight.
    edges = edges_of(numbers, order, 16 if order < STRAIGHT_ORDER else 4)
    factor = np.sqrt(2.0 / (1.0 + np.einsum("nki,ni->nk", edges, centres)))
    a, b = (np.einsum("nki,ni->nk", edges, axis) * factor for axis in (east, north))
    angles = np.radians(np.arange(_TURNS) * 90.0 / _TURNS)
    best, middle = np.zeros(len(numbers)), np.zeros((len(numbers), 2))
    half = np.full(len(numbers), np.inf)
    for angle in angles:
        x, y = _turned(a, b, angle)
        ends = np.stack([[x.min(1), y.min(1)], [x.max(1), y.max(1)]])
        halves = (ends[1] - ends[0]).max(axis=0) / 2
        # Rounding must not decide between two that are equally good.
        better = halves < half * (1 - 1e-9)
        half[better], best[better] = halves[better], angle
        middle[better] = (ends.sum(axis=0) / 2).T[better]
    return best, middle, half


@lru_cache
def half_sides(order: int) -> Floats:
    """Half the longer sides of the boxes of all cells of an order, in radians, ascending, each once."""
    # The base cells around the poles are alike, and those along the equator.
    return np.unique(np.concatenate([boxes_in(order, base)[2] for base in (0, 4)]))


def _turned(east: Floats, north: Floats, angle: float) -> tuple[Floats, Floats]:
    """Offsets along columns, which count on westwards, and rows of an image that is turned by an angle."""
    c, s = math.cos(angle), math.sin(angle)
    return -east * c + north * s, east * s + north * c


@lru_cache(maxsize=4096)
def frame_of(order: int, cell: int, side: int, pixel: float, rotation: tuple[float, float, float]) -> Frame:
    """Lay the image of a facet over its cell, with the middle of the cell's box in its middle.

    Parameters
    ----------
    order, cell : int
        Order and number of the cell.
    side : int
        Rows and columns of the image.
    pixel : float
        Size of a pixel, in radians.
    rotation : tuple of float
        As of `rotation_of`.
    """
    base, place = divmod(cell, 4**order)
    angles, middles, _ = boxes_in(order, base)
    centre, angle = centres_of(np.array([cell]), order)[0], float(angles[place])
    east, north = axes_at(centre)
    c, s = math.cos(angle), math.sin(angle)
    turned = rotation_of(rotation)
    axes = [turned @ axis for axis in (centre, -east * c + north * s, east * s + north * c)]
    x, y = ((side - 1) / 2 - offset / pixel for offset in middles[place])
    east, north = axes_at(axes[0])
    turn = math.atan2(float(axes[2] @ east), float(axes[2] @ north))
    return Frame(axes[0], axes[1], axes[2], float(x), float(y), pixel, turn)


def rotation_of(angles: tuple[float, float, float]) -> Floats:
    """Matrix (3, 3) of a rotation by angles of Euler (z, y, z), in degrees."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415 - few need it

    if not any(angles):
        return np.eye(3)
    return np.asarray(Rotation.from_euler("zyz", angles, degrees=True).as_matrix())
