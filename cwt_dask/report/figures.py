"""The maps of a report with marked sources, drawn by Bokeh in the browser; and the JSON of all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh import models
from bokeh.document import Document
from bokeh.palettes import Colorblind7, Inferno256, Magma256, RdBu11, Viridis256, interp_palette

from cwt_dask.report.charts import HEIGHT, INK, draw_convergence, draw_residuals, draw_tiles, new_chart
from cwt_dask.report.data import Numbers
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.report.rasters import MASKED, SCALES_IN_A_RASTER, VALUES, Raster
from cwt_dask.report.table import Sources

if TYPE_CHECKING:
    from bokeh.plotting import figure

DIVERGING = tuple(reversed(interp_palette(RdBu11, VALUES)))
SUPPORT_COLOURS = Colorblind7[:SCALES_IN_A_RASTER]  # By scale, the finest first.
PALETTES = {"counts": Inferno256, "model": Viridis256, "significance": Magma256}


def draw(rasters: Sequence[Raster], pyramid: Pyramid, sources: Sources, numbers: Numbers, tolerance: float) -> Document:
    """Draw all figures.

    Parameters
    ----------
    rasters : sequence of Raster
        Maps, a figure each.
    pyramid : Pyramid
        Of their levels.
    sources : Sources
        To mark.
    numbers : Numbers
        For the charts.
    tolerance : float
        Change of the variance at which the run stops; 0 where it does not look at it.

    Returns
    -------
    bokeh.document.Document
        Its roots are the figures; models that the page uses have names.
    """
    document = Document()
    ny, nx = pyramid.shape
    ranges, closer = (
        [models.Range1d(-0.5, n - 0.5, name=name) for n, name in zip((nx, ny), names, strict=True)]
        for names in (("x-range", "y-range"), ("close-x", "close-y"))
    )
    marks = models.ColumnDataSource({"x": sources.x, "y": sources.y}, name="sources")
    view = models.CDSView(filter=models.IndexFilter(indices=[], name="marked"))
    lines = models.ColumnDataSource({"xs": [], "ys": []}, name="lines")
    close_up, charts = _sky_figure("close-up", *closer), []
    for raster in rasters:
        images = [models.ColumnDataSource({"image": [level]}) for level in raster.levels]
        first = next(iter(palettes(raster).values()))
        # Colours by byte.
        mapper = models.LinearColorMapper(palette=first, low=-0.5, high=VALUES + 0.5, name=f"mapper-{raster.name}")
        chart = _sky_figure(f"map-{raster.name}", *ranges)
        charts.append(chart)
        _draw_raster(chart, raster, images, pyramid, mapper)
        _draw_raster(close_up, raster, images, pyramid, mapper, visible=raster is rasters[0])
        _mark_sources(chart, marks, view, lines)
        if raster.ticks:
            _colour_bar(chart, raster, mapper)
    _mark_sources(close_up, marks, view, lines)
    others = draw_tiles(numbers.tiles, nx, ny), draw_residuals(numbers.residuals)
    # Bokeh looks for all models once, not after each root.
    with document.models.freeze():
        for root in (*charts, close_up, *others, *draw_convergence(numbers.variances, tolerance)):
            document.add_root(root)
    return document


def _sky_figure(name: str, x_range: models.Range1d, y_range: models.Range1d) -> figure:
    tools = [models.PanTool(), models.BoxZoomTool(match_aspect=True), models.WheelZoomTool(), models.TapTool()]
    # Frames of the same size, with and without a colour bar.
    size = {"frame_height": HEIGHT - 90, "min_border_left": 74, "min_border_right": 18 if name == "close-up" else 84}
    chart = new_chart(name, tools, x_range=x_range, y_range=y_range, active_drag=tools[1], active_scroll=None, **size)
    for axis in chart.axis:
        # The page sets ticks where lines of coordinates meet the frame.
        axis.ticker = models.FixedTicker(ticks=[])
    return chart


def palettes(raster: Raster) -> dict[str, list[str]]:
    """Colours of all bytes by stretch of the values; by scale for the support."""
    if raster.scale_names:
        return _support_palettes(len(raster.scale_names))
    colours = DIVERGING if raster.diverging else PALETTES[raster.name]
    return {
        name: [MASKED, *(colours[i] for i in np.rint(places * (len(colours) - 1)).astype(int))]
        for name, places in raster.stretches.items()
    }


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


def _draw_raster(
    chart: figure,
    raster: Raster,
    images: Sequence[models.ColumnDataSource],
    pyramid: Pyramid,
    mapper: models.LinearColorMapper,
    *,
    visible: bool = True,
) -> None:
    """Draw a map at all levels; the page shows the one that suits the zoom."""
    renderers = []
    for factor, source, level in zip(pyramid.factors, images, raster.levels, strict=True):
        rows, columns = level.shape
        place = {"x": -0.5, "y": -0.5, "dw": columns * factor, "dh": rows * factor, "level": "image"}
        shown, name = visible and factor == pyramid.factors[-1], f"{chart.name}/{raster.name}/{factor}"
        renderers.append(chart.image("image", source=source, color_mapper=mapper, visible=shown, name=name, **place))
    _describe(chart, renderers, "@image", f"describe('{raster.name}', value, special_vars)")


def _describe(chart: figure, renderers: Sequence[Any], field: str, call: str) -> None:
    """Describe what is under the pointer, by a function of the page's script."""
    tooltips = {"tooltips": [("", field + "{custom}")]}
    text = models.CustomJSHover(code=f"return window.cwtDask.{call}")
    chart.add_tools(models.HoverTool(renderers=renderers, formatters={field: text}, visible=False, **tooltips))


