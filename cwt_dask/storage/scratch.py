"""Files without names, for what is put aside while a survey is read; what is read back is as it was written."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from cwt_dask.errors import MachineError
from cwt_dask.storage import disk
from cwt_dask.storage.checksum import crc32c
from cwt_dask.storage.drafts import shown_place
from cwt_dask.storage.room import room_for


class ScratchFile:
    """A file without a name, that is written and read in pieces, each with a checksum.

    Parameters
    ----------
    directory : Path or None
        Where it is; that of the system for temporary files if None.
    stack : ExitStack
        Removes it.
    in_memory : int, optional
        Up to so many bytes stay in memory.
    """

    def __init__(self, directory: Path | None, stack: ExitStack, *, in_memory: int = 0) -> None:
        self._directory = directory or Path(gettempdir())
        self._file = stack.enter_context(disk.scratch_file(self._directory, in_memory))
        # By its place, the number of bytes of each piece that was written last, and its CRC32C.
        self._pieces: dict[int, tuple[int, int]] = {}

    def write(self, offset: int, pieces: Iterable[NDArray[Any]]) -> None:
        """Write pieces one after the other, from a place in bytes on."""
        with room_for(shown_place(self._directory)):
            self._file.seek(offset)
            for piece in pieces:
                # Of any byte order.
                content = piece.reshape(-1).view(np.uint8)
                self._file.write(content.data)
                self._pieces[offset] = content.size, crc32c(content)
                offset += content.size

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read whole pieces, from a place in bytes on.

        Raises MachineError if they are not as they were written.
        """
        self._file.seek(offset)
        content = self._file.read(n_bytes)
        start = 0
        while start < n_bytes:
            length, checksum = self._pieces[offset + start]
            if google_crc32c.value(content[start : start + length]) != checksum:
                raise MachineError(
                    f"{shown_place(self._directory)} does not give back what was put aside there (its checksum does "
                    "not fit): look at the disk and the memory of this machine, and give the same command again"
                )
            start += length
        return content
