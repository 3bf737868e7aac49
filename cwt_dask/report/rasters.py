"""Maps as a page holds them: a byte a pixel, with what each byte stands for and is drawn in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.storage.zarr_io import open_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cwt_dask.report.pyramid import Pyramid
    from cwt_dask.results import SurveyRun

# Byte 0 is no value: the pixel is masked, or off the sky.
VALUES = 255
MASKED = "#a9adb3"
# Scales that the bits of a byte can tell, besides 0.
SCALES_IN_A_PLANE = 7
# Labels on a colour bar are at least so many bytes apart.
APART = 24


@dataclass(frozen=True)
class Plane:
    """One map.

    Attributes
    ----------
    name, title, unit : str
        For machines, for people, and of its values.
    says : str
        What it shows, in a sentence.
    levels : list of ndarray of uint8
        (y, x), the finest first.
    values : list of (float or None)
        What each byte stands for; None for byte 0.
    stretches : dict of ndarray of float64
        By name: where on the colour scale, from 0 to 1, each byte is drawn, but for byte 0.
    ticks : dict of str
        Labels of the colour bar by byte.
    scale_names : list of str
        Of the support: its scales in pixels, a bit of a byte each.
    diverging : bool
        Whether zero is the middle of the colour scale.
    """

    name: str
    title: str
    unit: str
    says: str
    levels: list[NDArray[np.uint8]]
    values: list[float | None] = field(default_factory=list)
    stretches: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    ticks: dict[int, str] = field(default_factory=dict)
    scale_names: list[str] = field(default_factory=list)
    diverging: bool = False


def read_planes(run: SurveyRun, pyramid: Pyramid) -> list[Plane]:
    """Read the maps that a report shows, at all levels of the pyramid."""
    group = open_group(run.files.pyramid, whole="run")
    levels = [group[str(factor)] for factor in pyramid.factors]
    used = [level["used"][:] for level in levels]
    threshold = run.stored.plan.settings.significance_threshold

    def mean(name: str) -> list[NDArray[np.float64]]:
        # A pixel's mean, not the block's sum, means the same at every level and at the map's edge.
        return [level[name][:].astype(np.float64) / np.maximum(n, 1) for level, n in zip(levels, used, strict=True)]

    def as_stored(name: str) -> list[NDArray[np.float64]]:
        return [level[name][:].astype(np.float64) for level in levels]

    left = [
        residual - background for residual, background in zip(as_stored("residual"), mean("background"), strict=True)
    ]
    return [
        _encoded("counts", "Counts", "counts per pixel", "What was observed.", mean("counts"), used),
        _encoded(
            "model",
            "Model",
            "counts per pixel",
            "What the iteration has taken up so far. It is not flux.",
            mean("model"),
            used,
        ),
        _encoded(
            "residual",
            "Residual less background",
            "counts per pixel",
            "What is left: counts less model, approximation and background. In maps.zarr the residual still holds the "
            "background.",
            left,
            used,
            diverging=True,
        ),
        _encoded(
            "significance",
            "Significance (T/E)",
            "T/E",
            "The largest T/E over scales and iterations, of each block of pixels the largest. It is not a number of "
            "sigmas where counts are few.",
            as_stored("significance"),
            used,
            scale=threshold,
        ),
        *_support(levels, used, run.stored.plan.kernels.scales),
    ]


def _encoded(
    name: str,
    title: str,
    unit: str,
    says: str,
    images: Sequence[NDArray[np.float64]],
    used: Sequence[NDArray[np.uint32]],
    *,
    scale: float | None = None,
    diverging: bool = False,
) -> Plane:
    """Encode values by their inverse hyperbolic sine: steps are even near zero and even in the logarithm far off."""
    shown = images[0][used[0] > 0]
    scale = scale or _noise(shown, diverging=diverging)
    # The finest level has the extremes, or is one that only it has: means are less extreme, maxima the same.
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
    return Plane(
        name=name,
        title=title,
        unit=unit,
        says=says,
        levels=levels,
        values=[None, *(float(f"{value:.4g}") for value in values)],
        stretches=stretches,
        ticks=_ticks(values),
        diverging=diverging,
    )


def _noise(values: NDArray[np.float64], *, diverging: bool) -> float:
    """What is small among values: their scatter, or the middle of those that are not zero."""
    size = np.abs(values - np.median(values)) if diverging else values
    positive = size[size > 0]
    return float(np.median(positive)) if positive.size else 1.0


def _most(values: NDArray[np.float64], percent: float, diverging: bool) -> tuple[float, float]:
    """What all but few values lie between; all do where most of them are the same."""
    if diverging:
        largest = float(np.percentile(np.abs(values), percent)) or float(np.abs(values).max())
        return -largest, largest
    low, high = (float(value) for value in np.percentile(values, (100 - percent, percent)))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _linear(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values - low) / max(high - low, 1e-300), 0.0, 1.0)


def _ticks(values: NDArray[np.float64]) -> dict[int, str]:
    """Round numbers on the colour bar, by byte: zero first, then from large to small, as far as there is room."""
    largest = float(np.abs(values).max())
    if largest == 0:
        return {1: "0"}
    powers = range(math.floor(math.log10(largest)), math.floor(math.log10(largest)) - 7, -1)
    sizes = [digit * 10.0**power for power in powers for digit in (5, 2, 1)]
    ticks: dict[int, str] = {}
    for value in (0.0, *(sign * size for size in sizes for sign in (1, -1))):
        if values[0] <= value <= values[-1] and values[-1] > values[0]:
            byte = 1 + int(np.argmin(np.abs(values - value)))
            if all(abs(byte - other) >= APART for other in ticks):
                ticks[byte] = f"{value:g}".replace("-", "\N{MINUS SIGN}")
    return dict(sorted(ticks.items()))


def _support(levels: Sequence[Any], used: Sequence[NDArray[np.uint32]], scales: NDArray[np.float64]) -> list[Plane]:
    """Which scales have a pixel in the support: a bit a scale above the lowest, which every used pixel has."""
    planes = []
    for first in range(0, len(scales), SCALES_IN_A_PLANE):
        shown = scales[first : first + SCALES_IN_A_PLANE]
        images = []
        for level, n in zip(levels, used, strict=True):
            support = level["support"][first : first + len(shown)]
            bits = sum((support[i].astype(np.uint8) << (i + 1) for i in range(len(shown))), np.uint8(1))
            images.append(np.where(n > 0, bits, 0).astype(np.uint8))
        more = f", scales {first + 1} to {first + len(shown)}" if len(scales) > SCALES_IN_A_PLANE else ""
        planes.append(
            Plane(
                name=f"support{first or ''}",
                title=f"Support by scale{more}",
                unit="",
                says="Where T/E was above the threshold at some iteration; the colour is that of the coarsest scale "
                "at which it was.",
                levels=images,
                scale_names=[f"{scale:.3g}" for scale in shown],
            )
        )
    return planes
