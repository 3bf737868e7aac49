"""The tile grid: cores that partition the map's pixels, the windows read around them, and their seams.

Integers only. Positions are pixels of the map, (y, x), 0-based; boxes are half-open.

On a ring the last column is the neighbour of the first. Columns then count on beyond the map, on both sides: x and
x + width are the same pixel, and a box may hold it several times. Only what is owned or published is named by columns
of the map itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cwt_dask.errors import SettingsError


@dataclass(frozen=True, order=True)
class Box:
    """Pixels y0 <= y < y1, x0 <= x < x1 of the map."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def bounds(self) -> list[int]:
        """First and end rows, first and end columns."""
        return [self.y0, self.y1, self.x0, self.x1]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return max(self.y1 - self.y0, 0) * max(self.x1 - self.x0, 0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index (y, x) of these pixels in an array of the whole map; only where nothing lies before its start."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def within(self, outer: Box) -> tuple[slice, slice]:
        """Index (y, x) of these pixels in an array of the pixels of `outer`."""
        return Box(self.y0 - outer.y0, self.y1 - outer.y0, self.x0 - outer.x0, self.x1 - outer.x0).slices

    def intersection(self, other: Box) -> Box:
        """Pixels in both; empty (zero area) where there are none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Box(y0, max(y0, min(self.y1, other.y1)), x0, max(x0, min(self.x1, other.x1)))

    def grown(self, pixels: int) -> Box:
        """The box with `pixels` more on every side (fewer, where negative)."""
        return Box(self.y0 - pixels, self.y1 + pixels, self.x0 - pixels, self.x1 + pixels)

    def shifted(self, columns: int) -> Box:
        """The box, `columns` further east."""
        return Box(self.y0, self.y1, self.x0 + columns, self.x1 + columns)


def on_map(box: Box, shape: tuple[int, int], *, ring: bool) -> Box:
    """Pixels of a box that a map has; empty where there are none.

    Parameters
    ----------
    box : Box
        Any pixels.
    shape : tuple of int
        Rows and columns of the map.
    ring : bool
        Whether it is a ring, which has every column.
    """
    clipped = box.intersection(Box(0, shape[0], 0, shape[1]))
    return Box(clipped.y0, clipped.y1, box.x0, box.x1) if ring else clipped


def parts(box: Box, shape: tuple[int, int], *, ring: bool) -> Iterator[tuple[Box, Box]]:
    """Cut the pixels of a box `on_map` into parts that do not reach beyond it.

    Parameters
    ----------
    box, shape, ring
        As of `on_map`.

    Yields
    ------
    part, inside : Box
        A part in the columns of `box`, so that ``part.within(box)`` is its index there, and the same pixels in the
        map; from west to east.
    """
    width = shape[1]
    seen = on_map(box, shape, ring=ring)
    if seen.area:
        for turn in range(seen.x0 // width, -(-seen.x1 // width)):
            inside = Box(seen.y0, seen.y1, max(seen.x0 - turn * width, 0), min(seen.x1 - turn * width, width))
            yield inside.shifted(turn * width), inside


@dataclass(frozen=True)
class Tile:
    """One unit of work."""

    id: int  # Position in row-major order of the grid.
    # Position in the grid; on a ring columns count on beyond the grid, as those of pixels do.
    row: int
    column: int
    core: Box  # The pixels that this tile alone owns and writes.
    window: Box  # The pixels it reads, core plus margin; they may lie beyond the map.
    box: Box  # The pixels of the FFT box, the same shape for all tiles; those outside the window or the map are zero.


@dataclass(frozen=True)
class Axis:
    """Tiling of one axis: `length` pixels in cores of `core`, windows that reach `margin` further, in FFT boxes.

    On a ring the last pixel is the neighbour of the first.
    """

    length: int
    core: int
    margin: int
    before: int
    box: int
    ring: bool = False

    @property
    def n_tiles(self) -> int:
        """Number of cores; the last may be partial."""
        return -(-self.length // self.core)

    @property
    def has_seams(self) -> bool:
        """Whether cores have neighbours; on a ring a single one is its own."""
        return self.ring or self.n_tiles > 1

    @classmethod
    def plan(
        cls, length: int, core: int, margin: int, reach: int, fast_length: Callable[[int], int], *, ring: bool = False
    ) -> Axis:
        """Lay out one axis.

        With a single core there is nothing to overlap with, unless it is a ring: the box is the axis and a rim of zeros
        against the circular wrap of the convolution. With several, pixels that a good FFT length adds go to the margin.

        Parameters
        ----------
        length, core, margin : int
            As of the axis; a core longer than the axis is cut to it, and the margin may become larger.
        reach, fast_length, ring
            As of `TileGrid.plan`.
        """
        core = min(core, length)
        if core == length and not ring:
            return cls(length, length, 0, 0, fast_length(length + reach))
        before = max(margin, reach)
        box = fast_length(core + 2 * before)
        if margin >= reach:
            before = margin = (box - core) // 2
        return cls(length, core, margin, before, box, ring)

    def spans(self, index: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Start and end of core, window and box of core `index`."""
        start = index * self.core
        core = start, min(start + self.core, self.length)
        # Windows of partial cores are as long as the others': what they see more of, zeros or pixels, does no harm.
        window = start - self.margin, start + self.core + self.margin
        box = start - self.before, start - self.before + self.box
        return core, window, box

    def index(self, position: int) -> int:
        """Which core holds a pixel; both may lie beyond the axis, whole turns away."""
        turns, inside = divmod(position, self.length)
        return turns * self.n_tiles + inside // self.core


@dataclass(frozen=True)
class TileGrid:
    """All tiles of a run, by number."""

    y: Axis
    x: Axis

    @classmethod
    def plan(
        cls,
        map_shape: tuple[int, int],
        core_shape: tuple[int, int],
        margin: int,
        reach: int,
        fast_length: Callable[[int], int],
        *,
        ring: bool = False,
    ) -> TileGrid:
        """Lay tiles over a map.

        Parameters
        ----------
        map_shape, core_shape : tuple of int
            Pixels (y, x) of the map and of a core; a core larger than the map is cut to it.
        margin : int
            Least overlap of a window with its neighbours' cores, in pixels.
        reach : int
            The kernels' reach in pixels.
        fast_length : callable
            Gives a good FFT length that is not below its argument.
        ring : bool, optional
            Whether the map's last column is the neighbour of its first.

        Raises
        ------
        SettingsError
            If a core has no pixel or the margin is negative.
        """
        if min(core_shape) < 1:
            raise SettingsError(f"tile_size is {min(core_shape)}: it must be at least 1 pixel")
        if margin < 0:
            raise SettingsError(f"margin is {margin}: it must be 0 or more pixels")
        return cls(
            Axis.plan(map_shape[0], core_shape[0], margin, reach, fast_length),
            Axis.plan(map_shape[1], core_shape[1], margin, reach, fast_length, ring=ring),
        )

    @property
    def ring(self) -> bool:
        """Whether the map's last column is the neighbour of its first."""
        return self.x.ring

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the map."""
        return self.map_box.area

    @property
    def n_box_pixels(self) -> int:
        """Number of pixels of all FFT boxes."""
        return self.n_tiles * math.prod(self.box_shape)

    @property
    def map_box(self) -> Box:
        """All pixels of the map."""
        return Box(0, self.y.length, 0, self.x.length)

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of an array of all pixels, (y, x)."""
        return self.map_box.shape

    @property
    def extent(self) -> str:
        """What they cover, for people."""
        ring = f", ring, columns 0 and {self.width - 1} are neighbours" if self.ring else ""
        return f"{self.y.length} x {self.width} pixels{ring}"

    @property
    def width(self) -> int:
        """Columns of the map."""
        return self.x.length

    @property
    def core_shape(self) -> tuple[int, int]:
        """Shape of a full core, (y, x)."""
        return self.y.core, self.x.core

    @property
    def box_shape(self) -> tuple[int, int]:
        """Shape of every tile's FFT box, (y, x)."""
        return self.y.box, self.x.box

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return self.y.n_tiles * self.x.n_tiles

    @property
    def has_seams(self) -> bool:
        """Whether any tile has a neighbour; on a ring a single one is its own."""
        return self.y.has_seams or self.x.has_seams

    @property
    def margin(self) -> int | None:
        """Overlap that every window has with its neighbours' cores, in pixels; None where there is no seam."""
        return min((axis.margin for axis in (self.y, self.x) if axis.has_seams), default=None)

    def on_map(self, box: Box) -> Box:
        """Pixels of `box` that the map has; on a ring it has every column."""
        return on_map(box, self.map_box.shape, ring=self.ring)

    def around(self, tile: Tile, pixels: int) -> Box:
        """Pixels of the map in the core of a tile and so many around it."""
        return self.on_map(tile.core.grown(pixels))

    def at(self, row: int, column: int) -> Tile:
        """The tile in a row and column; on a ring in any column, with its boxes whole turns of the map further."""
        turns, inside = divmod(column, self.x.n_tiles)
        spans = zip(self.y.spans(row), self.x.spans(inside), strict=True)
        boxes = (Box(*y, *x).shifted(turns * self.x.length) for y, x in spans)
        return Tile(row * self.x.n_tiles + inside, row, column, *boxes)

    def tile(self, tile_id: int) -> Tile:
        """Tile number `tile_id`."""
        return self.at(*divmod(tile_id, self.x.n_tiles))

    def tiles(self) -> Iterator[Tile]:
        """All tiles in the order of their numbers."""
        return (self.tile(tile_id) for tile_id in range(self.n_tiles))

    def overlapping(self, box: Box) -> Iterator[Tile]:
        """Tiles with pixels of their core in `box`, by row and column; on a ring a tile comes once a turn, shifted."""
        seen = self.on_map(box)
        if seen.area:
            for row in range(self.y.index(seen.y0), self.y.index(seen.y1 - 1) + 1):
                for column in range(self.x.index(seen.x0), self.x.index(seen.x1 - 1) + 1):
                    yield self.at(row, column)

    def neighbours(self, tile: Tile) -> dict[str, Tile]:
        """Tiles that share a face with `tile`, by side: "north" is towards larger y, "east" towards larger x.

        On a ring their boxes adjoin those of `tile`, and a tile may be its own neighbour, or the same on both sides.
        """
        steps = {"south": (-1, 0), "north": (1, 0), "west": (0, -1), "east": (0, 1)}
        return {
            side: self.at(tile.row + dy, tile.column + dx)
            for side, (dy, dx) in steps.items()
            if 0 <= tile.row + dy < self.y.n_tiles and (self.ring or 0 <= tile.column + dx < self.x.n_tiles)
        }

    def sound(self, tile: Tile, reach: int) -> Box:
        """Pixels of the map that have all others within `reach` in the window of `tile`.

        At the map's border, too: where the window goes less far beyond, the circular box shows its other end there.
        An axis without seams has a rim of zeros against that. Empty where the window is too small.
        """
        window, box = tile.window, self.map_box
        y0, y1 = (window.y0 + reach, window.y1 - reach) if self.y.has_seams else (box.y0, box.y1)
        x0, x1 = (window.x0 + reach, window.x1 - reach) if self.x.has_seams else (box.x0, box.x1)
        return self.on_map(Box(y0, max(y0, y1), x0, max(x0, x1)))

    def strips(self, tile: Tile, width: int) -> dict[str, Box]:
        """Pixels of the neighbours' cores next to `tile`, which its window holds too, by side.

        A strip is `width` pixels wide where margin and neighbour have as many.
        """
        near = tile.core.grown(width).intersection(tile.window)
        return {side: near.intersection(neighbour.core) for side, neighbour in self.neighbours(tile).items()}
