"""Where files lie: in directories, or in a bucket of an object store, named by URL; and what each does its own way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from cwt_dask.config.validation import shown
from cwt_dask.errors import InputError
from cwt_dask.storage import directory, object_store
from cwt_dask.storage.driver import Driver
from cwt_dask.storage.foreign import foreign_among
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.object_store import SCHEME

if TYPE_CHECKING:
    from io import BufferedReader

# Listings must not be remembered: other processes write, too.
STORAGE_OPTIONS: dict[str, Any] = {"use_listings_cache": False}
# Why nothing can have a name, by the error at a look; Python's own, at a NUL in it, has no number.
_NO_NAMES = {errno.ELOOP: "its links lead in a circle", errno.ENAMETOOLONG: "it is too long", 0: "it has a NUL in it"}


def as_path(name: str | PathLike[str]) -> Path:
    """Path of a file or directory, or of an object, ``s3://bucket/key``, which does what is asked of a path here."""
    text = str(name)
    if "://" not in text:
        try:
            path = Path(name)
            path.stat()
        except TypeError as error:
            raise InputError(
                f"{shown(name)} is not the name of a file or directory: give a path, or a URL like {SCHEME}bucket/key"
            ) from error
        except (OSError, ValueError) as error:
            # What else a name may lack shows where it is used.
            if reason := _NO_NAMES.get(getattr(error, "errno", 0)):
                raise InputError(f"{shown(text)} cannot be used, {reason}: give another path") from error
        return path
    # Buckets have no empty names in them, as directories have none.
    parts = [part for part in text.removeprefix(SCHEME).split("/") if part]
    if not text.startswith(SCHEME) or not parts:
        raise InputError(f"{text} cannot be used: give a path, or a URL like {SCHEME}bucket/key")
    if not (find_spec("upath") and find_spec("s3fs")):
        raise InputError(f"{text} needs packages for object stores: pip install 'cwt_dask[s3]'")
    # Imported where it is wanted: it takes a second.
    from upath import UPath  # noqa: PLC0415

    return cast("Path", UPath(SCHEME + "/".join(parts), **STORAGE_OPTIONS))


class Backend(Protocol):
    """What directories and object stores do differently; all else is done through paths, which behave alike.

    What may not be read raises AccessError, wherever a name is looked for, listed or read.
    """

    keeps_old: bool  # Whether a run that is replaced stays until the new one is whole.

    def exists(self, path: Path, /) -> bool:
        """Whether something has that name."""

    def version_of(self, path: Path, /) -> Any:
        """A value that differs between two states of a file; None if it is not there."""

    def open_file(self, path: Path, /) -> BufferedReader:
        """A file to read."""

    def read_file(self, path: Path, /) -> bytes:
        """All of a file."""

    def listed(self, folder: Path, pattern: str, /) -> list[Path]:
        """What lies in a directory under names of a pattern, in order; nothing where there is none."""

    def remove(self, *paths: Path) -> None:
        """Remove files, if they are there."""

    def make_directory(self, path: Path, /) -> None:
        """Make a directory, and those above it, unless it is there."""

    def atomic_file(self, path: Path, /, *, cached: bool) -> AbstractContextManager[BinaryIO]:
        """A file to write that readers, now or after a crash, see whole under its name, or not at all; then it lasts.

        What is large and not read again soon need not stay `cached` in memory: the space is free at once for the next.
        """

    def drafted_file(self, path: Path, /) -> AbstractContextManager[Path]:
        """A file on disk to be written to by name, that appears at `path` when it is whole."""

    def replace(self, path: Path, content: bytes, seen: Any, /) -> None:
        """Write a file if it is still as it was seen; FileExistsError if another process has written it meanwhile.

        Parameters
        ----------
        path : Path
            The file.
        content : bytes
            What is to be in it.
        seen : object
            What `version_of` gave.
        """

    def entries(self, path: Path, /) -> Iterator[str]:
        """Names of all files below a directory, relative to it, with the links there, which are not followed."""

    def remove_tree(self, path: Path, /, *, sparing: Collection[Path] = ()) -> None:
        """Remove a directory and all below it, but for what is spared."""

    def free_space(self, path: Path, /) -> float:
        """Bytes that can be written below a directory."""

    def new_directory(self, path: Path, /) -> AbstractContextManager[Path]:
        """A new directory, whole or not at all: where to make it until it appears, at the end of the block."""

    def hold(self, files: RunDir, lost: Callable[[], None], /) -> AbstractContextManager[Driver | None]:
        """Hold a run for the length of a `with` block; yields the process that held it and was killed, if any.

        `lost` is called, from another thread, when another driver has it because this one was not heard of for long.
        """

    def is_free(self, files: RunDir, /) -> bool:
        """Whether a run can be made there without replacing anything; raises InputError if no run can be there."""

    def new_run(
        self, files: RunDir, held: ExitStack, lost: Callable[[], None], /, *, overwrite: bool
    ) -> AbstractContextManager[RunDir]:
        """A new run, whole or not at all: where to make it, until it appears at the end of the block.

        Raises InputError if another process holds the run, or it cannot be made there.

        Parameters
        ----------
        files : RunDir
            The run.
        held : ExitStack
            For its length the run is held, from the first moment on.
        lost : callable
            As of `hold`.
        overwrite : bool
            Whether a run that is there is replaced.
        """

    def restore(self, path: Path, /) -> bool:
        """Give a run its name back that was to be replaced when the command was killed; whether there was one.

        What other commands left beside it that were killed is removed.
        """

    def remove_leftovers(self, path: Path, /, *, elsewhere: bool) -> None:
        """Remove files that killed writers left in a directory and below it.

        Those of other machines only where none of them writes there any more: whether they have ended is not known.
        """

    def refuse_no_link(self, link: Path, /) -> None:
        """Refuse a name that no pointer to a run can have: something else is there, or nothing can be."""

    def point_to(self, link: Path, target: Path, /) -> None:
        """Have a pointer name a run from now on: readers see the one before or this one, never neither."""


