"""One driver at a time in a run directory."""

from __future__ import annotations

import errno
import getpass
import json
import os
import socket
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from cwt_dask.config.validation import LARGEST_WHOLE
from cwt_dask.errors import InputError
from cwt_dask.storage.atomic import write_atomically
from cwt_dask.storage.fields import impossible_fields
from cwt_dask.storage.paths import replace_seen, version_of
from cwt_dask.storage.provenance import batch_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cwt_dask.storage.layout import RunDir

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Driver:
    """The process that holds a run directory.

    Attributes
    ----------
    pid : int
        Its number on its machine.
    host, user, since : str
        Where it runs, whose it is, and since when (UTC).
    job : str
        Its number in a batch system; empty outside.
    machine : str
        Which start of which machine, and which of its spaces of process numbers.
    lease, renewal : str
        In object stores: which lease, and how often it was renewed.
    """

    pid: int
    host: str
    user: str
    since: str
    job: str = ""
    machine: str = ""
    lease: str = ""
    renewal: str = ""

    @classmethod
    def this(cls) -> Driver:
        """The calling process."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), _user(), now, batch_job(), this_machine())

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} of {self.user} on {self.host}{job}, since {self.since}"

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; what happens on another machine is not."""
        return self.machine == this_machine() != "" and not psutil.pid_exists(self.pid)


def this_machine() -> str:
    """Where process numbers mean the same: this start of this machine, and this container; empty if nothing tells."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def read_driver(files: RunDir) -> Driver | None:
    """Who holds a run directory, or has held it to its own sudden end; None if nobody, or if it cannot be read."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        driver = Driver(**json.loads(files.driver.read_text(encoding="utf-8")))
        if not impossible_fields(driver) and 0 < driver.pid <= LARGEST_WHOLE:
            return driver
    return None


@contextmanager
def sole_driver(files: RunDir, *, moves_to: RunDir | None = None) -> Iterator[Driver | None]:
    """Hold a run directory for the length of a `with` block.

    The system lets go of the lock when its process ends, however it ends. Yields who held it before and did not end by
    itself, if anybody. The directory may be renamed meanwhile: to where it `moves_to`.

    Raises
    ------
    InputError
        If another process holds it, it cannot be written to, or the file system has no locks.
    """
    lock, this = FileLock(files.lock), Driver.this()
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = read_driver(files) or "another process"
        raise InputError(
            f"{files.path} is in use by {holder}: wait until that has ended, or choose another directory"
        ) from None
    except OSError as error:
        if error.errno in NOT_WRITABLE:
            raise _not_writable(files, error) from error
        if error.errno not in NO_LOCKS:
            raise
        raise InputError(
            f"{files.path} lies on a file system without locks ({error.strerror}): choose another place, or have it "
            "mounted with them"
        ) from error
    try:
        before = read_driver(files)
        try:
            write_atomically(files.driver, json.dumps(asdict(this)).encode())
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
            raise _not_writable(files, error) from error
        yield before
    finally:
        place = moves_to or files
        if read_driver(place) == this:
            with suppress(OSError):
                place.driver.unlink()
        lock.release()


def _not_writable(files: RunDir, error: OSError) -> InputError:
    return InputError(
        f"cannot write to {files.path} ({error.strerror}): have it made writable, or choose another directory"
    )


def _user() -> str:
    # A container's user may have no name.
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())


RENEWAL_SECONDS = 60.0
# Clocks of machines that share a store agree much better than that.
STALE_SECONDS = 600.0


@contextmanager
def sole_lease(files: RunDir, lost: Callable[[], None]) -> Iterator[Driver | None]:
    """Hold a run directory for the length of a `with` block.

    Yields who held it before and did not end by itself, if anybody: known to be gone, or not heard of for ten minutes.

    Parameters
    ----------
    files : RunDir
        In an object store.
    lost : callable
        Called, from another thread, when another driver has taken the lease over because this one was not heard of.

    Raises
    ------
    InputError
        If another process holds it.
    """
    before, this = _take(files)
    ended = threading.Event()
    renewer = threading.Thread(target=_renew, args=(files, this, ended, lost), daemon=True)
    renewer.start()
    try:
        yield before
    finally:
        ended.set()
        renewer.join()
        # What ended the block must not be hidden by a store that does not answer: the lease gets stale.
        with suppress(Exception):
            if same_holder(read_driver(files), this):
                files.driver.unlink()


def same_holder(one: Driver | None, other: Driver | None) -> bool:
    """Whether two states of `driver.json` are of one lease, however often it was renewed."""
    return one is not None and other is not None and one.lease == other.lease


def _take(files: RunDir) -> tuple[Driver | None, Driver]:
    this = replace(Driver.this(), lease=uuid.uuid4().hex)
    try:
        seen, holder = version_of(files.driver), read_driver(files)
        if seen is not None and not (holder and holder.is_gone) and _age(files) < STALE_SECONDS:
            raise InputError(
                f"{files.path} is in use by {holder or 'another process'}: wait until that has ended, or choose "
                f"another; one that has died holds it for {STALE_SECONDS / 60:.0f} minutes"
            )
        replace_seen(files.driver, _content(this), seen)
    except (FileExistsError, FileNotFoundError) as error:
        raise InputError(
            f"{files.path} was taken or left by {read_driver(files) or 'another process'} just now: give the same "
            "command again"
        ) from error
    return holder if seen is not None else None, this


def _renew(files: RunDir, this: Driver, ended: threading.Event, lost: Callable[[], None]) -> None:
    while not ended.wait(RENEWAL_SECONDS):
        # A store that does not answer may do so the next time.
        with suppress(Exception):
            try:
                seen = version_of(files.driver)
                ours = same_holder(Driver(**json.loads(files.driver.read_bytes())), this)
                if ours:
                    # Of other content each time, so that its version tells one renewal from another.
                    replace_seen(files.driver, _content(replace(this, renewal=uuid.uuid4().hex)), seen)
            except (FileExistsError, FileNotFoundError):
                ours = False
            if not ours:
                lost()
                return


def _age(files: RunDir) -> float:
    """Seconds since the lease was last renewed."""
    return datetime.now(UTC).timestamp() - files.driver.stat().st_mtime


def _content(driver: Driver) -> bytes:
    return json.dumps(asdict(driver)).encode()
