"""One source at a given position, its amplitude free, on a joint likelihood with all sources near it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.measure.amplitude import best_amplitude, gather
from cwt_dask.measure.errors import joint_errors
from cwt_dask.measure.groups import ascend
from cwt_dask.measure.joint import Stars, pairs
from cwt_dask.measure.likelihood import window_of
from cwt_dask.measure.poisson import upper_limit
from cwt_dask.measure.results import NEAR, loss, measure_curves
from cwt_dask.measure.shapes import Shapes, add, render

# Rounds of steps over all sources, and times that one which was lost on the way is taken up again.
_ROUNDS, _TIMES = 240, 8
# Counts that it begins with at least: what the others have taken up at first is no reason to begin with none.
_FIRST = 1.0
# It is taken up again if it would have so many counts beside the others.
_LOST = 1e-3


class Given(NamedTuple):
    """What the likelihood says of the source."""

    amplitude: float  # Counts of the whole source.
    # Ends of the 68 % interval, and 95 % upper limit.
    low: float
    high: float
    upper_limit: float
    ts: float  # With all others in the model.
    seen: float  # Share of its counts that would be seen.


def fit_given(
    counts: Floats,
    background: Floats,
    seen: Bools | Floats,
    shapes: Shapes,
    others: Stars,
    place: tuple[float, float],
    shape: int,
) -> Given:
    """Fit the counts of a source that stays where it is, and counts and positions of all others.

    Parameters
    ----------
    counts, background, seen, shapes
        As of `Fit`.
    others : Stars
        All sources near it, as they are known; all stay in the model.
    place : tuple of float
        Its position (y, x) in pixels.
    shape : int
        Which shape it has.

    Examples
    --------
    >>> import numpy as np
    >>> from cwt_dask.measure.given import fit_given, nothing
    >>> from cwt_dask.measure.shapes import gaussian_shapes
    >>> shapes, background = gaussian_shapes(1.5), np.full((40, 50), 0.1)
    >>> counts = np.rint(background + shapes.draw(0, 20.2, 30.4, (40, 50)) * 1000)
    >>> found = fit_given(counts, background, np.ones((40, 50), bool), shapes, nothing(), (20.2, 30.4), 0)
    >>> round(found.amplitude), round(fit_given(counts, background, counts < 0, shapes, nothing(), (5, 5), 0).amplitude)
    (994, 0)
    """
    window, k = window_of(counts, background, seen, shapes), len(others.shape)
    stars = Stars(
        np.append(others.shape, shape),
        np.vstack([others.state, [0.0, *place]]),
        np.vstack([others.home, place]),
        np.append(others.reach, 0.0),
    )
    for j in range(k):
        add(
            window.expected,
            shapes,
            stars.shape[j],
            stars.state[j, 1],
            stars.state[j, 2],
            stars.state[j, 0],
            window.patch,
        )
    order, everyone = np.lexsort((stars.home[:, 1], stars.home[:, 0])), np.ones(k + 1, bool)
    overlap = pairs(stars.home, shapes.half[stars.shape] + 0.5 + stars.reach, everyone)
    least = _FIRST
    for _ in range(_TIMES):
        curve = gather(window, render(shapes, shape, *place, 0, window.patch), stars.state[k, 0])
        if curve.total <= 0:
            return Given(0.0, 0.0, np.inf, np.inf, 0.0, 0.0)
        best = max(best_amplitude(curve), least)
        if stars.state[k, 0] > 0 or best <= _LOST:
            break
        stars.state[k, 0] = best
        add(window.expected, shapes, shape, *place, best, window.patch)
        ascend(window, stars, order, np.ones(k + 1, bool), *overlap, _ROUNDS)
        least = 0.0
    # Without counts it is near the others all the same: they could have fewer if it had some.
    first, near = pairs(stars.home, NEAR * shapes.sigma[stars.shape], (stars.state[:, 0] > 0) | (np.arange(k + 1) == k))
    f = float(stars.state[k, 0])
    low, high, slope, bend, total = measure_curves(window, stars)[k]
    stretch = joint_errors(window, stars, first, near)[k, 0]
    limit = float(upper_limit(*(np.array(value) for value in (f, slope, bend, total))))
    return Given(
        amplitude=f,
        low=max(f - stretch * (f - low), 0.0),
        high=f + stretch * (high - f),
        upper_limit=f + stretch * (limit - f),
        ts=max(loss(window, stars, k, near[first[k] : first[k + 1]], -1), 0.0),
        seen=float(total),
    )


def nothing() -> Stars:
    """No sources."""
    return Stars(np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 2)), np.empty(0))
