"""From pixels above the threshold to the support: islands, in time linear in those pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.cwt.loops import label
from cwt_dask.cwt.state import Detected


def island_peaks(labels: NDArray[np.int32], ratio: Floats) -> Floats:
    """Largest T/E of each island, of T/E and labels by pixel; index 0, outside all islands, holds -inf."""
    peaks = np.full(labels.max(initial=0) + 1, -np.inf)
    inside = labels > 0
    np.maximum.at(peaks, labels[inside], ratio[inside])
    return peaks


def in_bright_islands(detected: Detected, threshold: float | None) -> Bools:
    """Whether the largest T/E of a pixel's 4-connected island reaches the threshold, if there is one."""
    if threshold is None:
        return np.ones(len(detected.pixels), dtype=bool)
    labels = label(detected.pixels, detected.shape[1], detected.ring)[0]
    return np.asarray((island_peaks(labels, detected.ratio) >= threshold)[labels])


def in_open_islands(detected: Detected, threshold: float, trusted: Bools) -> Bools:
    """Whether a pixel's island is open: it leaves the trusted pixels and has not reached the threshold on them.

    A window cannot decide about such an island: its peak may lie outside.

    Parameters
    ----------
    detected : Detected
        Pixels above the threshold of the support.
    threshold : float
        That of islands.
    trusted : ndarray of bool
        By pixel, whether its T/E is as good as in the whole map.
    """
    labels = label(detected.pixels, detected.shape[1], detected.ring)[0]
    peaks = island_peaks(labels, np.where(trusted, detected.ratio, -np.inf))
    leaves = np.zeros(len(peaks), dtype=bool)
    leaves[labels[~trusted]] = True
    return np.asarray((leaves & (peaks < threshold))[labels])
