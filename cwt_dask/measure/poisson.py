"""What a number of counts says about a source on a background that is known: an interval, and a likelihood ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaincc, gammainccinv, lambertw, ndtr, xlogy

from cwt_dask.cwt.arrays import Floats

# Probability within one standard deviation of a normal distribution.
ONE_SIGMA = float(ndtr(1.0) - ndtr(-1.0))


def excess_interval(counts: Floats, background: Floats) -> tuple[Floats, Floats]:
    """Shortest 68 % interval of a source's counts, which are not negative, on a known background.

    Parameters
    ----------
    counts, background : ndarray
        Counts, and expected background counts, of equal shape. Counts that are no whole numbers lie in between.

    Returns
    -------
    low, high : ndarray of float64
        Ends of the interval; `low` is 0 where there are no more counts than background.

    Notes
    -----
    That of Kraft, Burrows & Nousek (1991, ApJ 374, 344): with a flat prior the density at s is proportional to
    (s + b)**n exp(-(s + b)), and the shortest interval has equal densities at both ends. As
    ``astropy.stats.poisson_conf_interval(n, "kraft-burrows-nousek", background=b)``, which fails where n is not above
    b, and takes some milliseconds a value.
    """
    n, b = np.asarray(counts, np.float64), np.asarray(background, np.float64)
    total = gammaincc(n + 1, b)

    def start_of(end: Floats) -> Floats:
        """Where the density of s + b is what it is at `end`, before its maximum at n; b if that is farther on."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio: Any = end / n
            before = -n * lambertw(-ratio * np.exp(-ratio)).real
        return np.where(n > b, np.fmax(before, b), b)

    least, most = np.maximum(n, b), gammainccinv(n + 1, total * (1 - ONE_SIGMA) / 2)
    # Until it is known to the last bit.
    for _ in range(60):
        end = (least + most) / 2
        short = gammaincc(n + 1, start_of(end)) - gammaincc(n + 1, end) < ONE_SIGMA * total
        least, most = np.where(short, end, least), np.where(short, most, end)
    end = (least + most) / 2
    low, high = start_of(end) - b, end - b
    # Counts so far below the background that floats cannot hold the probability: the density falls exponentially there.
    lost = total < 1e-280
    if lost.any():
        high = np.where(lost, -np.log(1 - ONE_SIGMA) * b / np.where(lost, b - n, 1.0), high)
    return low, high


def sqrt_ts(counts: Floats, background: Floats) -> Floats:
    """Square root of the test statistic of a source on a known background, with the sign of the excess.

    TS = 2 (n log(n / b) - (n - b)), the likelihood ratio of Cash (1979, ApJ 228, 939). Infinite where there are counts
    and no background.
    """
    n, b = np.asarray(counts, np.float64), np.asarray(background, np.float64)
    with np.errstate(divide="ignore"):
        statistic = 2 * (xlogy(n, np.where(n > 0, n, 1.0) / b) - (n - b))
    return np.asarray(np.copysign(np.sqrt(np.maximum(statistic, 0.0)), n - b), np.float64)


def upper_limit(amplitude: Floats, slope: Floats, bend: Floats, seen: Floats) -> Floats:
    """Upper limit (95 %) of an amplitude whose likelihood is a sum over pixels.

    Parameters
    ----------
    amplitude : ndarray
        Where ln L = sum of c ln(1 + f q) - f s has its maximum, 0 at least.
    slope, bend : ndarray
        Of the sum over counts at the maximum: first derivative, and minus the second.
    seen : ndarray
        s, the share of the source that is seen.

    Returns
    -------
    ndarray of float64
        Infinite where nothing is seen.

    Notes
    -----
    Near its maximum ln L is that of n counts, n = slope² / bend, of which n / s - f are background: what pixels far
    from the source tell about it is weighted down. The limit is the mean of which n counts or fewer come in 5 % of
    cases, half of the cases with n counts themselves. It is no lower than that of a measurement which finds just the
    background, nor than 3 / s, below which no counts at all would not be rare. So it covers more than 95 % where the
    source is too faint to be limited at all, and 94 to 96 % elsewhere (docs/catalogue.md).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.where(bend > 0, slope**2 / bend, 0.0)
        limit = gammainccinv(n + 0.5, 0.05) / seen - (n / seen - amplitude)
        return np.where(seen > 0, np.maximum(limit, -np.log(0.05) / seen), np.inf)
