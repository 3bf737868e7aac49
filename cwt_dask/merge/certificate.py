"""The certificate: what a run promised, and the evidence that it was kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cwt_dask.config.validation import counted
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.margins import TOLERANCE
from cwt_dask.measure.false_rows import FalseRows
from cwt_dask.merge.borders import Borders
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.merge.seams import Seam, seam_model_error
from cwt_dask.merge.stopping import stopping_iteration
from cwt_dask.planning.plan import Plan
from cwt_dask.storage.ledger import TileRecord
from cwt_dask.storage.provenance import mixed_versions, peak_memory, versions
from cwt_dask.storage.schema import maps_from
from cwt_dask.storage.sealed import is_sound
from cwt_dask.survey import SurveyStatistics

# More of them are counted, not named.
MOST_NAMED = 100
SEAL = "digest_certificate"  # As of `storage.sealed`.


def certify(
    plan: Plan,
    statistics: SurveyStatistics | None,
    records: dict[int, TileRecord],
    seams: list[Seam],
    unsettled: list[OpenIsland],
    started: datetime | None = None,
    seconds: float = 0.0,
    earlier_versions: Iterable[Mapping[str, str]] = (),
    differing: Mapping[int, Sequence[int]] | None = None,
    borders: Borders | None = None,
    false_rows: FalseRows | None = None,
    peaks: Iterable[int] = (),
) -> dict[str, Any]:
    """Make the certificate of a run from the evidence: plain data, all but digests of files.

    Parameters
    ----------
    plan : Plan
        What was promised.
    statistics : SurveyStatistics or None
        Of the survey; None where it cannot be read.
    records : dict of TileRecord
        What was done, by tile number.
    seams : list of Seam
        How far neighbours differ where both computed.
    unsettled : list of OpenIsland
        Islands on which tiles were not brought to agree.
    started : datetime, optional
        When the driver began; None where no run is certified, but one that has ended is looked at.
    seconds : float, optional
        How long it took.
    earlier_versions : iterable of mapping, optional
        Under which tiles were done, besides those of their records.
    differing : mapping of sequence, optional
        By tile, others with sources near it that it does not find as they do.
    borders : Borders, optional
        What was found where facets meet.
    false_rows : FalseRows, optional
        How many rows of noise the catalogue is expected to have, by score.
    peaks : iterable of int, optional
        Largest resident size of workers in stages that leave no record, in bytes.
    """
    grid, settings = plan.grid, plan.settings
    seams = [seam for seam in seams if {seam.tile, seam.neighbour} <= records.keys()]
    error = seam_model_error(seams, {tile: record.model_max for tile, record in records.items()})
    flips = sum(seam.support_flips for seam in seams)
    n_iter = max((record.n_iter for record in records.values()), default=0)
    done = set(records) == set(range(grid.n_tiles))
    conditions = {
        f"{len(records)} of {grid.n_tiles} tiles are done": done,
        f"the margin of {grid.margin} pixels is below the contract's {plan.contract_margin}": plan.margin_suffices,
        "no margin bounds the error of tiles for these kernels and iterations": plan.bounded,
        "tiles did not stop where the whole map stops": done and _stopped_right(plan, records),
        f"{counted(len(unsettled), 'island')} left open": not unsettled,
        # NaN does not pass.
        f"the models differ by {error} of their maximum at a seam": (error or 0.0) <= TOLERANCE,
        f"the support differs in {counted(flips, 'pixel')} at seams": not flips,
    }
    facets = _facets(grid, statistics, records, borders) if isinstance(grid, FacetGrid) else {}
    if facets and statistics and done:
        held, there = facets["counts_in_cells"], statistics.counts_sum
        conditions[f"facets hold {held:.10g} counts in their cells, and the survey has {there:.10g}"] = math.isclose(
            held, there, rel_tol=1e-12
        )
    mixed = mixed_versions([*earlier_versions, *(record.versions for record in records.values()), versions()])
    note = [f"tiles and merge had several versions, {', '.join(mixed)}: last bits may differ"] if mixed else []
    broken = [fault for fault, holds in conditions.items() if not holds]
    return {
        "n_tiles": grid.n_tiles,
        "tile_size": list(grid.core_shape),
        "margin": plan.contract_margin if settings.margin == "auto" else settings.margin,
        "margin_effective": grid.margin,
        "margin_contract": plan.contract_margin,
        "reach": plan.kernels.reach,
        "wrap": grid.ring,
        "n_iter": n_iter,
        "stopping": settings.stopping,
        "converged": _converged(plan, records, n_iter),
        "coverage": sum(grid.tile(tile).core.area for tile in records) / grid.n_pixels,
        "expected_model_error": plan.expected_error,
        "seam_model_error": error,
        "seam_support_flips": flips,
        "open_islands": len(unsettled),
        "open_islands_named": [island._asdict() for island in unsettled[:MOST_NAMED]],
        "near_threshold_pixels": sum(record.near_threshold for record in records.values()),
        "undefined_error_pixels": sum(record.undefined for record in records.values()),
        "masked_pixels": statistics and statistics.n_masked,
        "nan_pixels": statistics and statistics.n_nan,
        "off_sky_pixels": statistics and statistics.n_off_sky,
        "rounding_level": plan.rounding,
        "tiling_exact": not broken,
        "not_exact_because": broken,
        "sources_exact": not differing,
        "sources_not_exact_because": _named(differing or {}),
        "false_sources": settings.false_sources,
        "expected_false": false_rows and false_rows.to_dict(),
        "digest_maps": digest_maps(records) if done else None,
        "input_digest": statistics and statistics.digest,
        # Runs of earlier releases have none, and certificates without.
        **({"inputs": list(plan.origins)} if plan.origins else {}),
        **({"files": list(plan.files)} if plan.files else {}),
        "settings_digest": plan.settings_digest,
        "versions": versions(),
        **({"background": plan.background} if plan.background else {}),
        **({"facets": facets} if facets else {}),
        "warnings": [*plan.warnings, *note],
        "started": started and started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {"run": seconds, "tiles": sum(record.seconds for record in records.values())},
        "peak_memory": {
            "driver": peak_memory(),
            "worker": max((*(record.peak_memory for record in records.values()), *peaks), default=0),
        },
    }


def _facets(
    grid: FacetGrid, statistics: SurveyStatistics | None, records: Mapping[int, TileRecord], borders: Borders | None
) -> dict[str, Any]:
    """What a certificate says of facets: no whole plane exists that they could be equal to."""
    return {
        "order": grid.order,
        "nside": grid.nside,
        "counts_in_cells": math.fsum(record.owned_counts or 0.0 for record in records.values()),
        "counts_of_survey": statistics and statistics.counts_sum,
        **({"borders": borders.to_dict()} if borders else {}),
    }


def _named(differing: Mapping[int, Sequence[int]]) -> list[str]:
    return [
        f"tile {tile} finds sources at its border otherwise than {', '.join(map(str, others))}"
        for tile, others in sorted(differing.items())[:MOST_NAMED]
    ]


def fault_of(certificate: dict[str, Any], run_id: str, plan: Plan) -> str:
    """What shows that a certificate is not one that a run wrote; empty if nothing does.

    Parameters
    ----------
    certificate : dict
        As it was read.
    run_id, plan
        Of the run.
    """
    if not is_sound(certificate, SEAL):
        return "it was changed since the run ended"
    # Runs of earlier releases had none.
    if run_id and certificate.get("run_id") != run_id:
        return "it is of another run"
    # Whoever changed it may have sealed it again.
    lacking = [name for name in _lacking(certificate, certify(plan, None, {}, [], [])) if name not in NEW]
    return f"it lacks {', '.join(lacking)}" if lacking else ""


# What runs of the version before do not have.
NEW = ("sources_exact", "sources_not_exact_because", "false_sources", "expected_false")


def _lacking(found: Any, whole: dict[str, Any], table: str = "") -> Iterator[str]:
    """Fields that are in `whole`, or in a table in it, and not there."""
    for name, value in whole.items():
        if not isinstance(found, dict) or name not in found:
            yield f"{table}{name}"
        elif isinstance(value, dict):
            yield from _lacking(found[name], value, f"{name}.")


def digest_maps(records: dict[int, TileRecord]) -> str | None:
    """sha256 over the sha256 digests of all chunks of model, approx and support: array by array, in tile order.

    None if a record lacks one.
    """
    total = hashlib.sha256()
    for name in (spec.name for spec in maps_from("tile") if spec.digested):
        for tile in sorted(records):
            try:
                total.update(bytes.fromhex(records[tile].chunk_digests[name]))
            except (KeyError, ValueError):
                return None
    return total.hexdigest()


def _converged(plan: Plan, records: dict[int, TileRecord], n_iter: int) -> bool | None:
    if plan.settings.stopping == "fixed":
        return None
    if not records or plan.settings.stopping == "tile":
        return bool(records) and all(record.converged for record in records.values())
    return stopping_iteration(records, plan.settings.tol) == n_iter


def _stopped_right(plan: Plan, records: dict[int, TileRecord]) -> bool:
    """Whether all tiles stopped at the iteration at which the whole map does."""
    # All moments up to the largest common iteration are there: a stop before or after it would show.
    stop = None if plan.settings.stopping == "fixed" else stopping_iteration(records, plan.settings.tol)
    return {record.n_iter for record in records.values()} == {stop or plan.settings.max_iter}
