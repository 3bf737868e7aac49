"""A tile between two blocks of iterations: all that it needs to go on, bit for bit."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.cwt.state import State
from cwt_dask.cwt.stopping import Moments
from cwt_dask.storage.atomic import atomic_file
from cwt_dask.storage.checksum import crc32c, crc32c_of_file, sha256_of_file
from cwt_dask.storage.ledger import read_rounds
from cwt_dask.tiles.islands import prefix_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cwt_dask.geometry.tiling import Tile
    from cwt_dask.storage.layout import RunDir
    from cwt_dask.tiles.islands import AboveThreshold


@dataclass(frozen=True)
class TileState:
    """How far a tile is.

    Attributes
    ----------
    state : State
        In the tile's box.
    moments : tuple of Moments
        Of the core's residual after each iteration.
    converged : bool
        Whether the tile has stopped by its own variance.
    islands : dict of AboveThreshold
        By iteration and scale, of the block that ends here; only with an island threshold.
    seconds : float
        Time that the blocks before this one took.
    """

    state: State
    moments: tuple[Moments, ...] = ()
    converged: bool = False
    islands: Mapping[tuple[int, int], AboveThreshold] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def start(cls, n_scale: int, tile: Tile) -> TileState:
        """Before the first iteration."""
        return cls(State.start(n_scale, tile.box.shape, tile.core.within(tile.box)))


def write_checkpoint(path: Path, progress: TileState) -> str:
    """Store a tile's progress, and give what `is_sound` asks for.

    Model and support are kept as values on the support's pixels in one file, dense images in another beside it.
    """
    state = progress.state
    pixels = np.flatnonzero(state.joined.any(axis=0))
    arrays: dict[str, Any] = {
        "iteration": np.array(state.iteration),
        "converged": np.array(progress.converged),
        "seconds": np.array(progress.seconds),
        "moments": np.array([(m.count, m.mean, m.sum_squared_deviations) for m in progress.moments], dtype=_MOMENTS),
        "pixels": pixels,
        "joined": state.joined.reshape(len(state.joined), -1)[:, pixels],
    }
    arrays |= {name: getattr(state, name).ravel()[pixels] for name in _ON_SUPPORT}
    for (iteration, scale), islands in progress.islands.items():
        arrays |= islands.to_arrays(prefix_of(iteration, scale))
    checksum = 0
    with atomic_file(dense_images(path), cached=False) as file:
        for name in _DENSE:
            image = np.ascontiguousarray(getattr(state, name))
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(image))
            for part in (np.frombuffer(header.getvalue(), dtype=np.uint8), image):
                file.write(part.data)
                checksum = crc32c(part, checksum)
    with atomic_file(path, cached=False) as file:
        np.savez(file, checksum=np.array(checksum), **arrays)
    return sha256_of_file(path)


def read_checkpoint(path: Path, tile: Tile) -> TileState:
    """What `write_checkpoint` stored of a tile, but for its candidates."""
    with (
        path.open("rb") as sparse,
        np.load(sparse, allow_pickle=False) as stored,
        dense_images(path).open("rb") as file,
    ):
        pixels, joined = stored["pixels"], stored["joined"]
        progress = TileState.start(len(joined), tile)
        state = replace(progress.state, iteration=int(stored["iteration"]))
        for name in _DENSE:
            image = getattr(state, name)
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            file.readinto(image.data.cast("B"))
        state.joined.reshape(len(joined), -1)[:, pixels] = joined
        for name in _ON_SUPPORT:
            getattr(state, name).ravel()[pixels] = stored[name]
        return replace(
            progress,
            state=state,
            moments=tuple(Moments(*(value.item() for value in row)) for row in stored["moments"]),
            converged=bool(stored["converged"]),
            seconds=float(stored["seconds"]),
        )


def is_sound(path: Path, digest: str) -> bool:
    """Whether a checkpoint is there as `write_checkpoint` left it, when it gave `digest`."""
    if not path.exists() or not dense_images(path).exists() or sha256_of_file(path) != digest:
        return False
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return crc32c_of_file(dense_images(path)) == int(stored["checksum"])


def sound_rounds(files: RunDir, run_id: str, block: int, most_rounds: int, tile: int) -> int:
    """How many rounds of a tile's checkpoints are as recorded, from the first one on."""
    records = read_rounds(files, block, tile, most_rounds)
    for n, record in enumerate(records):
        sound = is_sound(files.checkpoint(block, tile, record.round), record.checkpoint)
        if record.run != run_id or not sound:
            return n
    return len(records)


def remove_checkpoint(path: Path) -> None:
    """Remove both files."""
    path.unlink(missing_ok=True)
    dense_images(path).unlink(missing_ok=True)


def dense_images(path: Path) -> Path:
    """Where the dense images of a checkpoint are."""
    return path.with_suffix(".npy")


_ON_SUPPORT = ("model", "transform_2d")
# The approximation could be had from the model of the last but one iteration, but that costs two FFTs a restart.
_DENSE = ("approx", "significance", "best_scale", "best_iteration", "undefined", "near_threshold")
_MOMENTS = np.dtype([(field.name, np.int64 if field.name == "count" else np.float64) for field in fields(Moments)])
