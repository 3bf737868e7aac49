"""A realistic gamma-ray survey, drawn from a seed and written row by row, so that any size fits in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.special import ndtr

from cwt_dask.cwt.arrays import Floats, numpys_own
from cwt_dask.errors import InputError
from cwt_dask.simulate.files import Asked
from cwt_dask.simulate.population import diffuse, draw, exposure, table_of

if TYPE_CHECKING:
    from astropy.table import Table

_LARGEST_PIXEL_DEG = 0.1
# Rows drawn from one generator: a constant of the simulated sky, like the seed.
_BLOCK_ROWS = 64
# Widths to which a source is drawn.
_DRAWN = 6.0


@dataclass(frozen=True)
class Sky:
    """What is simulated, up to Poisson noise."""

    # Rows and columns of a map in Galactic plate carree projection, centred on the Galactic centre.
    shape: tuple[int, int]
    pixel: float  # Pixel size in degrees.
    truth: Table  # The sources.

    def exposure(self, y0: int, y1: int) -> NDArray[np.float32]:
        """Exposure of rows y0 to y1 in cm2 s, (rows, columns)."""
        rows = exposure(self._latitude(y0, y1))[:, np.newaxis]
        return np.broadcast_to(rows, (y1 - y0, self.shape[1])).astype(np.float32)

    def diffuse(self, y0: int, y1: int) -> NDArray[np.float32]:
        """Expected diffuse counts a pixel of rows y0 to y1, (rows, columns)."""
        longitude = self.pixel * (np.arange(self.shape[1]) - (self.shape[1] - 1) / 2)
        return diffuse(longitude, self._latitude(y0, y1)[:, np.newaxis]).astype(np.float32)

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
    what = Asked(f"shape is {shape}", shape[0] * shape[1], 3 * 4, seed, n_sources)
    with what.drafts(out, truth, overwrite) as (survey_path, write_truth):
        return write_truth(_simulate(survey_path, shape, seed, what.n_drawn))


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
    latitude, counts, sigma = draw(rng, pixel * shape[0] / 2, n_sources)
    x = rng.uniform(-0.5, shape[1] - 0.5, n_sources)
    y = latitude / pixel + (shape[0] - 1) / 2
    places = (
        ("x", x, u.pix, "Column; the centre of the first one is at 0"),
        ("y", y, u.pix, "Row; the centre of the first one is at 0"),
    )
    return table_of(WCS(wcs_header).pixel_to_world(x, y), places, counts, sigma)


def _profile(centre: float, sigma: float, start: int, stop: int) -> tuple[slice, Floats]:
    """Shares of a Gaussian that fall on each of the pixels start to stop that it reaches."""
    first = min(max(start, int(np.floor(centre - _DRAWN * sigma))), stop)
    last = max(first, min(stop, int(np.ceil(centre + _DRAWN * sigma)) + 1))
    shares: Floats = np.diff(ndtr((np.arange(first, last + 1) - 0.5 - centre) / sigma))
    return slice(first, last), shares
