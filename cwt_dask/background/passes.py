"""Passes over a map by tiles: each reads what is around a tile's core, and writes the core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cwt_dask.background.layers import (
    COUNTS,
    DRAWN,
    ESTIMATE,
    EXCLUDED,
    FIRST,
    SECOND,
    Layers,
    acceptance_of,
    window,
)
from cwt_dask.background.recipe import Recipe
from cwt_dask.geometry.tiling import Box, TileGrid

# Side of a tile's core in pixels.
TILE = 1024
# Bytes a pixel of a window: counts, acceptance, what is used and free, and these smoothed along rows.
BYTES_PER_PIXEL = 80
# Bytes of a worker before it has read anything.
_PROCESS_MEMORY = 300 * 2**20
# A core takes at most so many seconds for each pixel of its window and of its reach; late is ten times that, and more.
_SECONDS, _LEAST_DEADLINE = 1e-7, 600.0
# Counts are drawn for squares of so many pixels, each from a generator of its own.
_BLOCK = 256
_SEED = 20
# Below so many counts within two scales the error is about a tenth, and more.
FEW_COUNTS = 100.0
# Squares of relative errors are summed as whole numbers of this unit, so that no sum depends on the order; of pixels
# that are nearly empty no more counts than the largest.
_UNIT, _LARGEST_SQUARE = 2.0**-30, 2.0**10


class Surroundings(NamedTuple):
    """What a pass that smooths has found in a core."""

    n_used: int  # Pixels that are used.
    has_counts: bool  # Whether there are any on them.
    n_unknown: int  # Pixels of them that have none outside of sources within reach.


class Departure(NamedTuple):
    """How far the estimate of a drawn sky is from the one it was drawn from, in a core."""

    n_pixels: int  # Pixels with a background.
    squares: int  # Sum of squared relative differences, in units of 2**-30.


class Level(NamedTuple):
    """How many counts an estimate rests on."""

    least: float  # Least counts within two scales, of all pixels used.
    n_few: int  # Pixels with fewer than `FEW_COUNTS`.


@dataclass(frozen=True)
class Passes:
    """The passes of an estimate."""

    layers: Layers
    grid: TileGrid  # Cores alone: windows are as large as each pass needs.
    recipe: Recipe

    @property
    def worker_memory(self) -> int:
        """Largest memory a worker needs, in bytes."""
        return _PROCESS_MEMORY + BYTES_PER_PIXEL * self._largest_window

    @property
    def deadline(self) -> float:
        """Seconds after which a task is late."""
        return _LEAST_DEADLINE + _SECONDS * self._largest_window * self.recipe.reach

    @property
    def _largest_window(self) -> int:
        y, x = self.grid.core_shape
        return Box(0, y, 0, x).grown(self.recipe.reach + self.recipe.source_reach).area

    def smooth(self, counts: str, width: float, tile: int) -> Surroundings:
        """Estimate the background in a core, with the acceptance as it was given.

        Parameters
        ----------
        counts : str
            Their layer.
        width : float
            Standard deviation of the Gaussian, in scales.
        tile : int
            Number of the tile.
        """
        core = self.grid.tile(tile).core
        box = core.grown(self.recipe.reach)
        acceptance, used = acceptance_of(self.layers, box)
        of_core = core.within(box)
        seen = window(self.layers, counts, box).astype(np.float64)
        free = used & ~window(self.layers, EXCLUDED, box)
        background, known = self.recipe.background(seen, acceptance, free, width)
        self.layers.write(FIRST, core, background)
        n_unknown = int(np.count_nonzero(used[of_core] & ~known))
        has_counts = bool(seen[of_core][used[of_core]].any())
        return Surroundings(int(np.count_nonzero(used[of_core])), has_counts, n_unknown)

    def smooth_again(self, counts: str, width: float, before: str, after: str, tile: int) -> None:
        """Estimate the background in a core once more, with an estimate as the acceptance.

        Parameters
        ----------
        counts : str
            Their layer.
        width : float
            Standard deviation of the Gaussian, in scales.
        before, after : str
            Layers of the estimate that there is, and of the one that is made of it.
        tile : int
            Number of the tile.
        """
        core = self.grid.tile(tile).core
        box = core.grown(self.recipe.reach)
        _, used = acceptance_of(self.layers, box)
        free = used & ~window(self.layers, EXCLUDED, box)
        seen = window(self.layers, counts, box).astype(np.float64)
        background, _ = self.recipe.background(seen, window(self.layers, before, box), free, width)
        self.layers.write(after, core, background)

    def exclude(self, tile: int) -> int:
        """Exclude sources of a core, and say how many of its pixels are excluded: done twice it says the same."""
        core = self.grid.tile(tile).core
        box = core.grown(self.recipe.source_reach)
        _, used = acceptance_of(self.layers, box)
        counts = window(self.layers, COUNTS, box).astype(np.float64)
        found = self.recipe.sources(counts, window(self.layers, ESTIMATE, box), used)
        excluded = self.layers.read(EXCLUDED, core) | (found & used[core.within(box)])
        self.layers.write(EXCLUDED, core, excluded)
        return int(np.count_nonzero(excluded))

    def draw(self, sky: int, tile: int) -> None:
        """Draw the counts of a core from the estimate; those of a pixel depend on the number of the sky alone."""
        core = self.grid.tile(tile).core
        drawn = np.zeros(core.shape)
        for y in range(core.y0 // _BLOCK, -(-core.y1 // _BLOCK)):
            for x in range(core.x0 // _BLOCK, -(-core.x1 // _BLOCK)):
                block = Box(y * _BLOCK, (y + 1) * _BLOCK, x * _BLOCK, (x + 1) * _BLOCK)
                block = block.intersection(self.grid.map_box)
                counts = np.random.default_rng([_SEED, sky, y, x]).poisson(self.layers.read(ESTIMATE, block))
                part = block.intersection(core)
                drawn[part.within(core)] = counts[part.within(block)]
        self.layers.write(DRAWN, core, drawn)

    def depart(self, tile: int) -> Departure:
        """Compare the estimate of the drawn sky, the second layer, with the one it was drawn from, in a core."""
        core = self.grid.tile(tile).core
        background = self.layers.read(ESTIMATE, core)
        again = self.layers.read(SECOND, core)
        filled = background > 0
        squares = np.square(again[filled] / background[filled] - 1)
        units = np.rint(np.minimum(squares, _LARGEST_SQUARE) / _UNIT).astype(np.int64)
        return Departure(int(np.count_nonzero(filled)), int(units.sum()))

    def level(self, tile: int) -> Level:
        """How many counts the estimate of a core rests on."""
        core = self.grid.tile(tile).core
        _, used = acceptance_of(self.layers, core)
        counts = self.layers.read(ESTIMATE, core)[used] * self.recipe.area
        return Level(float(counts.min(initial=np.inf)), int(np.count_nonzero(counts < FEW_COUNTS)))


def relative_error(departures: list[Departure]) -> float:
    """Root mean square of the relative differences; 0 where there is no background."""
    n_pixels = sum(departure.n_pixels for departure in departures)
    return float(np.sqrt(sum(departure.squares for departure in departures) * _UNIT / max(n_pixels, 1)))
