"""One iteration of the transform as a pure function: step(State) -> State."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.support import remove_faint_islands, remove_isolated_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cwt_dask.cwt.transform import KernelSpectra

# Rounding of one convolution, in units of machine epsilon times the brightest pixel. Measured:
# tests/cwt/test_rounding.py; the reasoning: docs/design/0005-rounding.md.
ROUNDING_FACTOR = 64


def rounding_level(brightest: float) -> float:
    """Counts per pixel that convolution cannot tell from zero in a map whose largest pixel is `brightest`.

    A power of ten, from the whole map and never from a window of it, so that all tiles agree on it.
    """
    if brightest <= 0:
        return 0.0
    return float(10.0 ** math.ceil(math.log10(ROUNDING_FACTOR * np.finfo(np.float64).eps * brightest)))


@dataclass(frozen=True)
class Field:
    """What is analysed, in a box: all arrays have the box's shape (y, x).

    Attributes
    ----------
    counts, background : ndarray
        Counts per pixel, float64, 0 where not `valid`.
    valid : ndarray of bool
        Pixels that take part. Model and approximation stay zero on the others, which is the published zero border.
    """

    counts: NDArray[np.float64]
    background: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Criteria:
    """When a pixel joins the support.

    Attributes
    ----------
    significance_threshold : float
        Smallest T/E, exclusive.
    significance_island_threshold : float or None
        Islands whose largest T/E is below it are dropped.
    remove_isolated : bool
        Drop islands of one pixel.
    rounding : float
        `rounding_level` of the whole map, counts per pixel.
    """

    significance_threshold: float
    significance_island_threshold: float | None
    remove_isolated: bool
    rounding: float

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Values of T/E at which something is decided."""
        island = self.significance_island_threshold
        if island is None or island <= self.significance_threshold:
            return (self.significance_threshold,)
        return self.significance_threshold, island


