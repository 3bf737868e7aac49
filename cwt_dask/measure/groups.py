"""Newton's method for all amplitudes and positions of sources that overlap, at once.

One by one, such sources draw near the joint maximum by a constant factor a round. Near the maximum the equations of all
are linear: they are solved by conjugate gradients, with blocks of pairs that share pixels, so that nothing grows faster
than the number of sources.
"""

from __future__ import annotations

import math

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import Window
from cwt_dask.measure.equations import conjugate_gradients
from cwt_dask.measure.joint import Stars, at_end, curvature, improve, moments
from cwt_dask.measure.shapes import add, nearest, render

# Relative steps (of an amplitude, and of a position over the width) below which a source rests.
REST = 1e-10
# Rounds of single steps between steps of all.
_SINGLE = 5
# A step of all is not longer: farther off equations are not linear. It is shortened so many times if it leads down.
_LONGEST, _TRIALS = 0.5, 4


@compiled
def ascend(window: Window, stars: Stars, order: Ints, moving: Bools, first: Ints, neighbours: Ints, most: int) -> int:
    """Steps of all sources that move until all rest: number of steps of single sources.

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
    for number in range(most):
        rests = True
        if number % (_SINGLE + 1) == _SINGLE:
            _step_of_all(window, stars, moving, first, neighbours)
        for k in order:
            if not moving[k] or stars.state[k, 0] == 0:
                continue
            moved = improve(window, stars, k)
            n_steps += 1
            moving[k] = moved > REST
            if moved > REST:
                rests = False
                for i in range(first[k], first[k + 1]):
                    moving[neighbours[i]] = True
        if rests:
            break
    return n_steps


@compiled
def _step_of_all(window: Window, stars: Stars, moving: Bools, first: Ints, neighbours: Ints) -> None:
    """One step of all sources that move, jointly in each group of those that overlap."""
    n = len(moving)
    place, members, n_moving = np.full(n, -1, np.int64), np.empty(n, np.int64), 0
    for k in range(n):
        if moving[k] and stars.state[k, 0] > 0:
            place[k] = n_moving
            members[n_moving] = k
            n_moving += 1
    one, other = _pairs_of_moving(stars, window.shapes.half, place, first, neighbours)
    own, gradient, blocks = np.zeros((2, n_moving, 3, 3)), np.zeros((n_moving, 3)), np.zeros((len(one), 3, 3))
    _fill(window, stars, place, one, other, own, gradient, blocks)
    group, bent = _groups(place, one, other, n_moving), np.zeros(n_moving, np.bool_)
    step = conjugate_gradients(own[0], gradient, group, place, one, other, blocks, bent)
    if bent.any():
        # Scoring, where the likelihood is not concave.
        for i in range(n_moving):
            own[0, i] = own[1, i] if bent[group[i]] else own[0, i]
        bent[:] = False
        step = conjugate_gradients(own[0], gradient, group, place, one, other, blocks, bent)
    order = np.argsort(group, kind="mergesort")
    start = 0
    while start < n_moving:
        end = start
        while end < n_moving and group[order[end]] == group[order[start]]:
            end += 1
        _take(window, stars, members, order[start:end], step)
        start = end


@compiled
def _groups(place: Ints, one: Ints, other: Ints, n: int) -> Ints:
    """Number of the group of each source that moves."""
    group = np.arange(n)
    for p in range(len(one)):
        i, j = place[one[p]], place[other[p]]
        while group[i] != i:
            i = group[i]
        while group[j] != j:
            j = group[j]
        group[max(i, j)] = min(i, j)
    for i in range(n):
        group[i] = group[group[i]]
    return group


@compiled
def _fill(
    window: Window, stars: Stars, place: Ints, one: Ints, other: Ints, own: Floats, gradient: Floats, blocks: Floats
) -> None:
    """Fill the equations: own blocks (with bends and without), gradients, blocks of pairs; not what is at its end."""
    sums, filled, state = np.empty((2, 6)), 0, stars.state
    for k in range(len(place)):
        i = place[k]
        if i < 0:
            continue
        corner = render(window.shapes, stars.shape[k], state[k, 1], state[k, 2], 2, window.patch)
        moments(window, corner, sums)
        curvature(sums, state[k, 0], True, own[0, i])
        curvature(sums, state[k, 0], False, own[1, i])
        gradient[i, 0], gradient[i, 1], gradient[i, 2] = sums[0, 0], state[k, 0] * sums[0, 1], state[k, 0] * sums[0, 2]
        for axis in range(1, 3):
            if at_end(stars, k, axis):
                gradient[i, axis] = 0.0
                for a in range(3):
                    own[0, i, a, axis] = own[0, i, axis, a] = own[1, i, a, axis] = own[1, i, axis, a] = 0.0
        while filled < len(one) and one[filled] == k:
            cross(window, stars, k, other[filled], corner, blocks[filled])
            _fix(stars, k, other[filled], blocks[filled])
            filled += 1


@compiled
def _take(window: Window, stars: Stars, members: Ints, these: Ints, step: Floats) -> None:
    """Take the step of a group, or as much of it as raises the likelihood."""
    longest = 0.0
    for i in these:
        k = members[i]
        sigma = window.shapes.sigma[stars.shape[k]]
        longest = max(longest, abs(step[i, 0]) / stars.state[k, 0], abs(step[i, 1]) / sigma, abs(step[i, 2]) / sigma)
    if longest == 0:
        return
    part = min(1.0, _LONGEST / longest)
    top, bottom, left, right = around(window, stars, members[these])
    before, states = window.expected[top:bottom, left:right].copy(), stars.state[members[these]]
    for _ in range(_TRIALS):
        for i in these:
            _move(window, stars, members[i], step[i], part)
        if fallen(window, top, left, before) <= 0:
            return
        for i in range(len(these)):
            stars.state[members[these[i]]] = states[i]
        window.expected[top:bottom, left:right] = before
        part *= 0.25


@compiled
def _move(window: Window, stars: Stars, k: int, step: Floats, part: float) -> None:
    """Go part of a step, within the room of the position."""
    state, shapes = stars.state, window.shapes
    add(window.expected, shapes, stars.shape[k], state[k, 1], state[k, 2], -state[k, 0], window.patch)
    state[k, 0] = max(state[k, 0] + part * step[0], 0.1 * state[k, 0])
    for axis in range(1, 3):
        low, high = stars.home[k, axis - 1] - stars.reach[k], stars.home[k, axis - 1] + stars.reach[k]
        state[k, axis] = min(max(state[k, axis] + part * step[axis], low), high)
    add(window.expected, shapes, stars.shape[k], state[k, 1], state[k, 2], state[k, 0], window.patch)


@compiled
def around(window: Window, stars: Stars, these: Ints) -> tuple[int, int, int, int]:
    """First and last rows and columns of all that steps of sources can change.

    Parameters
    ----------
    window, stars
        As of `ascend`.
    these : ndarray of int64
        Sources.
    """
    height, width = window.counts.shape
    top, bottom, left, right = height, 0, width, 0
    for k in these:
        reach = window.shapes.half[stars.shape[k]] + math.ceil(stars.reach[k]) + 1
        row, column = nearest(stars.home[k, 0]), nearest(stars.home[k, 1])
        top, bottom = min(top, row - reach), max(bottom, row + reach + 1)
        left, right = min(left, column - reach), max(right, column + reach + 1)
    return max(top, 0), min(bottom, height), max(left, 0), min(right, width)


@compiled
def fallen(window: Window, top: int, left: int, before: Floats) -> float:
    """How far ln L has fallen with the model of some pixels.

    Parameters
    ----------
    window : Window
        As it is now.
    top, left : int
        First row and column of the pixels.
    before : ndarray
        What the model was there (y, x).
    """
    value = 0.0
    for i in range(before.shape[0]):
        for j in range(before.shape[1]):
            after = window.expected[top + i, left + j]
            if after != before[i, j]:
                value += window.seen[top + i, left + j] * (after - before[i, j])
                if window.counts[top + i, left + j] > 0:
                    ratio = max(after, window.floor) / max(before[i, j], window.floor)
                    value -= window.counts[top + i, left + j] * math.log(ratio)
    return value


@compiled
def _fix(stars: Stars, k: int, j: int, block: Floats) -> None:
    """Take positions out of the block of two sources that are at the end of their room."""
    for axis in range(1, 3):
        for b in range(3):
            block[axis, b] = 0.0 if at_end(stars, k, axis) else block[axis, b]
            block[b, axis] = 0.0 if at_end(stars, j, axis) else block[b, axis]


@compiled
def _pairs_of_moving(stars: Stars, half: Ints, place: Ints, first: Ints, neighbours: Ints) -> tuple[Ints, Ints]:
    """Pairs that move, each once, in the order of their wider sources."""
    one, other = np.empty(len(neighbours), np.int64), np.empty(len(neighbours), np.int64)
    n = 0
    for k in range(len(place)):
        for i in range(first[k], first[k + 1]):
            j = neighbours[i]
            wide, narrow = half[stars.shape[k]], half[stars.shape[j]]
            if place[k] >= 0 and place[j] >= 0 and (wide > narrow or (wide == narrow and k < j)):
                one[n], other[n] = k, j
                n += 1
    return one[:n], other[:n]


@compiled
def cross(window: Window, stars: Stars, k: int, j: int, corner: tuple[int, int, int], block: Floats) -> None:
    """Fill a block with minus the second derivatives of ln L by parameters of two sources.

    Parameters
    ----------
    window, stars
        With the first source in the patch, with derivatives.
    k, j : int
        The sources.
    corner : tuple of int
        Of the first one, as of `gather`.
    block : ndarray
        (3, 3), filled: parameters of k by those of j.
    """
    height, width = window.counts.shape
    top, left, size = corner
    top_j, left_j, size_j = render(window.shapes, stars.shape[j], stars.state[j, 1], stars.state[j, 2], 2, window.other)
    for a in range(3):
        for b in range(3):
            block[a, b] = 0.0
    for row in range(max(0, top, top_j), min(height, top + size, top_j + size_j)):
        for column in range(max(0, left, left_j), min(width, left + size, left_j + size_j)):
            count = window.counts[row, column]
            if count > 0:
                expected = max(window.expected[row, column], window.floor)
                weight = count / (expected * expected)
                for a in range(3):
                    part = weight * window.patch.planes[a, row - top, column - left]
                    for b in range(3):
                        block[a, b] += part * window.other.planes[b, row - top_j, column - left_j]
    for a in range(1, 3):
        for b in range(3):
            block[a, b] *= stars.state[k, 0]
            block[b, a] *= stars.state[j, 0]
