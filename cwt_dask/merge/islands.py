"""LocalLabels of islands, labelled core by core, joined over the faces of the cores."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse

from cwt_dask.tiles.decisions import keys_in, write_decisions
from cwt_dask.tiles.islands import LocalLabels, pieces_from_arrays, prefix_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cwt_dask.geometry.tiling import Box, TileGrid
    from cwt_dask.storage.layout import RunDir


def join_labels(
    pieces: Mapping[int, LocalLabels], grid: TileGrid
) -> tuple[dict[int, NDArray[np.int64]], NDArray[np.int64]]:
    """Join pieces that touch over a face (4-connected) into islands.

    Parameters
    ----------
    pieces : mapping
        LocalLabels of every tile, by its number.
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


class OpenIsland(NamedTuple):
    """An island on whose fate tiles were not brought to agree.

    Attributes
    ----------
    iteration, scale : int
        Where: iteration, and index of the scale.
    y, x : int
        Its first pixel in row-major order of the map.
    n_pixels : int
        Its pixels.
    significance : float
        Its largest T/E.
    """

    iteration: int
    scale: int
    y: int
    x: int
    n_pixels: int
    significance: float


class Unsettled(NamedTuple):
    """Islands that were left open in a block, and their pieces by tile."""

    islands: Sequence[OpenIsland] = ()
    labels: Mapping[int, Sequence[tuple[int, int, int]]] = MappingProxyType({})


@dataclass(frozen=True)
class Islands:
    """The islands of one iteration and scale.

    Attributes
    ----------
    of_piece : mapping of ndarray
        For each tile, the island of each piece in its core, 0-based.
    peaks : ndarray of float64
        Largest T/E of each.
    first, n_pixels : ndarray of int64
        First pixel of each as flat index of the map, and number of pixels.
    """

    of_piece: Mapping[int, NDArray[np.int64]]
    peaks: NDArray[np.float64]
    first: NDArray[np.int64]
    n_pixels: NDArray[np.int64]


def decide_islands(run_dir: RunDir, grid: TileGrid, block: int, round_: int, threshold: float) -> None:
    """Join the candidates of all tiles, as of the rounds before this one, and store the fate of each piece.

    An island is kept if its largest T/E reaches `threshold`.
    """
    keep: dict[int, dict[tuple[int, int], NDArray[np.bool_]]] = {tile: {} for tile in range(grid.n_tiles)}
    for key, islands in joined_islands(run_dir, grid, block, round_):
        for tile, of_piece in islands.of_piece.items():
            keep[tile][key] = islands.peaks[of_piece] >= threshold
    for tile, fates in keep.items():
        write_decisions(run_dir, block, round_, tile, fates)


def open_islands(
    run_dir: RunDir, grid: TileGrid, block: int, round_: int, contradicted: Iterable[tuple[int, int, int, int]]
) -> tuple[list[OpenIsland], dict[int, list[tuple[int, int, int]]]]:
    """Name the islands that some tile's support contradicts.

    Parameters
    ----------
    run_dir, grid, block, round_
        As `decide_islands`.
    contradicted : iterable of tuple
        Iteration, scale index, tile, piece from 1.

    Returns
    -------
    islands : list of OpenIsland
        Each once.
    pieces : dict
        All their pieces by tile: iteration, scale index, piece from 1.
    """
    contradicted = set(contradicted)
    named: list[OpenIsland] = []
    pieces: dict[int, list[tuple[int, int, int]]] = {}
    for key, islands in joined_islands(run_dir, grid, block, round_):
        found = {int(islands.of_piece[tile][piece - 1]) for *at, tile, piece in contradicted if tuple(at) == key}
        for island in sorted(found):
            y, x = divmod(int(islands.first[island]), grid.x.length)
            named.append(OpenIsland(*key, y, x, int(islands.n_pixels[island]), float(islands.peaks[island])))
        for tile, of_piece in islands.of_piece.items():
            hit = np.flatnonzero(np.isin(of_piece, list(found)))
            if hit.size:
                pieces.setdefault(tile, []).extend((*key, int(piece) + 1) for piece in hit)
    return named, pieces


def joined_islands(
    run_dir: RunDir, grid: TileGrid, block: int, round_: int
) -> Iterator[tuple[tuple[int, int], Islands]]:
    """Islands of each iteration and scale of a block, as of the rounds before `round_`."""
    paths = [run_dir.latest_checkpoint(block, tile, before=round_) for tile in range(grid.n_tiles)]
    keys = set()
    for path in paths:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            keys |= set(keys_in(stored))
    # One iteration and scale, and one file at a time: there may be more files than a process can have open.
    for key in sorted(keys):
        yield key, _join([_pieces(path, key, grid.tile(tile).core) for tile, path in enumerate(paths)], grid)


def _pieces(path: Path, key: tuple[int, int], core: Box) -> tuple[LocalLabels, NDArray[np.float64]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if key in keys_in(stored):
            return pieces_from_arrays(stored, prefix_of(*key))
    # The tile had stopped before.
    none = np.empty(0, dtype=np.int64)
    height, width = (np.zeros(length, dtype=np.int32) for length in core.shape)
    return LocalLabels(none, none, {"south": width, "north": width, "west": height, "east": height}), np.empty(0)


def _join(found: list[tuple[LocalLabels, NDArray[np.float64]]], grid: TileGrid) -> Islands:
    numbers, n_pixels = join_labels({tile: pieces for tile, (pieces, _) in enumerate(found)}, grid)
    of_piece = {tile: island - 1 for tile, island in numbers.items()}
    peaks = np.full(len(n_pixels), -np.inf)
    first = np.full(len(n_pixels), np.iinfo(np.int64).max)
    for tile, (pieces, values) in enumerate(found):
        np.maximum.at(peaks, of_piece[tile], values)
        np.minimum.at(first, of_piece[tile], pieces.first)
    return Islands(of_piece, peaks, first, n_pixels)
