"""Islands that were left open, as each block of iterations lists them: in a sealed file that covers those of pixels."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cwt_dask.cwt.arrays import Bools
from cwt_dask.errors import DamageError
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import read_file, write_atomically
from cwt_dask.storage.sealed import BROKEN, is_sound, sealed

_REMEDY = "the run's own command makes it again"


@dataclass(frozen=True)
class OpenIslands:
    """Islands that a block of iterations has left open."""

    path: Path  # The list.
    # Iterations after which the block began and ended.
    start: int
    stop: int
    islands: tuple[OpenIsland, ...] = ()
    # By tile, the file of their pixels in its core, and its sha256.
    pixels: Mapping[int, tuple[Path, str]] = field(default_factory=dict)


def write_open_islands(
    run_dir: RunDir, run_id: str, start: int, stop: int, islands: list[OpenIsland], pixels: Mapping[int, str]
) -> None:
    """List what a block has left open, once its pixels are stored.

    Parameters
    ----------
    run_dir, run_id
        The run.
    start, stop, islands
        As of `OpenIslands`.
    pixels : mapping of str
        By tile, sha256 of the file of their pixels.
    """
    content = {
        "run": run_id,
        "start": start,
        "stop": stop,
        "islands": [island._asdict() for island in islands],
        "pixels": {str(tile): digest for tile, digest in pixels.items()},
    }
    write_atomically(run_dir.open_islands(stop), json.dumps(sealed(content), indent=1).encode())


def read_open_islands(run_dir: RunDir, run_id: str) -> list[OpenIslands]:
    """What all blocks have listed.

    Raises DamageError if a list is damaged.

    Parameters
    ----------
    run_dir, run_id
        The run; those of earlier releases have no number, and lists without seals.
    """
    return [_read(path, run_dir, run_id) for path in sorted(run_dir.islands.glob("open-block-*.json"))]


def listed_until(run_dir: RunDir, run_id: str) -> int:
    """Last iteration up to which no list and no file of pixels is damaged or lost.

    Parameters
    ----------
    run_dir, run_id
        As of `read_open_islands`.
    """
    reached = 0
    for path in sorted(run_dir.islands.glob("open-block-*.json")):
        with suppress(DamageError):
            found = _read(path, run_dir, run_id)
            if found.start == reached and all(_content(*file) for file in found.pixels.values()):
                reached = found.stop
    return reached


def faults_of_lists(run_dir: RunDir, run_id: str) -> list[str]:
    """What is wrong with lists and files of pixels, and which of them.

    Parameters
    ----------
    run_dir, run_id
        As of `read_open_islands`.
    """
    faults = []
    for path in sorted(run_dir.islands.glob("open-block-*.json")):
        try:
            for file in _read(path, run_dir, run_id).pixels.values():
                read_open_pixels(*file)
        except DamageError as error:
            faults.append(str(error))
    return faults


def read_open_pixels(path: Path, digest: str) -> Bools:
    """Pixels of a core (y, x) that lie in such islands.

    Raises DamageError if the file is damaged.
    """
    pixels: Bools = np.load(io.BytesIO(_content(path, digest)), allow_pickle=False)
    return pixels


def _read(path: Path, run_dir: RunDir, run_id: str) -> OpenIslands:
    try:
        content = json.loads(read_file(path))
        if not run_id and isinstance(content, list):
            return OpenIslands(path, 0, 0, tuple(OpenIsland(**island) for island in content))
        if not is_sound(content) or content["run"] != run_id or path != run_dir.open_islands(content["stop"]):
            raise ValueError(BROKEN)  # noqa: TRY301 - one message for all damage
        pixels = {
            int(tile): (run_dir.open_pixels(content["stop"], int(tile)), digest)
            for tile, digest in content["pixels"].items()
        }
        islands = tuple(OpenIsland(**island) for island in content["islands"])
        return OpenIslands(path, content["start"], content["stop"], islands, pixels)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise DamageError(f"{path} is damaged ({error}): {_REMEDY}") from error


def _content(path: Path, digest: str) -> bytes:
    content = b""
    with suppress(OSError):
        content = read_file(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamageError(f"{path} is damaged or lost: {_REMEDY}")
    return content
