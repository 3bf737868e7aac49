"""One driver at a time in a run directory of an object store, which has no locks: a lease that is renewed.

The object is written on condition that it is not there, and renewed on condition that it is still ours.
"""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cwt_dask.errors import InputError
from cwt_dask.lock import Driver, read_driver
from cwt_dask.places import replace_seen, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cwt_dask.layout import RunDir

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
