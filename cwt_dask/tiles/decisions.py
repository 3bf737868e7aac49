"""The fates of the whole map's islands, as one tile is told of them: by the candidates of the tiles that it sees."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.storage.atomic import atomic_file
from cwt_dask.tiles.islands import DROPPED, KEPT, UNKNOWN, AboveThreshold, label_image, prefix_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.lib.npyio import NpzFile
    from numpy.typing import NDArray

    from cwt_dask.geometry.tiling import Tile, TileGrid
    from cwt_dask.planning.job import Job
    from cwt_dask.storage.layout import RunDir


@dataclass(frozen=True)
class Decisions:
    """What is known of the islands in a tile's window, in one block of iterations.

    Attributes
    ----------
    grid : TileGrid
        The tiles.
    tile : Tile
        Whose window.
    candidates, fates : mapping
        Of the tiles whose cores it sees, by number: the checkpoint with their candidates, and the fates of the pieces
        in it.
    """

    grid: TileGrid
    tile: Tile
    candidates: Mapping[int, NpzFile]
    fates: Mapping[int, NpzFile]

    def seen(self) -> Iterator[tuple[int, int, AboveThreshold]]:
        """What the tile itself saw: iteration, scale index, candidates."""
        stored = self.candidates[self.tile.id]
        for iteration, scale in keys_in(stored):
            yield iteration, scale, AboveThreshold.from_arrays(stored, prefix_of(iteration, scale))

    def verdicts(self, iteration: int, scale: int) -> NDArray[np.uint8]:
        """What became of the pixels above the threshold in the whole map, uint8 in the tile's box (y, x)."""
        verdicts = np.full(self.tile.box.shape, UNKNOWN, dtype=np.uint8)
        for other, pieces in self._others(iteration, scale):
            keep = self.fates[other.id][_name(iteration, scale)]
            of_piece = np.concatenate([[UNKNOWN], np.where(keep, KEPT, DROPPED)]).astype(np.uint8)
            common = other.core.intersection(self.tile.window)
            verdicts[common.within(self.tile.box)] = of_piece[pieces[common.within(other.core)]]
        return verdicts

    def own_labels(self, iteration: int, scale: int) -> NDArray[np.int32]:
        """LocalLabels in the tile's own core, int32 (y, x); 0 where there is none."""
        return label_image(self.candidates[self.tile.id], prefix_of(iteration, scale), self.tile)

    def labels_at(self, iteration: int, scale: int, pixels: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Tile and number of the pieces that have some of `pixels`, bool in the tile's box (y, x)."""
        if not pixels.any():
            return []
        found = set()
        for other, pieces in self._others(iteration, scale):
            common = other.core.intersection(self.tile.window)
            here = pieces[common.within(other.core)][pixels[common.within(self.tile.box)]]
            found |= {(other.id, int(piece)) for piece in np.unique(here) if piece > 0}
        return sorted(found)

    def _others(self, iteration: int, scale: int) -> Iterator[tuple[Tile, NDArray[np.int32]]]:
        """Tiles whose cores lie in the window, and the pieces in those cores; not those that had stopped before."""
        for other in self.grid.overlapping(self.tile.window):
            stored = self.candidates[other.id]
            if (iteration, scale) in keys_in(stored):
                yield other, label_image(stored, prefix_of(iteration, scale), other)


@contextmanager
def open_decisions(run_dir: RunDir, grid: TileGrid, tile: Tile, block: int, round_: int) -> Iterator[Decisions]:
    """Open what is known around a tile in a round: candidates of the rounds before it, and their fates."""
    with ExitStack() as stack:
        ids = {other.id for other in grid.overlapping(tile.window)}

        def opened(path: Path) -> Any:
            return stack.enter_context(np.load(stack.enter_context(path.open("rb")), allow_pickle=False))

        candidates = {other: opened(run_dir.latest_checkpoint(block, other, before=round_)) for other in ids}
        fates = {other: opened(run_dir.decisions(block, other, round_)) for other in ids}
        yield Decisions(grid, tile, candidates, fates)


def write_decisions(
    run_dir: RunDir, block: int, round_: int, tile_id: int, keep: Mapping[tuple[int, int], NDArray[np.bool_]]
) -> None:
    """Store whether each piece in a tile's core is kept, by iteration and scale."""
    arrays: dict[str, Any] = {_name(*key): values for key, values in keep.items()}
    with atomic_file(run_dir.decisions(block, tile_id, round_)) as file:
        np.savez(file, **arrays)


def keys_in(stored: NpzFile) -> list[tuple[int, int]]:
    """Iterations and scales of which a checkpoint holds candidates."""
    found = (re.fullmatch(r"candidates_(\d+)_(\d+)_pixels", name) for name in stored.files)
    return sorted((int(match[1]), int(match[2])) for match in found if match)


def _name(iteration: int, scale: int) -> str:
    return f"keep_{iteration}_{scale}"


def contradicted_labels(job: Job, tile_id: int) -> list[tuple[int, int, int, int]]:
    """LocalLabels of islands whose fates in the whole map are not those that this tile's support tells of.

    Returns
    -------
    list of tuple
        Iteration, scale index, tile in whose core the piece lies, and its number there, from 1.
    """
    tile = job.grid.tile(tile_id)
    with open_decisions(job.run_dir, job.grid, tile, job.decisions_block, job.round) as fates:
        return [
            (iteration, scale, *piece)
            for iteration, scale, candidates in fates.seen()
            for piece in fates.labels_at(iteration, scale, candidates.contradicting(fates.verdicts(iteration, scale)))
        ]


def mark_open_pixels(job: Job, pieces: Mapping[int, Sequence[tuple[int, int, int]]], tile_id: int) -> int:
    """Keep which pixels of a tile's core lie in pieces (iteration, scale index, number) of islands left open."""
    tile = job.grid.tile(tile_id)
    marked = np.zeros(tile.core.shape, dtype=bool)
    with open_decisions(job.run_dir, job.grid, tile, job.decisions_block, job.round) as fates:
        for iteration, scale in sorted({(iteration, scale) for iteration, scale, _ in pieces[tile_id]}):
            numbers = [piece for *at, piece in pieces[tile_id] if at == [iteration, scale]]
            marked |= np.isin(fates.own_labels(iteration, scale), numbers)
    with atomic_file(job.run_dir.open_pixels(job.stop, tile_id)) as file:
        np.save(file, marked)
    return tile_id
