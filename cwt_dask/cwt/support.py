"""From pixels above the threshold to the support: islands, in time linear in those pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.loops import label

if TYPE_CHECKING:
    from numpy.typing import NDArray


def island_peaks(labels: NDArray[np.int32], count: int, significance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest `significance` of each island, both by pixel; index 0, outside all islands, holds -inf."""
    peaks = np.full(count + 1, -np.inf)
    inside = labels > 0
    np.maximum.at(peaks, labels[inside], significance[inside])
    return peaks


def in_bright_islands(
    pixels: NDArray[np.int64], significance: NDArray[np.float64], width: int, threshold: float, *, ring: bool = False
) -> NDArray[np.bool_]:
    """Whether the largest `significance` of a pixel's 4-connected island reaches the threshold.

    `pixels` are ascending flat indices of an image that is `width` pixels wide; `significance` is theirs.
    """
    labels, count = label(pixels, width, ring)
    bright: NDArray[np.bool_] = (island_peaks(labels, count, significance) >= threshold)[labels]
    return bright


def in_open_islands(
    pixels: NDArray[np.int64],
    significance: NDArray[np.float64],
    width: int,
    threshold: float,
    trusted: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Whether a pixel's island is one whose fate a window cannot know.

    An island is open when it leaves the `trusted` pixels and has not reached `threshold` on them: its peak may lie
    outside. All arrays are by pixel, as for `in_bright_islands`.
    """
    labels, count = label(pixels, width, False)
    peaks = island_peaks(np.where(trusted, labels, 0), count, significance)
    leaves = np.zeros(count + 1, dtype=bool)
    leaves[labels[~trusted]] = True
    found: NDArray[np.bool_] = (leaves & (peaks < threshold))[labels]
    return found
