"""The back end of directories: new files are written under other names and renamed; a run is held by a file lock.

What a name stands for is on the disk before the name is, and that before anything that counts on it is begun. See
`cwt_dask.storage.paths.Backend` for what each function is for.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock, Timeout

from cwt_dask.errors import CwtDaskError, InputError
from cwt_dask.storage import disk
from cwt_dask.storage.access import reading, scan
from cwt_dask.storage.drafts import (
    REPLACED,
    draft_of,
    drafts,
    is_abandoned,
    is_being_made,
    is_draft,
    remove_abandoned,
    remove_draft,
)
from cwt_dask.storage.driver import Driver, read_driver
from cwt_dask.storage.foreign import refuse_foreign
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.links import refuse_links
from cwt_dask.storage.room import room_for

if TYPE_CHECKING:
    from io import BufferedReader

keeps_old = True
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def exists(path: Path) -> bool:
    """Whether something has that name; not so, too, where nothing can: `Path.exists` raises where it is too long."""
    with suppress(OSError, ValueError), reading(path):
        path.stat()
        return True
    return False


def version_of(path: Path) -> Any:
    """Inode, size and time of a file."""
    with suppress(FileNotFoundError):
        state = path.stat()
        return state.st_ino, state.st_size, state.st_mtime_ns
    return None


def open_file(path: Path) -> BufferedReader:
    """A file to read."""
    with reading(path):
        return disk.open_file(path)


def read_file(path: Path) -> bytes:
    """All of a file."""
    with open_file(path) as file:
        return file.read()


def listed(folder: Path, pattern: str) -> list[Path]:
    """What lies in a directory under names of a pattern, in order; nothing where there is none."""
    return sorted(folder / entry.name for entry in scan(folder) if fnmatch.fnmatchcase(entry.name, pattern))


def remove(*paths: Path) -> None:
    """Remove files, also from the disk: a directory of many is waited for once."""
    folders = set()
    for path in paths:
        with suppress(FileNotFoundError):
            disk.remove(path)
            folders.add(path.parent)
    for folder in folders:
        disk.sync_names(folder)


def make_directory(path: Path) -> None:
    """Make a directory, also on the disk."""
    absent = [folder for folder in (path, *path.parents) if not exists(folder)]
    disk.make_directory(path)
    for folder in absent:
        disk.sync_names(folder.parent)


@contextmanager
def atomic_file(path: Path, *, cached: bool) -> Iterator[BinaryIO]:
    """A file to write that appears when it is whole, and on the disk."""
    with whole_file(path, cached=cached) as file:
        yield file
    disk.sync_names(path.parent)


@contextmanager
def whole_file(path: Path, *, cached: bool) -> Iterator[BinaryIO]:
    """The same, but for its name: it is on the disk once that of its directory is synced."""
    with _drafted(path) as draft, disk.new_file(draft) as file:
        yield file
        disk.sync(file)
        if not cached and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def drafted_file(path: Path) -> Iterator[Path]:
    """A file to be written to by name, that is renamed when it is whole, and on the disk."""
    remove_abandoned(path.parent)
    with _drafted(path) as draft:
        yield draft
        with disk.open_file(draft) as file:
            disk.sync(file)
    disk.sync_names(path.parent)


@contextmanager
def _drafted(path: Path) -> Iterator[Path]:
    draft = draft_of(path)
    try:
        with room_for(path, draft):
            yield draft
            disk.rename(draft, path)
    except BaseException:
        # A name that cannot be has no file either; what is wrong with it is raised below.
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def replace(path: Path, content: bytes, *_seen: object) -> None:
    """Write a file; the lock keeps other drivers out, and of two tasks that write one record both write the same."""
    with atomic_file(path, cached=True) as file:
        file.write(content)


def entries(path: Path) -> Iterator[str]:
    """Names of all below a directory, relative to it, but for directories; links are not followed."""
    for entry in scan(path):
        if entry.is_dir(follow_symlinks=False):
            yield from (f"{entry.name}/{name}" for name in entries(path / entry.name))
        else:
            yield entry.name


def remove_tree(path: Path, *, sparing: Collection[Path] = ()) -> None:
    """Remove a directory and all below it but for what is spared; what cannot be removed is left, and links are."""
    if path.is_symlink():
        return
    if not sparing:
        shutil.rmtree(path, ignore_errors=True)
        return
    for folder, below, names in os.walk(path, topdown=False):
        for entry in {Path(folder, name) for name in names} - set(sparing):
            with suppress(OSError):
                entry.unlink()
        for entry in {Path(folder, name) for name in below} - set(sparing):
            with suppress(OSError):
                entry.unlink() if entry.is_symlink() else entry.rmdir()


def free_space(path: Path) -> float:
    """Bytes free on the disk."""
    return shutil.disk_usage(path).free


@contextmanager
def new_directory(path: Path, *, replaces: bool = False) -> Iterator[Path]:
    """A directory that appears at `path`, in place of what it `replaces`, at the end; on any error all is as before."""
    absent = [parent for parent in path.parents if not exists(parent)]
    remove_abandoned(path.parent)
    fresh = draft_of(path)
    try:
        make_directory(path.parent)
        disk.make_directory(fresh)
        yield fresh
        _appear(fresh, path, replaces=replaces)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        for parent in absent:
            with suppress(OSError):
                parent.rmdir()
        raise


def hold(files: RunDir, _lost: Callable[[], None] | None = None, /) -> AbstractContextManager[Driver | None]:
    """Hold a run directory by a lock, which the system releases when the process ends, however it ends."""
    refuse_links(files)
    return _hold(files, files)


@contextmanager
def _hold(files: RunDir, later: RunDir) -> Iterator[Driver | None]:
    """Hold a run directory that may be renamed meanwhile."""
    lock, this = FileLock(files.lock), Driver.this()
    try:
        with _writing_to(files):
            disk.acquire(lock)
    except Timeout:
        holder = read_driver(files) or "another process"
        raise InputError(
            f"{files.path} is in use by {holder}: wait until that has ended, or give a new run another directory"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise InputError(
            f"{files.path} lies on a file system without locks ({error.strerror}): choose another place, or have it "
            "mounted with them"
        ) from error
    try:
        before = read_driver(files)
        with _writing_to(files):
            replace(files.driver, this.content)
        yield before
    finally:
        if read_driver(later) == this:
            with suppress(OSError):
                disk.remove(later.driver)
        lock.release()


@contextmanager
def _writing_to(files: RunDir) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        raise InputError(
            f"cannot write to {files.path} ({error.strerror}): have it made writable, or give a new run another "
            "directory"
        ) from error


def is_free(files: RunDir) -> bool:
    """Whether nothing lies there, or an empty directory."""
    return not exists(files.path) or (files.path.is_dir() and not listed(files.path, "*"))


@contextmanager
def new_run(files: RunDir, held: ExitStack, _lost: Callable[[], None], /, *, overwrite: bool) -> Iterator[RunDir]:
    """A run directory that is filled under another name, and renamed when it is whole; the old one stays until then.

    Parameters
    ----------
    files, held, _lost, overwrite
        As of `Backend.new_run`.
    """
    replaces = overwrite and not is_free(files)
    with hold(files) if replaces else nullcontext(), ExitStack() as stack:
        try:
            fresh = stack.enter_context(new_directory(files.path, replaces=replaces))
        except OSError as error:
            raise InputError(
                f"cannot write to {files.path.parent} ({error.strerror}): choose another directory"
            ) from error
        new = RunDir(fresh)
        held.enter_context(_hold(new, files))
        yield new
        if replaces:
            # Some may have been put there meanwhile.
            refuse_foreign(files, entries(files.path))


def restore(path: Path) -> bool:
    """Give a run its name back that was to be replaced, and remove what other killed commands left beside it."""
    restored = False
    for draft in drafts(path.parent, path.name):
        # Those that live hold theirs, on whatever machine. Another starter may be at it, or it may be another user's.
        with suppress(CwtDaskError, OSError):
            if draft.suffix == REPLACED and not exists(path):
                with _hold(RunDir(draft), RunDir(path)):
                    disk.rename(draft, path)
                    disk.sync_names(path.parent)
                    restored = True
            elif RunDir(draft).lock.exists():
                with hold(RunDir(draft)):
                    remove_draft(draft)
    remove_abandoned(path.parent)
    return restored


def remove_leftovers(directory: Path, *, elsewhere: bool) -> None:
    """Remove what killed writers left in a directory and all below it; links are not followed."""
    for folder, _, names in os.walk(directory):
        for draft in (Path(folder, name) for name in names if is_draft(name)):
            if is_abandoned(draft) or (elsewhere and not is_being_made(draft)):
                remove_draft(draft)


def refuse_no_link(link: Path) -> None:
    """Refuse a name that no symbolic link can have."""
    if link.exists() and not link.is_symlink():
        raise InputError(f"{link} is not a symbolic link: it is not replaced, choose another name")
    if not link.parent.is_dir():
        raise InputError(f"{link.parent} is not a directory: create it first")


def point_to(link: Path, target: Path) -> None:
    """Make or replace a symbolic link."""
    temporary = draft_of(link)
    temporary.symlink_to(os.path.relpath(target, link.parent.resolve()))
    disk.rename(temporary, link)
    disk.sync_names(link.parent)


def _appear(fresh: Path, path: Path, *, replaces: bool) -> None:
    old = path.with_name(f"{draft_of(path).name}{REPLACED}")
    # What is replaced may have been removed meanwhile.
    replaces = replaces and exists(path)
    disk.sync_names(fresh)
    if replaces:
        disk.rename(path, old)
    try:
        # An empty directory is replaced.
        disk.rename(fresh, path)
    except BaseException as error:
        if replaces:
            disk.rename(old, path)
        elif isinstance(error, OSError):
            raise InputError(
                f"{path} cannot be made ({error.strerror}): look whether something else has appeared there, and remove "
                "it or choose another name"
            ) from error
        raise
    disk.sync_names(path.parent)
    if replaces:
        going = draft_of(path)
        with suppress(OSError):
            # What `restore` finds is whole.
            disk.rename(old, going)
            shutil.rmtree(going, ignore_errors=True)
