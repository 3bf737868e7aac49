"""The numbers of a report, from the run's plan, certificate, ledger and pyramid, and from its WCS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.measure.peaks import disc_radii
from cwt_dask.merge.seams import Seam, compare_seams, seam_error
from cwt_dask.merge.stopping import pooled_variances
from cwt_dask.report.pyramid import FLAGS, Pyramid
from cwt_dask.report.residual import Residuals, Smoothed, count_residuals
from cwt_dask.report.sky import pixel_sizes, pixel_stretch
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.ledger import TileRecord, read_finished
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.trust import Trust


@dataclass(frozen=True)
class TileSummary:
    """One tile."""

    record: TileRecord  # From the ledger.
    seam_error: float | None  # Largest error of its seams, over the model's maximum; None without seams.
    flips: int  # Pixels of the support that differ at its seams.


def error_text(error: float | None) -> str:
    """A seam error as text."""
    return "no seam" if error is None else f"{error:.1e}"


@dataclass(frozen=True)
class Numbers:
    """Numbers of a finished run."""

    certificate: Mapping[str, Any]
    tiles: list[TileSummary]
    variances: list[float]  # Of the whole map's residual, by iteration.
    residuals: Residuals
    flagged: dict[Trust, int]  # Used pixels by `Trust`.
    n_used: int  # Used pixels.
    # Share of the used pixels with fewer than `FEW` expected counts in the finest kernel's disc; mean of the counts.
    few_counts: float
    disc_counts: float
    # As of `pixel_stretch`.
    stretch: float
    stretched: float
    plate_carree: bool  # Whether the map has such a projection.
    uneven: float  # As of `pixel_sizes`.
    rows: Mapping[int, int] = field(default_factory=dict)  # Rows of the catalogue by facet, of the sphere.


# With fewer expected counts in a kernel's disc T/E is far from a number of sigmas.
FEW = 20.0


def gather(run: SurveyRun, pyramid: Pyramid, smoothed: Sequence[Smoothed], stages: Stages) -> Numbers:
    """Collect the numbers.

    Parameters
    ----------
    run, pyramid
        Finished; as `ensure_pyramid` made it.
    smoothed : sequence of Smoothed
        Its levels.
    stages : Stages
        Where seams are compared.
    """
    plan, survey = run.stored.plan, run.survey
    records = read_finished(run.files, run.stored.run_id, plan.grid.n_tiles)
    compare = partial(compare_seams, run.files.seams, plan.grid)
    found = stages.map_tiles(compare, sorted(records), "seams for the report")
    group = open_group(run.files.pyramid, whole="run")
    finest, radius = pyramid.factors[0], float(disc_radii(plan.kernels)[0])
    background, used = (group[f"{finest}/{name}"][:] for name in ("background", "used"))
    few, mean = _counts_in_disc(background, used, np.pi * radius**2)
    # On the sphere each facet is of equal area, and hardly stretched.
    stretch, stretched = (1.0, 0.0) if pyramid.plane else pixel_stretch(run.wcs, survey.shape)
    return Numbers(
        certificate=run.certificate,
        tiles=summarise_tiles(records, list(chain.from_iterable(found[tile] for tile in sorted(found)))),
        variances=pooled_variances(records),
        residuals=count_residuals(smoothed[0]),
        flagged={flag: int(n) for flag, n in zip(FLAGS, group["flagged_pixels"][:].sum(axis=0), strict=True)},
        n_used=survey.statistics.n_valid,
        few_counts=few,
        disc_counts=mean,
        stretch=stretch,
        stretched=stretched,
        plate_carree=not pyramid.plane and run.wcs.wcs.ctype[0][5:8] == "CAR",
        uneven=1.0 if pyramid.plane else pixel_sizes(run.wcs, survey.shape),
        rows=_rows(run) if pyramid.plane else {},
    )


def _rows(run: SurveyRun) -> dict[int, int]:
    facets, n = np.unique(np.asarray(run.catalogue["facet"]), return_counts=True)
    return dict(zip(facets.tolist(), n.tolist(), strict=True))


def summarise_tiles(records: Mapping[int, TileRecord], seams: list[Seam]) -> list[TileSummary]:
    """Summarise tiles in their order; each seam counts for both its tiles."""
    model_max = {tile: record.model_max for tile, record in records.items()}
    errors: dict[int, list[float]] = {}
    flips: dict[int, int] = {}
    for seam in (seam for seam in seams if seam.n_pixels):
        for tile in {seam.tile, seam.neighbour}:
            errors.setdefault(tile, []).append(seam_error(seam, model_max))
            flips[tile] = flips.get(tile, 0) + seam.support_flips
    return [
        # Not max(): NaN must show.
        TileSummary(record, float(np.max(errors[tile])) if tile in errors else None, flips.get(tile, 0))
        for tile, record in sorted(records.items())
    ]


def relative_changes(variances: Sequence[float]) -> list[tuple[int, float]]:
    """Iterations, and the relative change of the variance there, where it is not zero."""
    return [
        (n, abs(before - after) / before)
        for n, (before, after) in enumerate(pairwise(variances), 2)
        if before > 0 and before != after
    ]


def _counts_in_disc(background: NDArray[np.float32], used: NDArray[np.uint32], area: float) -> tuple[float, float]:
    """Share of the used pixels with few expected counts in a disc of `area` pixels, and the mean of these counts."""
    n = used.astype(np.float64)
    in_disc = area * background / np.maximum(n, 1)
    return float(n[in_disc < FEW].sum() / n.sum()), float((in_disc * n).sum() / n.sum())
