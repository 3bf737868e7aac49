"""Which candidates are sources: the best one first, each on a model with all that were accepted before.

A candidate's TS can only fall as others are added to the model. So one that is the best of all in a heap of what was
found so far, and is up to date, is the best indeed: others need not be looked at again. What is chosen depends on what
lies near alone, not on the window nor on the order of the candidates.
"""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

import numpy as np

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import Window, best_amplitude, gain, gather, slopes
from cwt_dask.measure.joint import Stars, settle
from cwt_dask.measure.shapes import add, nearest, render
from cwt_dask.measure.widths import widen

# Side of the cells, in pixels, of which is known when their model has changed.
CELL = 8
# TS is not larger than so many times the square of the first derivative of ln L over the second, where it is not far
# above what is asked for.
_AT_MOST = 3.0
# An accepted source takes this many steps at most, until they are that short: it is looked at again with all others.
_STEPS, _ENOUGH = 20, 1e-4
# And its width changes so many times at most.
_WIDENINGS = 5


class Candidates(NamedTuple):
    """Where sources may be, (candidate,) each, in their order on the map."""

    y: Floats
    x: Floats
    node: Ints


class Thresholds(NamedTuple):
    """What a source must reach."""

    ts: float  # TS of a source
    ts_ext: float  # TS that it must gain by a width


@compiled
def _evaluate(
    window: Window, candidates: Candidates, j: int, thresholds: Thresholds, bounds: Floats
) -> tuple[float, int, float]:
    """The best width of one more source: TS less what a width must gain, index of its shape, amplitude.

    `bounds` has for each width that is tried what that cannot exceed: as others are accepted, all fall.
    """
    shapes = window.shapes
    base = candidates.node[j] * len(shapes.extensions)
    curve = gather(window, render(shapes, base, candidates.y[j], candidates.x[j], 0, window.patch), 0.0)
    amplitude = best_amplitude(curve)
    best, shape = 2 * gain(curve, amplitude), base
    for index in range(len(bounds)):
        if bounds[index] <= max(best, thresholds.ts):
            continue
        this = base + shapes.tried[index]
        curve = gather(window, render(shapes, this, candidates.y[j], candidates.x[j], 0, window.patch), 0.0)
        first, second = slopes(curve, 0.0)
        excess = first - curve.total
        bounds[index] = _AT_MOST * excess * excess / second - thresholds.ts_ext if excess > 0 else 0.0
        # Of what stands out clearly it says nothing.
        if bounds[index] > thresholds.ts:
            f = best_amplitude(curve)
            bounds[index] = 2 * gain(curve, f) - thresholds.ts_ext
            if bounds[index] > best:
                best, shape, amplitude = bounds[index], this, f
    return best, shape, amplitude


@compiled
def _stamp(changed: Ints, y: float, x: float, half: int, number: int) -> None:
    """Note that the model has changed around a position."""
    rows, columns = _cells(y, x, half)
    for i in range(rows[0], min(rows[1], changed.shape[0])):
        for j in range(columns[0], min(columns[1], changed.shape[1])):
            changed[i, j] = number


@compiled
def _cells(y: float, x: float, half: int) -> tuple[tuple[int, int], tuple[int, int]]:
    row, column = nearest(y), nearest(x)
    return (
        (max(0, (row - half) // CELL), max(0, (row + half) // CELL + 1)),
        (max(0, (column - half) // CELL), max(0, (column + half) // CELL + 1)),
    )


@compiled
def _last_change(changed: Ints, y: float, x: float, half: int) -> int:
    rows, columns = _cells(y, x, half)
    last = 0
    for i in range(rows[0], min(rows[1], changed.shape[0])):
        for j in range(columns[0], min(columns[1], changed.shape[1])):
            last = max(last, changed[i, j])
    return last


@compiled
def select_forward(
    window: Window,
    candidates: Candidates,
    thresholds: Thresholds,
    extended: bool,
    stars: Stars,
    accepted: Ints,
) -> int:
    """Accept candidates, add them to the model, and write them down: how many.

    Parameters
    ----------
    window : Window
        With its model.
    candidates : Candidates
        In their order on the map.
    thresholds : Thresholds
        What is asked.
    extended : bool
        Whether widths are tried.
    stars : Stars
        Room for as many, filled in the order of acceptance.
    accepted : ndarray of int64
        Room for as many: filled with indices of candidates.
    """
    n = len(candidates.y)
    # Of one type with indices of loops, so that what is called is compiled once.
    n_accepted = np.int64(0)
    shapes, (height, width) = window.shapes, window.counts.shape
    changed = np.zeros((height // CELL + 1, width // CELL + 1), np.int64)
    bounds = np.full((n, len(shapes.tried) if extended else 0), np.inf)
    amplitude, shape, seen_at = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    heap = [(0.0, 0)]
    heap.pop()
    for j in range(n):
        value, shape[j], amplitude[j] = _evaluate(window, candidates, j, thresholds, bounds[j])
        if value > thresholds.ts:
            heap.append((-value, j))
    heapq.heapify(heap)
    while len(heap) > 0:
        _, j = heapq.heappop(heap)
        y, x = candidates.y[j], candidates.x[j]
        # What other widths could reach has but fallen: where the best one is what it was, it is the best.
        if _last_change(changed, y, x, shapes.half[shape[j]]) > seen_at[j]:
            seen_at[j] = n_accepted
            value, shape[j], amplitude[j] = _evaluate(window, candidates, j, thresholds, bounds[j])
            if value <= thresholds.ts:
                continue
            if len(heap) > 0 and (-value, j) > heap[0]:
                heapq.heappush(heap, (-value, j))
                continue
        k = n_accepted
        accepted[k], stars.shape[k] = j, shape[j]
        stars.state[k, 0], stars.state[k, 1], stars.state[k, 2] = amplitude[j], y, x
        stars.home[k, 0], stars.home[k, 1] = y, x
        # A candidate beside a brighter source is found farther out than it is.
        # A fraction that candidates in pixels are shifted by without rounding.
        stars.reach[k] = (
            math.ceil(
                64
                * max(1.0, 1.5 * shapes.sigma[candidates.node[j] * len(shapes.extensions)], shapes.sigma[shape[j]] / 2)
            )
            / 64
        )
        add(window.expected, shapes, shape[j], y, x, amplitude[j], window.patch)
        settle(window, stars, k, _STEPS, _ENOUGH)
        for _ in range(_WIDENINGS):
            if not widen(window, stars, k):
                break
            settle(window, stars, k, _STEPS, _ENOUGH)
        n_accepted += np.int64(1)
        half = max(shapes.half[shape[j]], shapes.half[stars.shape[k]])
        _stamp(changed, y, x, half + math.ceil(stars.reach[k]) + 1, n_accepted)
    return int(n_accepted)
