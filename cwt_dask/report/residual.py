"""The residual in standard deviations: counts over model and background, smoothed to the point spread function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.special import ndtr

from cwt_dask.cwt.calibration import Calibration, keep_calibrated
from cwt_dask.cwt.kernels import Factors
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.results import SurveyRun
from cwt_dask.storage.zarr_io import open_group

# Least width (sigma) in pixels of a level: below it a Gaussian is one pixel, and nothing is smoothed.
LEAST_WIDTH = 0.5
# Widths beyond which a Gaussian is cut.
_CUT = 4.0
# Edges of the histogram's bins in standard deviations; beyond them the bins are open.
EDGES = np.round(np.arange(-8.0, 12.01, 0.25), 2)


@dataclass(frozen=True)
class Smoothed:
    """A level of the pyramid, smoothed."""

    width: float  # Sigma of the Gaussian, in the level's pixels.
    counts: NDArray[np.float64]  # Mean counts per used pixel of the map, (y, x).
    residual: NDArray[np.float64]  # Significance of the excess over model and background, (y, x); 0 where unknown.
    own: NDArray[np.bool_]  # Pixels that are not copies of others, (y, x).


@dataclass(frozen=True)
class Residuals:
    """Histogram of the residual in standard deviations, and that of a standard normal distribution."""

    edges: NDArray[np.float64]
    # Pixels below the first edge, in each bin, and not below the last.
    pixels: NDArray[np.float64]
    expected: NDArray[np.float64]
    # Of the pixels.
    mean: float
    width: float


def smoothing_width(run: SurveyRun) -> float:
    """Width (sigma) in pixels of the map: the point spread function's, or the finest scale where there is none."""
    psf = run.psf
    return float(run.stored.plan.kernels.scales[0]) if psf is None else psf.sigma


def smooth_levels(run: SurveyRun, pyramid: Pyramid) -> list[Smoothed]:
    """Smooth all levels of the pyramid, the finest first, each by as much of the sky as its pixels allow.

    Parameters
    ----------
    run, pyramid
        Finished; as `ensure_pyramid` made it.
    """
    # The plane of the sphere has pixels of its own.
    pixel = pyramid.plane.pixel / run.survey.statistics.pixel_scale_deg if pyramid.plane else 1.0
    width, ring = smoothing_width(run) / pixel, run.stored.plan.grid.ring
    found = []
    for factor in pyramid.factors:
        group = open_group(run.files.pyramid / str(factor), whole="run")
        names = ("counts", "background", "model", "used", *(("own",) if pyramid.plane else ()))
        found.append(smooth({name: group[name][:] for name in names}, max(width / factor, LEAST_WIDTH), ring=ring))
    return found


def smooth(level: Mapping[str, NDArray[Any]], width: float, *, ring: bool = False) -> Smoothed:
    """Smooth one level with a Gaussian.

    Parameters
    ----------
    level : mapping of ndarray
        Sums `counts`, `background` and `model`, and numbers `used` and, where they differ, `own`, each (y, x).
    width : float
        Sigma of the Gaussian in pixels.
    ring : bool, optional
        Whether the columns close the circle.

    Returns
    -------
    Smoothed
        Masked pixels are left out, as are those that show others' values: the smoothed counts, their variance and
        their third cumulant are sums over the same pixels, so the significance is calibrated as S of the catalogue is.
    """
    own = level.get("own", level["used"]) > 0
    reach = max(int(np.ceil(_CUT * width)), 1)
    profile = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    profile /= profile.sum()

    def summed(values: NDArray[Any], power: int = 1) -> NDArray[np.float64]:
        along_y = correlate1d(np.where(own, values, 0.0), profile**power, axis=0, mode="constant")
        return np.asarray(correlate1d(along_y, profile**power, axis=1, mode="wrap" if ring else "constant"))

    expected = np.maximum(level["background"] + level["model"].astype(np.float64), 0.0)
    residual, scale = np.full(own.shape, -np.inf, np.float32), np.zeros(own.shape, np.int8)
    calibration = Calibration.of(Factors(profile[np.newaxis], profile[np.newaxis]))
    moments = summed(level["counts"] - expected), summed(expected, 2), summed(expected, 3).astype(np.float32)
    keep_calibrated(*moments, np.zeros(own.shape), 0, calibration.tables, residual, scale)
    known = np.isfinite(residual) & (level["used"] > 0)
    counts = summed(level["counts"]) / np.maximum(summed(level["used"]), 1e-12)
    return Smoothed(width, counts, np.where(known, residual, 0.0).astype(np.float64), own)


def count_residuals(level: Smoothed) -> Residuals:
    """Count pixels by their residual.

    Parameters
    ----------
    level : Smoothed
        The finest one.
    """
    values = level.residual[level.own]
    pixels = np.bincount(np.searchsorted(EDGES, values, side="right"), minlength=len(EDGES) + 1)
    expected = len(values) * np.diff(ndtr(EDGES), prepend=0.0, append=1.0)
    return Residuals(EDGES, pixels.astype(np.float64), expected, float(values.mean()), float(values.std()))