def is_object(path: Path) -> bool:
    """Whether a path is of an object store."""
    return not isinstance(path, Path)


def backend_of(path: Path) -> Backend:
    """The back end that a path is of."""
    return object_store if is_object(path) else directory


def on_disk(path: Path) -> Path | None:
    """A path if it is on a disk, where temporary files may lie near it."""
    return None if is_object(path) else path


def store_errors() -> AbstractContextManager[None]:
    """Within the block, MachineError is raised in place of errors of the libraries that speak to an object store."""
    return object_store.store_errors()


def exists(path: Path) -> bool:
    """Whether something has that name."""
    return backend_of(path).exists(path)


def open_file(path: Path) -> BufferedReader:
    """A file to read."""
    return backend_of(path).open_file(path)


def read_file(path: Path) -> bytes:
    """Read a file."""
    return backend_of(path).read_file(path)


def listed(folder: Path, pattern: str) -> list[Path]:
    """What lies in a directory under names of a pattern, in order; nothing where there is none."""
    return backend_of(folder).listed(folder, pattern)


def remove(*paths: Path) -> None:
    """Remove files of one run, if they are there."""
    if paths:
        backend_of(paths[0]).remove(*paths)


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, unless it is there; an object store has none."""
    backend_of(path).make_directory(path)


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


def remove_folder(files: RunDir, folder: Path) -> None:
    """Remove a folder of a run and all below it that is part of one; see `Backend.remove_tree`."""
    backend = backend_of(folder)
    inside = str(folder)[len(str(files.path)) + 1 :]
    names = [f"{inside}/{name}" for name in backend.entries(folder)]
    backend.remove_tree(folder, sparing=[files.path / name for name in foreign_among(names)])


def lies_in(path: Path, directory: Path) -> bool:
    """Whether a path is a directory or somewhere below it."""
    return f"{path.resolve()}/".startswith(f"{str(directory.resolve()).rstrip('/')}/")


def refuse_inside(path: Path, directories: Iterable[Path]) -> None:
    """Raise InputError if a path lies in the directory of a run."""
    if any(lies_in(path, directory) for directory in directories):
        raise InputError(f"{path} lies in the run's own directory, which has nothing else in it: choose another place")


def relative_path(path: Path, directory: Path) -> str:
    """The way from a directory to a path, by ``..`` and names; empty if not both are on disk or in one bucket."""
    if is_object(path) or is_object(directory):
        return os.path.relpath(str(path), str(directory)) if path.anchor == directory.anchor else ""
    return os.path.relpath(path.absolute(), directory.resolve())
