"""The catalogue: one row a peak, islands joined across tiles. What a peak is: `cwt_dask.measure.peaks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Ints
from cwt_dask.measure.candidates import SAME
from cwt_dask.measure.centroids import radius_68
from cwt_dask.measure.false_rows import FalseRows
from cwt_dask.measure.peaks import disc_radii
from cwt_dask.merge.agreement import Windows
from cwt_dask.merge.borders import Borders, settle
from cwt_dask.merge.columns import columns_of
from cwt_dask.merge.islands import join_labels
from cwt_dask.merge.names import source_names
from cwt_dask.planning.plan import Plan
from cwt_dask.psf import PointSpread, kept_point_spread
from cwt_dask.psf.shapes import shapes_at
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import SurveyStatistics, has_position
from cwt_dask.survey.sphere import FacetSky
from cwt_dask.tiles.fitted import Fitted, FittedTile, read_fitted
from cwt_dask.tiles.sources import FIELDS, Peaks, read_found
from cwt_dask.trust import SourceFlag

if TYPE_CHECKING:
    from astropy.wcs import WCS

# Flags that follow from more than one tile.
OF_ALL_TILES = SourceFlag.CROSSES_SEAM | SourceFlag.BLENDED
# Digits of scores after the point: what tilings leave beyond them must not order rows.
_DECIMALS = 5
_NONE = FalseRows(np.zeros(1), np.zeros(1))


def build_catalogue(
    run_dir: RunDir, run_id: str, plan: Plan, statistics: SurveyStatistics, wcs: WCS, windows: Windows
) -> tuple[Table, Table, FalseRows, Borders | None]:
    """Join what the tiles found, and split it into catalogue and candidates.

    Parameters
    ----------
    run_dir, run_id, plan, statistics, wcs
        Of a run with all tiles measured, and of its survey.
    windows : Windows
        How tiles were fitted.

    Returns
    -------
    catalogue, candidates : astropy.table.Table
        One row a source, the best first, numbered on from the one to the other; their columns are
        `cwt_dask.merge.columns.COLUMNS`. The catalogue has those of which no more than `false_sources` are expected
        among noise.
    false_rows : FalseRows
        How many are expected, by score.
    borders : Borders or None
        What was found where facets meet; None of a flat map.
    """
    rows, levels = _measured(run_dir, run_id, plan, windows)
    spread = kept_point_spread(run_dir, plan.settings.psf, wcs)
    false_rows = expected_false_rows(spread, plan, statistics, levels, statistics.n_valid)
    _add_scores(rows, false_rows)
    borders = None
    if isinstance(wcs, FacetSky):
        kept, borders = settle(rows, wcs, SAME * float(plan.kernels.scales[0]), plan.kernels.reach)
        rows = rows[kept]
    table, n_selected = _as_table(rows, plan, statistics, wcs, spread)
    return table[:n_selected], table[n_selected:], false_rows, borders


def expected_false_rows(
    spread: PointSpread | None, plan: Plan, statistics: SurveyStatistics, levels: Ints, n_valid: int
) -> FalseRows:
    """How many rows of noise are expected on pixels of a survey.

    Parameters
    ----------
    spread, plan, statistics
        Of a run and its survey; without a point spread function sources are as wide as the finest scale.
    levels : ndarray of int64
        Pixels by background, as of `count_levels`.
    n_valid : int
        How many of them take part.
    """
    # Of a point spread function that varies, the one of the map's middle.
    y, x = (length / 2 for length in statistics.shape[-2:])
    shapes, _ = shapes_at(spread or PointSpread.gaussian(float(plan.kernels.scales[0])), x, y)
    return FalseRows.of(shapes, plan.kernels, levels, n_valid)


def rows_of_tile(
    run_dir: RunDir, plan: Plan, statistics: SurveyStatistics, wcs: WCS, peaks: Peaks, found: FittedTile
) -> Table:
    """Make the rows of one tile, as in the catalogue but for what all tiles have a part in: numbers, names, flags.

    Parameters
    ----------
    run_dir, plan, statistics, wcs
        As of `build_catalogue`.
    peaks : Peaks
        Candidates of the tile.
    found : FittedTile
        What its fit has found.
    """
    rows = _rows(plan, [peaks], [(found.new, found.fitted)])
    rows["island_id"] = rows["n_pixels"] = np.zeros(len(rows), np.int64)
    _add_scores(rows, _NONE)
    spread = kept_point_spread(run_dir, plan.settings.psf, wcs)
    table, _ = _as_table(rows, plan, statistics, wcs, spread)
    table["flags"][:] &= ~OF_ALL_TILES
    table.remove_columns(["source_id", "name", "island_id", "n_pixels", "expected_false"])
    return table


def _as_table(
    rows: Table, plan: Plan, statistics: SurveyStatistics, wcs: WCS, spread: PointSpread | None
) -> tuple[Table, int]:
    """The columns of measured rows, the best first, and how many are good enough for the catalogue."""
    n_selected = int(np.searchsorted(rows["expected_false"], plan.settings.false_sources, side="right"))
    _add_positions(rows, plan, statistics, wcs)
    known = np.isfinite(rows["x_error"]) | ((rows["flags"] & SourceFlag.NOT_SETTLED) > 0)
    no_centroid = np.where(known, 0, SourceFlag.NO_CENTROID)
    rows["flags"][:] |= no_centroid | _blended(rows, n_selected, plan, wcs)
    if spread:
        rows["containment"] = spread.containment(rows["radius"], rows["x"], rows["y"])
    if isinstance(wcs, FacetSky):
        # From now on rows are of images.
        rows["facet"] = np.asarray(rows["y"]) // wcs.grid.side
        for name in ("y", "y_centroid"):
            rows[name] = rows[name] - rows["facet"] * wcs.grid.side
    columns = columns_of(statistics.exposure_unit, psf=spread is not None, sphere=isinstance(wcs, FacetSky))
    table = Table(
        {column.name: column.of(rows) for column in columns},
        units={column.name: column.unit for column in columns if column.unit},
        descriptions={column.name: column.text for column in columns},
        meta=_provenance(plan),
    )
    return table, n_selected


def _add_scores(rows: Table, false_rows: FalseRows) -> None:
    """Add by what rows are selected, and put the best first; of equal ones the first in row-major order."""
    rows["sigma"] = np.maximum(rows["sigma"], rows["sigma_beside"])
    rows["score"] = np.round(np.minimum(rows["sigma"], np.sqrt(rows["ts"])), _DECIMALS)
    rows["expected_false"] = false_rows.expected(rows["score"])
    rows["backwards"] = -rows["score"]
    rows.sort(["backwards", "y", "x"])


def _measured(run_dir: RunDir, run_id: str, plan: Plan, windows: Windows) -> tuple[Table, Ints]:
    """Candidates of all tiles, with what the fit says of them, island, scale and disc; pixels by background."""
    tiles = range(plan.grid.n_tiles)
    found = {tile: read_found(run_dir, run_id, tile) for tile in tiles}
    fitted = [read_fitted(run_dir, run_id, tile, windows[tile]) for tile in tiles]
    islands = join_labels({tile: labels for tile, (labels, _) in found.items()}, plan.grid)
    # An island comes once for each tile that has a part of it.
    n_tiles = np.bincount(np.concatenate([np.unique(island) for island in islands.of_label.values()]))
    rows = _rows(plan, [peaks for _, peaks in found.values()], [each[:2] for each in fitted])
    # Those outside the support are in no island.
    labels = [np.append(found[tile][1].label, fitted[tile][0].label) for tile in tiles]
    island = np.concatenate([np.append(islands.of_label[tile], -1)[labels[tile]] for tile in tiles])
    rows["island_id"], rows["n_pixels"] = island + 1, np.append(islands.n_pixels, 0)[island]
    rows["flags"][:] |= np.where(np.append(n_tiles, 0)[island] > 1, SourceFlag.CROSSES_SEAM, 0)
    return rows, np.sum([levels for _, _, levels in fitted], axis=0)


def _rows(plan: Plan, peaks: Sequence[Peaks], fitted: Sequence[tuple[Peaks, Fitted]]) -> Table:
    """Candidates of tiles: of each tile those found before the fit, then those that the fit alone has found."""
    both = [each for before, (new, _) in zip(peaks, fitted, strict=True) for each in (before, new)]
    rows = Table({name: np.concatenate([getattr(each, name) for each in both]) for name in FIELDS})
    for field in fields(Fitted):
        rows[field.name] = np.concatenate([getattr(fit, field.name) for _, fit in fitted])
    rows["scale"] = plan.kernels.scales[rows["best_scale"]]
    rows["radius"] = disc_radii(plan.kernels)[rows["best_scale"]]
    # Where a source was fitted is better than its centroid, if its shape is known.
    at = rows["accepted"] & (plan.settings.psf is not None)
    settled = np.isfinite(rows["x_fit_error"]) & np.isfinite(rows["y_fit_error"])
    for axis in ("x", "y"):
        rows[f"{axis}_centroid"][at] = rows[f"{axis}_fit"][at]
        rows[f"{axis}_error"][at] = np.where(settled[at], rows[f"{axis}_fit_error"][at], np.inf)
    rows["flags"][:] |= np.where(at & ~settled, SourceFlag.NOT_SETTLED, 0)
    return rows


def _add_positions(rows: Table, plan: Plan, statistics: SurveyStatistics, wcs: WCS) -> None:
    """Add positions on the sky with their errors, names by them, and scales in degrees."""
    turn = plan.grid.width if plan.grid.ring else None
    pixel_scale = statistics.pixel_scale_deg
    if turn:
        # A centroid may lie beyond the edge that its peak is near.
        rows["x_centroid"] = _on_map(rows["x_centroid"], turn)
    # Centroids that are off the sky go back to their peaks.
    off = ~has_position(wcs, rows["x_centroid"], rows["y_centroid"])
    for name in ("x", "y"):
        rows[f"{name}_centroid"][off] = rows[name][off]
        rows[f"{name}_error"][off] = np.inf
    sky = SkyCoord(wcs.pixel_to_world(rows["x_centroid"], rows["y_centroid"]))
    rows["ra"], rows["dec"] = sky.icrs.ra.deg, sky.icrs.dec.deg
    rows["glon"], rows["glat"] = sky.galactic.l.deg, sky.galactic.b.deg
    rows["name"] = np.array(source_names(rows["ra"], rows["dec"], pixel_scale, plan.settings.source_prefix), dtype=str)
    rows["pos_err"] = _position_error(rows, wcs, pixel_scale, turn)
    rows["scale_deg"], rows["extension"] = rows["scale"] * pixel_scale, rows["extension"] * pixel_scale


def _on_map(x: NDArray[np.float64], turn: int) -> NDArray[np.float64]:
    """Columns of a ring as those of the map's pixels."""
    return np.asarray((x + 0.5) % turn - 0.5, np.float64)


