"""Islands above the threshold as one tile sees them, one iteration and scale at a time: local labels, and a filter.

With an island threshold a tile first decides by what its window shows. It labels the parts of islands in its core;
joined over the faces of all cores (`merge/islands.py`) they are the islands of the whole map, on which is decided then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.loops import label
from cwt_dask.cwt.state import Criteria, Detected
from cwt_dask.cwt.support import in_bright_islands, island_peaks
from cwt_dask.geometry.tiling import Box, Tile
from cwt_dask.storage.maps import SIDES

# Iteration, and index of the scale.
Key = tuple[int, int]

UNKNOWN, DROPPED, KEPT = 0, 1, 2


@dataclass(frozen=True)
class LocalLabels:
    """The parts of islands in one core, labelled from 1."""

    n_pixels: Ints  # Pixels of each label.
    first: Ints  # First pixel of each label in row-major order of the whole map, as flat index.
    faces: dict[str, NDArray[np.int32]]  # Labels along the four edges of the core, by side; 0 where there is none.

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, to be stored."""
        return {"n_pixels": self.n_pixels, "first": self.first, **{f"face_{side}": self.faces[side] for side in SIDES}}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, NDArray[Any]], prefix: str = "") -> LocalLabels:
        """Labels from what `to_arrays` gave, stored with a prefix to each name."""
        faces = {side: stored[f"{prefix}face_{side}"] for side in SIDES}
        return cls(stored[f"{prefix}n_pixels"], stored[f"{prefix}first"], faces)


class IslandLabel(NamedTuple):
    """One label: its iteration and scale index, the tile of its core, and its number there."""

    iteration: int
    scale: int
    tile: int
    label: int


def label_core(pixels: Ints, core: Box, map_width: int) -> tuple[NDArray[np.int32], LocalLabels]:
    """Label 4-connected pixels of one core: the label of each pixel, and what joins them to those of other cores.

    Parameters
    ----------
    pixels : ndarray of int64
        Flat indices in the core, ascending.
    core : Box
        The core.
    map_width : int
        Columns of the map.
    """
    height, width = core.shape
    of_pixels, count = label(pixels, width, False)
    y, x = np.divmod(pixels, width)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, of_pixels - 1, (y + core.y0) * map_width + (x + core.x0))
    edges = {"south": (y == 0, x), "north": (y == height - 1, x), "west": (x == 0, y), "east": (x == width - 1, y)}
    faces = {side: np.zeros(width if along is x else height, dtype=np.int32) for side, (_, along) in edges.items()}
    for side, (on_it, along) in edges.items():
        faces[side][along[on_it]] = of_pixels[on_it]
    return of_pixels, LocalLabels(np.bincount(of_pixels - 1, minlength=count), first, faces)


@dataclass(frozen=True)
class AboveThreshold:
    """Pixels above the threshold in a tile's window, at one iteration and scale.

    Only pixels of the map with a window around them as far as the kernels reach are included.
    """

    pixels: Ints  # Flat indices in the tile's box, ascending.
    kept: Bools  # Whether the tile took them into the support.
    fresh: Bools  # Whether they were not in its support before.
    label: NDArray[np.int32]  # Label of each pixel in the core, from 1; 0 outside the core.
    peaks: Floats  # Largest T/E of each label.
    labels: LocalLabels  # What joins the labels to those of other cores.


def islands_to_arrays(islands: Mapping[Key, AboveThreshold]) -> dict[str, NDArray[Any]]:
    """Plain arrays by name, to be stored; `StoredIslands` reads them."""
    arrays: dict[str, NDArray[Any]] = {}
    for key, found in islands.items():
        parts = {stored: getattr(found, name) for name, stored in _STORED_AS.items()} | found.labels.to_arrays()
        arrays |= {_prefix(key) + name: values for name, values in parts.items()}
    return arrays


