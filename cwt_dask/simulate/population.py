"""What is in the simulated sky: diffuse emission brighter towards the Galactic plane, exposure, and sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Floats

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

# Diffuse emission in counts a pixel, with its widths in degrees: what is left far from the plane, the plane towards the
# centre and its share at all longitudes, and a halo.
_ISOTROPIC = 0.3
_PLANE, _PLANE_HEIGHT, _PLANE_LENGTH, _PLANE_EVERYWHERE = 4.0, 1.5, 40.0, 0.25
_HALO, _HALO_HEIGHT = 0.3, 8.0
# Mean exposure in cm2 s, as of some years of Fermi-LAT above 10 GeV, and its rise from the equator to the poles.
_EXPOSURE, _EXPOSURE_RISE = 1e11, 0.2
# Sources: dN/dS ~ S**-2.2 between these counts; the share near the plane, and its scale height in degrees.
_FAINTEST, _BRIGHTEST, _SLOPE = 20.0, 2e4, 2.2
_IN_PLANE, _IN_PLANE_HEIGHT = 0.6, 2.0
# Gaussian widths in pixels, of points and of extended ones, and the share of these.
_PSF, _EXTENDED, _EXTENDED_SHARE = 1.5, (4.0, 8.0), 0.05


def exposure(latitude: Floats) -> Floats:
    """Exposure in cm2 s at latitudes in degrees."""
    return _EXPOSURE * _relative_exposure(latitude)


def _relative_exposure(latitude: Floats) -> Floats:
    # The mean of the square of the sine over the sphere is a third.
    return np.asarray(1 + _EXPOSURE_RISE * (np.sin(np.radians(latitude)) ** 2 - 1 / 3), np.float64)


def diffuse(longitude: NDArray[Any], latitude: NDArray[Any]) -> Floats:
    """Expected diffuse counts a pixel at Galactic positions in degrees, -180 to 180, which broadcast."""
    towards_centre = np.exp(-0.5 * (longitude / _PLANE_LENGTH) ** 2)
    along = _PLANE_EVERYWHERE + (1 - _PLANE_EVERYWHERE) * towards_centre
    across = np.exp(-np.abs(latitude) / _PLANE_HEIGHT)
    halo = np.exp(-0.5 * (latitude / _HALO_HEIGHT) ** 2)
    intensity = _ISOTROPIC + _PLANE * (across * along) + _HALO * (halo * along)
    return np.asarray(intensity * _relative_exposure(latitude), np.float64)


def draw(rng: np.random.Generator, edge: float, n_sources: int) -> tuple[Floats, Floats, Floats]:
    """Draw latitudes in degrees, expected counts and widths in pixels of sources, brightest first.

    Parameters
    ----------
    rng : Generator
        What all that is random is drawn from.
    edge : float
        The largest Galactic latitude, in degrees.
    n_sources : int
        How many.
    """
    # Inverse of the cumulative distribution of a power law between two ends.
    ends = np.array([_FAINTEST, _BRIGHTEST]) ** (1 - _SLOPE)
    counts = np.sort((ends[0] + rng.random(n_sources) * (ends[1] - ends[0])) ** (1 / (1 - _SLOPE)))[::-1]
    extended = rng.random(n_sources) < _EXTENDED_SHARE
    sigma = np.where(extended, rng.uniform(*_EXTENDED, n_sources), _PSF)
    share = rng.random(n_sources)
    in_plane = -_IN_PLANE_HEIGHT * np.log1p(share * np.expm1(-edge / _IN_PLANE_HEIGHT))
    isotropic = np.degrees(np.arcsin(share * np.sin(np.radians(edge))))
    latitude = np.where(rng.random(n_sources) < _IN_PLANE, in_plane, isotropic) * rng.choice([-1, 1], n_sources)
    return latitude, counts, sigma


def table_of(galactic: SkyCoord, places: Sequence[tuple[Any, ...]], counts: Floats, sigma: Floats) -> Table:
    """Make the table of true sources.

    Parameters
    ----------
    galactic : SkyCoord
        Where they are, (source,).
    places : sequence of tuple
        Further columns: name, values, unit, description.
    counts, sigma : ndarray
        Expected counts, and widths in pixels.
    """
    equatorial = galactic.icrs
    table = Table({"source_id": np.arange(1, len(counts) + 1)})
    for name, values, unit, description in (
        ("glon", galactic.l.deg, u.deg, "Galactic longitude"),
        ("glat", galactic.b.deg, u.deg, "Galactic latitude"),
        ("ra", equatorial.ra.deg, u.deg, "Right ascension, ICRS"),
        ("dec", equatorial.dec.deg, u.deg, "Declination, ICRS"),
        *places,
        ("counts", counts, u.ct, "Expected counts, those beyond the edge of the map included"),
        ("sigma", sigma, u.pix, "Width of the Gaussian that the source is seen as"),
        ("extended", sigma != _PSF, None, "Whether it is wider than the point spread function"),
    ):
        table[name] = values
        table[name].unit, table[name].description = unit, description
    table["source_id"].description = "Number of the source, by falling counts"
    return table
