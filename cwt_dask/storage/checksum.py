"""Checksums that find damage fast; sha256 stays where a digest identifies a result."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO

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


def input_file(what: str, path: Path, sha256: str) -> dict[str, str]:
    """Name a file that a run was made of.

    Parameters
    ----------
    what : str
        What it is.
    path : Path
        Where it lies.
    sha256 : str
        Of its bytes.
    """
    return {"what": what, "file": str(path.absolute()), "sha256": sha256}


class DigestedFile(io.RawIOBase):
    """A file that is digested as it is read, from its start: what shows that it is sound is what was taken from it.

    Parameters
    ----------
    file : binary file
        The file; closed by whoever opened it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Digest of what was read so far."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read as much as a buffer holds; the number of bytes."""
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._digest.update(content)
        return len(content)
