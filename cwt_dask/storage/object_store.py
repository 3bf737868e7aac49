"""The back end of object stores: objects appear whole, but nothing can be renamed or locked.

A run is made where it will be, with a mark until it is whole, and held by a lease: docs/design/0012-object-stores.md.
See `cwt_dask.storage.paths.Backend` for what each function is for.
"""

from __future__ import annotations

import errno
import io
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace as with_fields
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from cwt_dask.errors import AccessError, InputError, MachineError
from cwt_dask.storage.driver import Driver, driver_in, read_driver
from cwt_dask.storage.layout import UNFINISHED, RunDir

keeps_old = False
SCHEME = "s3://"
RENEWAL_SECONDS = 60.0
# Clocks of machines that share a store agree much better than that.
STALE_SECONDS = 600.0
# Packages with errors that come from the way to an object store.
_CLIENTS = {"aiobotocore", "aiohttp", "botocore"}
# What a store answers where the condition of a request does not hold.
_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict"}
_WITHOUT_KEYS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}


class _NoKeysError(InputError, MachineError):
    """There are no keys here, or wrong ones: the call is wrong, but another machine may have them."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Within the block, MachineError is raised in place of errors of the libraries that speak to an object store.

    It is an InputError, too, where they have no keys.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        if type(error).__name__ in _WITHOUT_KEYS:
            raise _NoKeysError(
                f"the object store cannot be used ({error}): give keys, such as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or a profile that has them"
            ) from error
        raise MachineError(
            f"the object store did not answer as it should ({error}): check its address, your keys and the network, "
            "and give the same command again"
        ) from error


@contextmanager
def _refusals_named(path: Path) -> Iterator[None]:
    """Within the block, AccessError says which object the store refuses to these keys: its own error does not."""
    try:
        yield
    except PermissionError as error:
        raise AccessError(
            f"{path} cannot be used, the object store refuses your keys ({error}): give others, or have these allowed "
            "to read and write there"
        ) from error


def exists(path: Path) -> bool:
    """Whether there is such an object, or one below."""
    with _refusals_named(path):
        return path.exists()


def version_of(path: Path) -> Any:
    """The store's tag of an object's content."""
    target: Any = path
    with suppress(FileNotFoundError), _refusals_named(path):
        return target.fs.info(target.path)["ETag"]
    return None


def open_file(path: Path) -> BufferedReader:
    """An object to read."""
    with _refusals_named(path):
        return path.open("rb")


def read_file(path: Path) -> bytes:
    """All of an object, by one request."""
    with _refusals_named(path):
        return path.read_bytes()


def listed(folder: Path, pattern: str) -> list[Path]:
    """Objects below a name under names of a pattern, in order."""
    with _refusals_named(folder):
        return sorted(folder.glob(pattern))


def remove(*paths: Path) -> None:
    """Remove objects."""
    for path in paths:
        path.unlink(missing_ok=True)


def make_directory(_path: Path, /) -> None:
    """There are none."""


@contextmanager
def atomic_file(path: Path, *, cached: bool) -> Iterator[BinaryIO]:  # noqa: ARG001 - of directories
    """A file in memory, that is put when it is whole."""
    content = io.BytesIO()
    yield content
    _put(path, content.getvalue())


@contextmanager
def drafted_file(path: Path) -> Iterator[Path]:
    """A file on disk, that is put when it is whole."""
    target: Any = path
    with TemporaryDirectory() as directory:
        draft = Path(directory, path.name)
        yield draft
        target.fs.put_file(str(draft), target.path)


def replace(path: Path, content: bytes, seen: object) -> None:
    """Put an object on the condition that it is still of the version that was seen.

    Parameters
    ----------
    path, content, seen
        As of `Backend.replace`.
    """
    target: Any = path
    condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
    try:
        target.fs.pipe_file(target.path, content, **condition)
    except OSError as error:
        reply = getattr(error.__cause__, "response", {})
        # A request with a lost answer is sent again, and then meets what it has written itself.
        if reply.get("Error", {}).get("Code") not in _CONFLICTS:
            raise
        if path.read_bytes() == content:
            return
        raise FileExistsError(errno.EEXIST, "another process has written it meanwhile", str(path)) from error


def remove_tree(path: Path, *, sparing: Collection[Path] = ()) -> None:
    """Remove all objects below a name, but for some; raises PermissionError if objects cannot be removed."""
    target: Any = path
    spared = {file.path for file in sparing}  # type: ignore[attr-defined] # of universal_pathlib
    keys = [key for key in target.fs.find(target.path) if key not in spared]
    if keys:
        target.fs.rm(keys)
        # Of many that are removed at once the store's client does not say which it could not.
        if left := set(target.fs.find(target.path)) & set(keys):
            raise PermissionError(f"{len(left)} objects below {path} could not be removed: see to your keys")


def free_space(_path: Path, /) -> float:
    """Not bounded."""
    return float("inf")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """The name itself, claimed by a mark that is removed at the end."""
    _refuse_no_bucket(path)
    claim = path / UNFINISHED
    replace(claim, uuid.uuid4().hex.encode(), None)
    try:
        yield path
        claim.unlink()
    except BaseException:
        # What ended it must not be hidden.
        with suppress(OSError, MachineError), store_errors():
            remove_tree(path)
        raise


@contextmanager
def hold(files: RunDir, lost: Callable[[], None], /) -> Iterator[Driver | None]:
    """Hold a run by a lease, which another driver may take when it was not renewed for ten minutes.

    An error that no store can be blamed for ends the renewal, counts as a loss, and is raised at the end of the block.
    """
    before, this = _take(files)
    ended, renewal = threading.Event(), Future[None]()

    def renew() -> None:
        try:
            _renew(files, this, ended)
            renewal.set_result(None)
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that holds the run
            renewal.set_exception(error)
        if not ended.is_set():
            lost()

    renewer = threading.Thread(target=renew, name="lease", daemon=True)
    renewer.start()
    try:
        yield before
    finally:
        ended.set()
        renewer.join()
        # What ended the block must not be hidden by a store that does not answer: the lease gets stale.
        with suppress(OSError, MachineError), store_errors():
            if _same_lease(read_driver(files), this):
                files.driver.unlink()
        renewal.result()


def entries(path: Path) -> Iterator[str]:
    """Names of all objects below a name, relative to it."""
    target: Any = path
    for key in target.fs.find(target.path):
        yield key.removeprefix(f"{target.path.rstrip('/')}/")


def is_free(files: RunDir) -> bool:
    """Whether nothing lies there, or what was not made to the end."""
    _refuse_no_bucket(files.path)
    there = {path.name for path in files.path.iterdir()} if files.path.exists() else set()
    return there <= {files.driver.name} or files.unfinished.name in there


@contextmanager
def new_run(files: RunDir, held: ExitStack, lost: Callable[[], None], /, *, overwrite: bool) -> Iterator[RunDir]:
    """A run where it will be, marked as unfinished until it is whole; what was there is removed first.

    Parameters
    ----------
    files, held, lost, overwrite
        As of `Backend.new_run`.
    """
    held.enter_context(hold(files, lost))
    if not is_free(files) and not overwrite:
        raise InputError(f"{files.path} holds another run by now: give the same command again to go on with that")
    ours = read_driver(files)
    _put(files.unfinished, b"")
    # Without its settings the rest is not taken for a run.
    files.settings.unlink(missing_ok=True)
    try:
        remove_tree(files.path, sparing=(files.driver, files.unfinished))
        yield files
        files.unfinished.unlink()
    except BaseException:
        # What ended it must not be hidden; nor is anything of another driver removed that has the lease now.
        with suppress(OSError, MachineError), store_errors():
            if _same_lease(read_driver(files), ours):
                remove_tree(files.path)
        raise


def restore(_path: Path, /) -> bool:
    """Nothing is kept of what is replaced."""
    return False


def remove_leftovers(_directory: Path, /, *, elsewhere: bool) -> None:
    """There are none: objects appear whole."""


def refuse_no_link(link: Path) -> None:
    """Refuse an object that holds something else than a URL."""
    if link.exists() and not link.read_bytes().startswith(SCHEME.encode()):
        raise InputError(f"{link} holds something else than a URL: it is not replaced, choose another name")


def point_to(link: Path, target: Path) -> None:
    """Write an object that holds the URL."""
    _put(link, str(target).encode())


def _put(path: Path, content: bytes) -> None:
    target: Any = path
    with _refusals_named(path):
        target.fs.pipe_file(target.path, content)


def _refuse_no_bucket(path: Path) -> None:
    target: Any = path
    bucket, _, key = target.path.partition("/")
    if not key:
        raise InputError(f"{path} is a whole bucket: give a name in it, such as {SCHEME}{bucket}/run")
    if not target.fs.exists(bucket):
        raise InputError(
            f"there is no bucket {SCHEME}{bucket}, or you may not see it: make it first, or see to your keys"
        )


def _take(files: RunDir) -> tuple[Driver | None, Driver]:
    """Take the lease: the driver that had it before and did not end by itself, and this one."""
    this = Driver.this()
    try:
        seen, holder = version_of(files.driver), read_driver(files)
        if seen is not None and not (holder and holder.is_gone) and _age(files) < STALE_SECONDS:
            raise InputError(
                f"{files.path} is in use by {holder or 'another process'}: wait until that has ended, or give "
                f"a new run another name; one that has died holds it for {STALE_SECONDS / 60:.0f} minutes"
            )
        replace(files.driver, this.content, seen)
    except (FileExistsError, FileNotFoundError) as error:
        raise InputError(
            f"{files.path} was taken or left by {read_driver(files) or 'another process'} just now: give the same "
            "command again"
        ) from error
    return holder if seen is not None else None, this


def _renew(files: RunDir, this: Driver, ended: threading.Event) -> None:
    """Renew a lease now and then until the end, or until another driver has it."""
    while not ended.wait(RENEWAL_SECONDS):
        # A store that does not answer, or refuses keys, may do otherwise the next time.
        with suppress(OSError, MachineError), store_errors():
            try:
                seen = version_of(files.driver)
                there = driver_in(files.driver.read_bytes())
                # One that is damaged may be sound the next time.
                if there is None:
                    continue
                if not _same_lease(there, this):
                    return
                # Of other content each time, so that each renewal is another version.
                replace(files.driver, with_fields(this, renewal=uuid.uuid4().hex).content, seen)
            except (FileExistsError, FileNotFoundError):
                return


def _same_lease(one: Driver | None, other: Driver | None) -> bool:
    """Whether two states of `driver.json` are of one lease, however often it was renewed."""
    return one is not None and other is not None and one.lease == other.lease


def _age(files: RunDir) -> float:
    """Seconds since the lease was last renewed."""
    return datetime.now(UTC).timestamp() - files.driver.stat().st_mtime
