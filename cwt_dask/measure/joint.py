"""The joint maximum of the likelihood over amplitudes and positions of all sources.

Source by source: a step of Newton's method for its amplitude and position on the model of all others, again as long as
it or what overlaps it moves. What a source depends on lies near it, and so does what it does to others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import Window
from cwt_dask.measure.shapes import add, nearest, render

# Relative steps (of an amplitude, and of a position over the width) below which a source rests.
REST = 1e-10
# A step that promises more than this in ln L is checked, and so many times halved if it breaks the promise.
_CHECKED, _HALVINGS = 0.02, 6
# A source that falls below so many counts is gone.
_GONE = 1e-3
# A position moves by so many widths at once at most.
_LONGEST = 0.5


class Stars(NamedTuple):
    """Sources in the model, (source,) each but `state`."""

    shape: Ints
    state: Floats  # (source, 3): amplitude, y, x
    home: Floats  # (source, 2): y, x of the candidates
    reach: Floats  # how far from it a source goes along each axis


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
    length = max(abs(step[1]), abs(step[2]))
    if length > longest:
        step[1] *= longest / length
        step[2] *= longest / length
    if not step[0] > -0.9 * f:
        step[0] = -f if f < _GONE else -0.9 * f
    for axis in range(2):
        step[1 + axis] = min(max(off[axis] + step[1 + axis], -room), room) - off[axis]


@compiled
def improve(window: Window, stars: Stars, k: int) -> float:
    """One step of a source on the model of all others.

    Parameters
    ----------
    window, stars
        As of `ascend`.
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
        # A position at the end of its room stays if it is drawn outwards.
        off[axis] = state[1 + axis] - stars.home[k, axis]
        outwards = abs(off[axis]) >= stars.reach[k] and off[axis] * sums[0, 1 + axis] >= 0
        free[1 + axis] = f > 0 and not outwards
    _newton(sums, f, free, gradient, step)
    _limit(step, f, _LONGEST * sigma, off, stars.reach[k])
    checked = 0.5 * (gradient[0] * step[0] + gradient[1] * step[1] + gradient[2] * step[2]) > _CHECKED
    around = window.shapes.half[shape] + math.ceil(_LONGEST * sigma) + 1
    level = _log_likelihood(window, y, x, around) if checked else 0.0
    part = 1.0
    for _ in range(_HALVINGS):
        add(window.expected, window.shapes, shape, state[1], state[2], -state[0], window.patch)
        state[0], state[1], state[2] = f + part * step[0], y + part * step[1], x + part * step[2]
        add(window.expected, window.shapes, shape, state[1], state[2], state[0], window.patch)
        if not checked or _log_likelihood(window, y, x, around) >= level:
            break
        part *= 0.5
    moved = max(abs(step[1]), abs(step[2])) / sigma
    return part * max(moved, abs(step[0]) / max(f, _GONE))  # type: ignore[no-any-return]


@compiled
def settle(window: Window, stars: Stars, k: int, n_steps: int, enough: float) -> None:
    """Steps of one source until they are short.

    Parameters
    ----------
    window, stars, k
        As of `improve`.
    n_steps : int
        At most.
    enough : float
        Length of the last one.
    """
    for _ in range(n_steps):
        if improve(window, stars, k) <= enough or stars.state[k, 0] == 0:
            break


@compiled
def ascend(window: Window, stars: Stars, order: Ints, moving: Bools, first: Ints, neighbours: Ints, most: int) -> int:
    """Steps of all sources that move, in their order, until all rest: number of steps.

    Parameters
    ----------
    window, stars
        All of them are in its model.
    order : ndarray of int64
        Sources in their order on the map.
    moving : ndarray of bool
        Updated: which of them are to be looked at, (source,).
    first, neighbours : ndarray of int64
        Those that overlap source k are neighbours[first[k] : first[k + 1]].
    most : int
        Rounds at most.
    """
    n_steps = 0
    for _ in range(most):
        rests = True
        for k in order:
            if not moving[k] or stars.state[k, 0] == 0:
                continue
            moved = improve(window, stars, k)
            n_steps += 1
            moving[k] = moved > REST
            if moved > REST:
                rests = False
                for other in neighbours[first[k] : first[k + 1]]:
                    moving[other] = True
        if rests:
            break
    return n_steps


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
