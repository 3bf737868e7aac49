"""Islands above the threshold, one iteration and scale at a time: what a tile sees of them, decides, and is told.

With an island threshold a tile first judges islands by what its window shows. It keeps the pieces of them that lie in
its core; joined over the faces of all cores they are the islands of the whole map, whose fates the tile is then told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cwt_dask.cwt.loops import label
from cwt_dask.cwt.step import by_own_peak
from cwt_dask.cwt.support import island_peaks
from cwt_dask.storage.maps import SIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cwt_dask.cwt.state import Criteria, Detected
    from cwt_dask.geometry.tiling import Box, Tile

    Verdicts = Callable[[int, int], NDArray[np.uint8]]

UNKNOWN, DROPPED, KEPT = 0, 1, 2


@dataclass(frozen=True)
class AboveThreshold:
    """Pixels above the threshold in a tile's window, at one iteration and scale.

    Only pixels of the map are among them whose neighbourhood, as far as the kernels reach, lies in the window.

    Attributes
    ----------
    pixels : ndarray of int64
        Flat indices in the tile's box, ascending.
    kept : ndarray of bool
        Whether the tile took them into the support.
    fresh : ndarray of bool
        Whether they were not in its support before.
    piece : ndarray of int32
        Piece of an island in the core, from 1; 0 outside the core.
    peaks : ndarray of float64
        Largest T/E of each piece.
    pieces : LocalLabels
        What joins the pieces to those of other cores.
    """

    pixels: NDArray[np.int64]
    kept: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    piece: NDArray[np.int32]
    peaks: NDArray[np.float64]
    pieces: LocalLabels

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, to be stored."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        faces = {f"face_{side}": labels for side, labels in self.pieces.faces.items()}
        arrays |= {"n_pixels": self.pieces.n_pixels, "first": self.pieces.first, **faces}
        return {f"{prefix}{name}": values for name, values in arrays.items()}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, NDArray[Any]], prefix: str) -> AboveThreshold:
        """What `to_arrays` gave."""
        pieces, peaks = pieces_from_arrays(stored, prefix)
        arrays = {name: stored[f"{prefix}{name}"] for name in _ARRAYS if name != "peaks"}
        return cls(peaks=peaks, pieces=pieces, **arrays)

    def contradicting(self, verdicts: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Pixels of the box (y, x) where the tile's support is another than it had been under these verdicts."""
        told = verdicts.ravel()[self.pixels]
        wrong = np.zeros(verdicts.shape, dtype=bool)
        wrong.ravel()[self.pixels] = self.fresh & (told != UNKNOWN) & (self.kept != (told == KEPT))
        return wrong


_ARRAYS = tuple(name.name for name in fields(AboveThreshold) if name.name != "pieces")


def pieces_from_arrays(stored: Mapping[str, NDArray[Any]], prefix: str) -> tuple[LocalLabels, NDArray[np.float64]]:
    """Of stored candidates, what joining them needs: the pieces, and the largest T/E of each."""
    faces = {side: stored[f"{prefix}face_{side}"] for side in SIDES}
    return LocalLabels(stored[f"{prefix}n_pixels"], stored[f"{prefix}first"], faces), stored[f"{prefix}peaks"]


def label_image(stored: Mapping[str, NDArray[Any]], prefix: str, tile: Tile) -> NDArray[np.int32]:
    """Of stored candidates, the piece of each pixel of the tile's core, int32 (y, x); 0 where there is none."""
    image = np.zeros(tile.core.shape, dtype=np.int32)
    piece = stored[f"{prefix}piece"]
    inside = piece > 0
    y, x = np.divmod(stored[f"{prefix}pixels"][inside], tile.box.shape[1])
    image[y + tile.box.y0 - tile.core.y0, x + tile.box.x0 - tile.core.x0] = piece[inside]
    return image


def prefix_of(iteration: int, scale: int) -> str:
    """Prefix of the names of stored candidates."""
    return f"candidates_{iteration}_{scale}_"


class IslandFilter(Protocol):
    """Decides which pixels above the threshold join a tile's support."""

    @property
    def found(self) -> Mapping[tuple[int, int], AboveThreshold]:
        """What it saw and is to be kept, by iteration and scale."""

    def select(
        self,
        iteration: int,
        joined: NDArray[np.uint16],
        scale: int,
        detected: Detected,
        /,
    ) -> NDArray[np.bool_]:
        """Which pixels join the support; the arguments are those of `WindowFilter.select`."""


