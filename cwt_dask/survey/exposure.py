"""Exposure of the bands that are taken, from exposures at other energies: weighted by a power law.

A source of photon flux F in the energies taken, with a spectrum that falls as E to the power -index, is expected to
give F times this exposure of counts: those of the bands that the mask uses at a pixel. It is what Gammapy predicts
without energy dispersion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.survey.bands import SAME_ENERGY, Bands
from cwt_dask.survey.choice import Chosen

# Of the integral over one interval of energies, where an exposure is 0 at one of its ends.
_QUADRATURE = np.polynomial.legendre.leggauss(20)


@dataclass(frozen=True, eq=False)
class Weighting:
    """How planes of exposure make that of the bands taken."""

    planes: range  # Those to read.
    # (band,), share of each band in the flux of all that are taken; None, of unknown energies, means all alike.
    shares: Floats | None
    # (band, plane), share of each plane in the flux of a band; or the planes are at nodes of energy.
    matrix: Floats | None = None
    nodes: _Nodes | None = None

    def keeps_type(self, n_masks: int) -> bool:
        """Whether the exposure is a plane as it is, of a file with so many planes of a mask."""
        return len(self.planes) == 1 and (self.shares is None or len(self.shares) == 1 or n_masks <= 1)

    def combine(self, planes: Sequence[NDArray[Any]], used: Sequence[Bools]) -> NDArray[Any]:
        """Make one plane (y, x).

        Parameters
        ----------
        planes : sequence of ndarray
            (y, x) each, those of `planes`.
        used : sequence of ndarray
            (y, x) each, True where the mask uses a band; those of all bands taken, of one mask for all, or none.
        """
        if self.keeps_type(len(used)):
            return planes[0]
        if self.shares is None:
            # Every band saw the same sky for its own effective time and area.
            return np.asarray(np.add.reduce(planes, axis=0, dtype=np.float64) / len(planes))
        if self.matrix is not None and len(used) <= 1:
            return _weighted(self.shares @ self.matrix, planes)
        total = np.zeros(planes[0].shape)
        for band, share in enumerate(self.shares):
            exposure = self._of_band(band, planes)
            total += share * (np.where(used[band], exposure, 0) if len(used) > 1 else exposure)
        return total

    def _of_band(self, band: int, planes: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        if self.matrix is not None:
            return _weighted(self.matrix[band], planes)
        return self.nodes.of_band(band, planes) if self.nodes else np.zeros(planes[0].shape)


def weigh(exposure: Bands, n_planes: int, counts: Bands, chosen: Chosen, index: float) -> Weighting | None:
    """Find how the planes of an exposure make that of the bands taken.

    Parameters
    ----------
    exposure, counts : Bands
        Energies of all planes of either.
    n_planes : int
        Planes of the exposure.
    chosen : Chosen
        The bands of the counts that are taken.
    index : float
        Photon index of the power law.

    Returns
    -------
    Weighting or None
        None where planes and bands do not belong together: energies are missing, or do not cover the bands.
    """
    bins = chosen.bins
    shares = None if bins is None else _shares(bins, bins[0, 0], index)
    if n_planes == 1:
        return Weighting(range(1), shares, np.ones((len(chosen.planes), 1)))
    same = exposure.same_energies(counts) if n_planes == chosen.n_bands else False
    if same or (same is None and not exposure.true):
        return Weighting(chosen.planes, shares, np.identity(len(chosen.planes)))
    if bins is None:
        return None
    if exposure.bins is not None:
        return _of_bins(exposure.bins, bins, shares, index)
    return None if exposure.nodes is None else _of_nodes(exposure.nodes, bins, shares, index)


def covers(exposure: Bands, bins: Floats) -> bool:
    """Whether energies cover bands: those of planes one after the other, or nodes to either side."""
    energies = exposure.edges
    if energies is None or (exposure.bins is None and exposure.nodes is None):
        return False
    whole = exposure.nodes is not None or np.allclose(energies[1:, 0], energies[:-1, 1], rtol=SAME_ENERGY, atol=0)
    below = energies[0, 0] <= bins[0, 0] * (1 + SAME_ENERGY)
    return bool(whole and below and bins[-1, 1] * (1 - SAME_ENERGY) <= energies[-1, 1])


def _of_bins(energies: Floats, bins: Floats, shares: Floats | None, index: float) -> Weighting | None:
    if not covers(Bands(edges=energies), bins):
        return None
    low, high = np.maximum(bins[:, :1], energies[:, 0]), np.minimum(bins[:, 1:], energies[:, 1])
    overlap = np.stack([low, np.maximum(low, high)], axis=-1)
    matrix = np.stack([_shares(of_band, low, index) for of_band, low in zip(overlap, bins[:, 0], strict=True)])
    seen = np.flatnonzero(matrix.any(axis=0))
    planes = range(int(seen[0]), int(seen[-1]) + 1)
    return Weighting(planes, shares, matrix[:, planes.start : planes.stop])


def _of_nodes(nodes: Floats, bins: Floats, shares: Floats | None, index: float) -> Weighting | None:
    if not covers(Bands(edges=np.stack([nodes, nodes], axis=1)), bins):
        return None
    first = max(int(np.searchsorted(nodes, bins[0, 0] * (1 + SAME_ENERGY), "right")) - 1, 0)
    last = min(int(np.searchsorted(nodes, bins[-1, 1] * (1 - SAME_ENERGY), "left")), len(nodes) - 1)
    planes = range(first, last + 1)
    return Weighting(planes, shares, nodes=_Nodes(nodes[first : last + 1], bins, index))


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Exposures at energies, between which they are power laws."""

    energies: Floats  # (plane,), in TeV, rising.
    bins: Floats  # (band, lower and upper), in TeV.
    index: float

    def of_band(self, band: int, planes: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """The exposure (y, x) of a band, weighted by the power law."""
        total, flux = np.zeros(planes[0].shape), 0.0
        for interval in self._intervals[band]:
            low, high = (np.asarray(planes[interval.plane + end], np.float64) for end in (0, 1))
            total += interval.integrate(low, high)
            flux += interval.flux
        return total / flux

    @cached_property
    def _intervals(self) -> list[list[_Interval]]:
        return [list(self._of(low, high)) for low, high in self.bins]

    def _of(self, low: float, high: float) -> Iterator[_Interval]:
        """Intervals between nodes that a band has a part of."""
        # Bounds that are off by rounding are those of the outermost nodes.
        low, high = max(low, self.energies[0]), min(high, self.energies[-1])
        for plane in range(len(self.energies) - 1):
            a, b = max(low, self.energies[plane]), min(high, self.energies[plane + 1])
            if a < b:
                lower, upper = np.log(self.energies[plane : plane + 2] / low)
                yield _Interval(plane, lower, upper, np.log(a / low), np.log(b / low), self.index)


@dataclass(frozen=True, eq=False)
class _Interval:
    """A part of the energies between two nodes."""

    plane: int  # The one at its lower node.
    # Natural logarithms of energies: of the nodes, and where the part begins and ends.
    lower: float
    upper: float
    start: float
    end: float
    index: float

    @cached_property
    def flux(self) -> float:
        """Integral of the power law over the part."""
        return float(integral_of_power(1 - self.index, self.start, self.end))

    @cached_property
    def _linear(self) -> Floats:
        """Weights of both nodes if the exposure is linear in the logarithm of the energy."""
        points, weights = _QUADRATURE
        x = self.start + (self.end - self.start) * (points + 1) / 2
        weights = weights * np.exp((1 - self.index) * x) * (self.end - self.start) / 2
        part = (x - self.lower) / (self.upper - self.lower)
        return np.array([(weights * (1 - part)).sum(), (weights * part).sum()])

    def integrate(self, low: Floats, high: Floats) -> Floats:
        """Integral of the power law times the exposure, which is `low` and `high` at the nodes: 0, perhaps, or NaN."""
        with np.errstate(all="ignore"):  # what is NaN or infinite is looked for later
            slope = np.log(high / low) / (self.upper - self.lower)
            power = low * np.exp(-slope * self.lower) * integral_of_power(slope + 1 - self.index, self.start, self.end)
            linear = self._linear[0] * low + self._linear[1] * high
            return np.asarray(np.where((low > 0) & (high > 0), power, linear))


def integral_of_power(power: Any, start: float, end: float) -> Any:
    """Integral of exp(power x), or of E**(power - 1) by the logarithms of energies.

    Parameters
    ----------
    power : float or ndarray
        Where it is 0, too.
    start, end : float
        Of x.
    """
    width = end - start
    x = power * width
    small = np.abs(x) < 1e-8
    return np.exp(power * start) * width * np.where(small, 1 + x / 2, np.expm1(x) / np.where(small, 1, x))


def _shares(bins: Floats, unit: float, index: float) -> Floats:
    """Share of each of some energies (bin, lower and upper) in the flux of all, of a power law."""
    low, high = np.log(bins / unit).T
    with np.errstate(over="ignore"):
        fluxes = np.array([integral_of_power(1 - index, a, b) for a, b in zip(low, high, strict=True)])
        fluxes = fluxes / fluxes.max()
    return np.asarray(fluxes / fluxes.sum())


def _weighted(weights: Floats, planes: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Sum of planes with weights; a plane without weight may hold anything."""
    total = np.zeros(planes[0].shape)
    for weight, plane in zip(weights, planes, strict=True):
        if weight:
            total += weight * plane
    return total
