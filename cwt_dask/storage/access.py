"""Permission told from damage: what may not be read may be sound, and is neither made again nor thrown away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cwt_dask.errors import AccessError
from cwt_dask.storage import disk


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within the block, what the system or an object store does not permit is an AccessError.

    It is none of the errors that damage makes. Those that write are let alone: they have remedies of their own.
    """
    try:
        yield
    except PermissionError as error:
        reason = error.strerror or error
        raise AccessError(f"{path} may not be read ({reason}): give permission to read it") from error


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """All that lies in a directory, in any order; nothing where there is none."""
    with suppress(FileNotFoundError, NotADirectoryError), reading(folder):
        return disk.scan(folder)
    return []
