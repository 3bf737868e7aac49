"""The sphere as the page shows it: a plane of the whole sky, onto which all pixels of the survey are put."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Ints
from cwt_dask.geometry.facets import LEAST_CELL_ORDER, AnyGrid, FacetGrid
from cwt_dask.geometry.healpix import edges_of, lon_lat_of, numbers_in, places_of
from cwt_dask.geometry.tiling import Box
from cwt_dask.products.planes import Plane
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.schema import maps_in, spec_of
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import Survey, open_survey
from cwt_dask.survey.sphere import SkyImage

if TYPE_CHECKING:
    from pathlib import Path

# What one pixel of the plane is made of many by, and what it begins with. What is drawn by its mean is summed.
_HOW: dict[str, tuple[np.ufunc, Any]] = {
    "mean": (np.add, 0),
    "largest": (np.maximum, -np.inf),
    "any": (np.bitwise_or, 0),
}
# Points along each edge of the outline of a cell of the coarsest order; half as many of each finer one.
_OUTLINE = 12


def plane_of(grid: AnyGrid, most: int) -> Plane | None:
    """The plane on which the page shows a run's maps, of so many columns at most; None of a flat map, which is one."""
    return _plane(grid.nside, most) if isinstance(grid, FacetGrid) else None


@lru_cache(maxsize=2)
def _plane(nside: int, most: int) -> Plane:
    return Plane.whole_sky(SkyImage(nside, "galactic").pixel_deg, most)


def on_plane(
    files: RunDir, survey_path: Path, grid: FacetGrid, plane: Plane, count: Callable[[Mapping[str, Any]], None]
) -> dict[str, NDArray[Any]]:
    """Put all used pixels of a survey onto a plane, facet by facet: images (y, x) and cubes (scale, y, x) by name.

    They are combined as by `pyramid.reduced`. Each pixel of the survey has the values of the facet's pixel that shows
    it, and counts once. A pixel of the plane with no centre of one in it, where it is skewed, shows the one in its
    middle; `own` is the number of centres in it.

    Parameters
    ----------
    files, survey_path, grid
        Of the run.
    plane : Plane
        The plane.
    count : callable
        Called with the pixels (n,) of each facet, by name.
    """
    survey, sky_image = open_survey(survey_path, grid), Survey.open(survey_path)
    maps, wcs = open_group(files.maps, whole="run"), sky_image.wcs
    on_sky, sky = plane.sky
    places = np.flatnonzero(on_sky)
    columns, rows = wcs.world_to_pixel(sky)
    in_middle, owners = numbers_in(rows, columns, grid.nside), survey.wcs.facets_of(wcs.vectors_of_sky(sky))
    binned: dict[str, NDArray[Any]] = {}
    middle: dict[str, NDArray[Any]] = {}
    for facet in range(grid.n_tiles):
        numbers, pixels = _own_pixels(survey, sky_image, maps, facet)
        count(pixels)
        there, at = plane.pixels(wcs.of_numbers(numbers))
        here = np.flatnonzero(owners == facet)
        here = here[np.isin(in_middle[here], numbers)]
        found = np.searchsorted(numbers, in_middle[here])
        for name, values in pixels.items():
            ufunc, start = _HOW[spec_of(name).reduced]
            if name not in binned:
                shape = (*values.shape[:-1], on_sky.size)
                kind = np.int64 if name == "used" else values.dtype
                binned[name], middle[name] = np.full(shape, start, kind), np.zeros(shape, kind)
            for image, row in zip(_images(binned[name]), _images(values), strict=True):
                ufunc.at(image, at, row[there].astype(image.dtype))
            middle[name][..., places[here]] = values[..., found]
    empty, own = binned["used"] == 0, binned["used"].copy()
    for name, values in binned.items():
        values[..., empty] = middle[name][..., empty]
    return {name: values.reshape(*values.shape[:-1], *plane.shape) for name, values in {**binned, "own": own}.items()}


def _images(values: NDArray[Any]) -> NDArray[Any]:
    """Each image of a cube; of an image itself."""
    return values.reshape(-1, values.shape[-1])


def _own_pixels(survey: Any, sky_image: Survey, maps: Any, facet: int) -> tuple[Ints, dict[str, NDArray[Any]]]:
    """Numbers of the survey's used pixels in a facet's cell, and their values, by name."""
    numbers, counts, y, x = survey.own_pixels(facet)
    pixels: dict[str, NDArray[Any]] = {"used": np.ones(len(numbers), bool), "counts": counts}
    for name in (spec.name for spec in maps_in("report") if spec.name != "counts"):
        if spec_of(name).origin == "survey":
            pixels[name] = _of_survey(sky_image, name, numbers, survey.grid.nside)
        else:
            pixels[name] = maps[name][..., facet, :, :][..., y, x]
    return numbers, pixels


def _of_survey(sky_image: Survey, name: str, numbers: Ints, nside: int) -> NDArray[np.float64]:
    if not len(numbers):
        return np.zeros(0)
    rows, columns = places_of(numbers, nside)
    box = Box(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
    return sky_image.read(name, box)[rows - box.y0, columns - box.x0].astype(np.float64)


def outlines(grid: FacetGrid, plane: Plane, frame: str) -> tuple[list[list[float]], list[list[float]]]:
    """Lines along the edges of all facets' cells on a plane: their columns, and their rows.

    Parameters
    ----------
    grid : FacetGrid
        The facets.
    plane : Plane
        The plane.
    frame : str
        Of the survey.
    """
    xs, ys = [], []
    step = max(1, _OUTLINE >> (grid.order - LEAST_CELL_ORDER))
    for vectors in edges_of(np.array(grid.cells), grid.order, step):
        closed = np.vstack([vectors, vectors[:1]]) @ grid.turned.T
        x, y = plane.wcs.world_to_pixel(SkyCoord(*lon_lat_of(closed), unit="deg", frame=frame))
        # They go on at the other end of the sky.
        cut = np.flatnonzero(np.hypot(np.diff(x), np.diff(y)) > plane.shape[1] / 8) + 1
        for piece_x, piece_y in zip(np.split(x, cut), np.split(y, cut), strict=True):
            xs.append(np.round(piece_x, 1).tolist())
            ys.append(np.round(piece_y, 1).tolist())
    return xs, ys


def centres(grid: FacetGrid, plane: Plane, frame: str) -> tuple[list[float], list[float]]:
    """Columns and rows of the facets' centres on a plane.

    Parameters
    ----------
    grid, plane, frame
        As of `outlines`.
    """
    vectors = np.stack([grid.frame(facet).centre for facet in range(grid.n_tiles)])
    x, y = plane.wcs.world_to_pixel(SkyCoord(*lon_lat_of(vectors), unit="deg", frame=frame))
    return np.round(x, 1).tolist(), np.round(y, 1).tolist()
