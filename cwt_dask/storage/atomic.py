"""Files that appear under their name whole, or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from cwt_dask.storage.paths import backend_of


def atomic_file(path: Path, *, cached: bool = True) -> AbstractContextManager[BinaryIO]:
    """A file to write; see `Backend.atomic_file`."""
    return backend_of(path).atomic_file(path, cached=cached)


def drafted_file(path: Path) -> AbstractContextManager[Path]:
    """A file on disk to be written to by name; see `Backend.drafted_file`."""
    return backend_of(path).drafted_file(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers, now or after a crash, see all of it or what was there before."""
    with atomic_file(path) as file:
        file.write(content)
