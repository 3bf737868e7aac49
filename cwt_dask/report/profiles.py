"""Counts by distance around each source, with what background and the fitted source are expected to give there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
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
        used pixels with their centres in it, and in counts per square degree the fitted `source` alone: its counts,
        spread by point spread function, extension and the pixels themselves.
    """
    of_survey = run.survey.statistics.pixel_scale_deg
    # Of the page's map, which on the sphere has pixels of its own.
    pixel = pyramid.plane.pixel if pyramid.plane else of_survey
    width = smoothing_width(run) * of_survey / pixel
    # The coarsest level that resolves it: windows of few pixels.
    factor = max((each for each in pyramid.factors if each * _LEAST_RING <= width), default=pyramid.factors[0])
    ring = max(width / factor, _LEAST_RING)
    group = open_group(run.files.pyramid / str(factor), whole="run")
    level = {name: group[name][:] for name in ("counts", "background", "used")}
    if pyramid.plane:
        # Pixels that show others' values have none of their own.
        level = {name: np.where(group["own"][:] > 0, values, 0) for name, values in level.items()}
    x, y = ((np.asarray(place) + 0.5) / factor - 0.5 for place in (sources.x, sources.y))
    # As much wider than the point spread function as the extension and the pixels make the source.
    spread = run.psf or PointSpread.gaussian(smoothing_width(run))
    extension = np.asarray(sources.extension) / (width * pixel)
    wider = np.sqrt(1 + extension**2 + (factor / width) ** 2 / 12)
    # Pixels of the level in those in which the point spread function is known.
    seen = _Profile(spread, wider * (width / factor) / spread.sigma)
    found = _in_rings(level, seen, x, y, ring)
    fitted = found["source"] * np.asarray(sources.npred)[:, None] / (factor * pixel) ** 2
    return {
        "edges": [float(f"{edge * ring * factor * pixel:.5g}") for edge in range(N_RINGS + 1)],
        "counts": _short(found["counts"]),
        "background": _short(found["background"]),
        "area": _short(found["used"] * of_survey**2),
        "source": _short(fitted),
    }


@dataclass(frozen=True)
class _Profile:
    """The point spread function in pixels of a level, wider for each source by a factor of its own."""

    spread: PointSpread
    scale: NDArray[np.float64]  # (source,)

    def share(self, some: slice, distance: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
        """Shares of sources in pixels at distances (source, y, x), together what is within `reach`."""
        scale = self.scale[some]
        radius, density = self.spread.profile()
        shares = np.interp(distance / scale[:, None, None], radius, density, right=0.0)
        within = self.spread.containment(reach / scale)
        return np.asarray(shares * (within / np.maximum(shares.sum(axis=(1, 2)), 1e-300))[:, None, None])


def _in_rings(
    level: Mapping[str, NDArray[Any]], seen: _Profile, x: NDArray[Any], y: NDArray[Any], ring: float
) -> dict[str, NDArray[np.float64]]:
    """Sums of images (y, x) over rings around positions, (source, ring), and the mean share of a source in a pixel."""
    reach = math.ceil(N_RINGS * ring)
    offsets = np.arange(-reach, reach + 1)
    padded = {name: np.pad(values.astype(np.float64), reach) for name, values in level.items()}
    ny, nx = level["used"].shape
    total = {name: np.zeros((len(x), N_RINGS)) for name in (*level, "source")}
    for start in range(0, len(x), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        rows, columns = (
            np.clip(np.rint(at[some]).astype(np.int64), 0, most - 1)[:, None] + offsets
            for at, most in ((y, ny), (x, nx))
        )
        distance = np.hypot((rows - y[some, None])[:, :, None], (columns - x[some, None])[:, None, :])
        number = np.minimum(distance / ring, N_RINGS).astype(np.int64)
        number += (N_RINGS + 1) * np.arange(len(rows))[:, None, None]

        def summed(
            weights: NDArray[np.float64] | None, number: NDArray[np.int64] = number, n: int = len(rows)
        ) -> NDArray[Any]:
            of_all = None if weights is None else weights.ravel()
            sums = np.bincount(number.ravel(), of_all, minlength=(N_RINGS + 1) * n)
            return sums.reshape(n, N_RINGS + 1)[:, :N_RINGS]

        for name, values in padded.items():
            total[name][some] = summed(values[(rows + reach)[:, :, None], (columns + reach)[:, None, :]])
        total["source"][some] = summed(seen.share(some, distance, reach)) / np.maximum(summed(None), 1)
    return total


def _short(values: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in values.tolist()]
