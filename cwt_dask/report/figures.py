"""The figures of a report, drawn by Bokeh in the reader's browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.document import Document
from bokeh.models import (
    BasicTicker,
    BasicTickFormatter,
    BoxZoomTool,
    CDSView,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    IndexFilter,
    LinearColorMapper,
    LogTicker,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    TapTool,
    WheelZoomTool,
)
from bokeh.palettes import Colorblind7, Inferno256, Magma256, RdBu11, Viridis256, interp_palette
from bokeh.plotting import figure

from cwt_dask.report.planes import MASKED, SCALES_IN_A_PLANE, VALUES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwt_dask.report.facts import Numbers, Residuals, TileFacts
    from cwt_dask.report.planes import Plane
    from cwt_dask.report.pyramid import Pyramid
    from cwt_dask.report.sources import Sources

INK, BLUE, RED, GREY = "#1c2733", "#0b5394", "#b3261e", "#5f6b76"
OUTSIDE = "#eef0f2"
# Wide enough for a sky of twice as many columns as rows; the page sets heights by its own width.
HEIGHT = 330
DIVERGING = tuple(reversed(interp_palette(RdBu11, VALUES)))
PALETTES = {"counts": Inferno256, "model": Viridis256, "significance": Magma256}


def draw(planes: Sequence[Plane], pyramid: Pyramid, sources: Sources, numbers: Numbers, tolerance: float) -> Document:
    """Draw everything.

    Returns
    -------
    bokeh.document.Document
        Its roots are the figures; models that the page asks for have names.
    """
    document = Document()
    ny, nx = pyramid.shape
    x_range, y_range = (
        Range1d(-0.5, nx - 0.5, name="x-range"),
        Range1d(-0.5, ny - 0.5, name="y-range"),
    )
    closer = Range1d(-0.5, nx - 0.5, name="close-x"), Range1d(-0.5, ny - 0.5, name="close-y")
    marks = ColumnDataSource({"x": sources.x, "y": sources.y}, name="sources")
    view = CDSView(filter=IndexFilter(indices=[], name="marked"))
    lines = ColumnDataSource({"xs": [], "ys": []}, name="lines")
    images = {
        plane.name: [ColumnDataSource({"image": [level]}) for level in plane.levels] for plane in planes
    }
    mappers = {plane.name: _mapper(plane) for plane in planes}
    for plane in planes:
        chart = _sky_figure(f"map-{plane.name}", x_range, y_range)
        _draw_plane(chart, plane, images[plane.name], pyramid, mappers[plane.name])
        _mark_sources(chart, marks, view, lines)
        if plane.ticks:
            _colour_bar(chart, plane, mappers[plane.name])
        document.add_root(chart)
    close_up = _sky_figure("close-up", *closer)
    for plane in planes:
        _draw_plane(close_up, plane, images[plane.name], pyramid, mappers[plane.name], visible=plane is planes[0])
    _mark_sources(close_up, marks, view, lines)
    document.add_root(close_up)
    document.add_root(_tiles(numbers.tiles, nx, ny))
    document.add_root(_residuals(numbers.residuals))
    for chart in _convergence(numbers.variances, tolerance):
        document.add_root(chart)
    return document


def _style(chart: figure) -> figure:
    chart.toolbar.logo = None
    chart.background_fill_color = OUTSIDE
    chart.outline_line_color = "#c3c9cf"
    chart.grid.grid_line_color = None
    for axis in chart.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_line_color = axis.major_tick_line_color = GREY
        axis.minor_tick_line_color = None
    return chart


def _sky_figure(name: str, x_range: Range1d, y_range: Range1d) -> figure:
    drag, wheel = BoxZoomTool(match_aspect=True), WheelZoomTool()
    chart = figure(
        name=name,
        frame_height=HEIGHT - 90,
        sizing_mode="stretch_width",
        x_range=x_range,
        y_range=y_range,
        tools=[PanTool(), drag, wheel, SaveTool(), ResetTool(), TapTool()],
        active_drag=drag,
        active_scroll=None,
        toolbar_location="above",
        # Frames of the same size, whatever stands beside them.
        min_border_left=56,
        min_border_right=18 if name == "close-up" else 72,
    )
    for axis in chart.axis:
        # The page sets ticks where lines of coordinates meet the frame.
        axis.ticker = FixedTicker(ticks=[])
    return _style(chart)


def _mapper(plane: Plane) -> LinearColorMapper:
    """Colours by byte."""
    return LinearColorMapper(
        palette=palettes(plane)[next(iter(palettes(plane)))],
        low=-0.5,
        high=VALUES + 0.5,
        name=f"mapper-{plane.name}",
    )


def palettes(plane: Plane) -> dict[str, list[str]]:
    """Colours of all bytes, by how values are stretched, or by scale where there is nothing to stretch."""
    if plane.scale_names:
        return _support_palettes(len(plane.scale_names))
    colours = DIVERGING if plane.diverging else PALETTES[plane.name]
    found = {}
    for name, places in plane.stretches.items():
        index = np.rint(places * (len(colours) - 1)).astype(int)
        found[name] = [MASKED, *(colours[i] for i in index)]
    return found


def support_colours(n_scales: int) -> list[str]:
    """A colour a scale, the finest first."""
    return list(Colorblind7[:SCALES_IN_A_PLANE][:n_scales])


def _support_palettes(n_scales: int) -> dict[str, list[str]]:
    colours = support_colours(n_scales)
    empty = "#ffffff"

    def coarsest(byte: int) -> str:
        scales = [scale for scale in range(n_scales) if byte >> (scale + 1) & 1]
        return colours[scales[-1]] if scales else empty

    found = {"any": [MASKED, *(coarsest(byte) for byte in range(1, VALUES + 1))]}
    for scale, colour in enumerate(colours):
        found[str(scale)] = [
            MASKED, *(colour if byte >> (scale + 1) & 1 else empty for byte in range(1, VALUES + 1))
        ]
    return found


def _draw_plane(
    chart: figure,
    plane: Plane,
    images: Sequence[ColumnDataSource],
    pyramid: Pyramid,
    mapper: LinearColorMapper,
    *,
    visible: bool = True,
) -> None:
    """Draw a map at all levels; the page shows the one that suits how far one has zoomed in."""
    renderers = []
    for factor, source, level in zip(pyramid.factors, images, plane.levels, strict=True):
        rows, columns = level.shape
        image = chart.image(
            "image",
            source=source,
            x=-0.5,
            y=-0.5,
            dw=columns * factor,
            dh=rows * factor,
            color_mapper=mapper,
            visible=visible and factor == pyramid.factors[-1],
            level="image",
            name=f"{chart.name}/{plane.name}/{factor}",
        )
        renderers.append(image)
    said = CustomJSHover(code=f"return window.cwtDask.said('{plane.name}', value, special_vars)")
    chart.add_tools(
        HoverTool(renderers=renderers, tooltips=[("", "@image{custom}")], formatters={"@image": said}, visible=False)
    )


def _mark_sources(chart: figure, marks: ColumnDataSource, view: CDSView, lines: ColumnDataSource) -> None:
    chart.multi_line("xs", "ys", source=lines, line_color="#7f8c99", line_alpha=0.55, line_width=0.8, name="sky-lines")
    # Black below white shows on any colour.
    below = chart.scatter("x", "y", source=marks, view=view, size=13, fill_color=None, line_color="black", line_width=3)
    above = chart.scatter("x", "y", source=marks, view=view, size=13, fill_color=None, line_color="white")
    above.nonselection_glyph = above.glyph
    below.nonselection_glyph = below.glyph
    for glyph, width, colour in ((below, 6.0, "black"), (above, 3.0, "#00e5ff")):
        glyph.selection_glyph = glyph.glyph.clone()
        glyph.selection_glyph.update(size=22, line_color=colour, line_width=width)
    said = CustomJSHover(code="return window.cwtDask.source(value)")
    chart.add_tools(
        HoverTool(renderers=[above], tooltips=[("", "$index{custom}")], formatters={"$index": said}, visible=False)
    )
    chart.select_one(TapTool).renderers = [above]


def _colour_bar(chart: figure, plane: Plane, mapper: LinearColorMapper) -> None:
    bar = ColorBar(
        color_mapper=mapper,
        display_low=0.5,
        display_high=VALUES + 0.5,
        ticker=FixedTicker(ticks=list(plane.ticks)),
        major_label_overrides=plane.ticks,
        title=plane.unit,
        title_text_font_style="normal",
        title_text_color=INK,
        major_label_text_color=INK,
        width=12,
        label_standoff=5,
        padding=4,
    )
    chart.add_layout(bar, "right")


def _tiles(tiles: Sequence[TileFacts], nx: int, ny: int) -> figure:
    """Cores as rectangles, coloured by what the page is asked for."""
    errors = [tile.seam_error for tile in tiles]
    data = {
        "y0": [tile.core[0] - 0.5 for tile in tiles],
        "y1": [tile.core[1] - 0.5 for tile in tiles],
        "x0": [tile.core[2] - 0.5 for tile in tiles],
        "x1": [tile.core[3] - 0.5 for tile in tiles],
        "tile": [tile.tile for tile in tiles],
        "n_iter": [tile.n_iter for tile in tiles],
        "seconds": [round(tile.seconds, 3) for tile in tiles],
        "memory": [round(tile.memory / 2**20) for tile in tiles],
        # Zero has no logarithm: at most rounding.
        "log_error": [None if error is None else round(float(np.log10(max(error, 1e-17))), 2) for error in errors],
        "error": ["no seam" if error is None else f"{error:.1e}" for error in errors],
        "flips": [tile.flips for tile in tiles],
        "taken": ["an earlier run" if tile.taken_over else "this run" for tile in tiles],
    }
    data["shown"] = list(data["seconds"])
    low, high = min(data["seconds"], default=0.0), max(data["seconds"], default=1.0)
    mapper = LinearColorMapper(
        palette=Viridis256, low=low, high=max(high, low + 1e-9), nan_color=OUTSIDE, name="tile-mapper"
    )
    chart = figure(
        name="tiles",
        frame_height=HEIGHT - 90,
        sizing_mode="stretch_width",
        x_range=Range1d(-0.5, nx - 0.5, name="tiles-x"),
        y_range=Range1d(-0.5, ny - 0.5, name="tiles-y"),
        tools=[PanTool(), WheelZoomTool(), SaveTool(), ResetTool()],
        active_scroll=None,
        x_axis_label="column (pixels)",
        y_axis_label="row (pixels)",
    )
    source = ColumnDataSource(data, name="tile-facts")
    chart.quad(
        left="x0",
        right="x1",
        bottom="y0",
        top="y1",
        source=source,
        fill_color={"field": "shown", "transform": mapper},
        line_color="white",
        line_width=1,
    )
    chart.add_tools(
        HoverTool(
            tooltips=[
                ("tile", "@tile"),
                ("iterations", "@n_iter"),
                ("time", "@seconds{0.0} s"),
                ("peak memory of its process", "@memory MiB"),
                ("largest seam error", "@error"),
                ("support pixels that differ", "@flips"),
                ("done by", "@taken"),
            ]
        )
    )
    chart.add_layout(
        ColorBar(color_mapper=mapper, title="seconds", name="tile-bar", width=12, title_text_font_style="normal"),
        "right",
    )
    return _style(chart)


def _residuals(residuals: Residuals) -> figure:
    chart = figure(
        name="residuals",
        height=HEIGHT,
        sizing_mode="stretch_width",
        y_axis_type="log",
        tools=[PanTool(), BoxZoomTool(), WheelZoomTool(), SaveTool(), ResetTool()],
        active_scroll=None,
        x_axis_label="counts − background − model − approximation (counts per pixel)",
        y_axis_label="pixels per bin",
    )
    edges, pixels, expected = residuals.edges, residuals.pixels[1:-1], residuals.expected[1:-1]
    # The logarithm begins below one pixel.
    floor = 0.5
    there = np.flatnonzero((pixels > 0) | (expected >= floor))
    shown = slice(there[0], there[-1] + 1) if there.size else slice(0, 1)
    left, right = edges[:-1][shown], edges[1:][shown]
    chart.quad(
        left=left,
        right=right,
        bottom=floor,
        top=np.maximum(pixels[shown], floor),
        fill_color=BLUE,
        fill_alpha=0.35,
        line_color=BLUE,
        line_width=0.5,
        legend_label="this map",
    )
    outline = np.maximum(expected[shown], floor)
    chart.step(
        np.append(left, right[-1]),
        np.append(outline, outline[-1]),
        mode="after",
        line_color=RED,
        line_width=1.8,
        legend_label="Poisson counts of what is expected",
    )
    chart.y_range = Range1d(floor, 2 * float(max(pixels.max(initial=1), expected.max(initial=1))))
    chart.legend.location = "top_right"
    chart.legend.background_fill_alpha = 0.85
    chart.legend.label_text_font_size = "12px"
    return _style(chart)


def _convergence(variances: Sequence[float], tolerance: float) -> list[figure]:
    """Variance by iteration, and by how much of itself it changed."""
    iterations = list(range(1, len(variances) + 1))
    change = [
        (n, abs(before - after) / before)
        for n, before, after in zip(iterations[1:], variances[:-1], variances[1:], strict=True)
        if before > 0 and before != after
    ]
    charts = []
    for name, label, kind, points in (
        ("variance", "variance of the residual", "linear", list(zip(iterations, variances, strict=True))),
        ("change", "relative change of the variance", "log", change),
    ):
        chart = figure(
            name=name,
            height=HEIGHT - 60,
            sizing_mode="stretch_width",
            y_axis_type=kind,
            x_range=Range1d(0.5, max(len(variances), 2) + 0.5),
            tools=[PanTool(), BoxZoomTool(), SaveTool(), ResetTool()],
            x_axis_label="iteration",
            y_axis_label=label,
        )
        chart.xaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
        if kind == "log":
            chart.yaxis.ticker = LogTicker(mantissas=[1, 3])
            chart.yaxis.formatter = BasicTickFormatter(use_scientific=True, power_limit_low=0, precision=0)
        x, y = [point[0] for point in points], [point[1] for point in points]
        chart.line(x, y, line_color=BLUE, line_width=2)
        chart.scatter(x, y, color=BLUE, size=7)
        if kind == "log" and tolerance > 0:
            chart.line([0.5, len(variances) + 0.5], [tolerance] * 2, line_color=RED, line_dash="dashed")
        chart.add_tools(HoverTool(mode="vline", tooltips=[("iteration", "@x"), (label, "@y{0.0000e+0}")]))
        charts.append(_style(chart))
    return charts


def as_json(document: Document) -> dict[str, Any]:
    """What the browser draws from, with names of models that follow from their order: the same run, the same page."""
    content: Any = document.to_json(deferred=False)
    names: dict[str, str] = {}
    _collect(content["roots"], names)
    return _renamed({"version": content["version"], "title": "", "roots": content["roots"]}, names)


def _collect(part: Any, names: dict[str, str]) -> None:
    if isinstance(part, dict):
        if isinstance(part.get("id"), str):
            names.setdefault(part["id"], f"m{len(names)}")
        for value in part.values():
            _collect(value, names)
    elif isinstance(part, list):
        for value in part:
            _collect(value, names)


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {
            key: names[value] if key == "id" and isinstance(value, str) else _renamed(value, names)
            for key, value in part.items()
        }
    return [_renamed(value, names) for value in part] if isinstance(part, list) else part
