"""The shapes of sources in the window of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.shapes import Shapes
from cwt_dask.planning.plan import Plan
from cwt_dask.psf import PointSpread, kept_point_spread
from cwt_dask.psf.shapes import shapes_at
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import Survey, Window, sky_on
from cwt_dask.survey.facets import FacetSurvey

# Widths of extended sources that are tried, in those of the point spread function.
EXTENSIONS = (2.0, 4.0, 8.0)
# Which point spread function holds is looked up once for so many pixels along each axis, counted from the map's corner.
_CELL = 16


def point_spread_of(run_dir: RunDir, plan: Plan, header_text: str) -> PointSpread:
    """That of a run; where it has none a Gaussian as wide as the finest scale.

    Parameters
    ----------
    run_dir, plan
        Of the run.
    header_text : str
        Cards of the survey's sky coordinates.
    """
    return _kept(run_dir, plan.settings.psf, header_text, plan.grid) or PointSpread.gaussian(
        float(plan.kernels.scales[0])
    )


@lru_cache(maxsize=2)
def _kept(run_dir: RunDir, setting: Any, header_text: str, grid: AnyGrid) -> PointSpread | None:
    return kept_point_spread(run_dir, setting, sky_on(header_text, grid))


@lru_cache(maxsize=2)
def _same_everywhere(spread: PointSpread, extensions: tuple[float, ...]) -> Shapes:
    return shapes_at(spread, [0.0], [0.0], extensions)[0]


class Scene(NamedTuple):
    """What a window is fitted by: images as `cwt_dask.measure.likelihood.Fit` takes them, and shapes."""

    background: Floats
    seen: Bools | Floats
    shapes: Shapes
    node_of: Any  # Gives the nodes of shapes at pixels of the window.


def scene_in(
    run_dir: RunDir,
    plan: Plan,
    survey: Survey,
    tile_id: int,
    window: Box,
    pixels: Window,
    *,
    widths: Sequence[float] = (),
) -> Scene:
    """Make what the window of a tile is fitted by.

    Parameters
    ----------
    run_dir, plan, survey
        Of the run.
    tile_id, window, pixels
        Which tile, the pixels of the map, and what was read of them.
    widths : sequence of float, optional
        As of `shapes_in`.
    """
    spread = point_spread_of(run_dir, plan, survey.header_text)
    shapes, node_of = shapes_in(spread, plan, window, widths)
    seen: Bools | Floats = pixels.valid
    if isinstance(survey, FacetSurvey):
        seen, centres = survey.coverage(tile_id)
        shapes = shapes._replace(centres=centres)
    return Scene(pixels.background / np.where(seen > 0, seen, 1), seen, shapes, node_of)


def shapes_in(spread: PointSpread, plan: Plan, window: Box, widths: Sequence[float] = ()) -> tuple[Shapes, Any]:
    """Shapes in a window, and a function that gives their nodes at pixels of it.

    Parameters
    ----------
    spread, plan
        Of a run.
    window : Box
        Pixels of the map.
    widths : sequence of float, optional
        Extensions in pixels that are to be among the shapes', besides those that the run tries.
    """
    tried = [spread.sigma * factor for factor in EXTENSIONS] if plan.settings.extended else []
    extensions = tuple(sorted({*tried, *widths}))
    if spread.places is None:
        return _same_everywhere(spread, extensions), lambda y, _x: np.zeros(len(y), np.int64)
    # Cells of the map, so that all windows have the same.
    rows = np.arange(window.y0 // _CELL, -(-window.y1 // _CELL))
    columns = np.arange(window.x0 // _CELL, -(-window.x1 // _CELL))
    x, y = np.meshgrid((columns + 0.5) * _CELL, (rows + 0.5) * _CELL)
    if plan.grid.ring:
        x %= plan.grid.width
    shapes, node = shapes_at(spread, x.ravel(), y.ravel(), extensions)
    nodes = node.reshape(len(rows), len(columns))

    def node_of(y: Ints, x: Ints) -> Ints:
        return np.asarray(nodes[(y + window.y0) // _CELL - rows[0], (x + window.x0) // _CELL - columns[0]])

    return shapes, node_of
