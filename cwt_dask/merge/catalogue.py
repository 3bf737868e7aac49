"""The catalogue: one row a peak, islands joined across tiles. What a peak is: `cwt_dask.measure.peaks`."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from scipy.spatial import cKDTree

from cwt_dask.measure.centroids import radius_68
from cwt_dask.measure.peaks import disc_radii
from cwt_dask.measure.poisson import sqrt_ts
from cwt_dask.merge.islands import join_labels
from cwt_dask.survey import has_position
from cwt_dask.tiles.sources import COLUMNS, read_found
from cwt_dask.trust import SourceFlag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.wcs import WCS
    from numpy.typing import NDArray

    from cwt_dask.planning.plan import Plan
    from cwt_dask.storage.layout import RunDir
    from cwt_dask.survey import SurveyStatistics

DESCRIPTIONS = {
    "source_id": "Number of the source, in row-major order of the peaks",
    "name": "Name by position in ICRS, truncated",
    "ra": "Right ascension of the centroid (ICRS)",
    "dec": "Declination of the centroid (ICRS)",
    "glon": "Galactic longitude of the centroid",
    "glat": "Galactic latitude of the centroid",
    "pos_err": "Radius about the centroid that holds the source with 68 % probability, by counting; no systematics",
    "x_peak": "Column of the peak pixel, 0-based",
    "y_peak": "Row of the peak pixel, 0-based",
    "x_centroid": "Column of the centroid, 0-based, centre of the first pixel at 0",
    "y_centroid": "Row of the centroid, 0-based, centre of the first pixel at 0",
    "significance": "Largest T/E over scales and iterations; not a number of sigmas where counts are few",
    "iteration": "Iteration of the largest significance",
    "scale": "Scale of the largest significance",
    "scale_deg": "The same in degrees, by the pixel size at the map's centre",
    "island_id": "Number of the island of the support that holds the peak",
    "n_pixels": "Pixels of that island",
    "radius": "Radius of the disc around the peak in which counts are summed: sqrt(2) * scale * step_scale",
    "counts": "Counts in the disc",
    "background": "Expected background in the disc",
    "excess": "counts - background; not corrected for what lies outside the disc",
    "excess_errn": "Downward 1-sigma error of the excess: to the lower end of the interval of Kraft et al. (1991)",
    "excess_errp": "Upward 1-sigma error of the excess: to the upper end of that interval",
    "sqrt_ts": "Square root of Cash's TS of the disc, background known; post-selection: its counts chose the disc",
    "exposure": "Exposure at the peak pixel",
    "photon_flux": "excess / exposure; not corrected for containment: for what lies outside the disc",
    "flags": "Sum of: "
    + ", ".join(f"{flag.value} {flag.name.lower().replace('_', ' ')}" for flag in SourceFlag if flag.name),
}


def build_catalogue(run_dir: RunDir, plan: Plan, statistics: SurveyStatistics, wcs: WCS) -> Table:
    """Join what the tiles found into one table.

    Parameters
    ----------
    run_dir : RunDir
        Whose tiles were all measured.
    plan : Plan
        Of the run.
    statistics : SurveyStatistics
        Of the survey.
    wcs : astropy.wcs.WCS
        Of the map.

    Returns
    -------
    astropy.table.Table
        One row a peak, in row-major order of the peaks; columns as in `DESCRIPTIONS`, exposure and photon flux only
        where the survey's exposure has a unit.
    """
    rows, n_pixels = _joined(run_dir, plan)
    turn = plan.grid.x.length if plan.grid.ring else None
    if turn:
        # A centroid may lie beyond the edge that its peak is near.
        rows["x_centroid"] = _on_map(rows["x_centroid"], turn)
    _take_back_off_sky(rows, wcs)
    position = rows["x_centroid"], rows["y_centroid"]
    sky = SkyCoord(wcs.pixel_to_world(*position))
    rows["flags"] |= np.where(np.isfinite(rows["x_error"]), 0, SourceFlag.NO_CENTROID) | _blended(rows, plan)
    columns = {
        "source_id": np.arange(1, len(rows) + 1),
        "name": np.array(
            source_names(sky.icrs.ra.deg, sky.icrs.dec.deg, statistics.pixel_scale_deg, plan.settings.source_prefix),
            dtype=str,
        ),
        # Rounding may give 360.
        "ra": np.round(sky.icrs.ra.deg, DECIMALS["ra"]) % 360,
        "dec": sky.icrs.dec.deg,
        "glon": np.round(sky.galactic.l.deg, DECIMALS["glon"]) % 360,
        "glat": sky.galactic.b.deg,
        "pos_err": _position_error(rows, wcs, statistics.pixel_scale_deg, turn),
        "x_peak": rows["x"],
        "y_peak": rows["y"],
        "x_centroid": position[0],
        "y_centroid": position[1],
        "significance": rows["significance"],
        "iteration": rows["iteration"],
        "scale": plan.kernels.scales[rows["best_scale"]],
        "scale_deg": plan.kernels.scales[rows["best_scale"]] * statistics.pixel_scale_deg,
        "island_id": rows["island_id"],
        "n_pixels": n_pixels[rows["island_id"] - 1],
        "radius": rows["radius"],
        "counts": rows["counts"],
        "background": rows["background"],
        "excess": rows["counts"] - rows["background"],
        "excess_errn": np.maximum(rows["counts"] - rows["background"] - rows["low"], 0.0),
        "excess_errp": rows["high"] - (rows["counts"] - rows["background"]),
        "sqrt_ts": sqrt_ts(rows["counts"], rows["background"]),
        "flags": rows["flags"],
    }
    measured = dict(UNITS)
    if statistics.exposure_unit:
        unit = units.Unit(statistics.exposure_unit)
        measured |= {"exposure": unit, "photon_flux": 1 / unit}
        with np.errstate(divide="ignore", invalid="ignore"):
            flux = np.where(rows["exposure"] > 0, columns["excess"] / rows["exposure"], np.nan)
        columns |= {"exposure": rows["exposure"], "photon_flux": flux}
    names = [name for name in DESCRIPTIONS if name in columns]
    return Table(
        [np.round(columns[name], DECIMALS[name]) if name in DECIMALS else columns[name] for name in names],
        names=names,
        units={name: unit for name, unit in measured.items() if name in columns},
        descriptions={name: DESCRIPTIONS[name] for name in names},
        meta=_provenance(plan),
    )


UNITS = (
    dict.fromkeys(("ra", "dec", "glon", "glat", "pos_err", "scale_deg"), units.deg)
    | dict.fromkeys(("x_peak", "y_peak", "x_centroid", "y_centroid", "scale", "radius", "n_pixels"), units.pix)
    | dict.fromkeys(("counts", "background", "excess", "excess_errn", "excess_errp"), units.ct)
)
# Beyond these a digit means nothing, and rounding decides it.
DECIMALS = (
    dict.fromkeys(("ra", "dec", "glon", "glat", "pos_err"), 7)
    | dict.fromkeys(("x_centroid", "y_centroid"), 5)
    | dict.fromkeys(("scale", "scale_deg", "radius"), 9)
    | dict.fromkeys(("significance", "background", "excess", "excess_errn", "excess_errp", "sqrt_ts"), 6)
)


def _joined(run_dir: RunDir, plan: Plan) -> tuple[Table, NDArray[np.int64]]:
    """Peaks of all tiles in row-major order, with island and disc; and the pixels of each island."""
    found = {tile: read_found(run_dir, tile) for tile in range(plan.grid.n_tiles)}
    island_ids, n_pixels = join_labels({tile: pieces for tile, (pieces, _) in found.items()}, plan.grid)
    # An island comes once for each tile that has a piece of it.
    n_tiles = np.bincount(np.concatenate([np.unique(ids) for ids in island_ids.values()]), minlength=len(n_pixels) + 1)
    rows = Table({name: np.concatenate([getattr(p, name) for _, p in found.values()]) for name in COLUMNS})
    rows["island_id"] = np.concatenate([island_ids[tile][peaks.piece] for tile, (_, peaks) in found.items()])
    rows["radius"] = disc_radii(plan.kernels)[rows["best_scale"]]
    rows["flags"] |= np.where(n_tiles[rows["island_id"]] > 1, SourceFlag.CROSSES_SEAM, 0)
    rows.sort(["y", "x"])
    return rows, n_pixels


def _take_back_off_sky(rows: Table, wcs: WCS) -> None:
    """Take no centroid for one that the projection puts nowhere."""
    off = ~has_position(wcs, rows["x_centroid"], rows["y_centroid"])
    for name in ("x", "y"):
        rows[f"{name}_centroid"][off] = rows[name][off]
        rows[f"{name}_error"][off] = np.inf


def _on_map(x: NDArray[np.float64], turn: int) -> NDArray[np.float64]:
    """Columns of a ring as those of the map's pixels."""
    return np.asarray((x + 0.5) % turn - 0.5, np.float64)


