"""A survey of the sphere, read facet by facet.

Counts are never interpolated. Those of a HEALPix pixel go, whole, to the pixel of the facet that holds its centre, and
its background goes the same way: so each pixel of a facet is exactly Poisson of its background, though some get no
pixel of the survey, and some two. The exposure is a density: it is that of the pixel of the survey at each centre.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.buffers import borrow
from cwt_dask.geometry.facets import AnyGrid, FacetGrid
from cwt_dask.geometry.healpix import N_BASE, beside, centres_of, numbers_in, order_of, places_of
from cwt_dask.geometry.projected import add_centres, add_held, held_by, places_at
from cwt_dask.geometry.tiling import Box
from cwt_dask.survey.sphere import AREA, ASIDE, FacetSky
from cwt_dask.survey.store import Survey, Window
from cwt_dask.survey.wcs import wcs_from_text

# A sky of no more than so many times the pixels of a facet is read at once: many small pieces take longer.
_SMALL = 8
# Pixels of a facet of which one is asked where the sky is that they show.
_STEP = 8
# Planes of which each pixel of the survey is a part; of others each pixel of a facet takes a value.
_SUMMED = ("counts", "background")
_PIXELS = ("counts", "background", "mask")


def open_survey(path: Path, grid: AnyGrid) -> Survey:
    """Open a survey's store to read tiles of a grid.

    Parameters
    ----------
    path : Path
        The store.
    grid : TileGrid or FacetGrid
        The tiles.

    Raises
    ------
    SurveyError
        As of `Survey.open`.
    """
    return FacetSurvey.of(path, grid) if isinstance(grid, FacetGrid) else Survey.open(path, ring=grid.ring)


def sky_on(header_text: str, grid: AnyGrid) -> Any:
    """Sky coordinates of the pixels of a grid's tiles.

    Parameters
    ----------
    header_text : str
        Cards of the survey's sky coordinates.
    grid : TileGrid or FacetGrid
        The tiles.
    """
    wcs = wcs_from_text(header_text)
    return FacetSky(grid, wcs.frame) if isinstance(grid, FacetGrid) else wcs


class FacetSurvey(Survey):
    """A store of a survey of the sphere; boxes are those of facets."""

    grid: FacetGrid
    # Of the facet that was read last: what flags are made of is asked for once more.
    _last_mask: tuple[int, NDArray[np.uint8]] | None = None

    @classmethod
    def of(cls, path: Path, grid: FacetGrid) -> FacetSurvey:
        """Open a store.

        Parameters
        ----------
        path : Path
            The store.
        grid : FacetGrid
            The facets.
        """
        survey = cls.open(path)
        survey.grid = grid
        return survey

    @property
    def wcs(self) -> Any:  # noqa: D102
        return sky_on(self.header_text, self.grid)

    def read(self, name: str, box: Box) -> NDArray[Any]:
        """Read the pixels (y, x) of a plane in a box of one facet; counts and background as float64."""
        facet, inside = box.y0 // self.grid.side, box.within(self.grid.tile(box.y0 // self.grid.side).core)
        if name == "mask" and self._last_mask and self._last_mask[0] == facet:
            return self._last_mask[1][inside]
        if name in _PIXELS:
            images: tuple[NDArray[Any], ...] = self._images(facet)
            return images[_PIXELS.index(name)][inside]
        y, x = np.mgrid[inside]
        return self._at_centres(name, facet, y, x)

    def read_window(self, window: Box, box: Box, *, digest: bool = True) -> Window:
        """Read the pixels of a facet.

        Parameters
        ----------
        window, box, digest
            As of `Survey.read_window`.
        """
        facet = window.y0 // self.grid.side
        planes = self._images(facet)
        digested = self._digest(planes) if digest else ""
        filled = []
        for pixels, dtype in zip(
            (*planes, self.grid.core_of(facet)), (np.float64, np.float64, bool, bool), strict=True
        ):
            filled.append(borrow(box.shape, dtype, 0))
            filled[-1][window.within(box)] = pixels
        counts, background, valid, core = filled
        return Window(counts, background, valid, digested, np.logical_and(core, valid, out=core))

    def digest_window(self, window: Box) -> str:
        """SHA-256 of counts, background and mask of a facet."""
        facet = window.y0 // self.grid.side
        return self._digest(self._images(facet))

    def coverage(self, facet: int) -> tuple[Floats, Floats]:
        """How many used pixels of the survey each pixel (y, x) of a facet holds; how far from its middle they lie.

        The latter is the mean over their centres, (dy and dx, y, x); 0 where there are none. Of a survey that was taken
        to the sphere a pixel counts as the area that it got, and lies where the mean of that does.
        """
        frame, images = self.grid.frame(facet), np.zeros((3, *self.grid.tile(facet).core.shape))
        for box in _boxes(self.grid, facet):
            area = (Survey.read(self, "mask", box) > 0).astype(np.float64)
            if self.array(AREA) is not None:
                area *= Survey.read(self, AREA, box)
            if self.array(ASIDE[0]) is None:
                add_centres(frame, self.grid.nside, box, area, images)
            else:
                self._add_means(facet, box, area, images)
        images[1:] /= np.where(images[0] > 0, images[0], 1)
        return images[0], images[1:]

    def own_pixels(self, facet: int) -> tuple[Ints, Floats, Ints, Ints]:
        """The survey's used pixels in a facet's cell: their numbers, ascending, counts, and the pixels that show them.

        The last two are y and x in the facet's image, of pixels that it publishes.
        """
        grid, order = self.grid, order_of(self.grid.nside)
        numbers = np.arange(*(cell << 2 * (order - grid.order) for cell in (grid.cells[facet], grid.cells[facet] + 1)))
        rows, columns = places_of(numbers, grid.nside)
        box = Box(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
        at = rows - box.y0, columns - box.x0
        there = super().read("mask", box)[at] > 0
        counts = super().read("counts", box)[at][there].astype(np.float64)
        _, y, x = self.wcs.pixels_of(centres_of(numbers[there], order))
        return numbers[there], counts, y, x

    def owned_counts(self, facet: int) -> float:
        """Sum of the counts of the survey's pixels in a facet's cell, as they are found in its image."""
        grid, total = self.grid, 0.0
        for box in [grid.cell_box(facet)] if not any(grid.rotation) else _boxes(grid, facet):
            here = held_by(grid.frame(facet), grid.side_of(facet), grid.nside, box)[0]
            rows, columns = np.divmod(here, box.shape[1])
            owned = here[grid.owns(facet, rows + box.y0, columns + box.x0)]
            total += float(Survey.read(self, "counts", box).ravel()[owned].sum(dtype=np.float64))
        return total

    def _add_means(self, facet: int, box: Box, area: Floats, images: Floats) -> None:
        """Do as `add_centres`, by where the mean of what each pixel got lies."""
        grid, frame = self.grid, self.grid.frame(facet)
        side = grid.side_of(facet)
        here, there, _, _ = held_by(frame, side, grid.nside, box)
        east, north = (Survey.read(self, name, box).ravel()[here] for name in ASIDE)
        rows, columns = np.divmod(here, box.shape[1])
        centres = centres_of(numbers_in(rows + box.y0, columns + box.x0, grid.nside), order_of(grid.nside))
        x, y = frame.pixels(beside(centres, east, north, grid.pixel))
        i, j = np.divmod(there, side)
        for image, far in zip(images, (np.ones(len(here)), y - i, x - j), strict=True):
            np.add.at(image, (i, j), area.ravel()[here] * far)

    @staticmethod
    def _digest(planes: Iterable[NDArray[Any]]) -> str:
        digest = hashlib.sha256()
        for pixels in planes:
            digest.update(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    def _images(self, facet: int) -> tuple[Floats, Floats, NDArray[np.uint8]]:
        """Counts, background and mask on the pixels (y, x) of a facet, in one pass."""
        grid, shape = self.grid, self.grid.tile(facet).core.shape
        frame, sums, mask = grid.frame(facet), np.zeros((2, *shape)), np.zeros(shape, np.uint8)
        for box in _boxes(grid, facet):
            counts, background = (Survey.read(self, name, box).astype(np.float64, copy=False) for name in _SUMMED)
            planes = counts, background, Survey.read(self, "mask", box)
            add_held(frame, grid.nside, box, planes, (sums[0], sums[1], mask))
        # A pixel that holds a used one is used, whatever lies at its own centre.
        y, x = np.nonzero(mask == 0)
        mask[y, x] = self._at_centres("mask", facet, y, x)
        mask.flags.writeable = False
        self._last_mask = facet, mask
        return sums[0], sums[1], mask

    def _at_centres(self, name: str, facet: int, y: Ints, x: Ints) -> NDArray[Any]:
        """A plane at the centres of pixels of a facet."""
        rows, columns = places_at(self.grid.frame(facet), y, x, self.grid.nside)
        values: NDArray[Any] = np.zeros(rows.shape, self._array(name).dtype)
        for box in _boxes_of(rows, columns, self.grid.nside, rows.size, 0):
            here = (box.y0 <= rows) & (rows < box.y1) & (box.x0 <= columns) & (columns < box.x1)
            values[here] = Survey.read(self, name, box)[rows[here] - box.y0, columns[here] - box.x0]
        return values


def _boxes(grid: FacetGrid, facet: int) -> Iterator[Box]:
    """Boxes of the image of the sky that hold all pixels with a centre on the image of a facet."""
    side = grid.side_of(facet)
    along = np.arange(side)
    # Places lie smoothly: those of some pixels, and of all at the edge, tell where the others are.
    is_seen = (along % _STEP == 0) | (along == side - 1)
    y, x = np.nonzero(is_seen[:, np.newaxis] & is_seen | _at_edge(side))
    rows, columns = places_at(grid.frame(facet), y, x, grid.nside)
    return _boxes_of(rows, columns, grid.nside, side**2, 2 * _STEP)


def _at_edge(side: int) -> Bools:
    edge = np.ones((side, side), bool)
    edge[1:-1, 1:-1] = False
    return edge


def _boxes_of(rows: Ints, columns: Ints, nside: int, size: int, more: int) -> Iterator[Box]:
    """Boxes, one of a base cell, of the image of a sky.

    Parameters
    ----------
    rows, columns : ndarray
        Of pixels that they hold; -1 where there is none.
    nside : int
        Of the sky.
    size : int
        Number of pixels of which these are some.
    more : int
        Pixels that boxes hold beyond them.
    """
    if N_BASE * nside * nside <= _SMALL * size:
        yield Box(0, N_BASE * nside, 0, nside)
        return
    bases = rows // nside
    for base in range(N_BASE):
        here = bases == base
        if not here.any():
            continue
        yield Box(
            max(int(rows[here].min()) - more, int(base) * nside),
            min(int(rows[here].max()) + 1 + more, (int(base) + 1) * nside),
            max(int(columns[here].min()) - more, 0),
            min(int(columns[here].max()) + 1 + more, nside),
        )
