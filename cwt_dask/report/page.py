"""The page: figures, tables and text, with everything that a browser needs in one file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.util.paths import bokehjs_path
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cwt_dask.merge.certificate import SEAL
from cwt_dask.report import text
from cwt_dask.report.data import Numbers
from cwt_dask.report.figures import SUPPORT_COLOURS, figure_data
from cwt_dask.report.profiles import read_profiles
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.report.rasters import Raster
from cwt_dask.report.residual import smoothing_width
from cwt_dask.report.sky import SkyGrid
from cwt_dask.report.sphere import centres, outlines
from cwt_dask.report.table import Sources, read_sources
from cwt_dask.report.worth import read_worth
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.terminal import visible

MARK = "cwt-dask-certificate"
# Rows of the table of sources that the page shows at once, and without a script.
ROWS = 50
# The map of the close-up until another is chosen.
CLOSER = "smoothed"
STRETCHES = {
    "asinh": "asinh, 99.9 % of the pixels",
    "whole": "asinh, whole range",
    "robust": "linear, 99.5 % of the pixels",
    "linear": "linear, whole range",
}


def render(run: SurveyRun, rasters: Sequence[Raster], pyramid: Pyramid, numbers: Numbers) -> str:
    """Render the page.

    Parameters
    ----------
    run, rasters, pyramid, numbers
        What it shows.
    """
    plan, sources, worth = run.stored.plan, read_sources(run), read_worth(run)
    wcs, pixel = _map_of(run, pyramid)
    # Pixels of the survey along one of the page's map, on the sphere.
    larger = pixel / run.survey.statistics.pixel_scale_deg
    tolerance = plan.settings.tol * (plan.settings.stopping != "fixed")
    # Of the point spread function, in degrees.
    width = smoothing_width(run) * run.survey.statistics.pixel_scale_deg
    data = {
        **figure_data(rasters, numbers, tolerance),
        "shape": pyramid.shape,
        "factors": pyramid.factors,
        "sky": _sky(SkyGrid.of(wcs, pyramid.shape), pixel),
        "columns": [vars(column) for column in sources.columns],
        **{name: getattr(sources, name) for name in ("x", "y", "flagged")},
        "radius": _radii(sources, width, pixel),
        "psf": width,
        "profiles": read_profiles(run, sources),
        "closer": CLOSER,
        "scale": float(plan.kernels.scales[-1]) / larger,
        "rows": ROWS,
        "facets": _facets(run, pyramid),
        "worth": {"axis": worth.axis, "curves": worth.curves},
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Names of files may hold what no page may.
    environment.finalize = lambda value: visible(value) if type(value) is str else value
    return environment.from_string(_file("page.html.j2")).render(
        run=run,
        plan=plan,
        text=text,
        rasters=rasters,
        sources=sources,
        worth=worth,
        numbers=numbers,
        certificate=numbers.certificate,
        mark=(MARK, numbers.certificate[SEAL]),
        version=version("cwt_dask"),
        support_colours=SUPPORT_COLOURS,
        stretches=STRETCHES,
        factor=pyramid.factors[0],
        closer=CLOSER,
        sphere=pyramid.plane is not None,
        tiles="facets" if pyramid.plane else "tiles",
        tells_extension=bool(data["profiles"]["extensions"]),
        rows=ROWS,
        style=Markup(_file("page.css")),  # noqa: S704 - it is ours
        # Bokeh without widgets, tables and WebGL, and what makes figures in a script.
        scripts=[
            *(_script(_bokeh(name)) for name in ("bokeh.min.js", "bokeh-api.min.js")),
            *(_script(_file(name)) for name in ("sky.js", "figures.js", "sources.js", "page.js")),
        ],
        data=Markup(_json(data)),  # noqa: S704 - nothing in it ends the element
    )


def _map_of(run: SurveyRun, pyramid: Pyramid) -> tuple[Any, float]:
    """Sky coordinates of the page's map, and the size of its pixels in degrees."""
    if pyramid.plane:
        return pyramid.plane.wcs, pyramid.plane.pixel
    return run.wcs, run.survey.statistics.pixel_scale_deg


def _radii(sources: Sources, width: float, pixel: float) -> list[float]:
    """Radii of the sources' circles in pixels of the page's map: twice the width that they have on it."""
    return [round(2 * math.hypot(width, extension) / pixel, 2) for extension in sources.extension]


def _facets(run: SurveyRun, pyramid: Pyramid) -> dict[str, Any] | None:
    """Outlines and centres of the facets on the page's map; None of a flat map."""
    if not pyramid.facets or not pyramid.plane:
        return None
    known = pyramid.facets, pyramid.plane, run.wcs.frame
    (xs, ys), (x, y) = outlines(*known), centres(*known)
    return {"xs": xs, "ys": ys, "x": x, "y": y}


def _file(name: str) -> str:
    return files("cwt_dask.report").joinpath(name).read_text(encoding="utf-8")


def _bokeh(name: str) -> str:
    return Path(bokehjs_path(), "js", name).read_text(encoding="utf-8")


def _script(code: str) -> Markup:
    """A script that does not end its element."""
    return Markup(code.replace("</script", "<\\/script"))  # noqa: S704 - it is ours, or Bokeh's


def _json(data: Any) -> str:
    """JSON that neither ends its element nor starts a comment."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _sky(sky: SkyGrid, pixel_deg: float) -> dict[str, Any]:
    # To a tenth of a pixel, as far as interpolation allows. A vector of zeros is no direction.
    digits = min(max(math.ceil(1 - math.log10(math.radians(pixel_deg))), 4), 12)
    directions = np.round(np.nan_to_num(sky.directions), digits).ravel().tolist()
    return {
        "names": [sky.lon, sky.lat],
        "titles": [sky.longitude, sky.latitude],
        "meridians": sky.meridians,
        "parallels": sky.parallels,
        "x": sky.x.tolist(),
        "y": sky.y.tolist(),
        "directions": directions,
        "digits": min(max(math.ceil(-math.log10(max(pixel_deg / 10, sky.error))), 0), 8),
    }
