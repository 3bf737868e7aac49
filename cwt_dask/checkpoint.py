"""A tile between two blocks of iterations: all that it needs to go on, bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.atomic import atomic_file
from cwt_dask.candidates import prefix_of
from cwt_dask.cwt.iterate import State
from cwt_dask.cwt.stopping import Moments

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cwt_dask.candidates import Candidates
    from cwt_dask.tiling import Tile


@dataclass(frozen=True)
class Progress:
    """How far a tile is.

    Attributes
    ----------
    state : State
        In the tile's box. After a restart transform and error are empty, and what is accumulated over iterations
        (significance, best_scale, undefined, near_threshold) is known in the core only.
    joined : ndarray of int32
        Iteration at which each pixel joined the support, 0 where it has not (scale, y, x), in the box.
    moments : tuple of Moments
        Of the core's residual after each iteration.
    converged : bool
        Whether the tile has stopped by its own variance.
    candidates : dict of Candidates
        By iteration and scale, of the block that ends here; only with an island threshold.
    seconds : float
        Time that the blocks before this one took.
    """

    state: State
    joined: NDArray[np.int32]
    moments: tuple[Moments, ...] = ()
    converged: bool = False
    candidates: Mapping[tuple[int, int], Candidates] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def start(cls, n_scale: int, shape: tuple[int, int]) -> Progress:
        """Before the first iteration, in a box of `shape`."""
        return cls(State.start(n_scale, shape), np.zeros((n_scale, *shape), dtype=np.int32))


def write_checkpoint(path: Path, progress: Progress, tile: Tile) -> None:
    """Store a tile's progress; model and support as values on the support's pixels, accumulated maps of the core."""
    state, core = progress.state, tile.core.within(tile.box)
    pixels = np.flatnonzero(state.support.any(axis=0))
    arrays: dict[str, Any] = {
        "iteration": np.array(state.iteration),
        "converged": np.array(progress.converged),
        "seconds": np.array(progress.seconds),
        "moments": np.array([(m.count, m.mean, m.sum_squared_deviations) for m in progress.moments], dtype=_MOMENTS),
        "pixels": pixels,
        "joined": progress.joined.reshape(len(progress.joined), -1)[:, pixels],
        # Not derived from the model of the last but one iteration: that would cost two FFTs a restart.
        "approx": state.approx,
    }
    arrays |= {name: getattr(state, name).ravel()[pixels] for name in _ON_SUPPORT}
    arrays |= {name: getattr(state, name)[core] for name in _IN_CORE}
    for (iteration, scale), candidates in progress.candidates.items():
        arrays |= candidates.to_arrays(prefix_of(iteration, scale))
    with atomic_file(path) as file:
        np.savez(file, **arrays)


def read_checkpoint(path: Path, tile: Tile, counts: NDArray[np.float64]) -> Progress:
    """What `write_checkpoint` stored of a tile, but for its candidates; `counts` are those of its box (y, x)."""
    with np.load(path, allow_pickle=False) as stored:
        pixels, joined = stored["pixels"], stored["joined"]
        progress = Progress.start(len(joined), tile.box.shape)
        progress.joined.reshape(len(joined), -1)[:, pixels] = joined
        state = replace(
            progress.state, iteration=int(stored["iteration"]), approx=stored["approx"], support=progress.joined > 0
        )
        for name in _ON_SUPPORT:
            getattr(state, name).ravel()[pixels] = stored[name]
        core = tile.core.within(tile.box)
        for name in _IN_CORE:
            getattr(state, name)[core] = stored[name]
        moments = tuple(Moments(*(value.item() for value in row)) for row in stored["moments"])
        residual = counts - (state.model + state.approx)
        return replace(
            progress,
            state=replace(state, residual=residual),
            moments=moments,
            converged=bool(stored["converged"]),
            seconds=float(stored["seconds"]),
        )


def digest_file(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_ON_SUPPORT = ("model", "transform_2d")
_IN_CORE = ("significance", "best_scale", "undefined", "near_threshold")
_MOMENTS = np.dtype([(field.name, np.int64 if field.name == "count" else np.float64) for field in fields(Moments)])
