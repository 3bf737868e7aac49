"""Decisions on the islands of the whole map, as one tile sees them: by the labels of all cores in its window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.tiling import Tile
from cwt_dask.planning.job import Job
from cwt_dask.storage.archives import open_archive, write_archive
from cwt_dask.tiles.islands import DROPPED, KEPT, UNKNOWN, IslandLabel, Key, StoredIslands


@dataclass(frozen=True)
class Decisions:
    """What is known of the islands in a tile's window, in one block of iterations."""

    grid: AnyGrid  # The tiles.
    tile: Tile  # The tile that looks.
    islands: Mapping[int, StoredIslands]  # Of the tiles that have cores in its window, by number.
    # Of the same tiles: by iteration and scale, whether the island of each label is kept.
    kept: Mapping[int, Mapping[Key, Bools]]

    @property
    def own(self) -> StoredIslands:
        """What the tile itself has seen."""
        return self.islands[self.tile.id]

    def of_pixels(self, key: Key) -> NDArray[np.uint8]:
        """Decision on each pixel (UNKNOWN, DROPPED, KEPT), uint8 in the tile's box (y, x)."""
        decided = np.full(self.tile.box.shape, UNKNOWN, dtype=np.uint8)
        for other, labels, common in self._in_window(key):
            of_label = np.where(self.kept[other][key], KEPT, DROPPED)
            decided[common] = np.append(UNKNOWN, of_label)[labels]
        return decided

    def contradicted(self) -> list[IslandLabel]:
        """Labels of islands on which the tile's support is not as decided."""
        found = set()
        for key in self.own.keys:
            wrong = self.own.contradicting(key, self.of_pixels(key))
            if wrong.any():
                for other, labels, common in self._in_window(key):
                    here = labels[wrong[common]]
                    found |= {IslandLabel(*key, other, number) for number in np.unique(here[here > 0]).tolist()}
        return sorted(found)

    def _in_window(self, key: Key) -> Iterator[tuple[int, NDArray[np.int32], tuple[slice, slice]]]:
        """Tiles with cores in the window, labels where these lie in it, and where that is in the box.

        Tiles that had stopped before have none.
        """
        for other in self.grid.overlapping(self.tile.window):
            if key in self.islands[other.id].keys:
                common = other.core.intersection(self.tile.window)
                labels = self.islands[other.id].label_image(key, other)[common.within(other.core)]
                yield other.id, labels, common.within(self.tile.box)


@contextmanager
def open_decisions(job: Job, tile: Tile) -> Iterator[Decisions]:
    """Open what is known around a tile: islands as of the rounds before the job's, and the decisions of its round."""
    ids = {other.id for other in job.grid.overlapping(tile.window)}
    block, round_ = job.decisions_block, job.round
    with ExitStack() as stack:
        paths = {other: job.run_dir.latest_checkpoint(block, other, before=round_) for other in ids}
        islands = {
            other: StoredIslands(stack.enter_context(open_archive(path, job.run_id))) for other, path in paths.items()
        }
        kept = {other: _read_decisions(job.run_dir.decisions(block, other, round_), job.run_id) for other in ids}
        yield Decisions(job.grid, tile, islands, kept)


def write_decisions(path: Path, run_id: str, kept: Mapping[Key, Bools]) -> None:
    """Store whether the island of each label of a core is kept.

    Parameters
    ----------
    path : Path
        The file.
    run_id : str
        Of which run.
    kept : mapping
        By iteration and scale.
    """
    write_archive(path, run_id, {f"keep_{iteration}_{scale}": values for (iteration, scale), values in kept.items()})


def _read_decisions(path: Path, run_id: str) -> dict[Key, Bools]:
    with open_archive(path, run_id) as stored:
        names = {name: name.split("_") for name in stored}
        return {(int(iteration), int(scale)): stored[name] for name, (_, iteration, scale) in names.items()}
