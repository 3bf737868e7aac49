"""Files without names, for what is put aside while a survey is read; what is read back is as it was written."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import cached_property
from mmap import MADV_DONTNEED
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Ints
from cwt_dask.errors import MachineError
from cwt_dask.storage import disk
from cwt_dask.storage.checksum import crc32c
from cwt_dask.storage.drafts import shown_place
from cwt_dask.storage.room import room_for

# Bytes that are checked at once, when the first of them is read.
_PIECE = 2**20
# Even, so that one more is odd; else any.
_EVEN = np.uint64(0x9E3779B97F4A7C14)


class Mapped:
    """Rows in a file without a name, written one after the other and read in any order: memory need not hold them.

    Parameters
    ----------
    directory, stack
        As of `ScratchFile`.
    dtype : dtype
        Of a row.
    """

    def __init__(self, directory: Path | None, stack: ExitStack, dtype: np.dtype[Any]) -> None:
        self._directory = directory or Path(gettempdir())
        self._file = stack.enter_context(disk.scratch_file(self._directory, 0))
        self._dtype, self._n_bytes = dtype, 0
        self._checksums: list[int] = []  # CRC32C by piece.

    def write(self, content: bytes) -> None:
        """Write the next bytes."""
        with room_for(shown_place(self._directory)):
            self._file.write(content)
        left = memoryview(content)
        while left:
            within = self._n_bytes % _PIECE
            part, left = bytes(left[: _PIECE - within]), left[_PIECE - within :]
            before = self._checksums.pop() if within else 0
            self._checksums.append(google_crc32c.extend(before, part))
            self._n_bytes += len(part)

    def rows(self, wanted: Ints | None = None) -> NDArray[Any]:
        """All rows, once they are written; by default each of them may be read, else those that are wanted.

        Memory is let go of those that were wanted before: the system would take it back, but counts it until then.

        Raises MachineError if these are not as they were written.
        """
        self.let_go()
        size, pieces = self._dtype.itemsize, np.ones(len(self._checksums), np.bool_)
        if wanted is not None and size <= _PIECE:
            pieces[:] = False
            pieces[wanted * size // _PIECE] = pieces[(wanted * size + size - 1) // _PIECE] = True
        for piece in np.flatnonzero(pieces & ~self._checked):
            content = self._bytes[piece * _PIECE : (piece + 1) * _PIECE].tobytes()
            if google_crc32c.value(content) != self._checksums[piece]:
                raise _damage(self._directory)
            self._checked[piece] = True
        return self._bytes.view(self._dtype)

    def let_go(self) -> None:
        """Let go of the memory of all rows; they may be read again."""
        self._bytes._mmap.madvise(MADV_DONTNEED)  # type: ignore[attr-defined] # noqa: SLF001

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        with room_for(shown_place(self._directory)):
            self._file.flush()
        return _map(self._file, np.uint8, "r", self._n_bytes)

    @cached_property
    def _checked(self) -> NDArray[np.bool_]:
        return np.zeros(len(self._checksums), np.bool_)


class Sums:
    """Numbers in a file without a name that are added to in any order, and read block by block.

    Of each block there is a sum over the bits of its numbers, each times an odd number of its own, that follows what is
    added: a number that has changed otherwise is noticed.

    Parameters
    ----------
    directory, stack
        As of `ScratchFile`.
    length, block : int
        How many numbers there are, and how many in a block. They begin with 0.
    """

    def __init__(self, directory: Path | None, stack: ExitStack, length: int, block: int) -> None:
        self._directory = directory or Path(gettempdir())
        file = stack.enter_context(disk.scratch_file(self._directory, 0))
        zeros, left = bytes(2**20), 8 * length
        with room_for(shown_place(self._directory)):
            # Written, not left as a hole: where the disk is full, a mapped hole ends the process.
            while left > 0:
                file.write(zeros[:left])
                left -= len(zeros)
            file.flush()
        self._values = _map(file, np.float64, "r+", length)
        self._block, self._checks = block, np.zeros(-(-length // block), np.uint64)

    def add(self, places: Ints, values: NDArray[np.float64]) -> None:
        """Add values at places, of which none comes twice."""
        before = self._values[places]
        after = before + values
        np.add.at(self._checks, places // self._block, _marks(places, after) - _marks(places, before))
        self._values[places] = after

    def read(self, number: int) -> NDArray[np.float64]:
        """The numbers of a block.

        Raises MachineError if they are not what was added.
        """
        start = number * self._block
        values = np.array(self._values[start : start + self._block])
        if _marks(np.arange(start, start + len(values)), values).sum(dtype=np.uint64) != self._checks[number]:
            raise _damage(self._directory)
        return values


def _marks(places: Ints, values: NDArray[np.float64]) -> NDArray[np.uint64]:
    bits = values.view(np.uint64)
    # The last bits of whole numbers are 0.
    return np.asarray((bits ^ bits >> np.uint64(32)) * (places.astype(np.uint64) * _EVEN + np.uint64(1)))


def _map(file: Any, dtype: Any, mode: Any, length: int) -> NDArray[Any]:
    # A spooled file has its own in it, once it is on the disk.
    return np.memmap(getattr(file, "_file", file), dtype, mode, shape=(length,))


def _damage(directory: Path) -> MachineError:
    return MachineError(
        f"{shown_place(directory)} does not give back what was put aside there (its checksum does not fit): look at "
        "the disk and the memory of this machine, and give the same command again"
    )


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
                raise _damage(self._directory)
            start += length
        return content
