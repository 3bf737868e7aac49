"""What is analysed, by which criteria, and what is known of it between two iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.buffers import borrow, give_back

# Rounding of one convolution, in units of machine epsilon times the brightest pixel. Measured:
# tests/cwt/test_rounding.py; the reasoning: docs/design/0005-rounding.md.
ROUNDING_FACTOR = 64


def rounding_level(brightest: float) -> float:
    """Counts per pixel that convolution cannot tell from zero in a map with `brightest` as its largest pixel.

    A power of ten, from the whole map and never from a window of it, so that all tiles agree on it.
    """
    if brightest <= 0:
        return 0.0
    return float(10.0 ** math.ceil(math.log10(ROUNDING_FACTOR * np.finfo(np.float64).eps * brightest)))


@dataclass(frozen=True)
class Field:
    """What is analysed, in a box: all arrays have the box's shape (y, x)."""

    # Counts per pixel, float64, 0 where not `valid`.
    counts: Floats
    background: Floats
    # Pixels that take part. Model and approximation stay zero on the others, which is the published zero border.
    valid: Bools
    # Those of them by whose residual the iteration stops, as far as they lie in the core; all where None.
    pooled: Bools | None = None


@dataclass(frozen=True)
class Criteria:
    """When a pixel joins the support."""

    significance_threshold: float  # Smallest T/E, exclusive.
    significance_island_threshold: float | None  # Islands are dropped if their largest T/E is below it.
    remove_isolated: bool  # Drop islands of one pixel.
    rounding: float  # `rounding_level` of the whole map, counts per pixel.

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Values of T/E that decide whether a pixel joins."""
        island = self.significance_island_threshold
        if island is None or island <= self.significance_threshold:
            return (self.significance_threshold,)
        return self.significance_threshold, island


@dataclass(frozen=True)
class Detected:
    """Pixels above the threshold at one scale; isolated ones are not among them where they are to be removed."""

    shape: tuple[int, int]  # Of the box (y, x).
    pixels: Ints  # Flat indices in the box, ascending.
    ratio: Floats  # T/E of each.
    ring: bool = False  # Whether the last column of the box is the neighbour of its first.


@dataclass(frozen=True)
class State:
    """What is known after `iteration` iterations. Images are (y, x), cubes (scale, y, x), float64 unless noted."""

    iteration: int  # Iterations made.
    core: tuple[slice, slice]  # The pixels (y, x) of the box of which more is kept than an iteration needs.
    # Model M and approximation A in the box, counts per pixel.
    model: Floats
    approx: Floats
    # Cube in the box: iteration at which each pixel joined the support of a scale, 0 where it has not.
    joined: NDArray[np.uint16]
    transform_2d: Floats  # Sum of T over the supports in the box.
    # Largest T/E over scales and iterations so far, in the core; -inf where it was never defined.
    significance: Floats
    best_scale: NDArray[np.int16]  # Index of the scale of that largest T/E, in the core; -1 where it was never defined.
    # Iteration of that largest T/E, the first one within rounding of it, in the core; 0 where it was never defined.
    best_iteration: NDArray[np.uint16]
    # Largest S over scales, of the first iteration, in the core, and the index of its scale; -inf and -1 where it is
    # undefined.
    sigma: NDArray[np.float32]
    sigma_scale: NDArray[np.int8]
    # Pixels of the core where the expected error was zero to rounding in the first iteration; or later, at some scale,
    # where that may have hidden something.
    undefined: Bools
    # Pixels of the core where T/E, at some scale and iteration, lay within rounding of a threshold.
    near_threshold: Bools
    # Cubes T and E of this iteration in the box, of no pixels where they are not wanted; E is NaN where its square came
    # out negative.
    transform: Floats
    error: Floats

    def minus(self, other: State) -> State:
        """Differences of what was computed, exclusive or of the supports; the rest is of this state."""
        names = ("model", "approx", "transform", "error", "transform_2d")
        differences = {name: getattr(self, name) - getattr(other, name) for name in names}
        return replace(self, joined=(self.support ^ other.support).astype(np.uint16), **differences)

    @classmethod
    def start(
        cls, n_scale: int, shape: tuple[int, int], core: tuple[slice, slice] | None = None, *, with_cubes: bool = False
    ) -> State:
        """State before the first iteration.

        Parameters
        ----------
        n_scale : int
            Number of scales.
        shape : tuple of int
            Shape (y, x) of the box.
        core : tuple of slice, optional
            Its core (y, x); all of it unless given.
        with_cubes : bool, optional
            Whether T and E are kept.
        """
        core = core or (slice(0, shape[0]), slice(0, shape[1]))
        inner = core[0].stop - core[0].start, core[1].stop - core[1].start
        cube = (n_scale, *(shape if with_cubes else (0, 0)))
        return cls(
            iteration=0,
            core=core,
            model=borrow(shape, fill=0),
            approx=borrow(shape, fill=0),
            joined=borrow((n_scale, *shape), np.uint16, 0),
            transform_2d=borrow(shape, fill=0),
            significance=borrow(inner, fill=-np.inf),
            best_scale=borrow(inner, np.int16, -1),
            best_iteration=borrow(inner, np.uint16, 0),
            sigma=borrow(inner, np.float32, -np.inf),
            sigma_scale=borrow(inner, np.int8, -1),
            undefined=borrow(inner, np.bool_, 0),
            near_threshold=borrow(inner, np.bool_, 0),
            transform=np.zeros(cube),
            error=np.zeros(cube),
        )

    def close(self) -> None:
        """Give back all arrays."""
        give_back(self.model, self.approx, self.joined, self.transform_2d, self.significance, self.best_scale)
        give_back(self.best_iteration, self.sigma, self.sigma_scale, self.undefined, self.near_threshold)

    @property
    def support(self) -> Bools:
        """Pixels that were ever significant, by scale, bool cube in the box."""
        return self.joined > 0
