"""The charts of a report, drawn by Bokeh in the browser: tiles, residuals and convergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh import models
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from cwt_dask.report.data import Residuals, TileSummary, error_text, relative_changes

INK, BLUE, RED, GREY = "#1c2733", "#0b5394", "#b3261e", "#5f6b76"
OUTSIDE = "#eef0f2"
# The page sets heights of maps by its own width.
HEIGHT = 330


def new_chart(name: str, tools: Sequence[models.Tool], **options: Any) -> figure:
    """Make an empty chart with the look of the page, as wide as its element; `options` are those of `figure`."""
    chart = figure(
        name=name, sizing_mode="stretch_width", tools=[*tools, models.SaveTool(), models.ResetTool()], **options
    )
    chart.toolbar.logo = None
    chart.toolbar_location = "above"
    chart.background_fill_color = OUTSIDE
    chart.outline_line_color = "#c3c9cf"
    chart.grid.grid_line_color = None
    for axis in chart.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_line_color = axis.major_tick_line_color = GREY
        axis.minor_tick_line_color = None
    return chart


def draw_tiles(tiles: Sequence[TileSummary], nx: int, ny: int) -> figure:
    """Draw cores as rectangles in a colour that the reader chooses the meaning of.

    Parameters
    ----------
    tiles : sequence of TileSummary
    nx, ny : int
        Columns and rows of the map.
    """
    data = _tile_columns(tiles)
    low, high = min(data["seconds"]), max(data["seconds"])
    high = high if high > low else low + max(low, 1.0)
    mapper = models.LinearColorMapper(palette=Viridis256, low=low, high=high, nan_color=OUTSIDE, name="tile-mapper")
    ranges = [models.Range1d(-0.5, n - 0.5, name=f"tiles-{axis}") for axis, n in (("x", nx), ("y", ny))]
    labels = {"x_axis_label": "column (pixels)", "y_axis_label": "row (pixels)"}
    options = {"frame_height": HEIGHT - 90, "active_scroll": None} | labels
    tools = [models.PanTool(), models.WheelZoomTool()]
    chart = new_chart("tiles", tools, x_range=ranges[0], y_range=ranges[1], **options)
    cores = {"left": "x0", "right": "x1", "bottom": "y0", "top": "y1"}
    source, colour = models.ColumnDataSource(data, name="tile-facts"), {"field": "shown", "transform": mapper}
    chart.quad(**cores, source=source, fill_color=colour, line_color="white", line_width=1)
    tooltips = [
        ("tile", "@tile"),
        ("iterations", "@n_iter"),
        ("time", "@seconds{0.0} s"),
        ("peak memory of its process", "@memory MiB"),
        ("largest seam error", "@error"),
        ("support pixels that differ", "@flips"),
        ("done by", "@done_by"),
    ]
    chart.add_tools(models.HoverTool(tooltips=tooltips))
    bar = {"title": "seconds", "name": "tile-bar", "width": 12, "title_text_font_style": "normal"}
    chart.add_layout(models.ColorBar(color_mapper=mapper, **bar), "right")
    return chart


def _tile_columns(tiles: Sequence[TileSummary]) -> dict[str, list[Any]]:
    errors, records = [tile.seam_error for tile in tiles], [tile.record for tile in tiles]
    seconds = [round(record.seconds, 3) for record in records]
    return {
        **{edge: [record.core[i] - 0.5 for record in records] for i, edge in enumerate(("y0", "y1", "x0", "x1"))},
        "tile": [record.tile for record in records],
        "n_iter": [record.n_iter for record in records],
        "seconds": seconds,
        "shown": seconds,
        "memory": [round(record.peak_memory / 2**20) for record in records],
        # Zero has no logarithm: at most rounding.
        "log_error": [None if error is None else round(float(np.log10(max(error, 1e-17))), 2) for error in errors],
        "error": [error_text(error) for error in errors],
        "flips": [tile.flips for tile in tiles],
        "done_by": ["an earlier run" if record.taken_from else "this run" for record in records],
    }


def draw_residuals(residuals: Residuals) -> figure:
    """Draw the histogram of the residuals, and the one of Poisson numbers."""
    tools = [models.PanTool(), models.BoxZoomTool(), models.WheelZoomTool()]
    labels = {"x_axis_label": "residual less background (counts per pixel)", "y_axis_label": "pixels per bin"}
    chart = new_chart("residuals", tools, height=HEIGHT, y_axis_type="log", active_scroll=None, **labels)
    edges, pixels, expected = residuals.edges, residuals.pixels[1:-1], residuals.expected[1:-1]
    # The logarithmic axis starts below one pixel.
    floor = 0.5
    there = np.flatnonzero((pixels > 0) | (expected >= floor))
    shown = slice(there[0], there[-1] + 1) if there.size else slice(0, 1)
    left, right = edges[:-1][shown], edges[1:][shown]
    top, outline = np.maximum(pixels[shown], floor), np.maximum(expected[shown], floor)
    bars = {"fill_color": BLUE, "fill_alpha": 0.35, "line_color": BLUE, "line_width": 0.5}
    chart.quad(left=left, right=right, bottom=floor, top=top, **bars)
    steps = np.append(left, right[-1]), np.append(outline, outline[-1])
    chart.step(*steps, mode="after", line_color=RED, line_width=1.8)
    chart.y_range = models.Range1d(floor, 2 * float(max(pixels.max(initial=1), expected.max(initial=1))))
    return chart


def draw_convergence(variances: Sequence[float], tolerance: float) -> list[figure]:
    """Draw the variance by iteration, and its relative change."""
    charts = []
    for name, label, kind, points in (
        ("variance", "variance of the residual", "linear", list(enumerate(variances, 1))),
        ("change", "relative change of the variance", "log", relative_changes(variances)),
    ):
        options = {"y_axis_type": kind, "x_axis_label": "iteration", "y_axis_label": label, "height": HEIGHT - 60}
        x_range = models.Range1d(0.5, max(len(variances), 2) + 0.5)
        chart = new_chart(name, [models.PanTool(), models.BoxZoomTool()], x_range=x_range, **options)
        chart.xaxis.ticker = models.BasicTicker(min_interval=1, num_minor_ticks=0)
        x, y = [point[0] for point in points], [point[1] for point in points]
        chart.line(x, y, line_color=BLUE, line_width=2)
        chart.scatter(x, y, color=BLUE, size=7)
        if kind == "log":
            chart.yaxis.ticker = models.LogTicker(mantissas=[1, 3])
            chart.yaxis.formatter = models.BasicTickFormatter(use_scientific=True, power_limit_low=0, precision=0)
            if tolerance > 0:
                chart.line([0.5, len(variances) + 0.5], [tolerance] * 2, line_color=RED, line_dash="dashed")
        chart.add_tools(models.HoverTool(mode="vline", tooltips=[("iteration", "@x"), (label, "@y{0.0000e+0}")]))
        charts.append(chart)
    return charts