def _position_error(rows: Table, wcs: WCS, pixel_scale: float, turn: int | None) -> NDArray[np.float64]:
    """68 % radius in degrees; the disc's radius where there is no centroid."""

    def pixel_sizes(dx: float, dy: float) -> NDArray[np.float64]:
        """Size on the sky of the pixels at the centroids; `pixel_scale` at the edge of the sky."""
        ends = [(rows["x_centroid"] + sign * dx, rows["y_centroid"] + sign * dy) for sign in (-1, 1)]
        if turn:
            ends = [(_on_map(x, turn), y) for x, y in ends]
        known = np.logical_and(*(has_position(wcs, *end) for end in ends))
        sizes = np.full(len(rows), pixel_scale)
        first, second = (SkyCoord(wcs.pixel_to_world(x[known], y[known])) for x, y in ends)
        sizes[known] = first.separation(second).deg
        return sizes

    errors = rows["y_error"] * pixel_sizes(0.0, 0.5), rows["x_error"] * pixel_sizes(0.5, 0.0)
    radius = radius_68(*errors, rows["significance"])
    return np.asarray(np.where(np.isfinite(radius), radius, rows["radius"] * pixel_scale), np.float64)


def _blended(rows: Table, n_selected: int, plan: Plan, wcs: Any) -> NDArray[np.int64]:
    """Flags of rows with discs that overlap those of others among the first `n_selected`, the sources."""
    flags = np.zeros(len(rows), dtype=np.int64)
    if not n_selected:
        return flags
    from scipy.spatial import cKDTree  # noqa: PLC0415 - see find_peaks

    places, radius = _places(rows, wcs), np.asarray(rows["radius"], np.float64)
    # On a ring the peaks come again one turn further: a peak's own copies are no other sources.
    turns = [0, plan.grid.width, -plan.grid.width] if plan.grid.ring else [0]
    kinds = [np.flatnonzero(radius == size) for size in np.unique(radius)]
    # Nearest neighbours by size take memory in proportion to the sources, all pairs to their square.
    for others in (kind[kind < n_selected] for kind in kinds):
        if not others.size:
            continue
        copies = np.tile(others, len(turns))
        shifts = np.zeros((len(copies), places.shape[1]))
        shifts[:, 1] = np.repeat(turns, len(others))
        tree = cKDTree(places[copies] + shifts)
        for some in kinds:
            reach = radius[some[0]] + radius[others[0]]
            nearest = range(1, len(turns) + 2)
            apart, which = tree.query(places[some], k=nearest, distance_upper_bound=reach + 1)
            overlap = (apart <= reach) & (np.append(copies, -1)[which] != some[:, np.newaxis])
            flags[some[overlap.any(axis=1)]] = SourceFlag.BLENDED
    return flags


def _places(rows: Table, wcs: Any) -> NDArray[np.float64]:
    """Places of the peaks in pixels: (y, x), or of the sphere along three axes."""
    y, x = (np.asarray(rows[name], np.float64) for name in ("y", "x"))
    if isinstance(wcs, FacetSky):
        return wcs.vectors(x, y) / wcs.grid.pixel
    return np.column_stack([y, x])


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
        **({"BKG": plan.background} if plan.background else {}),
        "FALSE": plan.settings.false_sources,
        "POSTSEL": "significance and sqrt_ts_disc are of places chosen because they are large",
    }
