"""A point spread function as files have it: by energy, and by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.errors import InputError
from cwt_dask.psf.energies import energy_weights
from cwt_dask.psf.places import Places
from cwt_dask.psf.point_spread import PointSpread

if TYPE_CHECKING:
    from astropy.wcs import WCS


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What the photons are that are counted."""

    index: float  # Of the power law E^-index.
    band: tuple[float, float] | None  # Energies in TeV; None for all that a file has.


@dataclass(frozen=True, eq=False)
class TargetMap:
    """The map that a point spread function is wanted for."""

    wcs: WCS
    shape: tuple[int, int]  # Rows and columns.
    pixel_deg: float  # Size of a pixel at the centre, in degrees.


@dataclass(frozen=True, eq=False)
class Energies:
    """Energies at which profiles are known, in TeV."""

    nodes: Floats  # Rising.
    edges: tuple[float, float]  # From where to where.

    @classmethod
    def between(cls, low: Floats, high: Floats) -> Energies:
        """Those of bands; of nodes, where both edges are the same."""
        return cls(np.sqrt(low * high), (float(low[0]), float(high[-1])))


@dataclass(frozen=True, eq=False)
class Response:
    """Profiles by place and energy, of any normalisation."""

    kind: str  # Of the file.
    where: str  # The file, for messages.
    energies: Energies
    radius: Floats  # Rising from 0, in degrees (radius,).
    rings: Floats  # What lies between these radii, (place, energy, ring).
    places: Places | None = None
    # Exposure or effective area, (place, energy), in any unit; None where the file has none.
    recorded: Floats | None = None
    # All that there is, where some lies beyond the last radius, (place, energy).
    whole: Floats | None = None
    note: str = ""  # What was taken for what the file does not say.

    def on(self, target: TargetMap, spectrum: Spectrum) -> PointSpread:
        """Average over energies, for the pixels of a map.

        Raises InputError if the energies do not overlap, or nothing is left.
        """
        whole = self.rings.sum(axis=-1) if self.whole is None else self.whole
        usable = np.isfinite(whole) & (whole > 0)
        recorded = np.ones(whole.shape) if self.recorded is None else np.nan_to_num(self.recorded)
        # Where nothing was recorded, nothing says which energies count.
        dark = ~np.any(recorded * usable, axis=-1)
        recorded = np.where(dark[:, np.newaxis], 1.0, recorded)
        try:
            weights = energy_weights(
                self.energies.nodes, self.energies.edges, recorded, usable, band=spectrum.band, index=spectrum.index
            )
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from error
        there: Bools = np.asarray(weights.sum(axis=-1) > 0)
        if not there.any():
            raise InputError(f"{self.where} holds no point spread function at these energies: its values are 0 or NaN")
        weights = np.divide(weights, whole, out=np.zeros_like(weights), where=usable)
        within = np.einsum("pe,per->pr", weights, np.nan_to_num(self.rings)).cumsum(axis=-1)
        within = np.concatenate([np.zeros((len(within), 1)), within], axis=-1)
        spread = PointSpread(
            self.kind,
            self.radius / target.pixel_deg,
            _of_places(within, there, self.places),
            self._places(there),
            target.wcs,
            origin=f"{self.kind} of {self.where}, {self._weighting(spectrum)}{self.note}",
        )
        return spread.on_map(target.shape)

    def _places(self, there: Bools) -> Places | None:
        if self.places is None:
            return None
        return self.places if self.places.offsets is not None else Places(self.places.towards[there])

    def _weighting(self, spectrum: Spectrum) -> str:
        low, high = self.energies.edges
        if spectrum.band is not None:
            low, high = max(low, spectrum.band[0]), min(high, spectrum.band[1])
        by = "" if self.recorded is None else " and exposure"
        return f"{low:.4g} to {high:.4g} TeV weighted by E^-{spectrum.index:g}{by}"


def _of_places(within: Floats, there: Bools, places: Places | None) -> Floats:
    """Leave out places without a profile; at offsets the nearest one stands for it."""
    if places is None or places.offsets is None:
        return within[there]
    known = np.flatnonzero(there)
    nearest = np.abs(np.subtract.outer(places.offsets, places.offsets[known])).argmin(axis=1)
    return np.asarray(within[known[nearest]])
