"""The algorithm on a whole map, written down as it is described: what a careful user writes with SciPy in an afternoon.

Nothing is clever here, and nothing foolish: islands cost one labelling a scale, however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label
from scipy.signal import fftconvolve

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Maps:
    """What an iteration leaves to the next: model and approximation (y, x), support (scale, y, x)."""

    model: np.ndarray
    approx: np.ndarray
    support: np.ndarray

    @classmethod
    def start(cls, n_scale: int, shape: tuple[int, int]) -> Maps:
        """Before the first iteration."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros((n_scale, *shape), dtype=bool))


def iterate(
    counts: np.ndarray,
    background: np.ndarray,
    maps: Maps,
    base: Sequence[np.ndarray],
    approx: np.ndarray,
    threshold: float,
    rounding: float = 0.0,
) -> Maps:
    """One iteration on images (y, x) with base kernels by scale and the approximation kernel.

    Nothing is detected where the expected error is zero to `rounding`.
    """
    total = maps.model + background + maps.approx
    excess = counts - total
    transforms = np.array([fftconvolve(excess, kernel, mode="same") for kernel in base])
    support = maps.support.copy()
    for scale, kernel in enumerate(base):
        variance = fftconvolve(total, kernel**2, mode="same")
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = transforms[scale] / np.sqrt(variance)
        mask = (ratio > threshold) & (variance > rounding * np.sum(kernel**2))
        support[scale] |= without_isolated(mask)
    taken_up = np.sum(support * transforms, axis=0)
    return Maps(
        model=maps.model + np.maximum(taken_up, 0),
        approx=fftconvolve(counts - maps.model - background, approx, mode="same"),
        support=support,
    )


def without_isolated(mask: np.ndarray) -> np.ndarray:
    """Drop islands of one pixel from a mask (y, x), all with one labelling."""
    islands, _ = label(mask)
    return mask & (np.bincount(islands.ravel())[islands] > 1)


def analyse(
    counts: np.ndarray,
    background: np.ndarray,
    base: Sequence[np.ndarray],
    approx: np.ndarray,
    threshold: float,
    n_iter: int,
    rounding: float = 0.0,
) -> Maps:
    """Maps after exactly `n_iter` iterations."""
    maps = Maps.start(len(base), counts.shape)
    for _ in range(n_iter):
        maps = iterate(counts, background, maps, base, approx, threshold, rounding)
    return maps
