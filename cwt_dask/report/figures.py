"""What the figures show: pixels, colours and points, for the page's script to draw."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.palettes import Colorblind7, Inferno256, Magma256, RdBu11, Viridis256, interp_palette

from cwt_dask.report.data import Numbers, TileSummary, error_text, relative_changes
from cwt_dask.report.rasters import MASKED, SCALES_IN_A_RASTER, VALUES, Raster
from cwt_dask.report.residual import Residuals

# Blue below zero, red above.
DIVERGING = interp_palette(RdBu11, VALUES)
SUPPORT_COLOURS = Colorblind7[:SCALES_IN_A_RASTER]  # By scale, the finest first.
PALETTES = {"smoothed": Inferno256, "counts": Inferno256, "model": Viridis256, "significance": Magma256}


def figure_data(rasters: Sequence[Raster], numbers: Numbers, tolerance: float) -> dict[str, Any]:
    """Collect what the figures are drawn from.

    Parameters
    ----------
    rasters : sequence of Raster
        Maps, a figure each.
    numbers : Numbers
        For the charts.
    tolerance : float
        Change of the variance at which the run stops; 0 where it does not look at it.

    Returns
    -------
    dict
        As the page's scripts read it, ready for JSON.
    """
    variances = numbers.variances
    return {
        "maps": {raster.name: _map(raster) for raster in rasters},
        "tiles": _tile_columns(numbers.tiles),
        "residuals": _residual_bins(numbers.residuals),
        "convergence": {
            "iterations": len(variances),
            "variance": _points(list(enumerate(variances, 1))),
            "change": _points(relative_changes(variances)),
            "tolerance": tolerance,
        },
    }


def _map(raster: Raster) -> dict[str, Any]:
    return {
        "title": raster.title,
        "unit": raster.unit,
        "values": raster.values,
        "scales": raster.scale_names,
        "in_place_of": raster.in_place_of,
        "ticks": raster.ticks,
        "palettes": palettes(raster),
        "colours": [] if raster.scale_names else _colours(raster),
        "levels": [
            {"shape": level.shape, "content": base64.b64encode(level.tobytes()).decode()} for level in raster.levels
        ],
    }


def palettes(raster: Raster) -> dict[str, list[str]]:
    """Colours of all bytes by stretch of the values; by scale for the support."""
    if raster.scale_names:
        return _support_palettes(len(raster.scale_names))
    colours = _colours(raster)
    return {
        name: [MASKED, *(colours[i] for i in np.rint(places * (len(colours) - 1)).astype(int))]
        for name, places in raster.stretches.items()
    }


def _colours(raster: Raster) -> tuple[str, ...]:
    return tuple(DIVERGING if raster.diverging else PALETTES[raster.name])


def _support_palettes(n_scales: int) -> dict[str, list[str]]:
    colours, empty = SUPPORT_COLOURS[:n_scales], "#ffffff"

    def coarsest(byte: int) -> str:
        scales = [scale for scale in range(n_scales) if byte >> (scale + 1) & 1]
        return colours[scales[-1]] if scales else empty

    used = range(1, VALUES + 1)
    return {"any": [MASKED, *map(coarsest, used)]} | {
        str(scale): [MASKED, *(colour if byte >> (scale + 1) & 1 else empty for byte in used)]
        for scale, colour in enumerate(colours)
    }


def _tile_columns(tiles: Sequence[TileSummary]) -> dict[str, list[Any]]:
    errors, records = [tile.seam_error for tile in tiles], [tile.record for tile in tiles]
    edges = ("bottom", "top", "left", "right")
    return {
        **{edge: [record.core[i] - 0.5 for record in records] for i, edge in enumerate(edges)},
        "tile": [record.tile for record in records],
        "n_iter": [record.n_iter for record in records],
        "seconds": [round(record.seconds, 3) for record in records],
        "memory": [round(record.peak_memory / 2**20) for record in records],
        # Zero has no logarithm: at most rounding.
        "log_error": [None if error is None else round(float(np.log10(max(error, 1e-17))), 2) for error in errors],
        "error": [error_text(error) for error in errors],
        "counts": [record.owned_counts for record in records],
        "flips": [tile.flips for tile in tiles],
        "done_by": ["an earlier run" if record.taken_from else "this run" for record in records],
    }


def _residual_bins(residuals: Residuals) -> dict[str, Any]:
    edges, pixels, expected = residuals.edges, residuals.pixels[1:-1], residuals.expected[1:-1]
    # The logarithmic axis starts below one pixel.
    floor = 0.5
    there = np.flatnonzero((pixels > 0) | (expected >= floor))
    shown = slice(there[0], there[-1] + 1) if there.size else slice(0, 1)
    return {
        "left": edges[:-1][shown].tolist(),
        "right": edges[1:][shown].tolist(),
        "pixels": np.maximum(pixels[shown], floor).tolist(),
        "expected": np.maximum(expected[shown], floor).tolist(),
        "floor": floor,
        "most": float(max(pixels.max(initial=1), expected.max(initial=1))),
    }


def _points(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """Iterations, and their values."""
    return [[point[i] for point in points] for i in (0, 1)]
