"""Tile-compressed images, read forward in blocks of rows: each tile is unpacked once, however many rows it has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.errors import SurveyError
from cwt_dask.storage.scratch import ScratchFile
from cwt_dask.survey.headers import damage_named

# Pixels of a tile. While it is unpacked, codecs and their copies take 5 to 25 bytes a pixel, 45 where it is of float64.
LARGEST_TILE = 2**27
# Small tiles are unpacked together up to so many pixels, those of a strip.
_TOGETHER = 2**20
# Rows that wait are in memory up to so many bytes a plane, all of them on disk beyond.
_IN_MEMORY = 2**24


def refuse_tiles(hdu: Any, where: str) -> None:
    """Raise SurveyError if the tiles of a compressed HDU have no pixels, or more than can be unpacked."""
    axes = " x ".join(map(str, hdu.tile_shape))
    if min(hdu.tile_shape) < 1:
        raise SurveyError(f"{where} is damaged: its header says tiles of {axes} pixels: get the file again")
    if math.prod(_tile_of(hdu)) > LARGEST_TILE:
        raise SurveyError(
            f"{where} is compressed in tiles of {axes} pixels, and a tile, which is unpacked at once, may have up to "
            f"{LARGEST_TILE}: unpack it with funpack, or compress it in smaller tiles"
        )


def _tile_of(hdu: Any) -> tuple[int, ...]:
    """The length of a tile along each axis; that of the image where a header says more."""
    return tuple(min(tile, length) for tile, length in zip(hdu.tile_shape, hdu.shape, strict=True))


class TileRows:
    """Rows of some planes of a tile-compressed HDU; a tile of more rows or planes than are asked for is not read again.

    Parameters
    ----------
    hdu : CompImageHDU
        Its tiles have passed `refuse_tiles`.
    planes : sequence of slice
        What to take along each axis before rows and columns.
    dtype : dtype
        Of the pixels.
    damaged : str
        What is said of a tile that cannot be unpacked.
    scratch : Path or None
        Directory for a file without a name; None for the system's.
    stack : ExitStack
        Removes that file.
    """

    def __init__(
        self,
        hdu: Any,
        planes: Sequence[slice],
        dtype: np.dtype[Any],
        damaged: str,
        scratch: Path | None,
        stack: ExitStack,
    ) -> None:
        self._section = hdu.section
        self._dtype = dtype
        self._damaged = damaged
        self._planes = tuple(planes)
        self._tile = _tile_of(hdu)
        self._n_rows, self._n_columns = hdu.shape[-2:]
        # Rows are the first axis here, so that any of them are one piece of a file.
        self._axes = (*(plane.stop - plane.start for plane in planes), self._n_columns)
        self._next = 0  # The first row that was not read.
        self._end = 0  # The first row that was not unpacked.
        self._waiting = _Waiting(dtype, scratch, stack)

    def __call__(self, n_rows: int) -> list[NDArray[Any]]:
        """Read the next rows (y, x) of each plane.

        Raises SurveyError if a tile is damaged, OSError if there is no room for rows that wait.
        """
        start, stop = self._next, self._next + n_rows
        rows = np.empty((n_rows, *self._axes), self._dtype)
        self._waiting.fill(rows, start)
        if stop > self._end:
            # All that waited was asked for.
            self._waiting.clear()
            first, self._end = self._end, min(-(-stop // self._tile[-2]) * self._tile[-2], self._n_rows)
            for y0, place, pixels in self._unpack(slice(first, self._end)):
                wanted = stop - y0  # at least 1: the last tile is that of the last row
                rows[(slice(y0 - start, y0 - start + len(pixels)), *place)] = pixels[:wanted]
                self._waiting.add(y0 + wanted, place, pixels[wanted:])
        self._next = stop
        return list(np.moveaxis(rows, 0, -2).reshape(-1, n_rows, self._n_columns))

    def _unpack(self, rows: slice) -> Iterator[tuple[int, tuple[slice, ...], NDArray[Any]]]:
        """Unpack rows of whole tiles: first row, place among the other axes, and pixels, some tiles at a time."""
        *depths, height, width = self._tile
        n_together = max(_TOGETHER // math.prod(self._tile), 1)
        n_high = max(n_together // -(-self._n_columns // width), 1)
        planes = [_cut(plane, depth) for plane, depth in zip(self._planes, depths, strict=True)]
        starts = [plane.start for plane in self._planes]
        columns = _cut(slice(0, self._n_columns), n_together * width)
        for *leading, y, x in product(*planes, _cut(rows, n_high * height), columns):
            with damage_named(self._damaged):
                pixels = np.asarray(self._section[(*leading, y, x)])
            place = *(slice(p.start - start, p.stop - start) for p, start in zip(leading, starts, strict=True)), x
            yield y.start, place, np.moveaxis(pixels, -2, 0)


def _cut(whole: slice, step: int) -> list[slice]:
    """Cut a slice at the multiples of `step`."""
    inner = range(whole.start // step * step + step, whole.stop, step)
    return [slice(*ends) for ends in pairwise((whole.start, *inner, whole.stop))]


@dataclass(frozen=True)
class _Piece:
    """Some rows in the file of those that wait."""

    y0: int  # Their first row.
    place: tuple[slice, ...]  # Where they belong along the other axes.
    shape: tuple[int, ...]  # Rows first.
    offset: int  # In the file, in bytes.


class _Waiting:
    """Rows that were unpacked with others, until they are asked for."""

    def __init__(self, dtype: np.dtype[Any], scratch: Path | None, stack: ExitStack) -> None:
        self._dtype = dtype
        self._file = ScratchFile(scratch, stack, in_memory=_IN_MEMORY)
        self._pieces: list[_Piece] = []
        self._size = 0

    def clear(self) -> None:
        """Forget all; the file is used again."""
        self._pieces, self._size = [], 0

    def add(self, y0: int, place: tuple[slice, ...], pixels: NDArray[Any]) -> None:
        """Put rows aside, from row `y0` on; there may be none."""
        if not len(pixels):
            return
        self._pieces.append(_Piece(y0, place, pixels.shape, self._size))
        # A piece a row: any of them are asked for.
        self._file.write(self._size, np.ascontiguousarray(pixels, self._dtype))
        self._size += pixels.size * self._dtype.itemsize

    def fill(self, rows: NDArray[Any], start: int) -> None:
        """Put those that are among `rows`, of which the first is row `start`, into their place."""
        for piece in self._pieces:
            first = max(start, piece.y0)
            stop = min(start + len(rows), piece.y0 + piece.shape[0])
            if first < stop:
                n_bytes = math.prod(piece.shape[1:]) * self._dtype.itemsize  # of a row
                content = self._file.read(piece.offset + (first - piece.y0) * n_bytes, (stop - first) * n_bytes)
                pixels = np.frombuffer(content, self._dtype).reshape(-1, *piece.shape[1:])
                rows[(slice(first - start, stop - start), *piece.place)] = pixels
