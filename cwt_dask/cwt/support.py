"""From pixels above the threshold to the support: islands, in time linear in the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


def label_islands(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the 4-connected islands of `mask` (y, x): labels int32 from 1, 0 outside; and how many there are."""
    labels = np.empty(mask.shape, dtype=np.int32)
    count = scipy.ndimage.label(mask, output=labels)
    return labels, int(count)


def island_peaks(labels: NDArray[np.int32], count: int, significance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest `significance` (y, x) of each island; index 0, outside all islands, holds -inf."""
    peaks = np.full(count + 1, -np.inf)
    inside = labels > 0
    np.maximum.at(peaks, labels[inside], significance[inside])
    return peaks


def remove_isolated_pixels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Remove the 4-connected islands of one pixel."""
    neighbour = np.zeros_like(mask)
    neighbour[1:] |= mask[:-1]
    neighbour[:-1] |= mask[1:]
    neighbour[:, 1:] |= mask[:, :-1]
    neighbour[:, :-1] |= mask[:, 1:]
    return mask & neighbour


def remove_faint_islands(
    mask: NDArray[np.bool_], significance: NDArray[np.float64], threshold: float
) -> NDArray[np.bool_]:
    """Remove the 4-connected islands whose largest `significance` is below `threshold`."""
    labels, count = label_islands(mask)
    kept: NDArray[np.bool_] = (island_peaks(labels, count, significance) >= threshold)[labels]
    return kept


def open_islands(
    mask: NDArray[np.bool_], significance: NDArray[np.float64], threshold: float, trusted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Pixels of the islands whose fate a window cannot know.

    An island is open when it leaves the `trusted` pixels of the window and has not reached `threshold` on them: its
    peak may lie outside. All arrays are (y, x).
    """
    labels, count = label_islands(mask)
    peaks = island_peaks(np.where(trusted, labels, 0).astype(np.int32), count, significance)
    leaves = np.zeros(count + 1, dtype=bool)
    leaves[labels[mask & ~trusted]] = True
    found: NDArray[np.bool_] = (leaves & (peaks < threshold))[labels]
    return found
