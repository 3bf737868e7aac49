"""One source on the model of all others: steps towards the maximum of the likelihood in its amplitude and position.

Steps are Newton's. Where the likelihood is not concave, it is Fisher's scoring: the curvature without what the bends of
the shape add to it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import Window
from cwt_dask.measure.shapes import add, nearest, render

# A step that promises more than this in ln L is checked, and so many times halved if it breaks the promise.
_CHECKED, _HALVINGS = 0.02, 6
# A source that falls below so many counts is gone.
_GONE = 1e-3
# Share of its room, along an axis, at which a position is at its end: rounding leaves it a little before.
END = 1 - 1e-9
# A position moves by so many widths at once at most.
_LONGEST = 0.5


class Stars(NamedTuple):
    """Sources in the model, (source,) each but `state`."""

    shape: Ints
    state: Floats  # (source, 3): amplitude, y, x
    home: Floats  # (source, 2): y, x of the candidates
    reach: Floats  # how far from it a source goes along each axis; 0 of one that stays


@compiled
def at_end(stars: Stars, k: int, axis: int) -> bool:
    """Whether a source is at the end of its room.

    Parameters
    ----------
    stars : Stars
        All of them.
    k : int
        Which source.
    axis : int
        Along y (1) or x (2).
    """
    return abs(stars.state[k, axis] - stars.home[k, axis - 1]) >= stars.reach[k] * END  # type: ignore[no-any-return]


@compiled
def moments(window: Window, corner: tuple[int, int, int], sums: Floats) -> None:
    """Sums over a source's pixels, of the model as it is: each of planes 0 to 5.

    Parameters
    ----------
    window : Window
        Where the source is, which is in the model, and in the patch with derivatives.
    corner : tuple of int
        As of `gather`.
    sums : ndarray
        Filled: (0, k) sum of (c / m - 1) plane k over valid pixels; (1, k) of c / m² times products of planes 00, 01,
        02, 11, 22, 12.
    """
    sums[:] = 0.0
    top, left, size = corner
    planes = window.patch.planes
    height, width = window.counts.shape
    for i in range(max(0, -top), min(size, height - top)):
        row = top + i
        for j in range(max(0, -left), min(size, width - left)):
            column = left + j
            weight = -window.seen[row, column]
            p, dy, dx = planes[0, i, j], planes[1, i, j], planes[2, i, j]
            count = window.counts[row, column]
            if count > 0:
                expected = max(window.expected[row, column], window.floor)
                first = count / expected
                second = first / expected
                weight += first
                sums[1, 0] += second * p * p
                sums[1, 1] += second * p * dy
                sums[1, 2] += second * p * dx
                sums[1, 3] += second * dy * dy
                sums[1, 4] += second * dx * dx
                sums[1, 5] += second * dy * dx
            sums[0, 0] += weight * p
            sums[0, 1] += weight * dy
            sums[0, 2] += weight * dx
            sums[0, 3] += weight * planes[3, i, j]
            sums[0, 4] += weight * planes[4, i, j]
            sums[0, 5] += weight * planes[5, i, j]


@compiled
def curvature(sums: Floats, f: float, exact: bool, matrix: Floats) -> None:
    """Fill a matrix with minus the second derivatives of ln L by amplitude, y, x.

    Parameters
    ----------
    sums : ndarray
        As `moments` fills it.
    f : float
        Amplitude.
    exact : bool
        Whether it holds what the bends of the shape add; without, it is never negative.
    matrix : ndarray
        (3, 3), filled.
    """
    bend = 1.0 if exact else 0.0
    matrix[0, 0] = sums[1, 0]
    matrix[0, 1] = f * sums[1, 1] - bend * sums[0, 1]
    matrix[0, 2] = f * sums[1, 2] - bend * sums[0, 2]
    matrix[1, 1] = f * (f * sums[1, 3] - bend * sums[0, 3])
    matrix[2, 2] = f * (f * sums[1, 4] - bend * sums[0, 4])
    matrix[1, 2] = f * (f * sums[1, 5] - bend * sums[0, 5])
    matrix[1, 0], matrix[2, 0], matrix[2, 1] = matrix[0, 1], matrix[0, 2], matrix[1, 2]


@compiled
def cholesky_solve(matrix: Floats, right: Floats, answer: Floats) -> bool:
    """Solve a system of linear equations; False where it is not clearly positive.

    Parameters
    ----------
    matrix : ndarray
        (n, n), symmetric; overwritten.
    right : ndarray
        (n,).
    answer : ndarray
        (n,), filled.
    """
    n = len(right)
    for i in range(n):
        diagonal = matrix[i, i]
        for j in range(i + 1):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            if i == j:
                if not value > 1e-8 * diagonal:
                    return False
                matrix[i, i] = math.sqrt(value)
            else:
                matrix[i, j] = value / matrix[j, j]
    for i in range(n):
        value = right[i]
        for k in range(i):
            value -= matrix[i, k] * answer[k]
        answer[i] = value / matrix[i, i]
    for i in range(n - 1, -1, -1):
        value = answer[i]
        for k in range(i + 1, n):
            value -= matrix[k, i] * answer[k]
        answer[i] = value / matrix[i, i]
    return True


@compiled
def _log_likelihood(window: Window, y: float, x: float, reach: int) -> float:
    """Sum of c ln m - m over valid pixels around a position."""
    value = 0.0
    height, width = window.counts.shape
    row, column = nearest(y), nearest(x)
    for i in range(max(0, row - reach), min(height, row + reach + 1)):
        for j in range(max(0, column - reach), min(width, column + reach + 1)):
            value -= window.seen[i, j] * window.expected[i, j]
            if window.counts[i, j] > 0:
                value += window.counts[i, j] * math.log(max(window.expected[i, j], window.floor))
    return value


@compiled
def _newton(sums: Floats, f: float, free: Bools, gradient: Floats, step: Floats) -> None:
    """Fill a step (3,) of those parameters that are free: Newton's, or the scoring of a curvature without bends."""
    gradient[0], gradient[1], gradient[2] = sums[0, 0], f * sums[0, 1], f * sums[0, 2]
    matrix = np.empty((3, 3))
    for attempt in range(2):
        curvature(sums, f, attempt == 0, matrix)
        for i in range(1, 3):
            if not free[i]:
                gradient[i] = 0.0
                for j in range(3):
                    matrix[i, j] = matrix[j, i] = 0.0
                matrix[i, i] = 1.0
        if cholesky_solve(matrix, gradient, step):
            return
    step[1] = step[2] = 0.0
    step[0] = gradient[0] / sums[1, 0] if sums[1, 0] > 0 else -f