def _position_error(rows: Table, wcs: WCS, pixel_scale: float, turn: int | None) -> NDArray[np.float64]:
    """68 % radius in degrees; the disc's radius where there is no centroid."""
    along_x = rows["x_error"] * _pixel_sizes(rows, wcs, (0.5, 0.0), pixel_scale, turn)
    along_y = rows["y_error"] * _pixel_sizes(rows, wcs, (0.0, 0.5), pixel_scale, turn)
    error = radius_68(along_y, along_x, rows["significance"])
    return np.asarray(np.where(np.isfinite(error), error, rows["radius"] * pixel_scale), np.float64)


def _pixel_sizes(
    rows: Table, wcs: WCS, half: tuple[float, float], pixel_scale: float, turn: int | None
) -> NDArray[np.float64]:
    """Size on the sky, in degrees, of the pixels at the centroids; `pixel_scale` beside the edge of the sky."""
    ends = [(rows["x_centroid"] + sign * half[0], rows["y_centroid"] + sign * half[1]) for sign in (-1, 1)]
    if turn:
        ends = [(_on_map(x, turn), y) for x, y in ends]
    known = np.logical_and(*(has_position(wcs, *end) for end in ends))
    sizes = np.full(len(rows), pixel_scale)
    first, second = (SkyCoord(wcs.pixel_to_world(x[known], y[known])) for x, y in ends)
    sizes[known] = first.separation(second).deg
    return sizes


