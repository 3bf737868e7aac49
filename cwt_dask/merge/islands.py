"""Pieces of islands, labelled core by core, joined over the faces of the cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cwt_dask.pieces import Pieces
    from cwt_dask.tiling import TileGrid


def join_pieces(pieces: Mapping[int, Pieces], grid: TileGrid) -> tuple[dict[int, NDArray[np.int64]], NDArray[np.int64]]:
    """Join pieces that touch over a face (4-connected) into islands.

    Parameters
    ----------
    pieces : mapping
        Pieces of every tile, by its number.
    grid : TileGrid
        The tiles.

    Returns
    -------
    island_ids : dict of ndarray of int64
        For each tile, the island of each of its pieces: numbered from 1 in row-major order of the islands' first
        pixels, so that the tiling does not show.
    n_pixels : ndarray of int64
        Pixels of each island, by island number - 1.
    """
    counts = np.array([len(pieces[tile].n_pixels) for tile in range(grid.n_tiles)], dtype=np.int64)
    offsets = np.array([0, *np.cumsum(counts)])
    total = int(offsets[-1])
    touching = [
        _touching(pieces[tile.id].faces[side], pieces[other.id].faces[back]) + offsets[[tile.id, other.id], np.newaxis]
        for tile in grid.tiles()
        for side, back in (("north", "south"), ("east", "west"))
        if (other := grid.neighbours(tile).get(side))
    ]
    edges = np.concatenate([np.empty((2, 0), dtype=np.int64), *touching], axis=1)
    graph = scipy.sparse.coo_array((np.ones(edges.shape[1], dtype=bool), tuple(edges)), shape=(total, total))
    n_islands, component = scipy.sparse.csgraph.connected_components(graph, directed=False)

    first = np.full(n_islands, np.iinfo(np.int64).max)
    sizes = np.zeros(n_islands, dtype=np.int64)
    for tile in range(grid.n_tiles):
        of_piece = component[offsets[tile] : offsets[tile + 1]]
        np.minimum.at(first, of_piece, pieces[tile].first)
        np.add.at(sizes, of_piece, pieces[tile].n_pixels)
    order = np.argsort(first)
    number = np.empty(n_islands, dtype=np.int64)
    number[order] = np.arange(1, n_islands + 1)
    ids = number[component]
    return {tile: ids[offsets[tile] : offsets[tile + 1]] for tile in range(grid.n_tiles)}, sizes[order]


def _touching(face: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int64]:
    """Pairs of pieces that meet along a face, 0-based, shape (2, n)."""
    both = (face > 0) & (other > 0)
    pairs = np.stack([face[both], other[both]]).astype(np.int64) - 1
    return np.unique(pairs, axis=1)
