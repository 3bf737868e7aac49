"""The disk: what the system is asked for when files of a survey's store, a run or a ledger are read, made or renamed.

A file that was synced is there after the machine has crashed, its name where the directory was synced since. Tests put
another disk here that fails, forgets what was not synced, and flips bits.
"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from cwt_dask.storage.room import naming

if TYPE_CHECKING:
    from filelock import FileLock

# What file systems answer that sync no directories, such as folders shared with a virtual machine.
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)


class _File(io.FileIO):
    """A file with errors that name it: those of the system do so only where it is opened."""

    def readinto(self, buffer: Any, /) -> int | None:
        with naming(self.name):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with naming(self.name):
            return super().readall() or b""

    def write(self, content: Any, /) -> int:
        with naming(self.name):
            return super().write(content) or 0


def open_file(path: Path) -> io.BufferedReader:
    """Open a file to read it."""
    return io.BufferedReader(_File(path))


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """All that lies in a directory, in any order."""
    with os.scandir(folder) as found:
        return list(found)


def new_file(path: Path) -> BinaryIO:
    """Make a file that is written to."""
    return cast("BinaryIO", io.BufferedWriter(_File(path, "x")))


def scratch_file(directory: Path, in_memory: int) -> IO[bytes]:
    """A file without a name, to write and read; up to so many bytes stay in memory."""
    return SpooledTemporaryFile(in_memory, dir=str(directory)) if in_memory else TemporaryFile(dir=directory)


def sync(file: BinaryIO | io.BufferedReader) -> None:
    """Wait until all that was written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_names(directory: Path) -> None:
    """Wait until the names in a directory are on the disk, and those that are no more are not."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with naming(directory):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def acquire(lock: FileLock) -> None:
    """Take a lock that nobody else holds; raises filelock's Timeout if somebody does."""
    lock.acquire(blocking=False)


def rename(old: Path, new: Path) -> None:
    """Give another name, in place of what has it."""
    old.replace(new)


def remove(path: Path) -> None:
    """Remove a file, or a link."""
    path.unlink()


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, unless it is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # A file, where those above it were no directories, has this error by another way.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
