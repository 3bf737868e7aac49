"""Checksums that find damage fast; sha256 stays where a digest identifies a result."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import google_crc32c
from numpy.typing import NDArray

from cwt_dask.storage.paths import open_file

_PIECE = 2**20


def crc32c(array: NDArray[Any], before: int = 0) -> int:
    """CRC32C of an array's bytes in C order, after what had the checksum `before`."""
    content = array.data.cast("B")
    checksum = before
    for start in range(0, len(content), _PIECE):
        # It takes bytes only: few enough at a time to stay in the cache.
        checksum = google_crc32c.extend(checksum, bytes(content[start : start + _PIECE]))
    return checksum


def crc32c_of_file(path: Path) -> int:
    """CRC32C of a file's content."""
    checksum = 0
    with open_file(path) as file:
        while piece := file.read(_PIECE):
            checksum = google_crc32c.extend(checksum, piece)
    return checksum


def sha256_of_file(path: Path) -> str:
    """sha256 of a file's content."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
