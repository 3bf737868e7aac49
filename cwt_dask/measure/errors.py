"""Errors of amplitudes and positions that overlap, by the curvature of ln L in all of those nearby."""

from __future__ import annotations

import math

import numpy as np

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import Window
from cwt_dask.measure.groups import cross
from cwt_dask.measure.joint import Stars, at_end, cholesky_solve, curvature, moments
from cwt_dask.measure.shapes import render

# Of more near sources than that, the nearest count.
_MOST = 8


@compiled
def joint_errors(window: Window, stars: Stars, first: Ints, near: Ints) -> Floats:
    """By how much neighbours and its position stretch the error of a source's amplitude; errors of its position.

    Parameters
    ----------
    window, stars
        At the joint maximum.
    first, near : ndarray of int64
        Pairs of sources that are near, as of `pairs`.

    Returns
    -------
    ndarray
        (source, 3): factor, standard deviations of y and x; NaN where a position is at the end of its room.
    """
    n = len(stars.shape)
    own, without, sums = np.empty((n, 3, 3)), np.empty((n, 3, 3)), np.empty((2, 6))
    between = np.zeros((len(near), 3, 3))
    for k in range(n):
        corner = render(window.shapes, stars.shape[k], stars.state[k, 1], stars.state[k, 2], 2, window.patch)
        moments(window, corner, sums)
        curvature(sums, stars.state[k, 0], True, own[k])
        curvature(sums, stars.state[k, 0], False, without[k])
        for p in range(first[k], first[k + 1]):
            if k < near[p]:
                mirror = _index(first, near, near[p], k)
                cross(window, stars, k, near[p], corner, between[p])
                for a in range(3):
                    for b in range(3):
                        between[mirror, b, a] = between[p, a, b]
    found = np.empty((n, 3))
    for k in range(n):
        group = _group(stars, k, near[first[k] : first[k + 1]])
        if not _errors_of(stars, group, own, between, first, near, found[k]):
            _errors_of(stars, group, without, between, first, near, found[k])
    return found


@compiled
def _index(first: Ints, near: Ints, k: int, j: int) -> int:
    """Where the pair of k and j stands; -1 if they are not near."""
    for p in range(first[k], first[k + 1]):
        if near[p] == j:
            return p
    return -1


@compiled
def _group(stars: Stars, k: int, near: Ints) -> Ints:
    """A source and those nearest to it."""
    distance = np.empty(len(near))
    for i in range(len(near)):
        j = near[i]
        off_y, off_x = stars.state[j, 1] - stars.state[k, 1], stars.state[j, 2] - stars.state[k, 2]
        distance[i] = off_y * off_y + off_x * off_x
    order = np.argsort(distance, kind="mergesort")
    group = np.empty(1 + min(len(near), _MOST), np.int64)
    group[0] = k
    for i in range(1, len(group)):
        group[i] = near[order[i - 1]]
    return group


@compiled
def _free(stars: Stars, group: Ints) -> Ints:
    """What varies in a group, as 3 * member + (0 amplitude, 1 y, 2 x): not positions at the end of their room."""
    free, n = np.empty(3 * len(group), np.int64), 0
    for i in range(len(group)):
        k = group[i]
        for a in range(3):
            if a == 0 or not at_end(stars, k, a):
                free[n] = 3 * i + a
                n += 1
    return free[:n]


@compiled
def _errors_of(stars: Stars, group: Ints, own: Floats, between: Floats, first: Ints, near: Ints, found: Floats) -> bool:
    """Fill factor and errors of the first source of a group; False where the curvature is not positive."""
    free = _free(stars, group)
    n = len(free)
    matrix = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            k, other = group[free[i] // 3], group[free[j] // 3]
            p = -1 if k == other else _index(first, near, k, other)
            if k == other:
                matrix[i, j] = own[k, free[i] % 3, free[j] % 3]
            elif p >= 0:
                matrix[i, j] = between[p, free[i] % 3, free[j] % 3]
    found[0], found[1], found[2] = 1.0, math.nan, math.nan
    unit, answer = np.zeros(n), np.empty(n)
    for i in range(n):
        if free[i] < 3:
            unit[:] = 0.0
            unit[i] = 1.0
            if not cholesky_solve(matrix.copy(), unit, answer):
                return False
            found[free[i]] = math.sqrt(answer[i] * (matrix[0, 0] if i == 0 else 1.0))
    return True
