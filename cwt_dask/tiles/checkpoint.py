"""A tile between two blocks of iterations: all that it needs to continue, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.state import State
from cwt_dask.cwt.stopping import Moments
from cwt_dask.errors import DamageError
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.tiling import Tile
from cwt_dask.storage.archives import DAMAGED, open_archive, write_archive
from cwt_dask.storage.block_records import read_rounds
from cwt_dask.storage.checksum import crc32c, crc32c_of_file, sha256_of_file
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.maps import digest_history
from cwt_dask.storage.paths import atomic_file, open_file, remove
from cwt_dask.storage.zarr_io import DAMAGE
from cwt_dask.tiles.islands import AboveThreshold, Key, islands_to_arrays


@dataclass(frozen=True)
class TileState:
    """A tile after some iterations."""

    state: State  # In the tile's box.
    moments: tuple[Moments, ...] = ()  # Of the core's residual after each iteration.
    converged: bool = False  # Whether the tile has stopped by its own variance.
    seconds: float = 0.0  # Time that the blocks before took.
    history: int = 0  # Checksum of the core's models after each iteration, of a run that keeps its history.

    @classmethod
    def start(cls, n_scale: int, tile: Tile, *, with_cubes: bool = False) -> TileState:
        """Before the first iteration.

        Parameters
        ----------
        n_scale : int
            Number of scales.
        tile : Tile
            The tile.
        with_cubes : bool, optional
            Whether T and E are kept.
        """
        return cls(State.start(n_scale, tile.box.shape, tile.core.within(tile.box), with_cubes=with_cubes))


def write_checkpoint(path: Path, run_id: str, reached: TileState, islands: Mapping[Key, AboveThreshold]) -> str:
    """Store a tile's state; model and support as values on the support's pixels, dense images in a second file.

    Returns the digest by which the checkpoint is recognised.

    Parameters
    ----------
    path : Path
        The first file.
    run_id : str
        Of which run.
    reached : TileState
        The state.
    islands : mapping of AboveThreshold
        Of the block that ends here, by iteration and scale.
    """
    state = reached.state
    pixels = np.flatnonzero(state.joined.any(axis=0))
    arrays = {
        "iteration": np.array(state.iteration),
        "converged": np.array(reached.converged),
        "seconds": np.array(reached.seconds),
        "history": np.array(reached.history),
        "moments": np.array([astuple(moments) for moments in reached.moments], dtype=_MOMENTS),
        "pixels": pixels,
        "joined": state.joined.reshape(len(state.joined), -1)[:, pixels],
        **{name: getattr(state, name).ravel()[pixels] for name in _ON_SUPPORT},
        **islands_to_arrays(islands),
    }
    checksum = 0
    with atomic_file(_dense_images(path), cached=False) as file:
        for name in _DENSE:
            image = np.ascontiguousarray(getattr(state, name))
            for part in (_header(image), image):
                file.write(part.data)
                checksum = crc32c(part, checksum)
    write_archive(path, run_id, arrays | {"checksum": np.array(checksum)}, cached=False)
    return sha256_of_file(path)


def read_checkpoint(path: Path, run_id: str, tile: Tile) -> TileState:
    """Read a tile's state.

    Raises DamageError if it is not as `write_checkpoint` left it.

    Parameters
    ----------
    path, run_id
        As of `write_checkpoint`.
    tile : Tile
        The tile.
    """
    dense, checksum = _dense_images(path), 0
    with open_archive(path, run_id) as stored, open_file(dense) as file:
        pixels, joined = stored["pixels"], stored["joined"]
        state = replace(TileState.start(len(joined), tile).state, iteration=int(stored["iteration"]))
        for name in _DENSE:
            image = getattr(state, name)
            header = np.frombuffer(file.read(_header(image).size), np.uint8)
            file.readinto(image.data.cast("B"))
            checksum = crc32c(image, crc32c(header, checksum))
        if checksum != int(stored["checksum"]):
            raise DamageError(f"{dense} {DAMAGED}")
        state.joined.reshape(len(joined), -1)[:, pixels] = joined
        for name in _ON_SUPPORT:
            getattr(state, name).ravel()[pixels] = stored[name]
        moments = tuple(Moments(*row) for row in stored["moments"].tolist())
        return TileState(
            state, moments, bool(stored["converged"]), float(stored["seconds"]), history=int(stored["history"])
        )


def sound_rounds(files: RunDir, grid: AnyGrid, run_id: str, block: int, most_rounds: int, tile: int) -> int:
    """Number of rounds of a tile's checkpoints that are as recorded, from the first one on.

    None is where the history is not as the last one left it.

    Parameters
    ----------
    files : RunDir
        The run.
    grid : TileGrid or FacetGrid
        Its tiles.
    run_id : str
        Checkpoints of other runs do not count.
    block : int
        Last iteration of the block.
    most_rounds : int
        Rounds that there can be.
    tile : int
        Number of the tile.
    """
    records = read_rounds(files, block, tile, most_rounds, run_id)
    for n, record in enumerate(records):
        if not _is_sound(files.checkpoint(block, tile, record.round), run_id, record.checkpoint):
            return n
    if not records or not (last := records[-1]).history:
        return len(records)
    with suppress(*DAMAGE):
        found = digest_history(files.maps, grid.tile(tile).core, last.n_iter, onwards=last.converged)
        return len(records) if found == last.history else 0
    return 0


def _is_sound(path: Path, run_id: str, digest: str) -> bool:
    """Whether both files of a checkpoint are as `write_checkpoint` left them."""
    dense = _dense_images(path)
    if not path.exists() or not dense.exists() or sha256_of_file(path) != digest:
        return False
    with open_archive(path, run_id) as stored:
        return crc32c_of_file(dense) == int(stored["checksum"])


def remove_checkpoint(path: Path) -> None:
    """Remove both files."""
    remove(path, _dense_images(path))


def _header(image: NDArray[Any]) -> NDArray[np.uint8]:
    """What stands before an image in the file of dense images."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(image))
    return np.frombuffer(header.getvalue(), dtype=np.uint8)


def _dense_images(path: Path) -> Path:
    return path.with_suffix(".npy")


_ON_SUPPORT = ("model", "transform_2d")
# The approximation could be had from the model of the last but one iteration, but that costs two FFTs a restart.
_DENSE = (
    *("approx", "significance", "best_scale", "best_iteration"),
    *("sigma", "sigma_scale", "undefined", "near_threshold"),
)
_MOMENTS = np.dtype([(field.name, np.int64 if field.name == "count" else np.float64) for field in fields(Moments)])
