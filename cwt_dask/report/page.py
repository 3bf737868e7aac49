"""The page: figures, tables and words, with everything that a browser needs in one file."""

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

from cwt_dask.report import text as telling
from cwt_dask.report.figures import as_json, draw, palettes, support_colours
from cwt_dask.report.table import FLAG_WORDS, MOST_SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwt_dask.report.data import Numbers
    from cwt_dask.report.pyramid import Pyramid
    from cwt_dask.report.rasters import Plane
    from cwt_dask.report.sky import Line, SkyGrid
    from cwt_dask.report.table import Sources
    from cwt_dask.results import SurveyRun

MARK = "cwt-dask-certificate"
# Rows of the table that are there without a script; what the page shows at once.
ROWS = 50
STRETCHES = {
    "asinh": "asinh, 99.9 % of the pixels",
    "whole": "asinh, whole range",
    "robust": "linear, 99.5 % of the pixels",
    "linear": "linear, whole range",
}


def render(
    run: SurveyRun,
    planes: Sequence[Plane],
    pyramid: Pyramid,
    sky: SkyGrid,
    sources: Sources,
    numbers: Numbers,
    mark: str,
) -> str:
    """Render the page; `mark` says of which certificate it is."""
    plan = run.stored.plan
    document = draw(planes, pyramid, sources, numbers, plan.settings.tol if plan.settings.stopping != "fixed" else 0.0)
    roots = {root.name: f"figure-{root.name}" for root in document.roots}
    content = as_json(document)
    ids = {root["attributes"]["name"]: root["id"] for root in content["roots"]}
    data = {
        "figures": content,
        "roots": {ids[name]: element for name, element in roots.items()},
        "shape": list(pyramid.shape),
        "factors": list(pyramid.factors),
        "planes": {plane.name: _plane(plane) for plane in planes},
        "sky": _sky(sky, run.survey.statistics.pixel_scale_deg),
        "columns": [
            {"name": column.name, "title": column.title, "text": column.text, "values": column.values}
            for column in sources.columns
        ],
        "x": sources.x,
        "y": sources.y,
        "flagged": sources.flagged,
        "scale": float(plan.kernels.scales[-1]),
        "rows": ROWS,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_file("page.html.j2"))
    return template.render(
        mark=mark,
        mark_name=MARK,
        name=run.files.path.name,
        path=str(run.files.path),
        catalogue=str(run.files.catalogue),
        certificate_path=str(run.files.certificate),
        finished=numbers.certificate["finished"],
        version=version("cwt_dask"),
        verdict=telling.verdict(plan, numbers),
        not_said=telling.NOT_SAID,
        evidence=telling.evidence(numbers),
        key_figures=telling.key_figures(numbers, sources),
        warnings=telling.warnings(numbers, sources),
        slowest=telling.slowest_tiles(numbers.tiles),
        said={
            "tiles": telling.tiles_in_words(numbers.tiles),
            "residuals": telling.residuals_in_words(numbers.residuals),
            "change": telling.convergence_in_words(numbers.variances),
        },
        cost=telling.cost(plan, numbers),
        settings=telling.setting_rows(run),
        versions=numbers.certificate["versions"],
        digests={name: numbers.certificate[name] for name in ("digest_maps", "input_digest", "settings_digest")},
        planes=planes,
        support_colours=support_colours,
        stretches=STRETCHES,
        factor=pyramid.factors[0],
        sources=sources,
        most_sources=MOST_SOURCES,
        rows=ROWS,
        flag_words=list(FLAG_WORDS.values()),
        sky=sky,
        numbers=numbers,
        n_outside=[int(numbers.residuals.pixels[0]), int(numbers.residuals.pixels[-1])],
        style=Markup(_file("page.css")),  # noqa: S704 - it is ours
        bokeh=Markup(_script(_bokeh())),  # noqa: S704 - it is Bokeh's
        script=Markup(_script(_file("page.js"))),  # noqa: S704 - it is ours
        data=Markup(_json(data)),  # noqa: S704 - nothing in it ends the element
    )


def _file(name: str) -> str:
    return files("cwt_dask.report").joinpath(name).read_text(encoding="utf-8")


def _bokeh() -> str:
    """What draws figures; no widget, no table and no WebGL of it is needed."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def _script(text: str) -> str:
    """A script that does not end its element."""
    return text.replace("</script", "<\\/script")


def _json(data: Any) -> str:
    """JSON that does not end its element, nor begins a comment."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plane(plane: Plane) -> dict[str, Any]:
    return {
        "title": plane.title,
        "unit": plane.unit,
        "values": plane.values,
        "scales": plane.scale_names,
        "palettes": palettes(plane),
    }


def _sky(sky: SkyGrid, pixel_deg: float) -> dict[str, Any]:
    def plain(levels: list[list[Line]]) -> list[list[list[Any]]]:
        return [[[line.label, line.x, line.y] for line in lines] for lines in levels]

    # To a tenth of a pixel, as far as what lies between the directions allows.
    digits = min(max(math.ceil(1 - math.log10(math.radians(pixel_deg))), 4), 12)
    directions = np.round(np.nan_to_num(sky.directions), digits).ravel().tolist()
    return {
        "names": [sky.lon, sky.lat],
        "titles": [sky.longitude, sky.latitude],
        "meridians": plain(sky.meridians),
        "parallels": plain(sky.parallels),
        "x": sky.x.tolist(),
        "y": sky.y.tolist(),
        # A vector of zeros is no direction.
        "directions": directions,
        "digits": min(max(math.ceil(-math.log10(max(pixel_deg / 10, sky.error))), 0), 8),
    }
