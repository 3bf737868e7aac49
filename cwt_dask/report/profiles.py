"""Counts by distance around each source, with what background and the fitted source are expected to give there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.psf import PointSpread
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.report.residual import smoothing_width
from cwt_dask.report.table import Sources
from cwt_dask.results import SurveyRun
from cwt_dask.storage.zarr_io import open_group

N_RINGS = 8
# Least width of a ring in pixels of the level that it is counted on, and sources that are looked at together.
_LEAST_RING, _AT_ONCE = 1.2, 250


def read_profiles(run: SurveyRun, pyramid: Pyramid, sources: Sources) -> dict[str, Any]:
    """Read counts in rings around sources.

    Parameters
    ----------
    run, pyramid
        Finished; as `ensure_pyramid` made it.
    sources : Sources
        The sources.

    Returns
    -------
    dict
        `edges` of the rings in degrees; by source and ring `counts` and `background`, the `area` in square degrees of
        used pixels with their centres in it, and the fitted `source` in counts per square degree: its counts, spread
        by point spread function, extension and the pixels themselves.
    """
    pixel = pyramid.plane.pixel if pyramid.plane else run.survey.statistics.pixel_scale_deg
    width = smoothing_width(run) / (pyramid.plane.pixel / run.survey.statistics.pixel_scale_deg if pyramid.plane else 1)
    # The coarsest level that resolves it: windows of few pixels.
    factor = max((each for each in pyramid.factors if each * _LEAST_RING <= width), default=pyramid.factors[0])
    ring = max(width / factor, _LEAST_RING)
    group = open_group(run.files.pyramid / str(factor), whole="run")
    level = {name: group[name][:] for name in ("counts", "background", "used")}
    if pyramid.plane:
        # Pixels that show others' values have none of their own.
        level = {name: np.where(group["own"][:] > 0, values, 0) for name, values in level.items()}
    x, y = ((np.asarray(place) + 0.5) / factor - 0.5 for place in (sources.x, sources.y))
    found = {name: _in_rings(values, x, y, ring) for name, values in level.items()}
    edges = np.arange(N_RINGS + 1, dtype=np.float64) * (ring * factor)
    # Of a plane's pixel several of the survey are used.
    scale = pixel if not pyramid.plane else run.survey.statistics.pixel_scale_deg
    fitted = _fitted(run, sources, edges, factor, width, pixel)
    return {
        "edges": [float(f"{edge:.5g}") for edge in edges * pixel],
        "counts": _short(found["counts"]),
        "background": _short(found["background"]),
        "area": _short(found["used"] * scale**2),
        "source": _short(fitted),
    }


def _in_rings(values: NDArray[Any], x: NDArray[Any], y: NDArray[Any], ring: float) -> NDArray[np.float64]:
    """Sums of an image (y, x) over rings around positions, (source, ring)."""
    reach = int(np.ceil(N_RINGS * ring))
    offsets = np.arange(-reach, reach + 1)
    padded = np.pad(values.astype(np.float64), reach)
    total = np.zeros((len(x), N_RINGS))
    for start in range(0, len(x), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        columns, rows = np.rint(x[some]).astype(np.int64), np.rint(y[some]).astype(np.int64)
        columns, rows = (np.clip(at, 0, n - 1) for at, n in ((columns, values.shape[1]), (rows, values.shape[0])))
        dy = (rows[:, None] + offsets) - y[some, None]
        dx = (columns[:, None] + offsets) - x[some, None]
        number = np.minimum(np.hypot(dy[:, :, None], dx[:, None, :]) / ring, N_RINGS).astype(np.int64)
        number += (N_RINGS + 1) * np.arange(len(rows))[:, None, None]
        window = padded[(rows[:, None] + offsets + reach)[:, :, None], (columns[:, None] + offsets + reach)[:, None, :]]
        sums = np.bincount(number.ravel(), window.ravel(), minlength=(N_RINGS + 1) * len(rows))
        total[some] = sums.reshape(len(rows), N_RINGS + 1)[:, :N_RINGS]
    return total


def _fitted(
    run: SurveyRun, sources: Sources, edges: NDArray[np.float64], factor: int, width: float, pixel: float
) -> NDArray[np.float64]:
    """Expected counts of each source alone per square degree of each ring, (source, ring)."""
    spread = run.psf or PointSpread.gaussian(width)
    scale = spread.sigma / width
    # As much wider as the extension and the pixels make it.
    wider = np.sqrt(1 + (np.asarray(sources.extension) / (width * pixel)) ** 2 + (factor / width) ** 2 / 12)
    within = spread.containment(edges * scale / wider[:, None])
    area = np.pi * (edges[1:] ** 2 - edges[:-1] ** 2) * pixel**2
    return np.asarray(np.asarray(sources.npred)[:, None] * np.diff(within, axis=1) / area)


def _short(values: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in values.tolist()]
