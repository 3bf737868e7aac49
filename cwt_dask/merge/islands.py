"""Islands of the whole map: labels of all cores joined over their faces; which are kept, which are left open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.planning.job import Job
from cwt_dask.storage.archives import open_archive
from cwt_dask.tiles.decisions import write_decisions
from cwt_dask.tiles.islands import IslandLabel, Key, LocalLabels, StoredIslands, label_core


@dataclass(frozen=True)
class Islands:
    """Islands of the whole map, in row-major order of their first pixels, so that the tiling does not show."""

    of_label: Mapping[int, Ints]  # For each tile, the island of each of its labels, 0-based.
    # First pixel of each island as flat index of the map, and number of pixels.
    first: Ints
    n_pixels: Ints


def join_labels(labels: Mapping[int, LocalLabels], grid: AnyGrid) -> Islands:
    """Join labels that touch over a face (4-connected); `labels` are those of every tile, by its number."""
    counts = [len(labels[tile].n_pixels) for tile in range(grid.n_tiles)]
    offsets = np.cumsum([0, *counts])
    total = int(offsets[-1])
    touching = [
        _touching(labels[tile.id].faces[side], labels[other.id].faces[back]) + offsets[[tile.id, other.id], np.newaxis]
        for tile in grid.tiles()
        for side, back in (("north", "south"), ("east", "west"))
        if (other := grid.neighbours(tile).get(side))
    ]
    edges = np.concatenate([np.empty((2, 0), dtype=np.int64), *touching], axis=1)
    n_islands, component = _components(edges, total)

    first = np.full(n_islands, np.iinfo(np.int64).max)
    n_pixels = np.zeros(n_islands, dtype=np.int64)
    for tile in range(grid.n_tiles):
        of_label = component[offsets[tile] : offsets[tile + 1]]
        np.minimum.at(first, of_label, labels[tile].first)
        np.add.at(n_pixels, of_label, labels[tile].n_pixels)
    order = np.argsort(first)
    number = np.empty(n_islands, dtype=np.int64)
    number[order] = np.arange(n_islands)
    islands = np.split(number[component], offsets[1:-1])
    return Islands(dict(enumerate(islands)), first[order], n_pixels[order])


def _components(edges: Ints, total: int) -> tuple[int, Ints]:
    """Number of components of a graph of `total` labels, and the component of each."""
    if not edges.size:
        return total, np.arange(total)
    from scipy import sparse  # noqa: PLC0415 - one tile does without

    graph = sparse.coo_array((np.ones(edges.shape[1], dtype=bool), tuple(edges)), shape=(total, total))
    n_islands, component = sparse.csgraph.connected_components(graph, directed=False)
    return int(n_islands), np.asarray(component)


def _touching(face: NDArray[np.int32], other: NDArray[np.int32]) -> Ints:
    """Pairs of labels that meet along a face, 0-based, shape (2, n)."""
    both = (face > 0) & (other > 0)
    pairs = np.stack([face[both], other[both]]).astype(np.int64) - 1
    return np.unique(pairs, axis=1)


class OpenIsland(NamedTuple):
    """An island on which tiles were not brought to agree."""

    # Where: iteration, and index of the scale.
    iteration: int
    scale: int
    # Its first pixel in row-major order of the map.
    y: int
    x: int
    n_pixels: int  # Its pixels.
    significance: float  # Its largest T/E.


class Unsettled(NamedTuple):
    """Islands that were left open in a block, and their labels by tile."""

    islands: Sequence[OpenIsland] = ()
    labels: Mapping[int, Sequence[IslandLabel]] = MappingProxyType({})


def decide_islands(job: Job) -> None:
    """Join the islands of all tiles, as of the rounds before the job's, and store for each label which are kept.

    An island is kept if its largest T/E reaches the island threshold.
    """
    threshold = job.criteria.significance_island_threshold
    assert threshold is not None  # noqa: S101 - for the type checker
    kept: dict[int, dict[Key, Bools]] = {tile: {} for tile in range(job.grid.n_tiles)}
    for key, islands, peaks in joined_islands(job):
        for tile, of_label in islands.of_label.items():
            kept[tile][key] = peaks[of_label] >= threshold
    for tile, decisions in kept.items():
        write_decisions(job.run_dir.decisions(job.decisions_block, tile, job.round), job.run_id, decisions)


def open_islands(job: Job, contradicted: Iterable[IslandLabel]) -> Unsettled:
    """Name the islands, each once, that some tile's support contradicts in one of these labels."""
    contradicted = set(contradicted)
    named: list[OpenIsland] = []
    labels: dict[int, list[IslandLabel]] = {}
    for key, islands, peaks in joined_islands(job):
        found = sorted({int(islands.of_label[tile][n - 1]) for *at, tile, n in contradicted if tuple(at) == key})
        for island in found:
            y, x = divmod(int(islands.first[island]), job.grid.width)
            named.append(OpenIsland(*key, y, x, int(islands.n_pixels[island]), float(peaks[island])))
        for tile, of_label in islands.of_label.items():
            hit = np.flatnonzero(np.isin(of_label, found))
            if hit.size:
                labels.setdefault(tile, []).extend(IslandLabel(*key, tile, int(label) + 1) for label in hit)
    return Unsettled(named, labels)


def joined_islands(job: Job) -> Iterator[tuple[Key, Islands, Floats]]:
    """Islands of each iteration and scale of a block, and the largest T/E of each; as of the rounds before."""
    tiles = range(job.grid.n_tiles)
    paths = [job.run_dir.latest_checkpoint(job.decisions_block, tile, before=job.round) for tile in tiles]
    keys: set[Key] = set()
    for path in paths:
        with open_archive(path, job.run_id) as stored:
            keys |= set(StoredIslands(stored).keys)
    nothing = np.empty(0, dtype=np.int64)
    # One iteration and scale, and one file at a time: there may be more files than a process can have open.
    for key in sorted(keys):
        labels, peaks_of_labels = {}, {}
        for tile, path in enumerate(paths):
            with open_archive(path, job.run_id) as stored:
                found = StoredIslands(stored)
                if key in found.keys:
                    labels[tile], peaks_of_labels[tile] = found.labels(key), found.peaks(key)
                else:
                    # A tile that had stopped before has none.
                    labels[tile] = label_core(nothing, job.grid.tile(tile).core, 1)[1]
        islands = join_labels(labels, job.grid)
        peaks = np.full(len(islands.first), -np.inf)
        for tile, of_tile in peaks_of_labels.items():
            np.maximum.at(peaks, islands.of_label[tile], of_tile)
        yield key, islands, peaks