def _blended(rows: Table, plan: Plan) -> NDArray[np.int64]:
    """Flags of those whose disc overlaps another's."""
    flags = np.zeros(len(rows), dtype=np.int64)
    if len(rows) < 2:
        return flags
    y, x, radius = (np.asarray(rows[name], np.float64) for name in ("y", "x", "radius"))
    # On a ring the peaks come again one turn further: its own copies are no other sources.
    turns = [0, plan.grid.x.length, -plan.grid.x.length] if plan.grid.ring else [0]
    kinds = [np.flatnonzero(radius == size) for size in np.unique(radius)]
    # Nearest neighbours by kind take memory by the sources, all pairs by their square.
    for others in kinds:
        copies = np.tile(others, len(turns))
        tree = cKDTree(np.column_stack([y[copies], x[copies] + np.repeat(turns, len(others))]))
        for some in kinds:
            reach = radius[some[0]] + radius[others[0]]
            nearest = range(1, len(turns) + 2)
            apart, which = tree.query(np.column_stack([y[some], x[some]]), k=nearest, distance_upper_bound=reach + 1)
            overlap = (apart <= reach) & (np.append(copies, -1)[which] != some[:, np.newaxis])
            flags[some[overlap.any(axis=1)]] = SourceFlag.BLENDED
    return flags


def _provenance(plan: Plan) -> dict[str, Any]:
    """Where a catalogue comes from; keys fit a FITS header."""
    islands = plan.settings.significance_island_threshold
    return {
        "CREATOR": f"cwt_dask {version('cwt_dask')}",
        "INPUT": plan.survey_digest,
        "SETTINGS": plan.settings_digest,
        "SCALES": " ".join(f"{scale:g}" for scale in plan.kernels.scales),
        "STEP": plan.settings.step_scale,
        "THRESH": plan.settings.significance_threshold,
        "ISLANDS": "no threshold of their own" if islands is None else islands,
        "MAXITER": plan.settings.max_iter,
        "TOL": plan.settings.tol,
        "FRAME": "ICRS (ra, dec) and Galactic (glon, glat)",
        "PIXELS": "0-based, centre of the first pixel at 0",
        "POSTSEL": "significance and sqrt_ts are of places chosen because they are large",
    }


# Positions are whole numbers of a tenth of a milliarcsecond, of which all digits of names are multiples: truncation of
# binary fractions would put 05h34m30.0s, which is 83.625 deg or a little less, into minute 34.4.
_PARTS = 3600 * 10**4
# Pixels finer than this, in degrees, would share names that are given to the minute.
MINUTE = 1 / 60


def source_names(
    ra: NDArray[np.float64] | Sequence[float],
    dec: NDArray[np.float64] | Sequence[float],
    pixel_scale_deg: float,
    prefix: str = "CWT",
) -> list[str]:
    """IAU-style names from ICRS positions in degrees, coordinates truncated; equal ones get a suffix a, b, ...

    ``Jhhmm.m+ddmm``; ``Jhhmmss.s+ddmmss`` where pixels are finer than an arc minute.
    """
    names = []
    for lon, lat in zip(np.rint(np.multiply(ra, _PARTS)), np.rint(np.multiply(dec, _PARTS)), strict=True):
        ra_parts, dec_parts = int(lon) % (360 * _PARTS), abs(int(lat))
        sign = "-" if lat < 0 else "+"
        if pixel_scale_deg < MINUTE:
            tenths, seconds = ra_parts * 2400 // _PARTS, dec_parts * 3600 // _PARTS
            clock = f"{_sexagesimal(tenths // 10, 3)}.{tenths % 10}"
            names.append(f"{prefix} J{clock}{sign}{_sexagesimal(seconds, 3)}")
        else:
            tenths, minutes = ra_parts * 40 // _PARTS, dec_parts * 60 // _PARTS
            clock = f"{_sexagesimal(tenths // 10, 2)}.{tenths % 10}"
            names.append(f"{prefix} J{clock}{sign}{_sexagesimal(minutes, 2)}")
    return _distinct(names)


def _sexagesimal(number: int, n_fields: int) -> str:
    """Hhmm or hhmmss of a number of the last field's units."""
    fields: list[str] = []
    for _ in range(n_fields - 1):
        number, field = divmod(number, 60)
        fields.insert(0, f"{field:02d}")
    return f"{number:02d}{''.join(fields)}"


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
