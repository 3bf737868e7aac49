"""The simulated sky on the whole sphere, as HEALPix maps."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.config.validation import Nside
from cwt_dask.cwt.arrays import Floats, numpys_own
from cwt_dask.geometry.healpix import N_BASE, centres_of, lon_lat_of, numbers_at, order_of, vectors_of
from cwt_dask.simulate.files import Asked
from cwt_dask.simulate.population import diffuse, draw, exposure, table_of

if TYPE_CHECKING:
    from astropy.table import Table

# Pixels drawn from one generator: a constant of the simulated sky, like the seed.
_BLOCK = 2**20
_MAPS = ("COUNTS", "J", "count"), ("BACKGROUND", "E", "count"), ("EXPOSURE", "E", "cm2 s")
# To whole records of FITS.
_RECORD = 2880


@numpys_own
def simulate_sphere(
    out: str | PathLike[str],
    nside: int,
    seed: int,
    n_sources: int | None = None,
    truth: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Table:
    """Simulate a survey of the whole sky as HEALPix maps: what `simulate` does, at Galactic positions, poles included.

    Parameters
    ----------
    out : path-like
        FITS file to write: tables COUNTS (int32), BACKGROUND (float32, the expected diffuse counts) and EXPOSURE
        (float32, cm2 s) of HEALPix pixels, NESTED, Galactic.
    nside : int
        Pixels along the edge of a base cell, a power of two.
    seed : int
        All that is random follows from it.
    n_sources : int, optional
        Number of sources; 60 per million pixels unless given.
    truth : path-like, optional
        ECSV file to write the true sources to.
    overwrite : bool, optional
        Replace existing files.

    Returns
    -------
    Table
        The true sources, brightest first: ``source_id``, ``glon``, ``glat``, ``ra``, ``dec`` (deg), ``counts``
        (expected), ``sigma`` (pixels), ``extended``.

    Raises
    ------
    InputError
        If `nside`, `seed` or `n_sources` is impossible, or a file exists and is not to be replaced.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from cwt_dask.simulate import simulate_sphere
    >>> with TemporaryDirectory() as folder:
    ...     sources = simulate_sphere(Path(folder, "allsky.fits"), nside=16, seed=1, n_sources=3)
    >>> sources["source_id", "sigma", "extended"].as_array().tolist()
    [(1, 1.5, False), (2, 1.5, False), (3, 1.5, False)]
    """
    order = order_of(nside := int(Nside().check("nside", nside)))
    asked = Asked(f"nside is {nside}", N_BASE * nside**2, sum(4 for _ in _MAPS), seed, n_sources)
    with asked.drafts(out, truth, overwrite) as (survey_path, write_truth):
        starts = range(0, asked.n_pixels, _BLOCK)
        source_seed, *block_seeds = np.random.SeedSequence(seed).spawn(1 + len(starts))
        rng = np.random.default_rng(source_seed)
        latitude, counts, sigma = draw(rng, 90.0, asked.n_drawn)
        galactic = SkyCoord(rng.uniform(0, 360, asked.n_drawn) * u.deg, latitude * u.deg, frame="galactic")
        pixel = np.sqrt(np.pi / 3) / nside
        events = np.sort(numbers_at(_events(rng, galactic, counts, sigma * pixel), order))

        def values(name: str, start: int) -> NDArray[Any]:
            numbers = np.arange(start, min(start + _BLOCK, asked.n_pixels))
            lon, lat = lon_lat_of(centres_of(numbers, order))
            if name == "EXPOSURE":
                return exposure(lat)
            expected = diffuse((lon + 180) % 360 - 180, lat).astype(np.float32)
            if name == "BACKGROUND":
                return expected
            inside = events[slice(*np.searchsorted(events, [start, start + len(numbers)]))] - start
            noise = np.random.default_rng(block_seeds[start // _BLOCK]).poisson(expected)
            return noise + np.bincount(inside, minlength=len(numbers))

        with survey_path.open("wb") as file:
            file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
            for name, kind, unit in _MAPS:
                file.write(_header(name, kind, unit, nside, seed).tostring().encode("ascii"))
                for start in starts:
                    file.write(values(name, start).astype(">i4" if kind == "J" else ">f4").tobytes())
                file.write(b"\0" * (-4 * asked.n_pixels % _RECORD))
        return write_truth(table_of(galactic, (), counts, sigma))


def _events(rng: np.random.Generator, galactic: SkyCoord, counts: Floats, sigma: Floats) -> Floats:
    """Unit vectors (n, 3) of what is seen of sources, each a Gaussian of `sigma` radians on the sphere."""
    n = rng.poisson(counts)
    centre = np.repeat(vectors_of(galactic.l.rad, galactic.b.rad), n, axis=0)
    # Any two directions at right angles to it.
    axis = np.where(np.abs(centre[:, 2:]) < 0.9, np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    east = np.cross(axis, centre)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    along, across = rng.standard_normal((2, len(centre), 1)) * np.repeat(sigma, n)[:, np.newaxis]
    far = np.hypot(along, across)
    aside = np.sinc(far / np.pi) * (along * east + across * np.cross(centre, east))
    return np.asarray(np.cos(far) * centre + aside)


def _header(name: str, kind: str, unit: str, nside: int, seed: int) -> fits.Header:
    column = fits.Column("VALUE", kind, unit=unit)
    header = fits.BinTableHDU.from_columns([column], nrows=0, name=name).header
    header["NAXIS2"] = N_BASE * nside**2
    header.update(
        PIXTYPE="HEALPIX", ORDERING="NESTED", INDXSCHM="IMPLICIT", NSIDE=nside, COORDSYS="GAL", OBJECT="FULLSKY"
    )
    header.update(FIRSTPIX=0, LASTPIX=N_BASE * nside**2 - 1, CREATOR="cwt-dask simulate", SEED=seed)
    return header
