"""The stopping rule, and residual statistics that can be pooled over tiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from cwt_dask.cwt.arrays import Floats

# The rule compares two iterations, so this is the first at which it can fire.
FIRST_STOP = 2


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of a set of pixels.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque 1983, "Algorithms for computing the sample variance", Am. Stat. 37, 242.
    """

    count: int
    mean: float
    sum_squared_deviations: float

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Moments of an array of any shape."""
        if values.size == 0:
            return cls(0, 0.0, 0.0)
        mean = float(values.mean())
        deviations = values - mean
        deviations *= deviations
        return cls(values.size, mean, float(deviations.sum()))

    @classmethod
    def pooled(cls, parts: Iterable[Moments]) -> Moments:
        """Moments of the union of disjoint sets; the order of the parts fixes the last bits."""
        return reduce(cls.__add__, parts, cls(0, 0.0, 0.0))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if count == 0:
            return self
        delta, share = other.mean - self.mean, other.count / count
        within = self.sum_squared_deviations + other.sum_squared_deviations
        return Moments(count, self.mean + delta * share, within + delta * delta * (self.count * share))

    @property
    def variance(self) -> float:
        """Population variance; 0 for no pixels."""
        return self.sum_squared_deviations / self.count if self.count else 0.0


def relative_change(previous: float, variance: float) -> float:
    """|previous - variance| / previous; infinite where the previous variance is zero, so that it never stops a run."""
    return abs(previous - variance) / previous if previous > 0 else float("inf")


def stops_at(variances: Sequence[float], tol: float) -> int | None:
    """First iteration at which the residual variance changes by less than `tol`; None if it never does.

    `variances` holds the variance after iteration 1, 2, ...
    """
    for n in range(FIRST_STOP, len(variances) + 1):
        if relative_change(variances[n - 2], variances[n - 1]) < tol:
            return n
    return None
