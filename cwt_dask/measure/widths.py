"""Widths of extended sources, between those that were tried."""

from __future__ import annotations

import math

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.amplitude import Window, best_amplitude, gain, gather
from cwt_dask.measure.joint import Stars
from cwt_dask.measure.shapes import add, render

# A width is another one if it is better by this in ln L: not by rounding.
_BETTER = 1e-6


@compiled
def widen(window: Window, stars: Stars, k: int) -> bool:
    """Give an extended source the best width, at its position on the model of all others.

    Parameters
    ----------
    window, stars
        All of them are in its model.
    k : int
        Which source.

    Returns
    -------
    bool
        Whether it is another one.
    """
    shapes, before = window.shapes, stars.shape[k]
    if before % len(shapes.extensions) == 0:
        return False
    add(window.expected, shapes, before, stars.state[k, 1], stars.state[k, 2], -stars.state[k, 0], window.patch)
    best, stars.state[k, 0] = _gain(window, stars, k, before)
    for way in (-1, 1):
        while (stars.shape[k] + way) % len(shapes.extensions) > 0:
            value, f = _gain(window, stars, k, stars.shape[k] + way)
            if value <= best + _BETTER:
                break
            best, stars.state[k, 0] = value, f
            stars.shape[k] += way
    stars.reach[k] = max(1.0, shapes.sigma[stars.shape[k]] / 2)
    add(window.expected, shapes, stars.shape[k], stars.state[k, 1], stars.state[k, 2], stars.state[k, 0], window.patch)
    return stars.shape[k] != before  # type: ignore[no-any-return]


@compiled
def _gain(window: Window, stars: Stars, k: int, shape: int) -> tuple[float, float]:
    """Difference of ln L by a source with some shape, which is not in the model, and its amplitude."""
    curve = gather(window, render(window.shapes, shape, stars.state[k, 1], stars.state[k, 2], 0, window.patch), 0.0)
    f = best_amplitude(curve)
    return gain(curve, f), f


@compiled
def extensions(window: Window, stars: Stars) -> tuple[Floats, Floats]:
    """Extensions of sources in pixels, between those that there are: by a parabola through the best and both beside it.

    Returns
    -------
    extension, variance : ndarray
        (source,), 0 of points; and what the error of the width adds to the variance of the amplitude.
    """
    found, variance, n_widths = np.zeros(len(stars.shape)), np.zeros(len(stars.shape)), len(window.shapes.extensions)
    for k in range(len(found)):
        width, shape = stars.shape[k] % n_widths, stars.shape[k]
        found[k] = window.shapes.extensions[width]
        if 1 < width < n_widths - 1:
            f, y, x = stars.state[k, 0], stars.state[k, 1], stars.state[k, 2]
            add(window.expected, window.shapes, shape, y, x, -f, window.patch)
            low, f_low = _gain(window, stars, k, shape - 1)
            middle, _ = _gain(window, stars, k, shape)
            high, f_high = _gain(window, stars, k, shape + 1)
            add(window.expected, window.shapes, shape, y, x, f, window.patch)
            bend = low - 2 * middle + high
            if bend < 0:
                part = min(max(0.5 * (low - high) / bend, -0.5), 0.5)
                step = window.shapes.extensions[width + (1 if part > 0 else -1)] / found[k]
                found[k] *= math.pow(step, abs(part))
                # In steps the width's variance is 1 / -bend, and that of being between two of them 1 / 12.
                variance[k] = ((f_high - f_low) / 2) ** 2 * (1 / -bend + 1 / 12)
    return found, variance
