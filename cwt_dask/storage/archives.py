"""Archives of arrays (`.npz`): each is read whole and against its checksum; an archive knows its run and place."""

from __future__ import annotations

import errno
import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from cwt_dask.errors import CwtDaskError, DamageError
from cwt_dask.storage.paths import atomic_file, open_file, read_file, write_atomically

DAMAGED = "is damaged: the run's own command does the tile again"
_PLACE = "place"
_SEAL = hashlib.sha256().digest_size
_MALFORMED = (ValueError, KeyError, EOFError, BadZipFile, zlib.error, RuntimeError, ArithmeticError, struct.error)


class Archive(Mapping[str, NDArray[Any]]):
    """Arrays by name, read when they are asked for."""

    def __init__(self, path: Path, run_id: str, members: ZipFile) -> None:
        self._path = path
        self._members = members
        # A damaged directory of an archive may hide some of them.
        if _PLACE not in self._names or str(self[_PLACE]) != _place_of(path, run_id, self):
            raise DamageError(f"{path} {DAMAGED}")

    def __getitem__(self, name: str) -> NDArray[Any]:
        with damage_named(self._path):
            # NumPy by itself reads as much as an array seems to have: before the end no checksum is looked at.
            return np.asarray(np.load(io.BytesIO(self._members.read(f"{name}.npy")), allow_pickle=False))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name != _PLACE)

    def __len__(self) -> int:
        return len(list(iter(self)))

    @property
    def _names(self) -> list[str]:
        return [name.removesuffix(".npy") for name in self._members.namelist()]


@contextmanager
def open_archive(path: Path, run_id: str) -> Iterator[Archive]:
    """Open what `write_archive` wrote; raises DamageError if that is not so, at once or when an array is read."""
    with ExitStack() as stack:
        # What is raised where the archive is used is no damage of it.
        with damage_named(path):
            archive = Archive(path, run_id, stack.enter_context(ZipFile(stack.enter_context(open_file(path)))))
        yield archive


def read_sealed_archive(path: Path, run_id: str) -> Archive:
    """Read what `write_sealed_archive` wrote, whole; raises DamageError if a bit of it differs."""
    content = read_file(path)
    arrays, seal = content[:-_SEAL], content[-_SEAL:]
    if hashlib.sha256(arrays).digest() != seal:
        raise DamageError(f"{path} {DAMAGED}")
    with damage_named(path):
        return Archive(path, run_id, ZipFile(io.BytesIO(arrays)))


def is_whole(path: Path, run_id: str) -> bool:
    """Whether there is such an archive, of this run and place."""
    with suppress(OSError, DamageError):
        read_sealed_archive(path, run_id)
        return True
    return False


def write_sealed_archive(path: Path, run_id: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Store small arrays by name, with a digest of it all at the end.

    Parameters
    ----------
    path, run_id, arrays
        As of `write_archive`.
    """
    np.savez(content := io.BytesIO(), **{_PLACE: np.array(_place_of(path, run_id, arrays)), **arrays})  # type: ignore[arg-type]
    write_atomically(path, content.getvalue() + hashlib.sha256(content.getbuffer()).digest())


def write_archive(path: Path, run_id: str, arrays: Mapping[str, NDArray[Any]], *, cached: bool = True) -> None:
    """Store arrays by name.

    Parameters
    ----------
    path : Path
        The file.
    run_id : str
        Of which run.
    arrays : mapping of ndarray
        The arrays.
    cached : bool, optional
        As of `atomic_file`.
    """
    with atomic_file(path, cached=cached) as file:
        # NumPy 2.1 would store allow_pickle as one more array; it stands in the types, which take an array for it.
        np.savez(file, **{_PLACE: np.array(_place_of(path, run_id, arrays)), **arrays})  # type: ignore[arg-type]


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Within the block, what damaged archives raise is a DamageError that names the file."""
    try:
        yield
    except CwtDaskError:
        raise
    except _MALFORMED as error:
        raise DamageError(f"{path} {DAMAGED}") from error
    except OSError as error:
        # Of a place in the file that cannot be.
        if error.errno != errno.EINVAL:
            raise
        raise DamageError(f"{path} {DAMAGED}") from error


def _place_of(path: Path, run_id: str, names: Iterable[str]) -> str:
    return f"{run_id}/{path.parent.name}/{path.name}: {' '.join(names)}"
