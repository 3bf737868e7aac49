"""The maps of a report, with sources marked, drawn by Bokeh in the reader's browser; and what it draws from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.document import Document
from bokeh.models import (
    BoxZoomTool,
    CDSView,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    IndexFilter,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    TapTool,
    WheelZoomTool,
)
from bokeh.palettes import Colorblind7, Inferno256, Magma256, RdBu11, Viridis256, interp_palette
from bokeh.plotting import figure

from cwt_dask.report.charts import HEIGHT, INK, draw_convergence, draw_residuals, draw_tiles, style
from cwt_dask.report.rasters import MASKED, SCALES_IN_A_PLANE, VALUES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwt_dask.report.data import Numbers
    from cwt_dask.report.pyramid import Pyramid
    from cwt_dask.report.rasters import Plane
    from cwt_dask.report.table import Sources

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
    images = {plane.name: [ColumnDataSource({"image": [level]}) for level in plane.levels] for plane in planes}
    mappers = {plane.name: _mapper(plane) for plane in planes}
    charts = []
    for plane in planes:
        chart = _sky_figure(f"map-{plane.name}", x_range, y_range)
        _draw_plane(chart, plane, images[plane.name], pyramid, mappers[plane.name])
        _mark_sources(chart, marks, view, lines)
        if plane.ticks:
            _colour_bar(chart, plane, mappers[plane.name])
        charts.append(chart)
    close_up = _sky_figure("close-up", *closer)
    for plane in planes:
        _draw_plane(close_up, plane, images[plane.name], pyramid, mappers[plane.name], visible=plane is planes[0])
    _mark_sources(close_up, marks, view, lines)
    others = draw_tiles(numbers.tiles, nx, ny), draw_residuals(numbers.residuals)
    # Bokeh looks for all models once, not after each root.
    with document.models.freeze():
        for root in (*charts, close_up, *others, *draw_convergence(numbers.variances, tolerance)):
            document.add_root(root)
    return document


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
        # Frames of the same size, whatever stands beside them.
        min_border_left=74,
        min_border_right=18 if name == "close-up" else 84,
    )
    for axis in chart.axis:
        # The page sets ticks where lines of coordinates meet the frame.
        axis.ticker = FixedTicker(ticks=[])
    return style(chart)


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
        found[str(scale)] = [MASKED, *(colour if byte >> (scale + 1) & 1 else empty for byte in range(1, VALUES + 1))]
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
    below = chart.scatter(
        "x", "y", source=marks, view=view, size=11, fill_color=None, line_color="black", line_width=2.4, line_alpha=0.7
    )
    above = chart.scatter(
        "x", "y", source=marks, view=view, size=11, fill_color=None, line_color="white", line_width=1.2
    )
    above.nonselection_glyph = above.glyph
    below.nonselection_glyph = below.glyph
    for glyph, width, colour in ((below, 6.0, "black"), (above, 3.0, "#00e5ff")):
        glyph.selection_glyph = glyph.glyph.clone()
        glyph.selection_glyph.update(size=22, line_color=colour, line_width=width, line_alpha=1.0)
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


def as_json(document: Document) -> dict[str, Any]:
    """What the browser draws from, with names of models that follow from their order: the same run, the same page."""
    content: Any = document.to_json(deferred=False)
    names: dict[str, str] = {}
    _collect(content["roots"], names)
    renamed: dict[str, Any] = _renamed({"version": content["version"], "title": "", "roots": content["roots"]}, names)
    return renamed


def _collect(part: Any, names: dict[str, str]) -> None:
    if isinstance(part, dict):
        if isinstance(part.get("id"), str):
            names.setdefault(part["id"], f"m{len(names)}")
        for value in part.values():
            _collect(value, names)
    elif isinstance(part, list | tuple):
        for value in part:
            _collect(value, names)


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {
            key: names[value] if key == "id" and isinstance(value, str) else _renamed(value, names)
            for key, value in part.items()
        }
    return [_renamed(value, names) for value in part] if isinstance(part, list | tuple) else part
