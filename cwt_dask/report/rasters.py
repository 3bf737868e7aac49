"""Rasters: maps as the page holds them, a byte for each pixel, with the value and the colour of each byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.report.pyramid import Pyramid
from cwt_dask.report.residual import LEAST_WIDTH, Smoothed
from cwt_dask.results import SurveyRun
from cwt_dask.storage.zarr_io import open_group

# Byte 0 is no value: the pixel is masked, or off the sky.
VALUES = 255
MASKED = "#a9adb3"
# Scales that have a bit of a byte each; the lowest bit marks used pixels.
SCALES_IN_A_RASTER = 7
# Least distance of labels on a colour bar, over its length.
APART = 0.08
# The colours of the residual end at least so many standard deviations from zero, so that noise is pale.
LEAST_SIGMAS = 6.0
# Below so many the scale is about linear.
_PALE = 3.0
# Title, unit and caption.
TEXTS = {
    "smoothed": ("Counts, smoothed", "counts per pixel", "Smoothed with a Gaussian of {width}."),
    "counts": ("Counts", "counts per pixel", "What was observed."),
    "model": ("Model", "counts per pixel", "What the iteration has found so far. It is not flux."),
    "residual": (
        "Residual",
        "\N{GREEK SMALL LETTER SIGMA}",
        (
            "Excess (red) or lack (blue) of counts over model and background, in standard deviations, both smoothed "
            "with a Gaussian of {width}."
        ),
    ),
    "significance": (
        "Significance (T/E)",
        "T/E",
        (
            "The largest T/E over scales and iterations, and over each block of pixels. It is not a number of sigmas "
            "where counts are few."
        ),
    ),
}


@dataclass(frozen=True)
class Raster:
    """A map on the page."""

    # For programs, for people, and of its values.
    name: str
    title: str
    unit: str
    caption: str  # What it shows.
    levels: list[NDArray[np.uint8]]  # (y, x), the finest first.
    values: list[float | None] = field(default_factory=list)  # Value of each byte; None for byte 0.
    # By name: position of each byte on the colour scale, from 0 to 1, without byte 0.
    stretches: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    # Labels of the colour bar, and where they are from 0 to 1, by stretch.
    ticks: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    # Of the support: its scales in pixels, each with a bit of a byte.
    scale_names: list[str] = field(default_factory=list)
    diverging: bool = False  # Whether zero is the middle of the colour scale.
    in_place_of: str = ""  # Name of the raster whose figure shows it, too: one of both at a time.


def read_rasters(run: SurveyRun, pyramid: Pyramid, smoothed: Sequence[Smoothed]) -> list[Raster]:
    """Read the maps of the page at all levels of the pyramid.

    Parameters
    ----------
    run, pyramid
        Finished; as `ensure_pyramid` made it.
    smoothed : sequence of Smoothed
        Its levels.
    """
    levels = [open_group(run.files.pyramid / str(factor), whole="run") for factor in pyramid.factors]
    used = [level["used"][:] for level in levels]
    threshold = run.stored.plan.settings.significance_threshold

    def mean(name: str) -> list[NDArray[np.float64]]:
        # Means, unlike sums, have the same scale at every level and at the map's edge.
        return [level[name][:].astype(np.float64) / np.maximum(n, 1) for level, n in zip(levels, used, strict=True)]

    largest = [level["significance"][:].astype(np.float64) for level in levels]
    width = _in_degrees(run, pyramid, smoothed[0].width)
    return [
        _encoded("counts", mean("counts"), used),
        replace(_encoded("smoothed", [level.counts for level in smoothed], used, width=width), in_place_of="counts"),
        _encoded("residual", [level.residual for level in smoothed], used, scale=_PALE, diverging=True, width=width),
        _encoded("significance", largest, used, scale=threshold),
        _encoded("model", mean("model"), used),
        *_support(levels, used, run.stored.plan.kernels.scales),
    ]


def _in_degrees(run: SurveyRun, pyramid: Pyramid, width: float) -> str:
    """A width in pixels of the finest level, for people."""
    pixel = pyramid.plane.pixel if pyramid.plane else run.survey.statistics.pixel_scale_deg
    degrees = width * pyramid.factors[0] * pixel
    coarse = width == LEAST_WIDTH
    origin = "half a pixel of this page" if coarse else "the point spread function" if run.psf else "the finest scale"
    return f"{degrees:.3g}° (sigma: {origin})"


def _encoded(
    name: str,
    images: Sequence[NDArray[np.float64]],
    used: Sequence[NDArray[np.uint32]],
    *,
    scale: float | None = None,
    diverging: bool = False,
    width: str = "",
) -> Raster:
    """Encode values by their inverse hyperbolic sine: linear near zero, logarithmic far from it."""
    shown = images[0][used[0] > 0]
    scale = scale or _noise(shown, diverging=diverging)
    # The finest level has the extremes: means of blocks are less extreme, maxima the same.
    low, high = (float(np.arcsinh(value / scale)) for value in (shown.min(), shown.max()))
    if diverging:
        low, high = -max(-low, high), max(-low, high)
    if high - low < 1e-9:
        high = low + 1e-9 + abs(low)
    step = (high - low) / (VALUES - 1)
    levels = [
        np.where(n > 0, 1 + np.clip(np.rint((np.arcsinh(image / scale) - low) / step), 0, VALUES - 1), 0).astype(
            np.uint8
        )
        for image, n in zip(images, used, strict=True)
    ]
    values = scale * np.sinh(low + step * np.arange(VALUES))
    whole = np.linspace(0.0, 1.0, VALUES)
    stretches = {
        "asinh": _linear(
            whole * step * (VALUES - 1) + low, *np.arcsinh(np.divide(_most(shown, 99.9, diverging), scale))
        ),
        "whole": whole,
        "robust": _linear(values, *_most(shown, 99.5, diverging)),
        "linear": _linear(values, float(values[0]), float(values[-1])),
    }
    rounded = [None, *(float(f"{value:.4g}") for value in values)]
    ticks = {stretch: _ticks(values, places) for stretch, places in stretches.items()}
    title, unit, caption = TEXTS[name]
    return Raster(
        name, title, unit, caption.format(width=width), levels, rounded, stretches, ticks, diverging=diverging
    )


def _noise(values: NDArray[np.float64], *, diverging: bool) -> float:
    """Scale of small values: the median of their deviations, or of those that are not zero."""
    size = np.abs(values - np.median(values)) if diverging else values
    positive = size[size > 0]
    return float(np.median(positive)) if positive.size else 1.0


def _most(values: NDArray[np.float64], percent: float, diverging: bool) -> tuple[float, float]:
    """Range of all but a few values; of all where most of them are the same."""
    if diverging:
        largest = max(float(np.percentile(np.abs(values), percent)), LEAST_SIGMAS)
        return -largest, largest
    low, high = (float(value) for value in np.percentile(values, (100 - percent, percent)))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _linear(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values - low) / max(high - low, 1e-300), 0.0, 1.0)


def _ticks(values: NDArray[np.float64], places: NDArray[np.float64]) -> list[tuple[float, str]]:
    """Round numbers on the colour bar: zero first, then from large to small, as many as there is space for.

    Values beyond the ends of the scale have no place of their own.
    """
    inside = np.flatnonzero((places > 0) & (places < 1))
    if not inside.size:
        return [(0.5, f"{values[0]:.3g}")] if values[0] == values[-1] else []
    ends = values[max(inside[0] - 1, 0)], values[min(inside[-1] + 1, VALUES - 1)]
    largest = max(map(abs, ends))
    powers = range(math.floor(math.log10(largest)), math.floor(math.log10(largest)) - 7, -1)
    sizes = [digit * 10.0**power for power in powers for digit in (5, 3, 2, 1)]
    ticks: dict[float, str] = {}
    for value in (0.0, *(sign * size for size in sizes for sign in (1, -1))):
        place = float(np.interp(value, values, places))
        if ends[0] <= value <= ends[1] and all(abs(place - other) >= APART for other in ticks):
            ticks[place] = f"{value:g}".replace("-", "\N{MINUS SIGN}")
    return [(round(place, 4), label) for place, label in sorted(ticks.items())]


def _support(levels: Sequence[Any], used: Sequence[NDArray[np.uint32]], scales: NDArray[np.float64]) -> list[Raster]:
    """Encode the scales with a pixel in the support: a bit for each above the lowest, which every used pixel has."""
    rasters = []
    for first in range(0, len(scales), SCALES_IN_A_RASTER):
        shown = scales[first : first + SCALES_IN_A_RASTER]
        images = []
        for level, n in zip(levels, used, strict=True):
            support = level["support"][first : first + len(shown)]
            bits = sum((support[i].astype(np.uint8) << (i + 1) for i in range(len(shown))), np.uint8(1))
            images.append(np.where(n > 0, bits, 0).astype(np.uint8))
        more = f", scales {first + 1} to {first + len(shown)}" if len(scales) > SCALES_IN_A_RASTER else ""
        rasters.append(
            Raster(
                name=f"support{first or ''}",
                title=f"Support by scale{more}",
                unit="",
                caption="Where T/E was above the threshold at some iteration; the colour is that of the coarsest scale "
                "at which it was.",
                levels=images,
                scale_names=[f"{scale:.3g}" for scale in shown],
            )
        )
    return rasters
