"""Pixels of events, kept on the disk until all are known, and counted a band of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Ints
from cwt_dask.storage.scratch import ScratchFile

# Pixels of a band, and events that are counted at once: 32 MB each as int64.
_BAND_PIXELS, _AT_ONCE = 2**22, 2**22
_STORED = np.dtype("<u4")


class Spool:
    """Where events lie, in a file without a name of four bytes an event.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the map.
    directory : Path
        Where the file is.
    stack : ExitStack
        Removes it.
    """

    def __init__(self, shape: tuple[int, int], directory: Path, stack: ExitStack) -> None:
        self._shape = shape
        self._height = max(_BAND_PIXELS // shape[1], 1)
        self._file = ScratchFile(directory, stack)
        # Of each band where its events begin in the file, and how many they are.
        self._pieces: list[list[tuple[int, int]]] = [[] for _ in range(0, shape[0], self._height)]
        self._end = 0
        self._lock = Lock()

    def add(self, row: Ints, column: Ints) -> None:
        """Put events (events,) aside, by their pixels; threads may do so at once."""
        band = row // self._height
        within = ((row - band * self._height) * self._shape[1] + column).astype(_STORED)
        sorted_ = within[np.argsort(band, kind="stable")]
        numbers = np.bincount(band, minlength=len(self._pieces))
        starts = np.cumsum(numbers) - numbers
        with self._lock:
            bands = np.flatnonzero(numbers)
            pieces = [sorted_[starts[n] : starts[n] + numbers[n]] for n in bands]
            self._file.write(self._end * _STORED.itemsize, pieces)
            for n in bands:
                self._pieces[n].append((self._end + int(starts[n]), int(numbers[n])))
            self._end += len(sorted_)

    def bands(self) -> Iterator[Ints]:
        """Count: bands of whole rows (rows, columns), from the first row to the last."""
        for y0, pieces in zip(range(0, self._shape[0], self._height), self._pieces, strict=True):
            n_rows = min(self._height, self._shape[0] - y0)
            counts = np.zeros(n_rows * self._shape[1], np.int64)
            for events in self._together(pieces):
                counts += np.bincount(events, minlength=len(counts))
            yield counts.reshape(n_rows, -1)

    def _together(self, pieces: list[tuple[int, int]]) -> Iterator[NDArray[np.uint32]]:
        """Events of some pieces, many at a time: counting takes as long as there are pixels, for one event, too."""
        waiting: list[NDArray[np.uint32]] = []
        for start, n in pieces:
            content = self._file.read(start * _STORED.itemsize, n * _STORED.itemsize)
            waiting.append(np.frombuffer(content, _STORED))
            if sum(map(len, waiting)) >= _AT_ONCE:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)
