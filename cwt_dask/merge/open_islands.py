"""Islands that were left open, as each block of iterations lists them: in a sealed file that covers those of pixels.

Where one is lost, nothing shows what it said but all iterations, made again: so there are two copies of each.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from cwt_dask.cwt.arrays import Bools
from cwt_dask.errors import DamageError
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.storage.copies import faults_of_copies, mend_copies, read_copies, write_copies
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import listed
from cwt_dask.storage.sealed import BROKEN, is_sound, sealed


@dataclass(frozen=True)
class OpenIslands:
    """Islands that a block of iterations has left open."""

    # Iterations after which the block began and ended.
    start: int
    stop: int
    islands: tuple[OpenIsland, ...] = ()
    # By tile, sha256 of the file of their pixels in its core.
    pixels: Mapping[int, str] = field(default_factory=dict)


def write_open_islands(
    run_dir: RunDir, run_id: str, start: int, stop: int, islands: list[OpenIsland], pixels: Mapping[int, str]
) -> None:
    """List what a block has left open, once its pixels are stored.

    Parameters
    ----------
    run_dir, run_id
        The run.
    start, stop, islands, pixels
        As of `OpenIslands`.
    """
    content = {
        "run": run_id,
        "start": start,
        "stop": stop,
        "islands": [island._asdict() for island in islands],
        "pixels": {str(tile): digest for tile, digest in pixels.items()},
    }
    write_copies(run_dir.copies(run_dir.open_islands(stop)), json.dumps(sealed(content), indent=1).encode())


def read_open_islands(run_dir: RunDir, run_id: str) -> list[OpenIslands]:
    """What all blocks have listed.

    Raises DamageError if both copies of a list are damaged.

    Parameters
    ----------
    run_dir, run_id
        The run; those of earlier releases have no number, and lists without seals.
    """
    return [read_copies(copies, parse) for copies, parse in _lists(run_dir, run_id)]


def read_open_pixels(run_dir: RunDir, found: OpenIslands, tile: int) -> Bools:
    """Pixels of a core (y, x) that lie in islands that a block has left open.

    Raises DamageError if both copies of the file are damaged.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    found : OpenIslands
        The block's.
    tile : int
        A tile in which there are some.
    """
    return read_copies(*_pixels(run_dir, found, tile))


def listed_until(run_dir: RunDir, run_id: str) -> int:
    """Last iteration up to which no list and no file of pixels is damaged or lost.

    Parameters
    ----------
    run_dir, run_id
        As of `read_open_islands`.
    """
    reached = 0
    for copies, parse in _lists(run_dir, run_id):
        with suppress(DamageError):
            found = read_copies(copies, parse)
            for tile in found.pixels:
                read_open_pixels(run_dir, found, tile)
            if found.start == reached:
                reached = found.stop
    return reached


def faults_of_lists(run_dir: RunDir, run_id: str) -> list[str]:
    """What is wrong with lists and files of pixels, and which of them.

    Parameters
    ----------
    run_dir, run_id
        As of `read_open_islands`.
    """
    return [fault for file in _files(run_dir, run_id) for fault in faults_of_copies(*file).values()]


def mend_lists(run_dir: RunDir, run_id: str) -> list[str]:
    """Write lists and files of pixels again of which one copy is sound; a line of text for each.

    Parameters
    ----------
    run_dir, run_id
        As of `read_open_islands`.
    """
    return [line for file in _files(run_dir, run_id) for line in mend_copies(*file)]


# A file: its copies, and what reads their content.
_List = tuple[Sequence[Path], Callable[[bytes], OpenIslands]]
_Pixels = tuple[Sequence[Path], Callable[[bytes], Bools]]


def _lists(run_dir: RunDir, run_id: str) -> Iterator[_List]:
    """The lists, in order; of each there may be one copy only."""
    found = (path.name for folder in (run_dir.islands, run_dir.ledger) for path in listed(folder, "open-block-*.json"))
    for name in sorted(set(found)):
        path = run_dir.islands / name
        # Earlier releases wrote one copy.
        copies = run_dir.copies(path) if run_id else (path,)
        yield copies, partial(_parse_list, run_dir, run_id, path)


def _pixels(run_dir: RunDir, found: OpenIslands, tile: int) -> _Pixels:
    return run_dir.copies(run_dir.open_pixels(found.stop, tile)), partial(_parse_pixels, found.pixels[tile])


def _files(run_dir: RunDir, run_id: str) -> Iterator[_List | _Pixels]:
    """The lists, and the files of pixels that they name."""
    for copies, parse in _lists(run_dir, run_id):
        yield copies, parse
        with suppress(DamageError):
            found = read_copies(copies, parse)
            yield from (_pixels(run_dir, found, tile) for tile in found.pixels)


def _parse_list(run_dir: RunDir, run_id: str, path: Path, text: bytes) -> OpenIslands:
    content = json.loads(text)
    if not run_id and isinstance(content, list):
        return OpenIslands(0, 0, tuple(OpenIsland(**island) for island in content))
    if not is_sound(content) or content["run"] != run_id or path != run_dir.open_islands(content["stop"]):
        raise ValueError(BROKEN)
    islands = tuple(OpenIsland(**island) for island in content["islands"])
    pixels = {int(tile): digest for tile, digest in content["pixels"].items()}
    return OpenIslands(content["start"], content["stop"], islands, pixels)


def _parse_pixels(digest: str, content: bytes) -> Bools:
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(BROKEN)
    pixels: Bools = np.load(io.BytesIO(content), allow_pickle=False)
    return pixels