@compiled
def _limit(step: Floats, f: float, longest: float, off: Floats, room: float) -> None:
    """Shorten a step (3,): to a length in position, to amplitudes above 0, to the room around the candidate."""
    part = min(1.0, longest / max(abs(step[1]), abs(step[2]), 1e-300))
    for axis in range(2):
        ahead = room - off[axis] if step[1 + axis] > 0 else room + off[axis]
        if abs(step[1 + axis]) > 0:
            part = min(part, max(ahead, 0.0) / abs(step[1 + axis]))
    for i in range(3):
        step[i] *= part
    if not step[0] > -0.9 * f:
        step[0] = -f if f < _GONE else -0.9 * f


@compiled
def improve(window: Window, stars: Stars, k: int) -> float:
    """One step of a source on the model of all others.

    Parameters
    ----------
    window, stars
        As of `settle`.
    k : int
        Which source.

    Returns
    -------
    float
        How far it went, relative to amplitude and width.
    """
    shape, state = stars.shape[k], stars.state[k]
    sigma, f, y, x = window.shapes.sigma[shape], state[0], state[1], state[2]
    off, free = np.empty(2), np.empty(3, np.bool_)
    sums, gradient, step = np.empty((2, 6)), np.empty(3), np.empty(3)
    moments(window, render(window.shapes, shape, y, x, 2, window.patch), sums)
    for axis in range(2):
        off[axis] = state[1 + axis] - stars.home[k, axis]
        free[1 + axis] = f > 0 and stars.reach[k] > 0
    for _ in range(3):
        _newton(sums, f, free, gradient, step)
        # A position at the end of its room stays if it is drawn outwards.
        stays = 0
        for axis in range(2):
            if free[1 + axis] and at_end(stars, k, 1 + axis) and off[axis] * step[1 + axis] > 0:
                free[1 + axis] = False
                stays += 1
        if stays == 0:
            break
    _limit(step, f, _LONGEST * sigma, off, stars.reach[k])
    checked = abs(gradient[0] * step[0]) + abs(gradient[1] * step[1]) + abs(gradient[2] * step[2]) > _CHECKED
    around = window.shapes.half[shape] + math.ceil(_LONGEST * sigma) + 1
    level = _log_likelihood(window, y, x, around) if checked else 0.0
    for trial in range(_HALVINGS + 1):
        # The last way out is to stay.
        part = 0.5**trial if trial < _HALVINGS else 0.0
        add(window.expected, window.shapes, shape, state[1], state[2], -state[0], window.patch)
        state[0], state[1], state[2] = f + part * step[0], y + part * step[1], x + part * step[2]
        add(window.expected, window.shapes, shape, state[1], state[2], state[0], window.patch)
        if not checked or _log_likelihood(window, y, x, around) >= level:
            break
    moved = max(abs(step[1]), abs(step[2])) / sigma
    return part * max(moved, abs(step[0]) / max(f, _GONE))  # type: ignore[no-any-return]


