"""Where files lie: in directories, or in a bucket of an object store, named by URL. Both are asked alike.

Objects appear whole or not at all, but nothing can be renamed and nothing locked: docs/design/0012-object-stores.md.
"""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cwt_dask.config.validation import shown
from cwt_dask.errors import InputError, MachineError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from os import PathLike

SCHEME = "s3://"
# Listings must not be remembered: other processes write, too.
STORAGE_OPTIONS: dict[str, Any] = {"use_listings_cache": False}
# Packages whose errors come from the way to an object store.
_CLIENTS = {"aiobotocore", "aiohttp", "botocore"}
# What a store answers where the condition of a request does not hold.
_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict"}


def as_path(name: str | PathLike[str]) -> Path:
    """Path of a file or directory, or of an object, which does what is asked of a path here.

    Parameters
    ----------
    name : path-like
        A path, or a URL ``s3://bucket/key``.

    Raises
    ------
    InputError
        If it is neither text nor a path, a URL of another kind, or packages for object stores are not installed.
    """
    text = str(name)
    if "://" not in text:
        try:
            return Path(name)
        except TypeError as error:
            raise InputError(
                f"{shown(name)} is not the name of a file or directory: give a path, or a URL like {SCHEME}bucket/key"
            ) from error
    # Buckets have no empty names in them, as directories have none.
    parts = [part for part in text.removeprefix(SCHEME).split("/") if part]
    if not text.startswith(SCHEME) or not parts:
        raise InputError(f"{text} cannot be used: give a path, or a URL like {SCHEME}bucket/key")
    if not (find_spec("upath") and find_spec("s3fs")):
        raise InputError(f"{text} needs packages for object stores: pip install 'cwt_dask[s3]'")
    # Imported where it is wanted: it takes a second.
    from upath import UPath  # noqa: PLC0415

    return cast("Path", UPath(SCHEME + "/".join(parts), **STORAGE_OPTIONS))


def is_object(path: Path) -> bool:
    """Whether a path is of an object store."""
    return not isinstance(path, Path)


def exists(path: Path) -> bool:
    """Whether something has that name; not so, too, where nothing can: `Path.exists` raises where it is too long."""
    with nullcontext() if is_object(path) else suppress(OSError, ValueError):
        return path.exists()
    return False


def lies_in(path: Path, directory: Path) -> bool:
    """Whether a path is a directory or somewhere below it."""
    if is_object(path) or is_object(directory):
        return f"{path}/".startswith(str(directory).rstrip("/") + "/")
    return path.resolve().is_relative_to(directory.resolve())


def refuse_no_bucket(path: Path) -> None:
    """Refuse to write where there is no bucket, or to a bucket as a whole.

    Raises
    ------
    InputError
        If so.
    """
    target: Any = path
    bucket, _, key = target.path.partition("/")
    if not key:
        raise InputError(f"{path} is a whole bucket: give a name in it, such as {SCHEME}{bucket}/run")
    if not target.fs.exists(bucket):
        raise InputError(
            f"there is no bucket {SCHEME}{bucket}, or you may not see it: make it first, or see to your keys"
        )


def remove_tree(path: Path, *, sparing: Collection[Path] = ()) -> None:
    """Remove a directory and all below it, but for some files; in a directory for none.

    What cannot be removed of a directory is left.

    Raises
    ------
    PermissionError
        If objects cannot be removed.
    """
    if not is_object(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    target: Any = path
    spared = {cast("Any", file).path for file in sparing}
    keys = [key for key in target.fs.find(target.path) if key not in spared]
    if keys:
        target.fs.rm(keys)
        # Of many that are removed at once the store's client does not say which it could not.
        if left := set(target.fs.find(target.path)) & set(keys):
            raise PermissionError(f"{len(left)} objects below {path} could not be removed: see to your keys")


def free_space(directory: Path) -> float:
    """Bytes that can be written; what an object store takes is not bounded."""
    return float("inf") if is_object(directory) else shutil.disk_usage(directory).free


def version_of(path: Path) -> str | None:
    """What tells one state of an object from another; None if it is not there."""
    target: Any = path
    try:
        tag: str = target.fs.info(target.path)["ETag"]
    except FileNotFoundError:
        return None
    return tag


def put(path: Path, content: bytes) -> None:
    """Write an object: whole, or not at all."""
    target: Any = path
    target.fs.pipe_file(target.path, content)


def upload(source: Path, path: Path) -> None:
    """Write a file's content to an object."""
    target: Any = path
    target.fs.put_file(str(source), target.path)


def replace_seen(path: Path, content: bytes, seen: str | None) -> None:
    """Write an object if it is still as it was seen: of that version, or not there.

    Raises
    ------
    FileExistsError
        If another has written it meanwhile.
    """
    target: Any = path
    condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
    try:
        target.fs.pipe_file(target.path, content, **condition)
    except OSError as error:
        reply = getattr(error.__cause__, "response", {})
        # A request whose answer was lost is sent again, and then meets what it has written itself.
        if reply.get("Error", {}).get("Code") not in _CONFLICTS:
            raise
        if path.read_bytes() == content:
            return
        raise FileExistsError(errno.EEXIST, "another process has written it meanwhile", str(path)) from error


@contextmanager
def store_errors() -> Iterator[None]:
    """Within the block, what goes wrong on the way to an object store is named as what it is.

    Raises
    ------
    MachineError
        In place of errors of the libraries that speak to the store.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        raise MachineError(
            f"the object store did not answer as it should ({error}): check its address, your keys and the network, "
            "and give the same command again"
        ) from error
