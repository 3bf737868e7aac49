"""Files and directories that appear under their name whole, or not at all."""

from __future__ import annotations

import io
import os
import re
import shutil
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cwt_dask.errors import InputError
from cwt_dask.storage.paths import exists, is_object, put, upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@contextmanager
def atomic_file(path: Path, *, cached: bool = True) -> Iterator[BinaryIO]:
    """A file to write that readers, now or after a crash, see whole under its name, or not at all.

    What is large and not read again soon need not stay `cached` in memory: the system has the next file's room at once.
    """
    if is_object(path):
        content = io.BytesIO()
        yield content
        put(path, content.getvalue())
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not cached and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers, now or after a crash, see all of it or what was there before."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def drafted_file(path: Path) -> Iterator[Path]:
    """A file on disk to be written to by name, that appears at `path` when it is whole."""
    if is_object(path):
        with TemporaryDirectory() as directory:
            draft = Path(directory, path.name)
            yield draft
            upload(draft, path)
        return
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield draft
        draft.replace(path)
    finally:
        # A name that cannot be has no file either; what is wrong with it was raised above.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def fresh_directory(path: Path, *, replaces: bool = True) -> Iterator[Path]:
    """A directory that appears at `path` at the end, in place of what was there; on any error that stays.

    Raises
    ------
    InputError
        If it cannot be made there, or something is there by now that it must not replace.
    """
    absent = [parent for parent in path.parents if not exists(parent)]
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        fresh.mkdir(parents=True)
    except OSError as error:
        _remove_empty(absent)
        raise InputError(f"cannot write to {path.parent} ({error.strerror}): choose another directory") from error
    try:
        yield fresh
        if replaces:
            _swap(fresh, path)
        else:
            _appear(fresh, path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        _remove_empty(absent)
        raise


def leftovers(directory: Path, name: str = "") -> list[Path]:
    """What killed writers left in a directory, of one name, or of any."""
    # A hidden name, and the number that keeps writers apart.
    own = re.compile(rf"\.{re.escape(name) or '.+'}\.[0-9a-f]{{32}}(\.old)?")
    return sorted(path for path in directory.glob(".*") if own.fullmatch(path.name))


def remove_leftovers(directory: Path) -> None:
    """Remove files that killed writers left in a directory and all below it; in an object store none can."""
    if is_object(directory):
        return
    for folder in (directory, *(path for path in directory.rglob("*") if path.is_dir())):
        for path in leftovers(folder):
            if path.is_file():
                path.unlink(missing_ok=True)


def _appear(fresh: Path, path: Path) -> None:
    try:
        # An empty directory is taken over.
        fresh.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be made ({error.strerror}): did another run appear there meanwhile?"
        ) from error


def _swap(fresh: Path, path: Path) -> None:
    if not path.exists():
        fresh.replace(path)
        return
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
    path.replace(old)
    try:
        fresh.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_empty(directories: list[Path]) -> None:
    """Remove directories that are empty, innermost first; leave the others."""
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()