def _mark_sources(
    chart: figure, marks: models.ColumnDataSource, view: models.CDSView, lines: models.ColumnDataSource
) -> None:
    chart.multi_line("xs", "ys", source=lines, line_color="#7f8c99", line_alpha=0.55, line_width=0.8, name="sky-lines")
    # Black below white shows on any colour.
    circle = {"source": marks, "view": view, "size": 11, "fill_color": None}
    below = chart.scatter("x", "y", **circle, line_color="black", line_width=2.4, line_alpha=0.7)
    above = chart.scatter("x", "y", **circle, line_color="white", line_width=1.2)
    for circles, width, colour in ((below, 6.0, "black"), (above, 3.0, "#00e5ff")):
        circles.nonselection_glyph = circles.glyph
        circles.selection_glyph = circles.glyph.clone()
        circles.selection_glyph.update(size=22, line_color=colour, line_width=width, line_alpha=1.0)
    _describe(chart, [above], "$index", "source(value)")
    chart.select_one(models.TapTool).renderers = [above]


def _colour_bar(chart: figure, raster: Raster, mapper: models.LinearColorMapper) -> None:
    ticks = {"ticker": models.FixedTicker(ticks=list(raster.ticks)), "major_label_overrides": raster.ticks}
    shown = {"display_low": 0.5, "display_high": VALUES + 0.5, "width": 12, "label_standoff": 5, "padding": 4}
    text = {"title_text_font_style": "normal", "title_text_color": INK, "major_label_text_color": INK}
    bar = models.ColorBar(color_mapper=mapper, title=raster.unit, **ticks, **shown, **text)
    chart.add_layout(bar, "right")


def as_json(document: Document) -> dict[str, Any]:
    """JSON of the figures. Models are named by their order, so that the same run gives the same page."""
    content: Any = document.to_json(deferred=False)
    renamed: dict[str, Any] = _renamed({"version": content["version"], "title": "", "roots": content["roots"]}, {})
    return renamed


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, dict):
        if isinstance(part.get("id"), str):
            part = part | {"id": names.setdefault(part["id"], f"m{len(names)}")}
        return {key: value if key == "id" else _renamed(value, names) for key, value in part.items()}
    return [_renamed(value, names) for value in part] if isinstance(part, list | tuple) else part
