"""Histograms of the residual less background: the observed one, and the one that Poisson noise would give."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from cwt_dask.survey import SurveyStatistics

# In units of the square root of the mean counts of a pixel; the first and the last bin are open.
FROM, TO, STEP = -8.0, 16.0, 0.25
N_BINS = round((TO - FROM) / STEP) + 2
# Of the expected counts, by logarithm: a bin is 0.2 % wide, far below the width of any Poisson distribution in it.
_LEAST, _LARGEST, _BINS = 1e-6, 1e9, 2**14


def residual_edges(statistics: SurveyStatistics) -> NDArray[np.float64]:
    """Edges of the bins in counts per pixel, without those of the two open bins."""
    scale = math.sqrt(max(statistics.counts_sum, 1.0) / statistics.n_valid)
    return scale * np.arange(FROM, TO + STEP / 2, STEP)


def count_residuals(excess: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count pixels by bin.

    Parameters
    ----------
    excess : ndarray of float64
        Counts less everything expected, of any shape.
    edges : ndarray of float64
        Increasing, n.

    Returns
    -------
    ndarray of int64
        n + 1 numbers: pixels below the first edge, in each bin (the lower edge belongs to it), not below the last.
    """
    return np.bincount(np.searchsorted(edges, excess.ravel(), side="right"), minlength=len(edges) + 1)


class Expectation:
    """The same histogram for Poisson counts with the expected means.

    Pixels with expected counts in a common bin of 0.2 % are treated as one kind, so that many pixels cost little. An
    expectation below zero, which a deep approximation can give, counts as zero.
    """

    def __init__(self) -> None:
        self.n = np.zeros(_BINS + 2, np.int64)
        self.total = np.zeros(_BINS + 2)

    def add(self, expected: NDArray[np.float64]) -> None:
        """Add the expected counts of some pixels, of any shape."""
        values = np.maximum(expected.ravel(), 0.0)
        place = np.log(np.maximum(values, _LEAST / 2) / _LEAST) * (_BINS / math.log(_LARGEST / _LEAST))
        index = np.clip(np.floor(place).astype(np.int64) + 1, 0, _BINS + 1)
        self.n += np.bincount(index, minlength=_BINS + 2)
        self.total += np.bincount(index, values, minlength=_BINS + 2)

    def histogram(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected number of pixels in each bin of `count_residuals`."""
        there = self.n > 0
        n, mean = self.n[there], self.total[there] / self.n[there]
        # Counts below an edge are those of less than mean + edge.
        most = np.ceil(mean[:, None] + edges) - 1
        below = np.where(most >= 0, pdtr(np.maximum(most, 0), mean[:, None]), 0.0)
        shares = np.diff(below, axis=1, prepend=0.0, append=1.0)
        return np.asarray(n @ shares, np.float64)
