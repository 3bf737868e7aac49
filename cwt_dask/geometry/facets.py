"""Facets of the sphere, the second geometry of tiles beside the plane's grid: cells of a coarse HEALPix map.

Each cell is a tile with an image of its own: equal area about the cell's centre (ZEA), turned so that the cell fills
its box, with pixels of one size everywhere and a margin around the cell. Images are as large as their cells ask for,
and are counted as if they lay one above the other, each in a place as high as the largest: row y of facet f is row
``f * side + y``. No pixel of one is a neighbour of another's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.errors import SettingsError
from cwt_dask.geometry.cells import boxes_in, frame_of, half_sides, rotation_of
from cwt_dask.geometry.frames import Frame
from cwt_dask.geometry.healpix import centres_of, numbers_at, numbers_in, order_of, places_of
from cwt_dask.geometry.projected import places_at
from cwt_dask.geometry.tiling import Axis, Box, Tile, TileGrid

# Pixels along a block of which one is asked whether it lies in a cell.
_BLOCK = 8
# Finer cells than that are no help to any map.
MOST_CELL_ORDER = 8
# By how much the projection may stretch a cell's corner: 0.8 % at order 2, 0.2 % at order 3.
LEAST_CELL_ORDER = 2


@dataclass(frozen=True, order=True)
class FacetBox(Box):
    """Pixels of one facet, in the rows of all."""

    facet: int
    side: int

    @property
    def slices(self) -> tuple[int, slice, slice]:  # type: ignore[override]
        """Index (facet, y, x) of these pixels in an array of all facets."""
        first = self.facet * self.side
        return self.facet, slice(self.y0 - first, self.y1 - first), slice(self.x0, self.x1)


@dataclass(frozen=True)
class FacetGrid:
    """All facets of a run, by number: the interface of `cwt_dask.geometry.tiling.TileGrid`."""

    nside: int  # Of the survey; pixels of facets have the size of its pixels.
    order: int  # Of the cells.
    cells: tuple[int, ...]  # Numbers of those that are facets, ascending.
    side: int  # Rows and columns of the largest image.
    margin: int  # Pixels of an image around its cell, at least.
    fft: int  # Rows and columns of its FFT box.
    # Angles of Euler (z, y, z), in degrees, by which the cells are turned against those of the map.
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    # Of images and boxes of cells that need less, ascending.
    smaller: tuple[tuple[int, int], ...] = ()

    # It is no ring, and what tiles do at their seams is not needed.
    ring = False
    has_seams = False

    @classmethod
    def plan(
        cls,
        nside: int,
        order: int,
        cells: Sequence[int],
        margin: int,
        reach: int,
        fast_length: Callable[[int], int],
        *,
        rotation: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> FacetGrid:
        """Lay facets over the sphere.

        Parameters
        ----------
        nside : int
            Of the survey's map.
        order : int
            Of the cells.
        cells : sequence of int
            Those that the survey has pixels in.
        margin : int
            Least number of pixels around a cell.
        reach, fast_length
            As of `TileGrid.plan`.
        rotation : tuple of float, optional
            By which the cells are turned, in degrees.

        Raises
        ------
        SettingsError
            If the margin is negative.
        """
        if margin < 0:
            raise SettingsError(f"margin is {margin}: it must be 0 or more pixels")
        sizes = {}
        for inner in _pixels_along(half_sides(order), nside).tolist():
            fft = fast_length(inner + 2 * margin + reach)
            # Pixels that a good FFT length adds go to the margin.
            sizes[fft] = inner + 2 * ((fft - inner - reach) // 2), (fft - inner - reach) // 2
        least = min(margin for _, margin in sizes.values())
        *smaller, (side, fft) = sorted((side, fft) for fft, (side, _) in sizes.items())
        return cls(nside, order, tuple(cells), side, least, fft, rotation, tuple(smaller))

    def wider(self, margin: int, reach: int, fast_length: Callable[[int], int]) -> FacetGrid:
        """The same facets with margins that are wider than so much by as much as theirs differ.

        Parameters
        ----------
        margin, reach, fast_length
            As of `plan`.
        """
        margins = (self._sizes[:, 0] - self._inner) // 2
        margin += int(margins.max()) - self.margin
        return self.plan(self.nside, self.order, self.cells, margin, reach, fast_length, rotation=self.rotation)

    @property
    def n_tiles(self) -> int:
        """Number of facets."""
        return len(self.cells)

    @property
    def map_box(self) -> Box:
        """All pixels of all facets."""
        return Box(0, self.n_tiles * self.side, 0, self.side)

    @property
    def n_pixels(self) -> int:
        """Number of pixels of all images."""
        return int(self._sizes[:, 0] @ self._sizes[:, 0])

    @property
    def n_box_pixels(self) -> int:
        """Number of pixels of all FFT boxes."""
        return int(self._sizes[:, 1] @ self._sizes[:, 1])

    @cached_property
    def _inner(self) -> Ints:
        """Pixels along the box of the cell of each facet."""
        cells = np.asarray(self.cells)
        base, place = np.divmod(cells, 4**self.order)
        # Base cells of one belt differ by a rotation about the poles.
        belt, half = base // 4, np.empty(len(cells))
        for one in np.unique(belt):
            half[belt == one] = boxes_in(self.order, 4 * int(one))[2][place[belt == one]]
        return _pixels_along(half, self.nside)

    @cached_property
    def _sizes(self) -> Ints:
        """Rows of the image and of the FFT box of each facet."""
        sizes = np.array([*self.smaller, (self.side, self.fft)])
        # Rounding must not ask for more than the largest.
        which = np.minimum(np.searchsorted(sizes[:, 0], self._inner + 2 * self.margin), len(sizes) - 1)
        return np.asarray(sizes[which])

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of an array of all pixels: (facet, y, x)."""
        return self.n_tiles, self.side, self.side

    @property
    def core_shape(self) -> tuple[int, int]:
        """Shape of the largest image, (y, x)."""
        return self.side, self.side

    @property
    def box_shape(self) -> tuple[int, int]:
        """Shape of the largest FFT box, (y, x)."""
        return self.fft, self.fft

    @property
    def width(self) -> int:
        """Columns of the largest image."""
        return self.side

    @property
    def extent(self) -> str:
        """What they cover, for people."""
        return f"{self.n_tiles} facets of the sphere, cells of HEALPix order {self.order}, pixels of nside {self.nside}"

    def tile(self, tile_id: int) -> Tile:
        """Facet number `tile_id`; what it publishes of its image is what lies in its cell."""
        first, (side, fft) = tile_id * self.side, self._size_of(tile_id)
        image = FacetBox(first, first + side, 0, side, tile_id, self.side)
        return Tile(tile_id, tile_id, 0, image, image, Box(first, first + fft, 0, fft))

    def side_of(self, facet: int) -> int:
        """Rows and columns of the image of a facet."""
        return self._size_of(facet)[0]

    def _size_of(self, facet: int) -> tuple[int, int]:
        side, fft = self._sizes[facet]
        return int(side), int(fft)

    def tiles(self) -> Iterator[Tile]:
        """All facets in the order of their numbers."""
        return (self.tile(tile_id) for tile_id in range(self.n_tiles))

    def around(self, tile: Tile, _pixels: int) -> Box:
        """All pixels that are seen around those of a facet: its image."""
        return tile.core

    def on_map(self, box: Box) -> Box:
        """Pixels of the facet in whose image the middle of a box lies."""
        image = self.tile((box.y0 + box.y1) // 2 // self.side).core
        return image if box.intersection(image) == Box(*image.bounds) else box.intersection(image)

    def overlapping(self, box: Box) -> Iterator[Tile]:
        """The facet of a box."""
        yield self.tile(box.y0 // self.side)

    def sound(self, tile: Tile, _reach: int) -> Box:
        """All pixels of an image: what is beyond them is not asked for."""
        return tile.core

    def neighbours(self, _tile: Tile) -> dict[str, Tile]:
        """None: facets meet on the sphere only."""
        return {}

    def strips(self, _tile: Tile, _width: int) -> dict[str, Box]:
        """None, as there are no neighbours."""
        return {}

    @property
    def pixel(self) -> float:
        """Size of a pixel, in radians."""
        return pixel_of(self.nside)

    @cached_property
    def turned(self) -> Floats:
        """Matrix (3, 3) that turns vectors of the cells' frame into those of the map's."""
        return rotation_of(self.rotation)

    def frame(self, facet: int) -> Frame:
        """How the pixels of a facet lie on the sphere."""
        return frame_of(self.order, self.cells[facet], self.side_of(facet), self.pixel, self.rotation)

    def cells_at(self, vectors: Floats) -> Ints:
        """Numbers of the cells in which unit vectors (n, 3) of the map's frame lie."""
        return numbers_at(vectors @ self.turned if any(self.rotation) else vectors, self.order)

    def owns(self, facet: int, rows: Ints, columns: Ints) -> Bools:
        """Which pixels of the image of a sky have their centre in a facet's cell.

        Parameters
        ----------
        facet : int
            Its number.
        rows, columns : ndarray
            Of the pixels, of one shape.
        """
        if any(self.rotation):
            vectors = centres_of(numbers_in(rows.ravel(), columns.ravel(), self.nside), order_of(self.nside))
            return np.asarray(self.cells_at(vectors).reshape(rows.shape) == self.cells[facet])
        box = self.cell_box(facet)
        return np.asarray((box.y0 <= rows) & (rows < box.y1) & (box.x0 <= columns) & (columns < box.x1))

    def cell_box(self, facet: int) -> Box:
        """Pixels of the image of a sky in a facet's cell; a cell that is not turned holds whole ones."""
        width = self.nside >> self.order
        (row,), (column,) = places_of(np.array([self.cells[facet]]), 1 << self.order)
        return Box(int(row) * width, (int(row) + 1) * width, int(column) * width, (int(column) + 1) * width)

    def core_of(self, facet: int) -> Bools:
        """Which pixels (y, x) of a facet have their centre in its cell."""
        return _core(self, facet)


def pixel_of(nside: int) -> float:
    """Size of the pixels of a HEALPix map, in radians: the root of their solid angle."""
    return math.sqrt(math.pi / 3) / nside


def _pixels_along(half: Floats, nside: int) -> Ints:
    """Pixels along the boxes of cells, of which half the sides are given in radians."""
    return np.asarray(2 * np.ceil(half / pixel_of(nside)).astype(np.int64))


@lru_cache(maxsize=4)
def _core(grid: FacetGrid, facet: int) -> Bools:
    def are_inside(y: Ints, x: Ints) -> Bools:
        if not any(grid.rotation):
            return grid.owns(facet, *places_at(grid.frame(facet), y, x, grid.nside))
        cells = grid.cells_at(grid.frame(facet).vectors(x.astype(np.float64), y.astype(np.float64)).reshape(-1, 3))
        return np.asarray(cells.reshape(y.shape) == grid.cells[facet])

    side = grid.side_of(facet)
    if grid.nside >> grid.order < 4 * _BLOCK:
        inside = are_inside(*np.indices((side, side)))
    else:
        # Of blocks one pixel is asked, and all where a block nearby is on the other side: no corner of a cell is so
        # sharp that it would be missed.
        n_blocks = -(-side // _BLOCK)
        blocks = are_inside(*(np.indices((n_blocks, n_blocks)) * _BLOCK + _BLOCK // 2)).astype(np.uint8)
        mixed = maximum_filter(blocks, 3) != minimum_filter(blocks, 3)
        found = np.kron(blocks, np.ones((_BLOCK, _BLOCK), np.uint8)) > 0
        y, x = (place[:, np.newaxis, np.newaxis] * _BLOCK for place in np.nonzero(mixed))
        y, x = np.broadcast_arrays(y + np.arange(_BLOCK)[:, np.newaxis], x + np.arange(_BLOCK))
        found[y, x] = are_inside(y, x)
        inside = found[:side, :side].copy()
    inside.flags.writeable = False
    return np.asarray(inside)


# Tiles of a flat map, or of the sphere.
AnyGrid = TileGrid | FacetGrid


def stored_grid(grid: AnyGrid) -> dict[str, Any]:
    """Give a grid as plain data."""
    return {"facets": asdict(grid)} if isinstance(grid, FacetGrid) else {"y": asdict(grid.y), "x": asdict(grid.x)}


def grid_from(stored: Mapping[str, Any]) -> AnyGrid:
    """Make the grid of what `stored_grid` gave, be there more in it."""
    if "facets" not in stored:
        return TileGrid(Axis(**stored["y"]), Axis(**stored["x"]))
    found = stored["facets"]
    smaller = tuple((side, fft) for side, fft in found.get("smaller", ()))
    return FacetGrid(**found | {name: tuple(found[name]) for name in ("cells", "rotation")} | {"smaller": smaller})
