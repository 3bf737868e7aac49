"""The page: figures, tables and text, with everything that a browser needs in one file."""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cwt_dask.report import text
from cwt_dask.report.figures import as_json, draw, palettes, support_colours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwt_dask.report.data import Numbers
    from cwt_dask.report.pyramid import Pyramid
    from cwt_dask.report.rasters import Raster
    from cwt_dask.report.sky import SkyGrid
    from cwt_dask.report.table import Sources
    from cwt_dask.results import SurveyRun

MARK = "cwt-dask-certificate"
# Rows of the table of sources that the page shows at once, and without a script.
ROWS = 50
STRETCHES = {
    "asinh": "asinh, 99.9 % of the pixels",
    "whole": "asinh, whole range",
    "robust": "linear, 99.5 % of the pixels",
    "linear": "linear, whole range",
}


def render(
    run: SurveyRun,
    rasters: Sequence[Raster],
    pyramid: Pyramid,
    sky: SkyGrid,
    sources: Sources,
    numbers: Numbers,
    mark: str,
) -> str:
    """Render the page.

    Parameters
    ----------
    run, rasters, pyramid, sky, sources, numbers
        What it shows.
    mark : str
        Identifies the certificate that it belongs to.
    """
    plan = run.stored.plan
    figures = as_json(draw(rasters, pyramid, sources, numbers, plan.settings.tol * (plan.settings.stopping != "fixed")))
    data = {
        "figures": figures,
        "roots": {root["id"]: f"figure-{root['attributes']['name']}" for root in figures["roots"]},
        "shape": pyramid.shape,
        "factors": pyramid.factors,
        "maps": {raster.name: _map(raster) for raster in rasters},
        "sky": _sky(sky, run.survey.statistics.pixel_scale_deg),
        "columns": [
            {name: getattr(column, name) for name in ("name", "title", "text", "values")} for column in sources.columns
        ],
        **{name: getattr(sources, name) for name in ("x", "y", "flagged")},
        "scale": float(plan.kernels.scales[-1]),
        "rows": ROWS,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("page.html.j2")).render(
        mark=mark,
        mark_name=MARK,
        files=run.files,
        certificate=numbers.certificate,
        version=version("cwt_dask"),
        **_texts(run, sources, numbers),
        rasters=rasters,
        support_colours=support_colours,
        stretches=STRETCHES,
        factor=pyramid.factors[0],
        sources=sources,
        rows=ROWS,
        numbers=numbers,
        n_outside=[int(numbers.residuals.pixels[0]), int(numbers.residuals.pixels[-1])],
        style=Markup(_file("page.css")),  # noqa: S704 - it is ours
        bokeh=Markup(_script(_bokeh())),  # noqa: S704 - it is Bokeh's
        script=Markup(_script(_file("page.js"))),  # noqa: S704 - it is ours
        data=Markup(_json(data)),  # noqa: S704 - nothing in it ends the element
    )


def _texts(run: SurveyRun, sources: Sources, numbers: Numbers) -> dict[str, Any]:
    plan = run.stored.plan
    return {
        "conclusion": text.conclude(plan, numbers),
        "not_covered": text.NOT_COVERED,
        "evidence": text.evidence(numbers),
        "key_figures": text.key_figures(numbers, sources),
        "warnings": text.warnings(numbers, sources),
        "slowest": text.slowest_tiles(numbers.tiles),
        "tiles": text.describe_tiles(numbers.tiles),
        "residuals": text.describe_residuals(numbers.residuals),
        "change": text.describe_convergence(numbers.variances),
        "cost": text.cost(plan, numbers),
        "settings": text.setting_rows(run),
    }


def _file(name: str) -> str:
    return files("cwt_dask.report").joinpath(name).read_text(encoding="utf-8")


def _bokeh() -> str:
    """The part of Bokeh that draws figures, without widgets, tables and WebGL."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def _script(code: str) -> str:
    """A script that does not end its element."""
    return code.replace("</script", "<\\/script")


def _json(data: Any) -> str:
    """JSON that neither ends its element nor starts a comment."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _map(raster: Raster) -> dict[str, Any]:
    return {
        "title": raster.title,
        "unit": raster.unit,
        "values": raster.values,
        "scales": raster.scale_names,
        "palettes": palettes(raster),
    }


def _sky(sky: SkyGrid, pixel_deg: float) -> dict[str, Any]:
    # To a tenth of a pixel, as far as interpolation allows.
    digits = min(max(math.ceil(1 - math.log10(math.radians(pixel_deg))), 4), 12)
    directions = np.round(np.nan_to_num(sky.directions), digits).ravel().tolist()
    return {
        "names": [sky.lon, sky.lat],
        "titles": [sky.longitude, sky.latitude],
        "meridians": sky.meridians,
        "parallels": sky.parallels,
        "x": sky.x.tolist(),
        "y": sky.y.tolist(),
        # A vector of zeros is no direction.
        "directions": directions,
        "digits": min(max(math.ceil(-math.log10(max(pixel_deg / 10, sky.error))), 0), 8),
    }
