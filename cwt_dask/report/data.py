"""What a report says, as numbers: of the run's plan, certificate, ledger, catalogue and pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales

from cwt_dask.measure.peaks import disc_radii
from cwt_dask.merge.seams import compare_seams, seam_error
from cwt_dask.merge.stopping import pooled_variances
from cwt_dask.report.histogram import residual_edges
from cwt_dask.report.pyramid import FLAGS
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.zarr_io import open_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.wcs import WCS
    from numpy.typing import NDArray

    from cwt_dask.merge.seams import Seam
    from cwt_dask.report.pyramid import Pyramid
    from cwt_dask.results import SurveyRun
    from cwt_dask.runtime.stages import Stages
    from cwt_dask.storage.ledger import TileRecord
    from cwt_dask.trust import Trust

# Pixels at which the shape of a map's pixels on the sky is measured, along each axis.
SHAPES = 41


@dataclass(frozen=True)
class TileFacts:
    """What one tile did.

    Attributes
    ----------
    tile, n_iter : int
        Its number, and its iterations.
    core : tuple of int
        y0, y1, x0, x1 in pixels of the map.
    seconds, memory : float, int
        It took so long, in a process of so many bytes.
    seam_error, flips : float or None, int
        Largest of its seams, over the model's maximum (None without seams); pixels of the support that differ there.
    taken_over : bool
        Whether an earlier run did it.
    """

    tile: int
    n_iter: int
    core: tuple[int, int, int, int]
    seconds: float
    memory: int
    seam_error: float | None
    flips: int
    taken_over: bool


@dataclass(frozen=True)
class Residuals:
    """Histogram of the residual less background, and that of Poisson numbers.

    Attributes
    ----------
    edges : ndarray of float64
        In counts a pixel.
    pixels, expected : ndarray of float64
        Pixels below the first edge, in each bin, and not below the last.
    """

    edges: NDArray[np.float64]
    pixels: NDArray[np.float64]
    expected: NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """All else.

    Attributes
    ----------
    certificate : mapping
        As the run wrote it.
    tiles : list of TileFacts
    variances : list of float
        Of the whole map's residual, by iteration.
    residuals : Residuals
    flagged : dict of int
        Used pixels by `Trust`.
    n_used : int
        Used pixels.
    few_counts : float
        Share of the used pixels at which the finest kernel's disc is expected to hold fewer than `FEW` counts.
    disc_counts : float
        Expected background counts in that disc, over the map.
    stretch : float
        Largest ratio of a pixel's sides on the sky.
    stretched : float
        Share of the map's pixels where it is above `STRETCHED`: `pixel_stretch`.
    plate_carree : bool
        Whether the map has such a projection.
    uneven : float
        How unlike in size pixels are: `pixel_sizes`.
    """

    certificate: Mapping[str, Any]
    tiles: list[TileFacts]
    variances: list[float]
    residuals: Residuals
    flagged: dict[Trust, int]
    n_used: int
    few_counts: float
    disc_counts: float
    stretch: float
    stretched: float
    plate_carree: bool
    uneven: float


# Fewer expected counts under a kernel, and T/E is far from a number of sigmas.
FEW = 20.0
STRETCHED = 2**0.5
CYLINDRICAL = ("CAR", "CEA", "MER", "CYP")


def gather(run: SurveyRun, pyramid: Pyramid, stages: Stages) -> Numbers:
    """Collect the numbers of a finished run whose pyramid is made."""
    plan, survey = run.stored.plan, run.survey
    records = read_records(run.files.ledger)
    found = stages.map_tiles(
        partial(compare_seams, run.files.seams, plan.grid), sorted(records), "seams for the report"
    )
    group = open_group(run.files.pyramid, whole="run")
    flagged = group["flagged_pixels"][:].sum(axis=0)
    level = group[str(pyramid.factors[0])]
    radius = float(disc_radii(plan.kernels)[0])
    few, mean = _counts_in_disc(level["background"][:], level["used"][:], np.pi * radius**2)
    stretch, stretched = pixel_stretch(run.wcs, survey.shape)
    return Numbers(
        certificate=run.certificate,
        tiles=tile_facts(records, list(chain.from_iterable(found[tile] for tile in sorted(found)))),
        variances=pooled_variances(records),
        residuals=Residuals(
            residual_edges(survey.statistics),
            group["residual_pixels"][:].sum(axis=0).astype(np.float64),
            group["expected_pixels"][:].sum(axis=0),
        ),
        flagged={flag: int(n) for flag, n in zip(FLAGS, flagged, strict=True)},
        n_used=survey.statistics.n_valid,
        few_counts=few,
        disc_counts=mean,
        stretch=stretch,
        stretched=stretched,
        plate_carree=run.wcs.wcs.ctype[0][5:8] == "CAR",
        uneven=pixel_sizes(run.wcs, survey.shape),
    )


def tile_facts(records: Mapping[int, TileRecord], seams: list[Seam]) -> list[TileFacts]:
    """What the tiles did, in their order; each seam counts for both its tiles."""
    model_max = {tile: record.model_max for tile, record in records.items()}
    errors: dict[int, list[float]] = {}
    flips: dict[int, int] = {}
    for seam in seams:
        if not seam.n_pixels:
            continue
        for tile in {seam.tile, seam.neighbour}:
            errors.setdefault(tile, []).append(seam_error(seam, model_max))
            flips[tile] = flips.get(tile, 0) + seam.support_flips
    return [
        TileFacts(
            tile=tile,
            n_iter=record.n_iter,
            core=(record.core[0], record.core[1], record.core[2], record.core[3]),
            seconds=record.seconds,
            memory=record.peak_memory,
            seam_error=float(np.max(errors[tile])) if tile in errors else None,
            flips=flips.get(tile, 0),
            taken_over=bool(record.taken_from),
        )
        for tile, record in sorted(records.items())
    ]


def relative_changes(variances: Sequence[float]) -> list[tuple[int, float]]:
    """Iterations, and by how much of itself the variance changed there; none where it did not."""
    return [
        (n, abs(before - after) / before)
        for n, (before, after) in enumerate(pairwise(variances), 2)
        if before > 0 and before != after
    ]


def _counts_in_disc(background: NDArray[np.float32], used: NDArray[np.uint32], area: float) -> tuple[float, float]:
    """Share of the used pixels with few expected counts in a disc of `area` pixels around them, and the mean."""
    n = used.astype(np.float64)
    in_disc = area * background / np.maximum(n, 1)
    return float(n[in_disc < FEW].sum() / n.sum()), float((in_disc * n).sum() / n.sum())


def pixel_stretch(wcs: WCS, shape: tuple[int, int]) -> tuple[float, float]:
    """How unlike squares pixels are on the sky.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Of the map.
    shape : tuple of int
        Its rows and columns.

    Returns
    -------
    largest, share : float
        Largest ratio of a pixel's sides, over that which the header gives them; share of the pixels at which it is
        above sqrt(2), as beyond a latitude of 45 deg of a plate carree.
    """
    y, x = (np.linspace(0, length - 1, SHAPES) for length in shape)
    ratio = _side(wcs, *np.meshgrid(x, y), 0.5, 0) / _side(wcs, *np.meshgrid(x, y), 0, 0.5)
    across, along = proj_plane_pixel_scales(wcs)
    # What of it the header asks for is the same everywhere.
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)] * (along / across)
    ratio = np.maximum(ratio, 1 / ratio)
    return float(ratio.max(initial=1.0)), float(np.mean(ratio > STRETCHED)) if ratio.size else 0.0


def pixel_sizes(wcs: WCS, shape: tuple[int, int]) -> float:
    """How many times as large pixels of a cylindrical projection are in one latitude as in another; 1 in others."""
    if wcs.wcs.ctype[0][5:8] not in CYLINDRICAL:
        return 1.0
    y = np.linspace(0, shape[0] - 1, SHAPES)
    x = np.full(SHAPES, (shape[1] - 1) / 2)
    size = np.sqrt(_side(wcs, x, y, 0.5, 0) * _side(wcs, x, y, 0, 0.5))
    size = size[np.isfinite(size) & (size > 0)]
    return float(size.max() / size.min()) if size.size else 1.0


def _side(wcs: WCS, x: NDArray[np.float64], y: NDArray[np.float64], dx: float, dy: float) -> NDArray[np.float64]:
    """Length of a pixel's side on the sky, in radians."""
    ends = []
    for sign in (-1, 1):
        world = wcs.all_pix2world(x + sign * dx, y + sign * dy, 0)
        lon, lat = np.radians(world[wcs.wcs.lng]), np.radians(world[wcs.wcs.lat])
        ends.append(np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]))
    return np.asarray(np.linalg.norm(ends[1] - ends[0], axis=0), np.float64)
