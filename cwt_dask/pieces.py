"""The parts of islands that lie in one core: what joining them to those of other cores needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.support import label_islands

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


def find_pieces(support_2d: NDArray[np.bool_], core: Box, map_width: int) -> tuple[NDArray[np.int32], Pieces]:
    """Label the support (y, x) of one core: labels int32 (y, x), and what is needed to join them to others."""
    labels, count = label_islands(support_2d)
    rows, columns = np.nonzero(labels)
    of_pixel = labels[rows, columns] - 1
    flat = (rows + core.y0) * map_width + (columns + core.x0)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, of_pixel, flat)
    faces = {"south": labels[0], "north": labels[-1], "west": labels[:, 0], "east": labels[:, -1]}
    return labels, Pieces(np.bincount(of_pixel, minlength=count), first, faces)
