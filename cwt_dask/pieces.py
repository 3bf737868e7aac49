"""The parts of islands that lie in one core: what joining them to those of other cores needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.compiled import label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cwt_dask.tiling import Box


@dataclass(frozen=True)
class Pieces:
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


def find_pieces(pixels: NDArray[np.int64], core: Box, map_width: int) -> tuple[NDArray[np.int32], Pieces]:
    """Label the support of one core, given as ascending flat indices in it.

    Returns
    -------
    labels : ndarray of int32
        Of each pixel, from 1.
    pieces : Pieces
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
    return labels, Pieces(np.bincount(labels - 1, minlength=count), first, faces)


def _face(
    on_it: NDArray[np.bool_], along: NDArray[np.int64], labels: NDArray[np.int32], length: int
) -> NDArray[np.int32]:
    face = np.zeros(length, dtype=np.int32)
    face[along[on_it]] = labels[on_it]
    return face
