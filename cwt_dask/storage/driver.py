"""Which process holds a run directory: `driver.json`."""

from __future__ import annotations

import getpass
import json
import os
import socket
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from cwt_dask.config.validation import LARGEST_WHOLE
from cwt_dask.storage import disk
from cwt_dask.storage.fields import impossible_fields
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.provenance import batch_job
from cwt_dask.storage.sealed import is_sound, sealed, unsealed


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
    start: int = 0  # When the process was started, as `start_of` has it.
    # Which time it holds a run, and in object stores how often that was renewed.
    lease: str = ""
    renewal: str = ""

    @classmethod
    def this(cls) -> Driver:
        """The calling process, that holds a run from now on."""
        now, pid = datetime.now(UTC).isoformat(timespec="seconds"), os.getpid()
        host, user = socket.gethostname(), _user()
        return cls(pid, host, user, now, batch_job(), this_machine(), start_of(pid), uuid.uuid4().hex)

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} of {self.user} on {self.host}{job}, since {self.since}"

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; what happens on another machine is not."""
        return self.machine == this_machine() != "" and has_ended(self.pid, self.start)

    @property
    def content(self) -> bytes:
        """Content of `driver.json`."""
        return json.dumps(sealed(asdict(self))).encode()


def this_machine() -> str:
    """Where process numbers mean the same: this start of this machine, and this container; empty if unknown."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def start_of(pid: int) -> int:
    """When a process was started, in ticks since the machine was; 0 if unknown."""
    with suppress(OSError, ValueError, IndexError):
        # The clock may be set: no time of day. The command's name, in brackets, may hold spaces and brackets.
        return int(
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    return 0


def has_ended(pid: int, start: int) -> bool:
    """Whether a process of this machine has ended; another may have its number by now."""
    return not psutil.pid_exists(pid) or (start > 0 and start_of(pid) not in {start, 0})


def read_driver(files: RunDir) -> Driver | None:
    """The process that holds a run directory, or held it when it was killed; None if there is none or it is damaged."""
    path = files.driver
    with suppress(OSError), disk.open_file(path) if isinstance(path, Path) else path.open("rb") as file:
        return driver_in(file.read())
    return None


def driver_in(content: bytes) -> Driver | None:
    """The process that the content of `driver.json` is of; None if it is damaged."""
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        fields = json.loads(content)
        driver = Driver(**unsealed(fields))
        if is_sound(fields) and not impossible_fields(driver) and 0 < driver.pid <= LARGEST_WHOLE:
            return driver
    return None


def _user() -> str:
    # A container's user may have no name.
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())
