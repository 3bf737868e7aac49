"""What passes over a map read and write: layers of the map, in memory, or in a survey's store and a scratch one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.geometry.tiling import Box, TileGrid, on_map
from cwt_dask.geometry.windows import read_box
from cwt_dask.storage.zarr_io import create_array, create_group, open_group
from cwt_dask.survey import Survey

# Layers that passes write: estimates on the way, in turns; the estimate; which pixels are excluded as sources; and
# counts drawn from the estimate.
FIRST, SECOND, ESTIMATE, EXCLUDED, DRAWN = "first", "second", "estimate", "excluded", "drawn"
WRITTEN: Mapping[str, Any] = dict.fromkeys((FIRST, SECOND, ESTIMATE, DRAWN), np.float64) | {EXCLUDED: np.bool_}
# Of the survey; without an exposure, the acceptance is that of the mask.
COUNTS, EXPOSURE, MASK = "counts", "exposure", "mask"


class Layers(Protocol):
    """Layers of a map, by name."""

    @property
    def ring(self) -> bool:
        """Whether the last column is the neighbour of the first."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def has_exposure(self) -> bool:
        """Whether one of them is the exposure."""

    def read(self, name: str, box: Box) -> NDArray[Any]:
        """Pixels (y, x) of a box of the map, on a ring of any columns."""

    def write(self, name: str, box: Box, pixels: NDArray[Any]) -> None:
        """Write pixels.

        Parameters
        ----------
        name : str
            Of the layer.
        box : Box
            The core of a tile.
        pixels : ndarray
            (y, x), those of the box.
        """


@dataclass(frozen=True)
class InMemory:
    """Arrays."""

    arrays: dict[str, NDArray[Any]]
    ring: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        n_rows, n_columns = self.arrays[COUNTS].shape
        return n_rows, n_columns

    @property
    def has_exposure(self) -> bool:
        """Whether one of them is the exposure."""
        return EXPOSURE in self.arrays

    def read(self, name: str, box: Box) -> NDArray[Any]:
        """Pixels of a box."""
        return read_box(self.arrays[name], box, ring=self.ring)

    def write(self, name: str, box: Box, pixels: NDArray[Any]) -> None:
        """Write pixels.

        Parameters
        ----------
        name : str
            Of the layer.
        box : Box
            Pixels of the map.
        pixels : ndarray
            (y, x), those of the box.
        """
        self.arrays.setdefault(name, np.zeros(self.shape, WRITTEN[name]))[box.slices] = pixels


@dataclass
class InStores:
    """A survey's store, and a scratch one for what is written; it travels to workers as its paths."""

    survey_path: Path
    scratch: Path
    ring: bool
    _opened: dict[str, Any] = field(default_factory=dict)

    def create(self, grid: TileGrid) -> None:
        """Make the scratch store, of a chunk a tile: no two tasks write one."""
        group = create_group(self.scratch)
        for name, dtype in WRITTEN.items():
            create_array(group, name, self.shape, grid.core_shape, dtype, axes=("y", "x"))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.survey_path, self.scratch, self.ring)

    @cached_property
    def survey(self) -> Survey:
        """The survey."""
        return Survey.open(self.survey_path, ring=self.ring)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.survey.shape

    @property
    def has_exposure(self) -> bool:
        """Whether the survey has one."""
        return self.survey.array(EXPOSURE) is not None

    def _array(self, name: str) -> Any:
        if name not in self._opened:
            self._opened[name] = open_group(self.scratch, writable=True)[name]
        return self._opened[name]

    def read(self, name: str, box: Box) -> NDArray[Any]:
        """Pixels of a box."""
        return read_box(self._array(name), box, ring=self.ring) if name in WRITTEN else self.survey.read(name, box)

    def write(self, name: str, box: Box, pixels: NDArray[Any]) -> None:
        """Write pixels, a chunk.

        Parameters
        ----------
        name : str
            Of the layer.
        box : Box
            The core of a tile.
        pixels : ndarray
            (y, x), those of the box.
        """
        self._array(name)[box.slices] = pixels


def window(layers: Layers, name: str, box: Box) -> NDArray[Any]:
    """Pixels (y, x) of a box, 0 beyond the map.

    Parameters
    ----------
    layers : Layers
        Layers of the map.
    name : str
        Of one of them.
    box : Box
        Any pixels.
    """
    seen = on_map(box, layers.shape, ring=layers.ring)
    pixels = layers.read(name, seen)
    if seen == box:
        return pixels
    padded = np.zeros(box.shape, pixels.dtype)
    padded[seen.within(box)] = pixels
    return padded


def acceptance_of(layers: Layers, box: Box) -> tuple[Floats, Bools]:
    """Acceptance in a box, 0 where a pixel is not used; and which pixels are, those with acceptance."""
    used = window(layers, MASK, box) > 0
    if not layers.has_exposure:
        return used.astype(np.float64), used
    acceptance = np.where(used, window(layers, EXPOSURE, box), 0).astype(np.float64)
    return acceptance, acceptance > 0
