"""Fields of a survey that are simulated: its tiles with their margins, or cells of the sphere; all, or a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.healpix import places_of
from cwt_dask.geometry.tiling import Box, TileGrid
from cwt_dask.survey import SurveyStatistics
from cwt_dask.survey.sphere import Sphere

# A cell of the sphere is at least so many times as wide as what is lost along its edge, and has at least so many pixels
# along a side; a base cell is cut into so many along a side at most. Each is ingested as a sky of its own, whose empty
# rows take their time, too.
_LEAST_CELL, _LEAST_PIXELS, _MOST_CELLS = 6, 1024, 4


@dataclass(frozen=True)
class Field:
    """A part of a survey that is simulated and analysed by itself."""

    number: int
    box: Box  # Its pixels, by rows and columns of the survey's store.
    counted: Box  # Rows of the catalogue count here: beyond, the field's edge is felt.


def fields_of(grid: AnyGrid, statistics: SurveyStatistics, reach: int) -> list[Field]:
    """Cut a survey into fields.

    Parameters
    ----------
    grid : TileGrid or FacetGrid
        Of its run.
    statistics : SurveyStatistics
        Of the survey.
    reach : int
        Pixels from the edge of a field within which it is felt.
    """
    if isinstance(grid, TileGrid):
        cut = _tiles(grid, statistics.shape, reach)
    else:
        cut = _cells(statistics.sphere or Sphere(grid.nside), statistics.shape, reach)
    return [Field(number, *boxes) for number, boxes in enumerate(cut)]


def sample(fields: list[Field], pixels: float, rng: np.random.Generator) -> list[int]:
    """Choose fields at random: as many as have so many pixels, at least one, at most all.

    Parameters
    ----------
    fields : list of Field
        All of them.
    pixels : float
        How many.
    rng : Generator
        What they are chosen with.
    """
    mean = sum(field.box.area for field in fields) / len(fields)
    n = min(len(fields), max(1, math.ceil(pixels / mean)))
    return sorted(rng.permutation(len(fields))[:n].tolist())


def _tiles(grid: TileGrid, shape: tuple[int, int], reach: int) -> Iterator[tuple[Box, Box]]:
    height, width = shape
    for tile in grid.tiles():
        window, core = tile.window, tile.core
        box = window.intersection(Box(0, height, 0, width))
        counted = core
        if grid.ring:
            # Beyond the first and last column there is sky, which the field has not.
            counted = core.intersection(Box(0, height, reach, width - reach))
        yield box, counted


def _cells(sphere: Sphere, shape: tuple[int, int], reach: int) -> Iterator[tuple[Box, Box]]:
    least = max(_LEAST_CELL * reach, _LEAST_PIXELS, sphere.nside // _MOST_CELLS)
    order = math.floor(math.log2(max(1.0, sphere.nside / least)))
    width = sphere.nside >> order
    if width < _LEAST_CELL * reach:
        whole = Box(0, shape[0], 0, shape[1])
        yield whole, whole
        return
    for row, column in zip(*places_of(np.array(sphere.cells_of(order)), 1 << order), strict=True):
        box = Box(int(row) * width, (int(row) + 1) * width, int(column) * width, (int(column) + 1) * width)
        yield box, Box(box.y0 + reach, box.y1 - reach, box.x0 + reach, box.x1 - reach)
