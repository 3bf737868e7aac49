"""The TS that a source among others has on average: of the expected counts in place of counts (Asimov's data set)."""

from __future__ import annotations

import numpy as np
from injected import Profile, add_source
from numpy.typing import NDArray
from scipy.optimize import minimize

_ROOM = 16  # Pixels around a group.


def expected_root_ts(group: NDArray[np.float64], k: int, level: float, profile: Profile) -> float:
    """sqrt(TS) of one source of a group, all others fitted again without it, from where they are.

    Parameters
    ----------
    group : ndarray
        (source, 3): counts, y and x of each.
    k : int
        Which of them.
    level : float
        Background in a pixel.
    profile : tuple
        Of all sources.

    Notes
    -----
    Where another is fainter, it has a better place where the missing one was: how far a fit lets it go decides, and
    this says nothing. Counts that are drawn add some 3 to TS: free counts and places fit their noise.
    """
    middle = group[:, 1:].mean(axis=0)
    half = int(np.ceil(np.abs(group[:, 1:] - middle).max())) + _ROOM
    shape = (2 * half + 1, 2 * half + 1)

    def image(sources: NDArray[np.float64]) -> NDArray[np.float64]:
        expected = np.full(shape, level)
        for counts, y, x in sources:
            add_source(expected, y - middle[0] + half, x - middle[1] + half, counts, profile)
        return expected

    def cash(expected: NDArray[np.float64]) -> float:
        return float(2 * (expected - data * np.log(expected)).sum())

    def less(values: NDArray[np.float64]) -> float:
        sources = values.reshape(-1, 3).copy()
        sources[:, 0] = np.exp(sources[:, 0])
        return cash(image(sources)) - least

    data = image(group)
    least = cash(data)
    others = np.delete(group, k, axis=0)
    if not len(others):
        return float(np.sqrt(cash(np.full(shape, level)) - least))
    start = others.copy()
    start[:, 0] = np.log(others[:, 0])
    return float(np.sqrt(minimize(less, start.ravel(), method="L-BFGS-B").fun))
