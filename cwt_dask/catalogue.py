"""The catalogue: one row a peak, islands joined across tiles. What a peak is: `cwt_dask.peaks`."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from scipy.special import gammainccinv, gammaincinv, ndtr

from cwt_dask.merge.islands import join_pieces
from cwt_dask.peaks import disc_radii
from cwt_dask.sources import COLUMNS, read_found

if TYPE_CHECKING:
    from astropy.wcs import WCS
    from numpy.typing import NDArray

    from cwt_dask.layout import RunDir
    from cwt_dask.plan import Plan

DESCRIPTIONS = {
    "source_id": "Number of the source, in row-major order of the peaks",
    "name": "Name by position in ICRS, truncated",
    "ra": "Right ascension of the peak pixel's centre (ICRS)",
    "dec": "Declination of the peak pixel's centre (ICRS)",
    "glon": "Galactic longitude of the peak pixel's centre",
    "glat": "Galactic latitude of the peak pixel's centre",
    "x_peak": "Column of the peak pixel, 0-based",
    "y_peak": "Row of the peak pixel, 0-based",
    "significance": "Largest T/E over scales and iterations; not a number of sigmas where counts are few",
    "scale": "Scale of the largest significance",
    "island_id": "Number of the island of the support that holds the peak",
    "n_pixels": "Pixels of that island",
    "radius": "Radius of the disc around the peak in which counts are summed: sqrt(2) * scale * step_scale",
    "counts": "Counts in the disc",
    "background": "Expected background in the disc",
    "excess": "counts - background; not corrected for what lies outside the disc",
    "excess_errn": "Downward 1-sigma error of the excess (Garwood interval of the counts)",
    "excess_errp": "Upward 1-sigma error of the excess (Garwood interval of the counts)",
    "flags": "Trust flags of the peak pixel: 1 map edge, 2 masked neighbour, 4 error undefined, 8 seam, 16 open island",
}
# Probability beyond one standard deviation on one side of a normal distribution.
ONE_SIGMA = float(ndtr(-1.0))
UNITS = dict.fromkeys(("ra", "dec", "glon", "glat"), units.deg) | dict.fromkeys(
    ("x_peak", "y_peak", "scale", "radius"), units.pix
)


def build_catalogue(run_dir: RunDir, plan: Plan, wcs: WCS) -> Table:
    """Join what the tiles found into one table.

    Parameters
    ----------
    run_dir : RunDir
        Whose tiles were all measured.
    plan : Plan
        Of the run.
    wcs : astropy.wcs.WCS
        Of the map.

    Returns
    -------
    astropy.table.Table
        One row a peak, in row-major order of the peaks; columns as in `DESCRIPTIONS`.
    """
    found = {tile: read_found(run_dir, tile) for tile in range(plan.grid.n_tiles)}
    island_ids, n_pixels = join_pieces({tile: pieces for tile, (pieces, _) in found.items()}, plan.grid)
    rows = Table({name: np.concatenate([getattr(p, name) for _, p in found.values()]) for name in COLUMNS})
    rows["island_id"] = np.concatenate([island_ids[tile][peaks.piece] for tile, (_, peaks) in found.items()])
    rows.sort(["y", "x"])

    sky = SkyCoord(wcs.pixel_to_world(rows["x"], rows["y"]))
    low, high = poisson_interval(np.asarray(rows["counts"]))
    columns = {
        "source_id": np.arange(1, len(rows) + 1),
        "name": np.array(source_names(sky.icrs), dtype=str),
        "ra": sky.icrs.ra.deg,
        "dec": sky.icrs.dec.deg,
        "glon": sky.galactic.l.deg,
        "glat": sky.galactic.b.deg,
        "x_peak": rows["x"],
        "y_peak": rows["y"],
        "significance": rows["significance"],
        "scale": plan.kernels.scales[rows["best_scale"]],
        "island_id": rows["island_id"],
        "n_pixels": n_pixels[rows["island_id"] - 1],
        "radius": disc_radii(plan.kernels)[rows["best_scale"]],
        "counts": rows["counts"],
        "background": rows["background"],
        "excess": rows["counts"] - rows["background"],
        "excess_errn": rows["counts"] - low,
        "excess_errp": high - rows["counts"],
        "flags": rows["flags"],
    }
    return Table(columns, names=list(DESCRIPTIONS), units=UNITS, descriptions=DESCRIPTIONS, meta=_provenance(plan))


def _provenance(plan: Plan) -> dict[str, str | float]:
    """Where a catalogue comes from; keys fit a FITS header."""
    return {
        "CREATOR": f"cwt_dask {version('cwt_dask')}",
        "INPUT": plan.survey_digest,
        "SETTINGS": plan.settings_digest,
        "SCALES": " ".join(f"{scale:g}" for scale in plan.kernels.scales),
        "STEP": plan.settings.step_scale,
        "THRESH": plan.settings.significance_threshold,
        "PIXELS": "0-based, centre of the first pixel at 0",
    }


def poisson_interval(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of Poisson distributions between which `counts` is no surprise, at 1 sigma a side.

    Garwood (1936), as ``astropy.stats.poisson_conf_interval(counts, "frequentist-confidence")``, which takes half a
    second to import what it needs. Counts that are no whole numbers lie in between.
    """
    low = np.where(counts > 0, gammaincinv(counts, ONE_SIGMA), 0.0)
    high = np.asarray(gammainccinv(counts + 1, ONE_SIGMA), np.float64)
    return low, high


def source_names(sky: SkyCoord, prefix: str = "CWT") -> list[str]:
    """IAU-style names from ICRS positions, coordinates truncated; equal ones get a suffix a, b, ..."""
    names = []
    for ra, dec in zip(np.atleast_1d(sky.ra.deg), np.atleast_1d(sky.dec.deg), strict=True):
        tenths, minutes = int(ra / 15 * 600), int(abs(dec) * 60)
        hours = f"{tenths // 600:02d}{tenths // 10 % 60:02d}.{tenths % 10}"
        names.append(f"{prefix} J{hours}{'-' if dec < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}")
    return _distinct(names)


def _distinct(names: list[str]) -> list[str]:
    how_often = Counter(names)
    so_far: Counter[str] = Counter()
    distinct = []
    for name in names:
        so_far[name] += 1
        distinct.append(name + _letters(so_far[name]) if how_often[name] > 1 else name)
    return distinct


def _letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ... for 1, 2, ..."""
    letters = ""
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return letters
