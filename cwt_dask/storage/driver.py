"""Which process holds a run directory: `driver.json`."""

from __future__ import annotations

import getpass
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from cwt_dask.config.validation import LARGEST_WHOLE
from cwt_dask.storage.fields import impossible_fields
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.provenance import batch_job


@dataclass(frozen=True)
class Driver:
    """The process that holds a run directory."""

    pid: int  # Its number on its machine.
    # Where it runs, under which user, and since when (UTC).
    host: str
    user: str
    since: str
    job: str = ""  # Its number in a batch system; empty outside.
    machine: str = ""  # Which start of which machine, and which of its spaces of process numbers.
    # In object stores: which lease, and how often it was renewed.
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

    @property
    def content(self) -> bytes:
        """Content of `driver.json`."""
        return json.dumps(asdict(self)).encode()


def this_machine() -> str:
    """Where process numbers mean the same: this start of this machine, and this container; empty if unknown."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def read_driver(files: RunDir) -> Driver | None:
    """The process that holds a run directory, or held it when it was killed; None if there is none or it is damaged."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        driver = Driver(**json.loads(files.driver.read_text(encoding="utf-8")))
        if not impossible_fields(driver) and 0 < driver.pid <= LARGEST_WHOLE:
            return driver
    return None


def _user() -> str:
    # A container's user may have no name.
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())
