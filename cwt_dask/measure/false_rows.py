"""How many rows noise alone is expected to make in a catalogue, by score: docs/design/0024-false-rows.md derives it.

Noise makes a row of a score above u where the likelihood has a local maximum with TS above u² and S exceeds u there, at
one scale at least. Large deviations come about in the likeliest way: noise that looks like a source of f counts is
distributed as that source on the background is, times exp(-TS/2). With m the background, p the source's shape, q = p/m,
and the mean lam = m + f p of what a source makes:

- sqrt(TS) = v belongs to the f with v²/2 = K(f) = sum of lam ln(1 + f q) - f;
- there are N(v) = (2 pi)^(-3/2) exp(-v²/2) J / sqrt(V) local maxima above v a pixel, where J is Fisher's information
  of the position along an axis, the sum of f² p_y² / lam, and V the variance of ln L, the sum of lam ln(1 + f q)²;
- T of a kernel k is then the sum of f p k on average, with the covariances that are left where ln L and its gradient
  are known. It has its own maximum nearby, of which the lattice of pixels sees what is nearest.

Where counts are many N(v) is Kac's and Rice's v exp(-v²/2) (2 pi)^(-3/2) times the second spectral moment, which is
1/(2 sigma²) for a Gaussian, and T over its error has the correlation <p, k> / |p||k| with sqrt(TS).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.calibration import Calibration, calibrations
from cwt_dask.cwt.kernels import CWTKernels, Factors
from cwt_dask.measure.shapes import Shapes

# Backgrounds are told apart by powers of two, from the one to the other, in counts a pixel.
_LOWEST, _HIGHEST = -16, 16
# Scores of the table, and how far above each local maxima of the likelihood are looked at.
_SCORES = np.array([3.0, 3.5, 4.0, 5.0, 6.0, 8.0])
_ABOVE = np.array([0.0, 0.08, 0.17, 0.28, 0.42, 0.6, 0.85, 1.2, 1.7, 2.5])
# No survey has a row of noise of a larger score.
_MOST_SCORE = 30.0
# Kernels less correlated with the source than this are exceeded with it only where others are, too; no more are taken.
_LEAST, _MOST = 0.35, 6
# Points of an additive lattice in the unit cube, by square roots of primes, that stand for noise.
_POINTS, _ROOTS = 1024, np.sqrt([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71])
# Wide shapes are summed over every so many pixels: this many in a width.
_IN_WIDTH = 4
# Of a variance: what is added to keep a matrix positive.
_TINY = 1e-9
# Pixels by which a shape is shifted for its derivative.
_SHIFT = 0.01


def count_levels(background: Floats, valid: Bools) -> Ints:
    """Pixels by background, in powers of two; those without any are not counted.

    Parameters
    ----------
    background : ndarray
        Counts a pixel.
    valid : ndarray of bool
        Which pixels take part.
    """
    powers = np.frexp(background[valid & (background > 0)] * math.sqrt(2))[1].astype(np.int64) - 1
    return np.bincount(np.clip(powers, _LOWEST, _HIGHEST) - _LOWEST, minlength=_HIGHEST - _LOWEST + 1)


@dataclass(frozen=True)
class FalseRows:
    """Expected number of rows of noise by score: as if so many independent normal numbers were looked at.

    References
    ----------
    D. Siegmund and B. Yakir 2008, "Detecting the emergence of a signal in a noisy image", Stat. Interface 1, 3.
    R. J. Adler and J. E. Taylor 2007, "Random Fields and Geometry", chapters 11 and 14.

    Examples
    --------
    >>> import numpy as np
    >>> from cwt_dask import CWTKernels
    >>> from cwt_dask.measure.false_rows import FalseRows, count_levels
    >>> from cwt_dask.measure.shapes import gaussian_shapes
    >>> background = np.full((1000, 1000), 3.0)
    >>> kernels = CWTKernels(n_scale=5, min_scale=1.3, step_scale=1.5)
    >>> levels = count_levels(background, background > 0)
    >>> print(FalseRows.of(gaussian_shapes(1.3), kernels, levels, background.size).expected(4.0).round(1))
    13.1
    """

    score: Floats
    trials: Floats  # How many independent numbers, at these scores.

    @classmethod
    def of(cls, shapes: Shapes, kernels: CWTKernels, levels: Ints, n_valid: int) -> FalseRows:
        """Derive them for a survey.

        Parameters
        ----------
        shapes : Shapes
            The first is that of a point source.
        kernels : CWTKernels
            Of the transform.
        levels : ndarray of int64
            As of `count_levels`, of all of its pixels.
        n_valid : int
            Pixels that take part; one without background is one trial. Facets overlap: of more levels as many count.
        """
        counted = int(levels.sum())
        pixels = levels * (min(1.0, n_valid / counted) if counted else 0.0)
        noise, trials = _Noise.of(shapes, kernels), np.full(_SCORES.size, float(max(n_valid - counted, 0)))
        for level in np.flatnonzero(levels):
            mean = 2.0 ** (level + _LOWEST)
            rates = np.array([noise.rate(float(score), mean) for score in _SCORES])
            trials += pixels[level] * rates / ndtr(-_SCORES)
        # Six digits: more would be those of a machine.
        return cls(_SCORES, np.array([float(f"{each:.6g}") for each in trials]))

    def expected(self, score: Floats | float) -> Floats:
        """Rows of noise that have so large a score, or a larger one.

        Parameters
        ----------
        score : ndarray or float
            As of the catalogue.
        """
        # Of scores beyond the table the number of trials is that of its ends.
        return np.asarray(np.interp(score, self.score, self.trials) * ndtr(-np.asarray(score)))

    def score_of(self, rows: float) -> float:
        """Above which score so many rows of noise are expected; 0 where there are never as many.

        Parameters
        ----------
        rows : float
            Their number, above 0.
        """
        from scipy.optimize import brentq  # noqa: PLC0415 - tiles do without

        if self.expected(0.0) <= rows:
            return 0.0
        return float(brentq(lambda score: float(self.expected(score)) - rows, 0.0, _MOST_SCORE))

    @classmethod
    def from_dict(cls, table: Mapping[str, Sequence[float]]) -> FalseRows:
        """Read what `to_dict` gave."""
        score = np.asarray(table["score"], np.float64)
        return cls(score, np.asarray(table["rows"], np.float64) / ndtr(-score))

    def to_dict(self) -> dict[str, list[float]]:
        """Scores and how many rows are expected above them, as JSON can hold them."""
        return {"score": self.score.tolist(), "rows": self.expected(self.score).tolist()}


@dataclass(frozen=True)
class _Noise:
    """Sums over pixels that do not depend on the background, along one axis: the other is taken as alike."""

    shape: Floats  # p, (y, x), and its derivative.
    slope: Floats
    kernels: Floats  # Where the shape is, (kernel, y, x).
    area: int  # Pixels that each of these stands for.
    calibrations: Sequence[Calibration]
    # Sums of p k, and of p_y k_y, (kernel,).
    mean: Floats
    bend: Floats
    # Sums of k k, and of k_y k_y, alone and times p, (kernel, kernel).
    values: tuple[Floats, Floats]
    slopes: tuple[Floats, Floats]

    @classmethod
    def of(cls, shapes: Shapes, kernels: CWTKernels) -> _Noise:
        half, step = int(shapes.half[0]), max(1, int(shapes.sigma[0] / _IN_WIDTH))
        size, area, near = (2 * half + 1, 2 * half + 1), step**2, half // step
        shape, before, after = (
            _thinned(shapes.draw(0, half + shift, float(half), size), step) for shift in (0.0, _SHIFT, -_SHIFT)
        )
        slope = (after - before) / (2 * _SHIFT)
        images = [_images(factors, step) for factors in kernels.base_factors]
        means = np.array([area * np.sum(shape * _sized(kernel, near)) for kernel, _ in images])
        like = means / np.sqrt([area**2 * np.sum(shape**2) * np.sum(kernel**2) for kernel, _ in images])
        best = np.sort(np.argsort(-like, kind="stable")[:_MOST])
        taken = best[like[best] >= min(_LEAST, like.max())]
        reach = max(len(images[i][0]) for i in taken) // 2
        whole, along = (np.stack([_sized(images[i][j], reach) for i in taken]) for j in range(2))
        inner, inner_along = (np.stack([_sized(images[i][j], near) for i in taken]) for j in range(2))

        def products(one: Floats, other: Floats) -> Floats:
            return np.asarray(area * np.einsum("iyx,jyx->ij", one, other))

        return cls(
            shape,
            slope,
            inner,
            area,
            [calibrations(kernels)[i] for i in taken],
            means[taken],
            area * np.sum(slope * inner_along, axis=(1, 2)),
            (products(whole, whole), products(shape * inner, inner)),
            (products(along, along), products(shape * inner_along, inner_along)),
        )

    def rate(self, score: float, level: float) -> float:
        """Rows a pixel above a score on a flat background."""
        root_ts = score + _ABOVE
        counts = self._counts(root_ts, level)
        expected = level + counts[:, np.newaxis, np.newaxis] * self.shape
        log = np.log(expected / level)
        area = self.area
        variance = area * np.sum(expected * log**2, axis=(1, 2))
        information = area * counts**2 * np.sum(self.slope**2 / expected, axis=(1, 2))
        with_log = area * np.einsum("vyx,iyx->vi", expected * log, self.kernels)
        maxima = (2 * math.pi) ** -1.5 * np.exp(-(root_ts**2) / 2) * information / np.sqrt(variance)
        least = np.array([of.threshold(score, level) for of in self.calibrations])
        confirmed = np.empty(root_ts.size)
        for i, f in enumerate(counts):
            values, slopes = (level * flat + f * weighted for flat, weighted in (self.values, self.slopes))
            values -= np.outer(with_log[i], with_log[i]) / variance[i]
            slopes -= f**2 * np.outer(self.bend, self.bend) / information[i]
            confirmed[i] = np.mean(_confirmed(f * self.mean - least, f * self.bend, values, slopes))
        # Each interval of v, with what is confirmed at its middle, and what is beyond the last.
        return float(np.sum(np.diff(-maxima) * (confirmed[1:] + confirmed[:-1]) / 2) + maxima[-1] * confirmed[-1])

    def _counts(self, root_ts: Floats, level: float) -> Floats:
        """Counts f of sources with such a square root of TS, on average."""
        share, area = self.shape[self.shape > 0], self.area
        # f ln(f q) is less than v²/2, or where counts are many f² q p.
        most = 4 * (root_ts[-1] * math.sqrt(level / (area * np.sum(share**2))) + root_ts[-1] ** 2)
        counts = np.geomspace(1e-3 * most, most, 200)
        expected = level + np.multiply.outer(counts, share)
        ratio = area * np.sum(expected * np.log(expected / level), axis=1) - counts
        return np.exp(np.interp(np.log(root_ts), np.log(2 * ratio) / 2, np.log(counts)))


def _confirmed(excess: Floats, bend: Floats, values: Floats, slopes: Floats) -> Bools:
    """Whether T of any kernel is above its threshold, at the points that stand for noise.

    Parameters
    ----------
    excess : ndarray
        T on average over its threshold, (kernel,).
    bend : ndarray
        Minus its second derivative along an axis on average, (kernel,).
    values, slopes : ndarray
        Covariances of T, and of its derivative along an axis, (kernel, kernel).
    """
    n = len(excess)
    cube = (np.arange(1, _POINTS + 1)[:, np.newaxis] * _ROOTS[: 3 * n + 2]) % 1
    normal = ndtri(cube[:, 2:]).reshape(_POINTS, 3, n)
    # Not by a library of matrices, whose last bits depend on its threads: they may decide what exceeds.
    value = np.einsum("pi,ji->pj", normal[:, 0], _root(values))
    slope = np.einsum("pai,ji->paj", normal[:, 1:], _root(slopes))
    # The maximum of a paraboloid, and the pixel that is the nearest to it.
    away = slope / bend
    beside = (away - cube[:, :2, np.newaxis] + 0.5) % 1 - 0.5
    value += bend / 2 * np.sum(away**2 - beside**2, axis=1)
    return np.asarray((value > -excess).any(axis=1))


def _root(covariance: Floats) -> Floats:
    return np.asarray(np.linalg.cholesky(covariance + np.diag(_TINY * np.diag(covariance))))


def _thinned(image: Floats, step: int) -> Floats:
    """Every so manieth pixel, from the middle on."""
    first = len(image) // 2 % step
    return image[first::step, first::step]


def _images(kernel: Factors, step: int) -> tuple[Floats, Floats]:
    """A kernel, thinned, and its derivative along y."""
    middle = (kernel.size - 1) // 2
    first = middle % step
    last = 2 * middle + 1 - first
    wave = 2j * math.pi * np.fft.rfftfreq(kernel.size)
    derivative = np.fft.irfft(np.fft.rfft(kernel.along_y) * wave, kernel.size)
    along_x = kernel.along_x[:, first:last:step]
    image, slope = (np.einsum("ky,kx->yx", y[:, first:last:step], along_x) for y in (kernel.along_y, derivative))
    return image, slope


def _sized(image: Floats, half: int) -> Floats:
    """An image cut, or with zeros around it, to some pixels on each side of its middle."""
    more = half - len(image) // 2
    return np.pad(image, more) if more >= 0 else image[-more:more, -more:more]
