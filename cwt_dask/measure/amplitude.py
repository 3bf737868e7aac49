"""The likelihood of one source's amplitude, on a model of everything else.

With c counts in a pixel, m expected without the source, and its share p, q = p / m: ln L(f) - ln L(0) is the sum of
c ln(1 + f q) over the pixels that have counts, less f times the sum of p over all valid ones. It is concave, so that it
has one maximum and two points where it has fallen by a given amount. A pixel without counts is in the second sum alone:
where counts are few the curve takes few terms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.shapes import Patch, Shapes

# Relative change of an amplitude that is the last; steps after which it is taken as it is.
_LAST, _MOST = 1e-12, 60
# And of an end of an interval.
_NEAR = 1e-10
# 2 ln L falls by this much at the ends of an interval of 68 %.
INTERVAL = 1.0


class Window(NamedTuple):
    """Pixels of a window, all (y, x), and what sources in it are made of."""

    counts: Floats  # 0 where a pixel is not valid
    seen: Floats  # 1 where it is valid, else 0
    expected: Floats  # the model, which is updated
    floor: float  # what the model has at least, besides the source that is looked at
    shapes: Shapes
    patch: Patch  # room for one of them
    other: Patch  # and for another


class Curve(NamedTuple):
    """The likelihood of an amplitude."""

    ratio: Floats  # q of pixels with counts
    number: Floats  # c
    total: float  # sum of p over all valid pixels


@compiled
def gather(window: Window, corner: tuple[int, int, int], own: float) -> Curve:
    """Make the curve of the source that is in the patch.

    Parameters
    ----------
    window : Window
        Where it is.
    corner : tuple of int
        First row, first column and side of the patch, as `render` returns them.
    own : float
        Amplitude with which this very source is in the model, to be taken out.
    """
    n, total = 0, 0.0
    top, left, size = corner
    height, width = window.counts.shape
    share, ratio, number = window.patch.planes[0], window.patch.curve[0], window.patch.curve[1]
    for i in range(max(0, -top), min(size, height - top)):
        row = top + i
        for j in range(max(0, -left), min(size, width - left)):
            column = left + j
            p = share[i, j]
            total += p * window.seen[row, column]
            if window.counts[row, column] > 0 and p > 0:
                ratio[n] = p / max(window.expected[row, column] - own * p, window.floor)
                number[n] = window.counts[row, column]
                n += 1
    return Curve(ratio[:n], number[:n], total)


@compiled
def slopes(curve: Curve, amplitude: float) -> tuple[float, float]:
    """First derivative of the sum over counts, and minus the second."""
    first = second = 0.0
    for k in range(len(curve.ratio)):
        weight = curve.ratio[k] / (1 + amplitude * curve.ratio[k])
        first += curve.number[k] * weight
        second += curve.number[k] * weight * weight
    return first, second


@compiled
def gain(curve: Curve, amplitude: float) -> float:
    """Difference of ln L to that without the source."""
    value = -amplitude * curve.total
    for k in range(len(curve.ratio)):
        value += curve.number[k] * math.log1p(amplitude * curve.ratio[k])
    return value


@compiled
def best_amplitude(curve: Curve) -> float:
    """Amplitude of the maximum, 0 at least.

    Newton's method for 1 / (derivative of the sum over counts): that is concave, and a straight line where the source
    has all of its counts in one pixel. So from the second step on it rises to the solution, and within a few steps.
    """
    first, second = slopes(curve, 0.0)
    amplitude = 0.0
    if first <= curve.total or curve.total <= 0:
        return amplitude
    for _ in range(_MOST):
        step = first / second * (first / curve.total - 1)
        amplitude = max(amplitude + step, 0.0)
        if abs(step) <= _LAST * amplitude:
            break
        first, second = slopes(curve, amplitude)
    return amplitude


@compiled
def crossing(curve: Curve, amplitude: float, fall: float, up: bool) -> float:
    """Where 2 ln L is by `fall` below what it is at its maximum, above or below that; 0 at least.

    Parameters
    ----------
    curve : Curve
        Of the amplitude.
    amplitude : float
        Where it has its maximum.
    fall : float
        Above 0.
    up : bool
        Whether the solution above is sought, else that below.
    """
    if curve.total <= 0:
        return math.inf if up else 0.0
    level = gain(curve, amplitude) - fall / 2
    if not up and level < 0:
        return 0.0
    first, second = slopes(curve, amplitude)
    width = math.sqrt(fall / second) if second > 0 else fall / curve.total
    if up:
        low, high = amplitude, amplitude + width
        while gain(curve, high) > level:
            low, high = high, high + 2 * (high - amplitude)
        value = min(amplitude + width + fall / (3 * curve.total), high)
    else:
        low, high = 0.0, amplitude
        value = max(amplitude - width, amplitude / 2)
    for _ in range(_MOST):
        difference = gain(curve, value) - level
        if (difference > 0) == up:
            low = value
        else:
            high = value
        first, _ = slopes(curve, value)
        slope = first - curve.total
        after = value - difference / slope if slope != 0 else low
        if not low < after < high:
            after = (low + high) / 2
        if abs(after - value) <= _NEAR * high:
            return after
        value = after
    return value
