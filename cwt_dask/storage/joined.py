"""When pixels of a tile's box joined the support, in runs whose tiles decide on islands together.

What they decided on the way is not kept: by this alone one tile can be done again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.copies import read_copies, write_copies
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.sealed import BROKEN

# Names of the digests of both copies in a tile's record.
COPIES = ("joined_in_box", "joined_in_box_copy")


def joined_files(run_dir: RunDir, tile: int) -> dict[str, Path]:
    """Both copies, by the names of their digests."""
    return dict(zip(COPIES, run_dir.copies(run_dir.joined(tile)), strict=True))


def write_joined(run_dir: RunDir, tile: int, joined: NDArray[np.uint16]) -> dict[str, str]:
    """Keep when pixels joined the support; digests by name, of what was to be written.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    tile : int
        Number of the tile.
    joined : ndarray of uint16
        Iteration at which each pixel of its box did, 0 where it did not (scale, y, x).
    """
    pixels, file = np.flatnonzero(joined.any(axis=0)), io.BytesIO()
    for values in (pixels, joined.reshape(len(joined), -1)[:, pixels]):
        np.save(file, values)
    content = file.getvalue()
    write_copies(list(joined_files(run_dir, tile).values()), content)
    return dict.fromkeys(COPIES, hashlib.sha256(content).hexdigest())


def read_joined(
    run_dir: RunDir, tile: int, recorded: Mapping[str, str], shape: tuple[int, int, int]
) -> NDArray[np.uint16]:
    """Give back what was kept, from the first copy that is sound; DamageError if none is.

    Parameters
    ----------
    run_dir, tile
        As of `write_joined`.
    recorded : mapping of str to str
        Digests by name, as of the tile's record.
    shape : tuple of int
        Scales, rows and columns.
    """
    return read_copies(list(joined_files(run_dir, tile).values()), partial(_parse, recorded[COPIES[0]], shape))


def digests_of_joined(run_dir: RunDir, tile: int) -> dict[str, str]:
    """Digests of both copies as they are now, by name; what cannot be read is not among them."""
    digests = {}
    for name, path in joined_files(run_dir, tile).items():
        with suppress(OSError):
            digests[name] = sha256_of_file(path)
    return digests


def _parse(digest: str, shape: tuple[int, int, int], content: bytes) -> NDArray[np.uint16]:
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(BROKEN)
    file, joined = io.BytesIO(content), np.zeros(shape, np.uint16)
    pixels = np.load(file, allow_pickle=False)
    joined.reshape(len(joined), -1)[:, pixels] = np.load(file, allow_pickle=False)
    return joined
