"""The catalogue: one row a peak, islands joined across tiles. What a peak is: `cwt_dask.measure.peaks`."""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import ndtr

from cwt_dask.measure.centroids import radius_68
from cwt_dask.measure.peaks import disc_radii
from cwt_dask.merge.columns import columns_of
from cwt_dask.merge.islands import join_labels
from cwt_dask.merge.names import source_names
from cwt_dask.planning.plan import Plan
from cwt_dask.psf import kept_point_spread
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import SurveyStatistics, has_position
from cwt_dask.tiles.fitted import Fitted, read_fitted
from cwt_dask.tiles.sources import FIELDS, read_found
from cwt_dask.trust import SourceFlag

if TYPE_CHECKING:
    from astropy.wcs import WCS

# Digits of scores after the point: what tilings leave beyond them must not order rows.
_DECIMALS = 5


def build_catalogue(
    run_dir: RunDir, run_id: str, plan: Plan, statistics: SurveyStatistics, wcs: WCS
) -> tuple[Table, Table]:
    """Join what the tiles found, and split it into catalogue and candidates.

    Parameters
    ----------
    run_dir, run_id, plan, statistics, wcs
        Of a run with all tiles measured, and of its survey.

    Returns
    -------
    catalogue, candidates : astropy.table.Table
        One row a source, the best first, numbered on from the one to the other; their columns are
        `cwt_dask.merge.columns.COLUMNS`. The catalogue has those of which no more than `false_sources` are expected
        among noise.
    """
    rows = _measured(run_dir, run_id, plan)
    _add_scores(rows, statistics.n_valid)
    n_selected = int(np.searchsorted(rows["expected_false"], plan.settings.false_sources, side="right"))
    _add_positions(rows, plan, statistics, wcs)
    no_centroid = np.where(np.isfinite(rows["x_error"]), 0, SourceFlag.NO_CENTROID)
    rows["flags"][:] |= no_centroid | _blended(rows, n_selected, plan)
    spread = kept_point_spread(run_dir, plan.settings.psf, wcs)
    if spread:
        rows["containment"] = spread.containment(rows["radius"], rows["x"], rows["y"])
    columns = columns_of(statistics.exposure_unit, psf=spread is not None)
    table = Table(
        {column.name: column.of(rows) for column in columns},
        units={column.name: column.unit for column in columns if column.unit},
        descriptions={column.name: column.text for column in columns},
        meta=_provenance(plan),
    )
    return table[:n_selected], table[n_selected:]


def _add_scores(rows: Table, n_valid: int) -> None:
    """Add by what rows are selected, and put the best first; of equal ones the first in row-major order."""
    rows["sigma"] = np.maximum(rows["sigma"], rows["sigma_beside"])
    rows["score"] = np.round(np.minimum(rows["sigma"], np.sqrt(rows["ts"])), _DECIMALS)
    # Noise exceeds a score somewhere in the survey as often as its pixels, were they independent.
    rows["expected_false"] = n_valid * ndtr(-rows["score"])
    rows["backwards"] = -rows["score"]
    rows.sort(["backwards", "y", "x"])


def _measured(run_dir: RunDir, run_id: str, plan: Plan) -> Table:
    """Candidates of all tiles, with what the fit says of them, island, scale and disc."""
    tiles = range(plan.grid.n_tiles)
    found = {tile: read_found(run_dir, run_id, tile) for tile in tiles}
    fitted = {tile: read_fitted(run_dir, run_id, tile) for tile in tiles}
    islands = join_labels({tile: labels for tile, (labels, _) in found.items()}, plan.grid)
    # An island comes once for each tile that has a part of it.
    n_tiles = np.bincount(np.concatenate([np.unique(island) for island in islands.of_label.values()]))
    # Of each tile those that were found before the fit, then those that the fit alone has found.
    both = {tile: (peaks, fitted[tile][0]) for tile, (_, peaks) in found.items()}
    rows = Table({name: np.concatenate([getattr(p, name) for pair in both.values() for p in pair]) for name in FIELDS})
    for field in fields(Fitted):
        rows[field.name] = np.concatenate([getattr(fit, field.name) for _, fit in fitted.values()])
    # Those outside the support are in no island.
    labels = {tile: np.concatenate([peaks.label for peaks in pair]) for tile, pair in both.items()}
    island = np.concatenate([np.append(islands.of_label[tile], -1)[label] for tile, label in labels.items()])
    rows["island_id"], rows["n_pixels"] = island + 1, np.append(islands.n_pixels, 0)[island]
    rows["scale"] = plan.kernels.scales[rows["best_scale"]]
    rows["radius"] = disc_radii(plan.kernels)[rows["best_scale"]]
    rows["flags"][:] |= np.where(np.append(n_tiles, 0)[island] > 1, SourceFlag.CROSSES_SEAM, 0)
    return rows


def _add_positions(rows: Table, plan: Plan, statistics: SurveyStatistics, wcs: WCS) -> None:
    """Add positions on the sky with their errors, names by them, and scales in degrees."""
    turn = plan.grid.x.length if plan.grid.ring else None
    pixel_scale = statistics.pixel_scale_deg
    # Where a source was fitted is better than its centroid, if its shape is known.
    fitted = rows["accepted"] & (plan.settings.psf is not None)
    for axis in ("x", "y"):
        known = fitted & np.isfinite(rows[f"{axis}_fit_error"])
        rows[f"{axis}_centroid"][fitted] = rows[f"{axis}_fit"][fitted]
        rows[f"{axis}_error"][known] = rows[f"{axis}_fit_error"][known]
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


def _blended(rows: Table, n_selected: int, plan: Plan) -> NDArray[np.int64]:
    """Flags of rows with discs that overlap those of others among the first `n_selected`, the sources."""
    flags = np.zeros(len(rows), dtype=np.int64)
    if not n_selected:
        return flags
    from scipy.spatial import cKDTree  # noqa: PLC0415 - see find_peaks

    y, x, radius = (np.asarray(rows[name], np.float64) for name in ("y", "x", "radius"))
    # On a ring the peaks come again one turn further: a peak's own copies are no other sources.
    turns = [0, plan.grid.x.length, -plan.grid.x.length] if plan.grid.ring else [0]
    kinds = [np.flatnonzero(radius == size) for size in np.unique(radius)]
    # Nearest neighbours by size take memory in proportion to the sources, all pairs to their square.
    for others in (kind[kind < n_selected] for kind in kinds):
        if not others.size:
            continue
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
        **({"BKG": plan.background} if plan.background else {}),
        "FALSE": plan.settings.false_sources,
        "POSTSEL": "significance and sqrt_ts_disc are of places chosen because they are large",
    }
