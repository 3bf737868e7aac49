"""Linear equations of amplitudes and positions of sources that overlap: solved by conjugate gradients."""

from __future__ import annotations

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.joint import cholesky_solve

# They end at this share of the first residual, or after so many steps.
_SOLVED, _MOST = 1e-12, 300


@compiled
def conjugate_gradients(
    own: Floats, gradient: Floats, group: Ints, place: Ints, one: Ints, other: Ints, blocks: Floats, bent: Bools
) -> Floats:
    """Solve for steps of sources, each group of those that overlap for itself.

    Parameters
    ----------
    own : ndarray
        Blocks of the matrix on its diagonal, (source, 3, 3).
    gradient : ndarray
        Right side, (source, 3).
    group : ndarray of int64
        Number of each source's group.
    place, one, other : ndarray of int64
        Pairs of sources: the places of one and of the other.
    blocks : ndarray
        Blocks of pairs, (pair, 3, 3).
    bent : ndarray of bool
        Set where the matrix of a group is not positive: its step goes as far as it is.

    Returns
    -------
    ndarray
        (source, 3).
    """
    n = len(own)
    step, residual = np.zeros((n, 3)), gradient.copy()
    towards, product, conditioned = np.zeros((n, 3)), np.empty((n, 3)), np.empty((n, 3))
    start, before, ended = np.zeros(n), np.ones(n), np.zeros(n, np.bool_)
    for number in range(_MOST):
        _precondition(own, residual, conditioned)
        now = _dot(residual, conditioned, group)
        if number == 0:
            start[:] = now
        running = False
        for i in range(n):
            g = group[i]
            ended[g] = ended[g] or not now[g] > _SOLVED**2 * start[g]
            running = running or not ended[g]
            for a in range(3):
                towards[i, a] = conditioned[i, a] + (now[g] / before[g] * towards[i, a] if number > 0 else 0.0)
        if not running:
            break
        _multiply(own, place, one, other, blocks, towards, product)
        along = _dot(towards, product, group)
        for i in range(n):
            g = group[i]
            bent[g] = bent[g] or not (ended[g] or along[g] > 0)
            ended[g] = ended[g] or bent[g]
            if not ended[g]:
                for a in range(3):
                    step[i, a] += now[g] / along[g] * towards[i, a]
                    residual[i, a] -= now[g] / along[g] * product[i, a]
        before = now
    return step


@compiled
def _precondition(own: Floats, residual: Floats, conditioned: Floats) -> None:
    """Solve for each source alone; by its diagonal where it is not positive, and not at all what does not vary."""
    matrix = np.empty((3, 3))
    for i in range(len(own)):
        for a in range(3):
            for b in range(3):
                matrix[a, b] = own[i, a, b]
            if matrix[a, a] == 0:
                matrix[a, a] = 1.0
        if not cholesky_solve(matrix, residual[i], conditioned[i]):
            for a in range(3):
                conditioned[i, a] = residual[i, a] / max(abs(own[i, a, a]), 1e-300)


@compiled
def _multiply(
    own: Floats, place: Ints, one: Ints, other: Ints, blocks: Floats, towards: Floats, product: Floats
) -> None:
    for i in range(len(own)):
        for a in range(3):
            product[i, a] = 0.0
            for b in range(3):
                product[i, a] += own[i, a, b] * towards[i, b]
    for p in range(len(one)):
        i, j = place[one[p]], place[other[p]]
        for a in range(3):
            for b in range(3):
                product[i, a] += blocks[p, a, b] * towards[j, b]
                product[j, b] += blocks[p, a, b] * towards[i, a]


@compiled
def _dot(one: Floats, other: Floats, group: Ints) -> Floats:
    total = np.zeros(len(one))
    for i in range(len(one)):
        for a in range(3):
            total[group[i]] += one[i, a] * other[i, a]
    return total
