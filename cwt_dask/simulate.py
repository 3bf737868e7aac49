"""A realistic gamma-ray survey, drawn from a seed and written row by row, so that any size fits in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.special import ndtr

from cwt_dask.config.validation import format_bytes
from cwt_dask.cwt.arrays import Floats, numpys_own
from cwt_dask.errors import InputError
from cwt_dask.storage.paths import drafted_file, exists

_LARGEST_PIXEL_DEG = 0.1
_SOURCES_PER_PIXEL = 60e-6
# Three images of four bytes.
_PIXEL_BYTES = 12
# Rows drawn from one generator: a constant of the simulated sky, like the seed.
_BLOCK_ROWS = 64
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
# Gaussian widths in pixels, and how many of them a source is drawn to.
_PSF, _EXTENDED, _EXTENDED_SHARE, _DRAWN = 1.5, (4.0, 8.0), 0.05, 6.0


@dataclass(frozen=True)
class Sky:
    """What is simulated, up to Poisson noise."""

    # Rows and columns of a map in Galactic plate carree projection, centred on the Galactic centre.
    shape: tuple[int, int]
    pixel: float  # Pixel size in degrees.
    truth: Table  # The sources.

    def exposure(self, y0: int, y1: int) -> NDArray[np.float32]:
        """Exposure of rows y0 to y1 in cm2 s, (rows, columns)."""
        rows = _EXPOSURE * self._relative_exposure(self._latitude(y0, y1))[:, np.newaxis]
        return np.broadcast_to(rows, (y1 - y0, self.shape[1])).astype(np.float32)

    def diffuse(self, y0: int, y1: int) -> NDArray[np.float32]:
        """Expected diffuse counts a pixel of rows y0 to y1, (rows, columns)."""
        latitude = self._latitude(y0, y1)
        longitude = self.pixel * (np.arange(self.shape[1]) - (self.shape[1] - 1) / 2)
        towards_centre = np.exp(-0.5 * (longitude / _PLANE_LENGTH) ** 2)
        along = _PLANE_EVERYWHERE + (1 - _PLANE_EVERYWHERE) * towards_centre
        across = np.exp(-np.abs(latitude) / _PLANE_HEIGHT)
        halo = np.exp(-0.5 * (latitude / _HALO_HEIGHT) ** 2)
        intensity = _ISOTROPIC + _PLANE * np.outer(across, along) + _HALO * np.outer(halo, along)
        return (intensity * self._relative_exposure(latitude)[:, np.newaxis]).astype(np.float32)

    def expected(self, y0: int, y1: int) -> Floats:
        """Expected counts a pixel of rows y0 to y1, diffuse and sources, (rows, columns)."""
        expected = self.diffuse(y0, y1).astype(np.float64)
        radius = _DRAWN * self.truth["sigma"]
        near = (self.truth["y"] + radius >= y0 - 0.5) & (self.truth["y"] - radius <= y1 - 0.5)
        for source in self.truth[near]:
            y, y_share = _profile(source["y"], source["sigma"], y0, y1)
            x, x_share = _profile(source["x"], source["sigma"], 0, self.shape[1])
            expected[y.start - y0 : y.stop - y0, x] += source["counts"] * np.outer(y_share, x_share)
        return expected

    def _latitude(self, y0: int, y1: int) -> Floats:
        return np.asarray(self.pixel * (np.arange(y0, y1) - (self.shape[0] - 1) / 2), np.float64)

    @staticmethod
    def _relative_exposure(latitude: Floats) -> Floats:
        # The mean of the square of the sine over the sphere is a third.
        return np.asarray(1 + _EXPOSURE_RISE * (np.sin(np.radians(latitude)) ** 2 - 1 / 3), np.float64)


@numpys_own
def simulate(
    out: str | PathLike[str],
    shape: tuple[int, int],
    seed: int,
    n_sources: int | None = None,
    truth: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Table:
    """Simulate a survey: diffuse emission brighter towards the Galactic plane, sources, and Poisson noise.

    Parameters
    ----------
    out : path-like
        FITS file to write: COUNTS (int32), BACKGROUND (float32, the expected diffuse counts) and EXPOSURE (float32,
        cm2 s), (y, x), in Galactic plate carree projection about the Galactic centre with pixels of 0.1 deg, or smaller
        where the map would not fit the sky.
    shape : tuple of int
        Rows and columns.
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
        The true sources, brightest first: ``source_id``, ``glon``, ``glat``, ``ra``, ``dec`` (deg), ``x``, ``y``
        (pixels, 0-based), ``counts`` (expected), ``sigma`` (pixels), ``extended``.

    Raises
    ------
    InputError
        If `shape`, `seed` or `n_sources` is impossible, or a file exists and is not to be replaced.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from cwt_dask.simulate import simulate
    >>> with TemporaryDirectory() as folder:
    ...     sources = simulate(Path(folder, "survey.fits"), shape=(100, 200), seed=1, n_sources=3)
    >>> sources["source_id", "sigma", "extended"].as_array().tolist()
    [(1, 1.5, False), (2, 1.5, False), (3, 1.5, False)]
    """
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"shape is {shape}: it must be two numbers of pixels (rows, columns), at least 1 each")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be 0 or more")
    n_pixels = shape[0] * shape[1]
    if n_sources is None:
        n_sources = round(_SOURCES_PER_PIXEL * n_pixels)
    if not 0 <= n_sources <= n_pixels:
        raise InputError(f"n_sources is {n_sources}: it must be 0 or more, and at most one a pixel")
    if Path(out).suffix != ".fits":
        raise InputError(f"{out} is no name of a plain FITS file: choose one that ends in .fits")
    truth_draft = nullcontext() if truth is None else _draft(Path(truth), overwrite)
    with _draft(Path(out), overwrite) as survey_path, truth_draft as truth_path:
        folder = survey_path.parent
        needed, free = _PIXEL_BYTES * n_pixels, shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(
                f"shape is {shape}: the file takes {format_bytes(needed)}, {folder.absolute()} has "
                f"{format_bytes(free)} free: choose a smaller one or another place"
            )
        sources = _simulate(survey_path, shape, seed, n_sources)
        if truth_path:
            sources.write(truth_path, format="ascii.ecsv")
        return sources


@contextmanager
def _draft(path: Path, overwrite: bool) -> Iterator[Path]:
    if exists(path) and not overwrite:
        raise InputError(f"{path} exists: choose another name, or --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a directory: create it first")
    with drafted_file(path) as draft:
        try:
            draft.touch()
            # astropy would add to a file that exists.
            draft.unlink()
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): choose another place") from error
        yield draft


def _simulate(path: Path, shape: tuple[int, int], seed: int, n_sources: int) -> Table:
    pixel = min(_LARGEST_PIXEL_DEG, 360 / shape[1], 180 / shape[0])
    wcs_header: dict[str, Any] = {}
    for axis, name, length, step in ((1, "GLON", shape[1], -pixel), (2, "GLAT", shape[0], pixel)):
        wcs_header |= {f"CTYPE{axis}": f"{name}-CAR", f"CUNIT{axis}": "deg", f"CRPIX{axis}": (length + 1) / 2}
        wcs_header |= {f"CRVAL{axis}": 0.0, f"CDELT{axis}": step}
    starts = range(0, shape[0], _BLOCK_ROWS)
    source_seed, *block_seeds = np.random.SeedSequence(seed).spawn(1 + len(starts))
    sources = _draw_sources(np.random.default_rng(source_seed), shape, pixel, n_sources, wcs_header)
    sky = Sky(shape, pixel, sources)

    def counts(y0: int, y1: int) -> NDArray[np.int32]:
        rng = np.random.default_rng(block_seeds[y0 // _BLOCK_ROWS])
        return rng.poisson(sky.expected(y0, y1)).astype(np.int32)

    images: list[tuple[str, int, str, Callable[[int, int], NDArray[Any]]]] = [
        ("COUNTS", 32, "count", counts),
        ("BACKGROUND", -32, "count", sky.diffuse),
        ("EXPOSURE", -32, "cm2 s", sky.exposure),
    ]
    for name, bitpix, unit, rows in images:
        size = {"NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0]}
        header = fits.Header({"SIMPLE": True, "BITPIX": bitpix} | size | {"EXTNAME": name, "BUNIT": unit})
        header.update(wcs_header | {"CREATOR": "cwt-dask simulate", "SEED": seed})
        # As text: of a Path, astropy looks for the last part only, and takes an existing file for a new one.
        with fits.StreamingHDU(str(path), header) as hdu:
            for y0 in starts:
                hdu.write(rows(y0, min(y0 + _BLOCK_ROWS, shape[0])))
    return sources


def _draw_sources(
    rng: np.random.Generator, shape: tuple[int, int], pixel: float, n_sources: int, wcs_header: dict[str, Any]
) -> Table:
    """Draw the true sources, brightest first."""
    # Inverse of the cumulative distribution of a power law between two ends.
    ends = np.array([_FAINTEST, _BRIGHTEST]) ** (1 - _SLOPE)
    counts = np.sort((ends[0] + rng.random(n_sources) * (ends[1] - ends[0])) ** (1 / (1 - _SLOPE)))[::-1]
    extended = rng.random(n_sources) < _EXTENDED_SHARE
    sigma = np.where(extended, rng.uniform(*_EXTENDED, n_sources), _PSF)

    edge = pixel * shape[0] / 2
    share = rng.random(n_sources)
    in_plane = -_IN_PLANE_HEIGHT * np.log1p(share * np.expm1(-edge / _IN_PLANE_HEIGHT))
    isotropic = np.degrees(np.arcsin(share * np.sin(np.radians(edge))))
    latitude = np.where(rng.random(n_sources) < _IN_PLANE, in_plane, isotropic) * rng.choice([-1, 1], n_sources)
    x = rng.uniform(-0.5, shape[1] - 0.5, n_sources)
    y = latitude / pixel + (shape[0] - 1) / 2

    galactic = WCS(wcs_header).pixel_to_world(x, y)
    equatorial = galactic.icrs
    table = Table({"source_id": np.arange(1, n_sources + 1)})
    for name, values, unit, description in (
        ("glon", galactic.l.deg, u.deg, "Galactic longitude"),
        ("glat", galactic.b.deg, u.deg, "Galactic latitude"),
        ("ra", equatorial.ra.deg, u.deg, "Right ascension, ICRS"),
        ("dec", equatorial.dec.deg, u.deg, "Declination, ICRS"),
        ("x", x, u.pix, "Column; the centre of the first one is at 0"),
        ("y", y, u.pix, "Row; the centre of the first one is at 0"),
        ("counts", counts, u.ct, "Expected counts, those beyond the edge of the map included"),
        ("sigma", sigma, u.pix, "Width of the Gaussian that the source is seen as"),
        ("extended", extended, None, "Whether it is wider than the point spread function"),
    ):
        table[name] = values
        table[name].unit, table[name].description = unit, description
    table["source_id"].description = "Number of the source, by falling counts"
    return table


def _profile(centre: float, sigma: float, start: int, stop: int) -> tuple[slice, Floats]:
    """Shares of a Gaussian that fall on each of the pixels start to stop that it reaches."""
    first = min(max(start, int(np.floor(centre - _DRAWN * sigma))), stop)
    last = max(first, min(stop, int(np.ceil(centre + _DRAWN * sigma)) + 1))
    shares: Floats = np.diff(ndtr((np.arange(first, last + 1) - 0.5 - centre) / sigma))
    return slice(first, last), shares
