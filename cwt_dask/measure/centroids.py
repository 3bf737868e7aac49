"""Where a source is within the pixels around its peak, and how well that is known.

The centroid of the excess (counts - background) in a round Gaussian window as wide as the peak's scale, which moves
until it lies on its own centroid: the maximum of the excess smoothed by that Gaussian. It follows from the counts
alone, so it does not depend on how the map was cut. Near the map's edge or masked pixels there is none: what a window
does not see draws its centroid away, by much more than its error. The measured errors: docs/catalogue.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.poisson import ONE_SIGMA

# The window ends where it is 1 % of its maximum.
_WIDTHS = 3.0
# What is not seen must lie farther off than this: there a window has an eighth of its weight.
_SEEN_WIDTHS = 2.0
# Pixels of a step that is the last, and steps after which there is no centroid.
_LAST_STEP, _MOST_STEPS = 1e-5, 200
# The scatter of a few counts is a poor estimate, and counts in one pixel have none. So this many counts are added that
# scatter as a Gaussian of the window's width: width^2 / 9 each, by their weights. Measured on injected sources:
# docs/catalogue.md.
_PRIOR_COUNTS = 3.0
# Patches that are held at a time, in pixels.
_AT_A_TIME = 2**20
# Of a two-dimensional normal distribution, in standard deviations along one axis.
RADIUS_68 = math.sqrt(-2 * math.log(1 - ONE_SIGMA))
# Faint sources are found where noise lifts them over the threshold, and lie farther off than counting says: by a factor
# that was measured on injected sources (benchmarks/positions.py, docs/catalogue.md).
FAINT = 4.3


@dataclass(frozen=True)
class Centroids:
    """Centroids of sources."""

    # Positions in pixels of the map; those of the peaks where there is no centroid.
    y: Floats
    x: Floats
    # Their standard deviations as counting gives them, in pixels; infinite where there is no centroid.
    y_error: Floats
    x_error: Floats


def reach_of(scale: float) -> int:
    """Pixels around a peak that its centroid depends on."""
    return math.ceil(_WIDTHS * scale)


def radius_68(y_error: Floats, x_error: Floats, significance: Floats) -> Floats:
    """Radius that holds a source with 68 % probability, in the unit of the errors.

    Parameters
    ----------
    y_error, x_error : ndarray
        Standard deviations along both axes.
    significance : ndarray
        That of the peaks.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond_counting = np.sqrt(1 + (FAINT / significance) ** 4)
    return np.asarray(RADIUS_68 * np.sqrt((y_error**2 + x_error**2) / 2) * beyond_counting, np.float64)


def find_centroids(
    counts: Floats,
    background: Floats,
    valid: Bools,
    box: Box,
    y: Ints,
    x: Ints,
    scale: Floats,
    *,
    turn: int | None = None,
) -> Centroids:
    """Centroids of the excess around peaks.

    Parameters
    ----------
    counts, background : ndarray
        Images (y, x) of the pixels of `box`, in counts; outside there is nothing.
    valid : ndarray of bool
        (y, x), which of them are not masked.
    box : Box
        Which those are.
    y, x, scale : ndarray
        Peaks in pixels of the map, and the widths of their windows in pixels.
    turn : int, optional
        Columns of the map, where it is a ring.
    """
    found = Centroids(y.astype(np.float64), x.astype(np.float64), np.full(len(y), np.inf), np.full(len(y), np.inf))
    for width in np.unique(scale):
        reach = reach_of(width)
        these = np.flatnonzero(scale == width)
        for some in np.array_split(these, -(-these.size * (2 * reach + 1) ** 2 // _AT_A_TIME)):
            patches = [_patches(image, box, y[some], x[some], reach, turn) for image in (counts, background)]
            # A narrow ring is seen all round.
            patches.append(_patches(valid, box, y[some], x[some], reach, None))
            moved, variance = np.zeros((some.size, 2)), np.full((some.size, 2), np.inf)
            _follow(*patches, width, moved, variance)
            found.y[some] += moved[:, 0]
            found.x[some] += moved[:, 1]
            found.y_error[some], found.x_error[some] = np.sqrt(variance).T
    return found


def _patches(image: NDArray[Any], box: Box, y: Ints, x: Ints, reach: int, turn: int | None) -> Floats:
    """Pixels of an image around peaks (peak, y, x), 0 outside of it."""
    offsets = np.arange(-reach, reach + 1)
    rows, columns = y[:, None, None] + offsets[:, None] - box.y0, x[:, None, None] + offsets - box.x0
    there = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    if turn is not None:
        # No pixel of a narrow ring twice.
        there &= (-turn < 2 * offsets) & (2 * offsets <= turn)
    rows, columns = np.broadcast_arrays(rows, columns)
    patches = np.zeros(there.shape)
    patches[there] = image[rows[there], columns[there]]
    return patches


@compiled
def _sees(valid: Floats, y: float, x: float, far: float) -> bool:
    """Whether all pixels of a patch (y, x) that are no farther than `far` from a position are valid."""
    for i in range(valid.shape[0]):
        for j in range(valid.shape[1]):
            if valid[i, j] == 0 and (i - y) ** 2 + (j - x) ** 2 <= far**2:
                return False
    return True


@compiled
def _follow(counts: Floats, background: Floats, valid: Floats, width: float, moved: Floats, variance: Floats) -> None:
    """Move windows from the centres of patches (peak, y, x) until they rest; their ways, and variances of these.

    A window that finds no excess, goes farther than its width, or does not see what is near leaves no trace.
    """
    n, size, _ = counts.shape
    reach = size // 2
    along_y, along_x = np.empty(size), np.empty(size)
    for k in range(n):
        y = x = 0.0
        rests = False
        for _ in range(_MOST_STEPS):
            for i in range(size):
                along_y[i] = math.exp(-((i - reach - y) ** 2) / (2 * width**2))
                along_x[i] = math.exp(-((i - reach - x) ** 2) / (2 * width**2))
            total = first_y = first_x = 0.0
            for i in range(size):
                for j in range(size):
                    weighted = along_y[i] * along_x[j] * (counts[k, i, j] - background[k, i, j])
                    total += weighted
                    first_y += weighted * (i - reach - y)
                    first_x += weighted * (j - reach - x)
            if total <= 0:
                break
            y += first_y / total
            x += first_x / total
            if y**2 + x**2 > width**2:
                break
            if (first_y / total) ** 2 + (first_x / total) ** 2 < _LAST_STEP**2:
                rests = True
                break
        if not rests or not _sees(valid[k], reach + y, reach + x, _SEEN_WIDTHS * width):
            continue
        # The centroid is where the first moments vanish: their variances over the squares of their slopes.
        slope_y = slope_x = 0.0
        spread_y = spread_x = _PRIOR_COUNTS * width**2 / 9
        for i in range(size):
            for j in range(size):
                u, v, weight = i - reach - y, j - reach - x, along_y[i] * along_x[j]
                excess = weight * (counts[k, i, j] - background[k, i, j])
                slope_y += excess * (1 - (u / width) ** 2)
                slope_x += excess * (1 - (v / width) ** 2)
                spread_y += (weight * u) ** 2 * counts[k, i, j]
                spread_x += (weight * v) ** 2 * counts[k, i, j]
        if slope_y > 0 and slope_x > 0:
            moved[k, 0], moved[k, 1] = y, x
            variance[k, 0], variance[k, 1] = spread_y / slope_y**2, spread_x / slope_x**2