@compiled
def settle(window: Window, stars: Stars, k: int, n_steps: int, enough: float) -> None:
    """Steps of one source until they are short.

    Parameters
    ----------
    window : Window
        With its model.
    stars : Stars
        All of them are in it.
    k : int
        Which source.
    n_steps : int
        At most.
    enough : float
        Length of the last one.
    """
    for _ in range(n_steps):
        if improve(window, stars, k) <= enough or stars.state[k, 0] == 0:
            break


@compiled
def pairs(home: Floats, reach: Floats, alive: Bools) -> tuple[Ints, Ints]:
    """Pairs of sources that are near each other, each twice.

    Parameters
    ----------
    home : ndarray
        Their places (source, 2).
    reach : ndarray
        Two are near if they lie no farther apart along each axis than the sum of these, (source,).
    alive : ndarray of bool
        Which take part.

    Returns
    -------
    first, others : ndarray of int64
        Those near source k are others[first[k] : first[k + 1]].
    """
    n, largest = len(reach), 0.0
    order = np.argsort(home[:, 0], kind="mergesort")
    for k in range(n):
        if alive[k]:
            largest = max(largest, reach[k])
    first, others = np.zeros(n + 1, np.int64), np.empty(0, np.int64)
    for filling in range(2):
        at = first.copy()
        for a in range(n):
            k = order[a]
            for b in range(a + 1, n):
                j = order[b]
                if not alive[k] or home[j, 0] - home[k, 0] > 2 * largest:
                    break
                apart = reach[k] + reach[j]
                if alive[j] and home[j, 0] - home[k, 0] <= apart and abs(home[j, 1] - home[k, 1]) <= apart:
                    if filling == 1:
                        others[at[k]], others[at[j]] = j, k
                        at[k] += 1
                        at[j] += 1
                    else:
                        first[k + 1] += 1
                        first[j + 1] += 1
        if filling == 0:
            for k in range(n):
                first[k + 1] += first[k]
            others = np.empty(first[n], np.int64)
    return first, others