if TYPE_CHECKING:
    Judge = Callable[[int, NDArray[np.bool_], NDArray[np.float64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class State:
    """What is known after `iteration` iterations. Images are (y, x), cubes (scale, y, x), float64 unless said.

    Attributes
    ----------
    model, approx : ndarray
        Model M and approximation A, counts per pixel.
    support : ndarray of bool
        Cube: pixels that were ever significant, by scale.
    transform, error : ndarray
        Cubes T and E of this iteration; E is NaN where its square came out negative.
    transform_2d, residual : ndarray
        Sum of T over the supports; counts - (model + approx).
    significance : ndarray
        Largest T/E over scales and iterations so far, -inf where it was never defined.
    best_scale : ndarray of int16
        Index of the scale of that largest T/E, -1 where it was never defined.
    undefined : ndarray of bool
        Pixels where, at some scale and iteration, the expected error was zero to rounding or not a number.
    near_threshold : ndarray of bool
        Pixels whose T/E, at some scale and iteration, lay within rounding of a threshold.
    """

    iteration: int
    model: NDArray[np.float64]
    approx: NDArray[np.float64]
    support: NDArray[np.bool_]
    transform: NDArray[np.float64]
    error: NDArray[np.float64]
    transform_2d: NDArray[np.float64]
    residual: NDArray[np.float64]
    significance: NDArray[np.float64]
    best_scale: NDArray[np.int16]
    undefined: NDArray[np.bool_]
    near_threshold: NDArray[np.bool_]

    @classmethod
    def start(cls, n_scale: int, shape: tuple[int, int]) -> State:
        """State before the first iteration."""
        return cls(
            iteration=0,
            model=np.zeros(shape),
            approx=np.zeros(shape),
            support=np.zeros((n_scale, *shape), dtype=bool),
            transform=np.zeros((n_scale, *shape)),
            error=np.zeros((n_scale, *shape)),
            transform_2d=np.zeros(shape),
            residual=np.zeros(shape),
            significance=np.full(shape, -np.inf),
            best_scale=np.full(shape, -1, dtype=np.int16),
            undefined=np.zeros(shape, dtype=bool),
            near_threshold=np.zeros(shape, dtype=bool),
        )


def background_approximation(field: Field, spectra: KernelSpectra) -> NDArray[np.float64]:
    """Background convolved with the approximation kernel, 0 on pixels that do not take part (y, x)."""
    return _smoothed(field.background, field.valid, spectra)


def significance_of(transform: NDArray[np.float64], error: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """T/E, and -inf where E is NaN or its square is not above `floor`."""
    ratio: NDArray[np.float64] = np.full_like(transform, -np.inf)
    np.divide(transform, error, out=ratio, where=error > math.sqrt(floor))
    return ratio


def step(state: State, field: Field, spectra: KernelSpectra, criteria: Criteria, judge: Judge | None = None) -> State:
    """One iteration, as published.

    Parameters
    ----------
    state : State
        After the iteration before.
    field : Field
        What is analysed.
    spectra : KernelSpectra
        The kernels.
    criteria : Criteria
        When a pixel joins the support.
    judge : callable, optional
        Given scale index, pixels above the threshold (y, x) and their T/E (y, x): those of them that join the support.
        By default islands are judged by their own peak, as published.

    References
    ----------
    R. Terrier et al. 2001, "Wavelet analysis of EGRET data", ICRC 27, 2923.
    """
    total = state.model + field.background + state.approx
    total_hat = spectra.forward(total)
    excess_hat = spectra.forward(field.counts - total)
    approx = _smoothed(field.counts - state.model - field.background, field.valid, spectra)

    support = state.support.copy()
    transform = np.empty_like(state.transform)
    error = np.empty_like(state.error)
    transform_2d = np.zeros_like(state.model)
    significance = state.significance.copy()
    best_scale = state.best_scale.copy()
    undefined = state.undefined.copy()
    near = state.near_threshold.copy()
    judge = judge or by_own_peak(criteria)
    for i in range(len(spectra.base)):
        transform[i] = spectra.backward(excess_hat * spectra.base[i])
        variance = spectra.backward(total_hat * spectra.base_squared[i])
        error[i] = np.sqrt(variance, out=np.full_like(variance, np.nan), where=variance >= 0)
        floor = criteria.rounding * spectra.squared_sum[i]
        ratio = significance_of(transform[i], error[i], floor)
        ratio[~field.valid] = -np.inf
        support[i] |= judge(i, candidate_pixels(ratio, criteria), ratio)
        transform_2d += np.where(support[i], transform[i], 0.0)
        better = ratio > significance
        significance[better] = ratio[better]
        best_scale[better] = i
        undefined |= field.valid & ~(variance > floor)
        near |= _near_threshold(ratio, error[i], spectra.abs_sum[i], floor, criteria)

    model = state.model + np.maximum(transform_2d, 0.0)
    return State(
        iteration=state.iteration + 1,
        model=model,
        approx=approx,
        support=support,
        transform=transform,
        error=error,
        transform_2d=transform_2d,
        residual=field.counts - (model + approx),
        significance=significance,
        best_scale=best_scale,
        undefined=undefined,
        near_threshold=near,
    )


def candidate_pixels(ratio: NDArray[np.float64], criteria: Criteria) -> NDArray[np.bool_]:
    """Pixels above the threshold, before islands are judged by their peak."""
    mask = ratio > criteria.significance_threshold
    return remove_isolated_pixels(mask) if criteria.remove_isolated else mask


def by_own_peak(criteria: Criteria) -> Judge:
    """Judge islands by their largest T/E in the box, if there is a threshold for it."""
    threshold = criteria.significance_island_threshold

    def judge(_: int, candidates: NDArray[np.bool_], ratio: NDArray[np.float64]) -> NDArray[np.bool_]:
        return candidates if threshold is None else remove_faint_islands(candidates, ratio, threshold)

    return judge


def _smoothed(image: NDArray[np.float64], valid: NDArray[np.bool_], spectra: KernelSpectra) -> NDArray[np.float64]:
    smoothed = spectra.backward(spectra.forward(image) * spectra.approx)
    smoothed[~valid] = 0.0
    return smoothed


def _near_threshold(
    ratio: NDArray[np.float64], error: NDArray[np.float64], abs_sum: float, floor: float, criteria: Criteria
) -> NDArray[np.bool_]:
    """Pixels whose T/E rounding could move over a threshold: rounding of T is at most rounding * sum |k|."""
    near = np.zeros(ratio.shape, dtype=bool)
    if criteria.rounding == 0:
        return near
    for threshold in criteria.thresholds:
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.abs(ratio - threshold) * error
            near |= distance <= criteria.rounding * abs_sum + abs(threshold) * floor / (2 * error)
    return near
