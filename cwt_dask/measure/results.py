"""What is said of each source at the joint maximum: TS, interval, upper limit, errors of its position."""

from __future__ import annotations

import math

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import INTERVAL, LIMIT, Curve, Window, best_amplitude, crossing, gain, gather
from cwt_dask.measure.joint import Stars, cholesky_solve, curvature, moments
from cwt_dask.measure.selection import Candidates
from cwt_dask.measure.shapes import add, render


@compiled
def measure_ts(window: Window, stars: Stars) -> Floats:
    """TS of each source with all others in the model, (source,)."""
    found = np.zeros(len(stars.shape))
    for k in range(len(found)):
        found[k] = _ts(_own_curve(window, stars, k), stars.state[k, 0])
    return found


@compiled
def measure_all(window: Window, stars: Stars) -> Floats:
    """Of each source, with all others in the model: TS, TS of its width, both ends of its interval, limit, errors.

    Returns
    -------
    ndarray
        (source, 7).
    """
    found = np.zeros((len(stars.shape), 7))
    for k in range(len(stars.shape)):
        f = stars.state[k, 0]
        _position_errors(window, stars, k, found[k, 5:])
        curve = _own_curve(window, stars, k)
        found[k, 0] = _ts(curve, f)
        _limits(curve, f, found[k, 2:5])
        if stars.shape[k] % len(window.shapes.extensions) > 0:
            found[k, 1] = max(found[k, 0] - _ts_as_point(window, stars, k), 0.0)
    return found


@compiled
def measure_more(window: Window, candidates: Candidates) -> Floats:
    """Of one more source at each of some positions: amplitude, TS, both ends of its interval, limit.

    Returns
    -------
    ndarray
        (position, 5).
    """
    found = np.zeros((len(candidates.y), 5))
    shapes = window.shapes
    for j in range(len(candidates.y)):
        shape = candidates.node[j] * len(shapes.extensions)
        curve = gather(window, render(shapes, shape, candidates.y[j], candidates.x[j], 0, window.patch), 0.0)
        f = best_amplitude(curve)
        found[j, 0], found[j, 1] = f, _ts(curve, f)
        _limits(curve, f, found[j, 2:5])
    return found


@compiled
def _own_curve(window: Window, stars: Stars, k: int) -> Curve:
    f, y, x = stars.state[k]
    return gather(window, render(window.shapes, stars.shape[k], y, x, 0, window.patch), f)  # type: ignore[no-any-return]


@compiled
def _ts(curve: Curve, f: float) -> float:
    return max(2 * gain(curve, f), 0.0)  # type: ignore[no-any-return]


@compiled
def _limits(curve: Curve, f: float, found: Floats) -> None:
    """Fill both ends of the interval, and the upper limit."""
    found[0] = crossing(curve, f, INTERVAL, False)
    found[1] = crossing(curve, f, INTERVAL, True)
    found[2] = crossing(curve, f, LIMIT, True)


@compiled
def _ts_as_point(window: Window, stars: Stars, k: int) -> float:
    """TS that a source that is wider would have as a point, on the same model of all others."""
    shapes, shape = window.shapes, stars.shape[k]
    f, y, x = stars.state[k]
    add(window.expected, shapes, shape, y, x, -f, window.patch)
    curve = gather(window, render(shapes, shape - shape % len(shapes.extensions), y, x, 0, window.patch), 0.0)
    ts = _ts(curve, best_amplitude(curve))
    add(window.expected, shapes, shape, y, x, f, window.patch)
    return ts  # type: ignore[no-any-return]


@compiled
def _position_errors(window: Window, stars: Stars, k: int, found: Floats) -> None:
    """Fill the standard deviations of y and x; NaN where the position is at the end of its room."""
    sums, matrix, unit, answer = np.empty((2, 6)), np.empty((3, 3)), np.empty(3), np.empty(3)
    f, y, x = stars.state[k]
    moments(window, render(window.shapes, stars.shape[k], y, x, 2, window.patch), sums)
    for axis in range(2):
        curvature(sums, f, True, matrix)
        unit[:] = 0.0
        unit[1 + axis] = 1.0
        solved = f > 0 and cholesky_solve(matrix, unit, answer)
        at_bound = abs(stars.state[k, 1 + axis] - stars.home[k, axis]) >= stars.reach[k]
        found[axis] = math.sqrt(answer[1 + axis]) if solved and not at_bound else math.nan
