"""The shapes of sources in the window of a tile."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from cwt_dask.cwt.arrays import Ints
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.shapes import Shapes
from cwt_dask.planning.plan import Plan
from cwt_dask.psf import PointSpread, kept_point_spread
from cwt_dask.psf.shapes import shapes_at
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import sky_on

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


def shapes_in(spread: PointSpread, plan: Plan, window: Box) -> tuple[Shapes, Any]:
    """Shapes in a window, and a function that gives their nodes at pixels of it.

    Parameters
    ----------
    spread, plan
        Of a run.
    window : Box
        Pixels of the map.
    """
    extensions = tuple(spread.sigma * factor for factor in EXTENSIONS) if plan.settings.extended else ()
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
