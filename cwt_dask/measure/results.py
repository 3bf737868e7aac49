"""What is said of each source at the joint maximum: TS, interval, limit.

TS compares the joint maximum with the maximum without the source: those near it are fitted again, for else a source
that shares its counts with a neighbour would seem more certain than it is. The TS of a width compares with a point
likewise.
"""

from __future__ import annotations

import numpy as np

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import INTERVAL, Curve, Window, best_amplitude, crossing, gain, gather, slopes
from cwt_dask.measure.groups import around, fallen
from cwt_dask.measure.joint import Stars, improve
from cwt_dask.measure.selection import Candidates
from cwt_dask.measure.shapes import add, render

# Widths within which sources are near, each: beyond, fitting again changes TS by less than a thousandth.
NEAR = 3.2
# Rounds of fitting again, and steps that are the last.
_ROUNDS, _ENOUGH = 30, 1e-5


@compiled
def measure_ts(window: Window, stars: Stars, first: Ints, near: Ints) -> Floats:
    """TS of each source with all others in the model.

    Parameters
    ----------
    window, stars
        At the joint maximum.
    first, near : ndarray of int64
        Pairs of sources that are near, as of `pairs`.

    Returns
    -------
    ndarray
        (source,).
    """
    found = np.zeros(len(stars.shape))
    for k in range(len(found)):
        found[k] = loss(window, stars, k, near[first[k] : first[k + 1]], -1)
    return found


@compiled
def measure_curves(window: Window, stars: Stars) -> Floats:
    """Of each source, with all others in the model as they are: ends of the interval, derivatives, sum of shares.

    Returns
    -------
    ndarray
        (source, 5): low, high, first derivative of the sum over counts, minus the second, share that is seen.
    """
    found = np.zeros((len(stars.shape), 5))
    for k in range(len(found)):
        _describe(_own_curve(window, stars, k), stars.state[k, 0], found[k])
    return found


@compiled
def measure_more(window: Window, candidates: Candidates) -> Floats:
    """Of one more source at each of some positions.

    Returns
    -------
    ndarray
        (position, 7): as of `measure_curves`, amplitude, TS.
    """
    found = np.zeros((len(candidates.y), 7))
    shapes = window.shapes
    for j in range(len(candidates.y)):
        shape = candidates.node[j] * len(shapes.extensions)
        curve = gather(window, render(shapes, shape, candidates.y[j], candidates.x[j], 0, window.patch), 0.0)
        f = best_amplitude(curve)
        _describe(curve, f, found[j, :5])
        found[j, 5], found[j, 6] = f, 2 * gain(curve, f)
    return found


@compiled
def _own_curve(window: Window, stars: Stars, k: int) -> Curve:
    f, y, x = stars.state[k, 0], stars.state[k, 1], stars.state[k, 2]
    return gather(window, render(window.shapes, stars.shape[k], y, x, 0, window.patch), f)  # type: ignore[no-any-return]


@compiled
def _describe(curve: Curve, f: float, found: Floats) -> None:
    found[0] = crossing(curve, f, INTERVAL, False)
    found[1] = crossing(curve, f, INTERVAL, True)
    found[2], found[3] = slopes(curve, f)
    found[4] = curve.total


@compiled
def loss(window: Window, stars: Stars, k: int, near: Ints, shape: int) -> float:
    """How far 2 ln L falls without a source, or with another shape of it, when those near it are fitted again.

    Parameters
    ----------
    window, stars
        At the joint maximum; left as they are.
    k : int
        Which source.
    near : ndarray of int64
        Sources near it.
    shape : int
        The other shape, which is narrower; -1 without the source.
    """
    if len(near) == 0 and shape < 0:
        return 2 * gain(_own_curve(window, stars, k), stars.state[k, 0])  # type: ignore[no-any-return]
    changed = np.append(near, k)
    own = stars.shape[k]
    top, bottom, left, right = around(window, stars, changed)
    before, states = window.expected[top:bottom, left:right].copy(), stars.state[changed]
    f, y, x = stars.state[k, 0], stars.state[k, 1], stars.state[k, 2]
    add(window.expected, window.shapes, own, y, x, -f, window.patch)
    stars.state[k, 0] = 0.0
    if shape >= 0:
        stars.shape[k] = shape
        f = best_amplitude(gather(window, render(window.shapes, shape, y, x, 0, window.patch), 0.0))
        stars.state[k, 0] = f
        add(window.expected, window.shapes, shape, y, x, f, window.patch)
    for _ in range(_ROUNDS):
        moved = improve(window, stars, k) if stars.state[k, 0] > 0 else 0.0
        for j in near:
            if stars.state[j, 0] > 0:
                moved = max(moved, improve(window, stars, j))
        if moved <= _ENOUGH:
            break
    value = fallen(window, top, left, before)
    window.expected[top:bottom, left:right] = before
    for i in range(len(changed)):
        stars.state[changed[i]] = states[i]
    stars.shape[k] = own
    return 2 * value  # type: ignore[no-any-return]