class StoredIslands:
    """Above-threshold islands in a tile's open checkpoint, read when they are asked for."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        found = (re.fullmatch(r"candidates_(\d+)_(\d+)_pixels", name) for name in arrays)
        self.keys: list[Key] = sorted((int(match[1]), int(match[2])) for match in found if match)

    def labels(self, key: Key) -> LocalLabels:
        """Labels in the core."""
        return LocalLabels.from_arrays(self._arrays, _prefix(key))

    def peaks(self, key: Key) -> Floats:
        """Largest T/E of each label."""
        return self._array(key, "peaks")

    def label_image(self, key: Key, tile: Tile) -> NDArray[np.int32]:
        """Label of each pixel of the tile's core, int32 (y, x); 0 where there is none."""
        image = np.zeros(tile.core.shape, dtype=np.int32)
        labels = self._array(key, "label")
        inside = labels > 0
        y, x = np.divmod(self._array(key, "pixels")[inside], tile.box.shape[1])
        image[y + tile.box.y0 - tile.core.y0, x + tile.box.x0 - tile.core.x0] = labels[inside]
        return image

    def contradicting(self, key: Key, decided: NDArray[np.uint8]) -> Bools:
        """Pixels of the box (y, x) where the tile's support is not what it is by decisions on the whole map."""
        pixels, kept, fresh = (self._array(key, name) for name in ("pixels", "kept", "fresh"))
        on_pixels = decided.ravel()[pixels]
        wrong = np.zeros(decided.shape, dtype=bool)
        wrong.ravel()[pixels] = fresh & (on_pixels != UNKNOWN) & (kept != (on_pixels == KEPT))
        return wrong

    def _array(self, key: Key, name: str) -> NDArray[Any]:
        return self._arrays[f"{_prefix(key)}{_STORED_AS[name]}"]


# Names in checkpoints are older than those here.
_STORED_AS = {"pixels": "pixels", "kept": "kept", "fresh": "fresh", "label": "piece", "peaks": "peaks"}


def _prefix(key: Key) -> str:
    return f"candidates_{key[0]}_{key[1]}_"


@dataclass(frozen=True)
class Replay:
    """Has pixels join the support when they did before, in the same window."""

    joined: NDArray[np.uint16]  # Iteration at which each pixel of the box did, 0 where it did not (scale, y, x).
    found: Mapping[Key, AboveThreshold] = field(default_factory=dict)  # Nothing is decided.

    def select(self, iteration: int, _joined: NDArray[np.uint16], scale: int, detected: Detected) -> Bools:
        """Select the pixels that join the support.

        Parameters
        ----------
        iteration, _joined, scale, detected
            As of `WindowFilter.select`.
        """
        return np.asarray(self.joined[scale].ravel()[detected.pixels] == iteration)


@dataclass
class WindowFilter:
    """Decides on islands by a tile's window, and by what is known of the whole map; keeps what it has seen."""

    tile: Tile  # The tile.
    sound: Box  # Pixels of the map that are as far from the window's edge as the kernels reach.
    map_width: int  # Columns of the map.
    criteria: Criteria  # The thresholds.
    # What is decided on pixels of the box at an iteration and scale (UNKNOWN, DROPPED, KEPT), where anything is.
    decided: Callable[[Key], NDArray[np.uint8]] | None
    found: dict[Key, AboveThreshold] = field(default_factory=dict)  # By iteration and scale.

    def select(self, iteration: int, joined: NDArray[np.uint16], scale: int, detected: Detected) -> Bools:
        """Select the pixels that join the support.

        Parameters
        ----------
        iteration : int
            The iteration that is being made.
        joined : ndarray of uint16
            Iteration at which each pixel joined the support, 0 where it has not (scale, y, x).
        scale : int
            Index of the scale.
        detected : Detected
            What is above the threshold in the box.
        """
        kept = in_bright_islands(detected, self.criteria.significance_island_threshold)
        if self.decided is not None:
            decided = self.decided((iteration, scale)).ravel()[detected.pixels]
            kept = (decided == KEPT) | (kept & (decided != DROPPED))
        self.found[iteration, scale] = self._seen(detected, kept, joined[scale].ravel()[detected.pixels] == 0)
        return kept

    def _seen(self, detected: Detected, kept: Bools, fresh: Bools) -> AboveThreshold:
        shape, core = self.tile.box.shape, self.tile.core.within(self.tile.box)
        looked_at = np.zeros(shape, dtype=bool)
        looked_at[self.sound.within(self.tile.box)] = True
        # A margin below the reach does not even show the core soundly; its islands are decided on all the same.
        looked_at[core] = True
        seen = looked_at.ravel()[detected.pixels]
        y, x = np.divmod(detected.pixels, shape[1])
        y, x = y - core[0].start, x - core[1].start
        height, width = self.tile.core.shape
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        of_pixels = np.zeros(len(detected.pixels), dtype=np.int32)
        of_pixels[inside], labels = label_core((y * width + x)[inside], self.tile.core, self.map_width)
        return AboveThreshold(
            pixels=detected.pixels[seen],
            kept=kept[seen],
            fresh=fresh[seen],
            label=of_pixels[seen],
            peaks=island_peaks(of_pixels, detected.ratio)[1:],
            labels=labels,
        )