@dataclass
class WindowFilter:
    """Decides on the islands in a tile's window, and keeps what it saw.

    Attributes
    ----------
    tile : Tile
        The tile.
    sound : Box
        Pixels of the map that are as far from the window's edge as the kernels reach.
    map_width : int
        Columns of the map.
    criteria : Criteria
        The thresholds.
    verdicts : callable or None
        What is known of the islands of the whole map.
    found : dict of AboveThreshold
        By iteration and scale.
    """

    tile: Tile
    sound: Box
    map_width: int
    criteria: Criteria
    verdicts: Verdicts | None
    found: dict[tuple[int, int], AboveThreshold] = field(default_factory=dict)

    def select(self, iteration: int, joined: NDArray[np.uint16], scale: int, detected: Detected) -> NDArray[np.bool_]:
        """Which pixels join the support.

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
        kept = by_own_peak(self.criteria)(scale, detected)
        if self.verdicts is not None:
            told = self.verdicts(iteration, scale).ravel()[detected.pixels]
            kept = (told == KEPT) | (kept & (told != DROPPED))
        self.found[iteration, scale] = self._seen(detected, kept, joined[scale].ravel()[detected.pixels] == 0)
        return kept

    def _seen(self, detected: Detected, kept: NDArray[np.bool_], fresh: NDArray[np.bool_]) -> AboveThreshold:
        shape, core = self.tile.box.shape, self.tile.core.within(self.tile.box)
        looked_at = np.zeros(shape, dtype=bool)
        looked_at[self.sound.within(self.tile.box)] = True
        # A margin below the reach does not even show the core soundly; its islands are judged all the same.
        looked_at[core] = True
        seen = looked_at.ravel()[detected.pixels]
        y, x = (
            position - part.start for position, part in zip(np.divmod(detected.pixels, shape[1]), core, strict=True)
        )
        height, width = self.tile.core.shape
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        piece = np.zeros(len(detected.pixels), dtype=np.int32)
        piece[inside], pieces = label_core((y * width + x)[inside], self.tile.core, self.map_width)
        return AboveThreshold(
            pixels=detected.pixels[seen],
            kept=kept[seen],
            fresh=fresh[seen],
            piece=piece[seen],
            peaks=island_peaks(piece, detected.ratio)[1:],
            pieces=pieces,
        )


@dataclass(frozen=True)
class LocalLabels:
    """The parts of islands that lie in one core; piece k is labelled k + 1.

    Attributes
    ----------
    n_pixels : ndarray of int64
        Pixels of each piece.
    first : ndarray of int64
        Of each piece, the first pixel in row-major order of the whole map: its flat index.
    faces : dict of ndarray of int32
        Labels along the four edges of the core, by side.
    """

    n_pixels: NDArray[np.int64]
    first: NDArray[np.int64]
    faces: dict[str, NDArray[np.int32]]


def label_core(pixels: NDArray[np.int64], core: Box, map_width: int) -> tuple[NDArray[np.int32], LocalLabels]:
    """Label the support of one core, given as ascending flat indices in it.

    Returns
    -------
    labels : ndarray of int32
        Of each pixel, from 1.
    pieces : LocalLabels
        What is needed to join them to those of other cores.
    """
    height, width = core.shape
    labels, count = label(pixels, width, False)
    y, x = np.divmod(pixels, width)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, labels - 1, (y + core.y0) * map_width + (x + core.x0))
    faces = {
        "south": _face(y == 0, x, labels, width),
        "north": _face(y == height - 1, x, labels, width),
        "west": _face(x == 0, y, labels, height),
        "east": _face(x == width - 1, y, labels, height),
    }
    return labels, LocalLabels(np.bincount(labels - 1, minlength=count), first, faces)


def _face(
    on_it: NDArray[np.bool_], along: NDArray[np.int64], labels: NDArray[np.int32], length: int
) -> NDArray[np.int32]:
    face = np.zeros(length, dtype=np.int32)
    face[along[on_it]] = labels[on_it]
    return face
