"""Calibrated significance S of a transform of Poisson counts: what T would be as a number of standard deviations.

T is a sum of Poisson numbers times the kernel's pixels (compound Poisson). A saddle point gives its tail, for any
kernel and without simulation: docs/design/0020-calibration.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.kernels import CWTKernels, Factors
from cwt_dask.cwt.loops import compiled

# Points of the tables: below zero, and above it. Beyond exp(40) times the kernel's largest pixel no counts are.
_SADDLE_POINTS = np.concatenate([-np.geomspace(30, 1e-4, 400), np.geomspace(1e-4, 40, 1200)])
# Kernels of more pixels than this are known by a histogram of them, of so many bins: 4e-6 of the tables' values.
_BINS = 4096
# Of the amplitude of the flat background with the same cumulants, relative to the kernel's.
_LOW, _HIGH = 0.05, 5.0
# Moduli that differ by these lowest bits alone are in one bucket, 64 for each power of two, from 2^-24 to 2^40.
_MODULUS, _DROPPED = 2**63 - 1, 46
_FIRST_BUCKET, _BUCKETS = (1023 - 24) << 6, 64 << 6
# Where the saddle point is nearer to the mean, S is nothing; where it is farther, S rises with T without rounding.
_NOTHING, _FAR = 1e-3, 0.1


class Tables(NamedTuple):
    """A `Calibration`, and where to begin to look in its tables."""

    largest: float
    squares: float
    cubes: float
    ratio: Floats
    root: Floats
    correction: Floats
    first: NDArray[np.int16]  # As of `_first_points`.


@dataclass(frozen=True)
class Calibration:
    """The tail of one kernel's transform on a flat background, as tables over the saddle point.

    References
    ----------
    O. E. Barndorff-Nielsen 1991, "Modified signed log likelihood ratio", Biometrika 78, 557 (r*).
    R. Lugannani and S. Rice 1980, "Saddle point approximation", Adv. Appl. Prob. 12, 475.

    Examples
    --------
    >>> from cwt_dask import CWTKernels
    >>> from cwt_dask.cwt.calibration import calibrations
    >>> calibration = calibrations(CWTKernels(n_scale=1, min_scale=1.2, step_scale=1.5))[0]
    >>> flat = calibration.of_flat(0.05)
    >>> round(calibration.sigma(5 * flat[0] ** 0.5, *flat), 2)
    3.27
    """

    largest: float  # Largest pixel of the kernel; all else is of the kernel over it.
    # Sums of its squares and cubes.
    squares: float
    cubes: float
    # By saddle point: T over the mean counts, the signed root of the log likelihood ratio, and the correction's log.
    ratio: Floats
    root: Floats
    correction: Floats

    @classmethod
    def of(cls, kernel: Factors) -> Calibration:
        """Make the tables of a kernel."""
        largest = max(float((row @ kernel.along_x).max()) for row in kernel.along_y.T)
        values, weights = _values(kernel, largest)
        first, second, root = (np.empty(_SADDLE_POINTS.size) for _ in range(3))
        for i, t in enumerate(_SADDLE_POINTS):
            y = t * values
            growth, rest = np.expm1(y), _expm1_minus(y)
            first[i], second[i] = weights @ (values * growth), weights @ (values**2 * (growth + 1))
            root[i] = np.sign(t) * np.sqrt(2 * (weights @ (y * growth - rest)))
        correction = np.log(_SADDLE_POINTS * np.sqrt(second) / root)
        return cls(largest, float(weights @ values**2), float(weights @ values**3), first, root, correction)

    def of_flat(self, mean: float) -> tuple[float, float]:
        """E² and third cumulant of T where the mean counts per pixel are the same everywhere.

        Parameters
        ----------
        mean : float
            Counts per pixel.
        """
        return mean * self.squares * self.largest**2, mean * self.cubes * self.largest**3

    def sigma(self, transform: float, variance: float, third: float) -> float:
        """Calibrated significance of one value.

        Parameters
        ----------
        transform, variance, third : float
            T, its variance E², and its third cumulant: mean counts convolved with the kernel's cube. As of the kernel.

        Returns
        -------
        float
            S, such that a larger T has the probability of a larger standard normal number; 0 where it is not known.
        """
        values = np.empty(1)
        _sigma(*(np.array([float(value)]) for value in (transform, variance, third)), self.tables, values)
        return float(values[0])

    def threshold(self, sigma: float, mean: float) -> float:
        """The transform that has a calibrated significance where the mean counts per pixel are the same everywhere.

        Parameters
        ----------
        sigma : float
            S, of at least 1.
        mean : float
            Counts per pixel.
        """
        above = self.root * math.sqrt(mean) > _FAR
        w = self.root[above] * math.sqrt(mean)
        return float(np.interp(sigma, w + self.correction[above] / w, self.ratio[above]) * self.largest * mean)

    @cached_property
    def tables(self) -> Tables:
        """What compiled loops take of it."""
        first = _first_points(self.ratio)
        return Tables(self.largest, self.squares, self.cubes, self.ratio, self.root, self.correction, first)


@lru_cache(maxsize=4)
def calibrations(kernels: CWTKernels) -> tuple[Calibration, ...]:
    """Calibrations of the base kernels by scale, computed once a process.

    Parameters
    ----------
    kernels : CWTKernels
        The kernels.
    """
    return tuple(Calibration.of(factors) for factors in kernels.base_factors)


@compiled
def keep_calibrated(
    transform: Floats,
    variance: Floats,
    third: NDArray[np.float32],
    defined: Floats,
    scale: int,
    tables: Tables,
    sigma: NDArray[np.float32],
    sigma_scale: NDArray[np.int8],
) -> None:
    """Update the largest S so far; all arrays are (y, x).

    Parameters
    ----------
    transform, variance, third : ndarray
        As of `Calibration.sigma`.
    defined : ndarray
        T/E, -inf where it is undefined: S is undefined there, too.
    scale : int
        Its index.
    tables : Tables
        Those of its `Calibration`.
    sigma, sigma_scale : ndarray
        Updated: the largest S, and its scale.
    """
    values = np.empty(transform.shape[1])
    for y in range(transform.shape[0]):
        _sigma(transform[y], variance[y], third[y], tables, values)
        for x in range(len(values)):
            value = np.float32(values[x])
            if value > sigma[y, x] and defined[y, x] > -np.inf:
                sigma[y, x] = value
                sigma_scale[y, x] = scale


@compiled
def _sigma(transform: Floats, variance: Floats, third: Floats, tables: Tables, sigma: Floats) -> None:
    """Fill a row with S: loops without branches, so that several pixels are divided at a time."""
    n, squares, largest = len(sigma), tables.squares, tables.largest
    mean, ratio, point = np.empty(n), np.empty(n), np.empty(n, np.int64)
    of_sums = squares / tables.cubes if tables.cubes != 0 else 0.0
    for j in range(n):
        # The flat background with these cumulants: its amplitude over the kernel's, and its counts per pixel.
        amplitude = third[j] / (variance[j] * largest) * of_sums if of_sums != 0 else 1.0
        amplitude = max(_LOW, amplitude)
        amplitude = min(_HIGH, amplitude)
        scaled = amplitude * largest
        mean[j] = variance[j] / (scaled * scaled * squares)
        ratio[j] = transform[j] / (scaled * mean[j])
    bits, last = ratio.view(np.int64), len(tables.ratio) - 1
    for j in range(n):
        # The first point that is not below.
        bucket = min(max(((bits[j] & _MODULUS) >> _DROPPED) - _FIRST_BUCKET, 0), _BUCKETS - 1)
        i = np.int64(tables.first[bucket if ratio[j] >= 0 else bucket + _BUCKETS])
        while i < last and tables.ratio[i] < ratio[j]:
            i += 1
        point[j] = i
    for j in range(n):
        # Linear between two points.
        i, low = point[j], tables.ratio[point[j] - 1]
        part = (ratio[j] - low) / (tables.ratio[i] - low)
        part = max(0.0, part)
        part = min(1.0, part)
        w = np.sqrt(mean[j]) * (tables.root[i - 1] + part * (tables.root[i] - tables.root[i - 1]))
        correction = tables.correction[i - 1] + part * (tables.correction[i] - tables.correction[i - 1])
        sigma[j] = w + correction / w if abs(w) >= _NOTHING and variance[j] > 0 else 0.0


def _first_points(ratio: Floats) -> NDArray[np.int16]:
    """For positive and then for negative values in each bucket, a point of the table that is not beyond them."""
    buckets = np.arange(_FIRST_BUCKET, _FIRST_BUCKET + _BUCKETS + 1)
    edges = (buckets << _DROPPED).view(np.float64)
    # What is smaller or larger than all buckets is in the first or the last one.
    positive, negative = np.append(0.0, edges[1:-1]), np.append(-edges[1:-1], -np.inf)
    return np.maximum(np.searchsorted(ratio, np.concatenate([positive, negative])), 1).astype(np.int16)


def _values(kernel: Factors, largest: float) -> tuple[Floats, Floats]:
    """Pixels of a kernel over the largest, and how often each comes; means of bins where they are many."""
    if kernel.size**2 <= _BINS:
        values = kernel.image.ravel() / largest
        return values, np.ones(values.size)
    least = min(float((row @ kernel.along_x).min()) for row in kernel.along_y.T) / largest
    number, total = np.zeros(_BINS), np.zeros(_BINS)
    for row in kernel.along_y.T:
        values = row @ kernel.along_x / largest
        bins = np.minimum(((values - least) * (_BINS / (1 - least))).astype(np.int64), _BINS - 1)
        number += np.bincount(bins, minlength=_BINS)
        total += np.bincount(bins, values, _BINS)
    there = number > 0
    return total[there] / number[there], number[there]


def _expm1_minus(y: Floats) -> Floats:
    """``exp(y) - 1 - y``, without cancellation near 0."""
    series = y**2 / 2 * (1 + y / 3 * (1 + y / 4 * (1 + y / 5 * (1 + y / 6))))
    return np.where(np.abs(y) < 1e-2, series, np.expm1(y) - y)
