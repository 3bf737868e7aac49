"""Zarr stores whose chunks are on the disk before anybody records that they are done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from cwt_dask.atomic import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

    from zarr.core.buffer import Buffer


class DurableStore(LocalStore):  # type: ignore[misc] # mypy is not told of Zarr's types
    """A directory that survives a crash of the machine: Zarr's own renames, but leaves the writing to the system.

    Nor does what is written push out of the system's memory what is read again: docs/design/0001-tiles.md.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write a chunk or metadata; see `zarr.abc.store.Store`."""
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a chunk or metadata here and now."""
        self._check_writable()
        _write(self.root / key, value)


def _write(path: Path, value: Buffer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, cached=False) as file:
        file.write(value.as_buffer_like())
