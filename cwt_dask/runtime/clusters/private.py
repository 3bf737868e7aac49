"""Directories beside RUN_DIR that hold the certificate of a cluster: its user's alone, and gone with the run."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil

from cwt_dask.storage.atomic import write_atomically
from cwt_dask.storage.driver import this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = ".cwt-dask-"
# SLURM answers late when it is busy.
ANSWER_SECONDS = 20


@dataclass(frozen=True)
class Maker:
    """Who has made such a directory.

    Attributes
    ----------
    machine : str
        Which start of which machine, as `cwt_dask.storage.driver.this_machine` has it.
    pid : int
        Number of the process there.
    cluster, job : str
        Of SLURM; empty outside of a job.
    """

    machine: str
    pid: int
    cluster: str
    job: str

    @classmethod
    def this(cls) -> Maker:
        """The calling process."""
        return cls(
            this_machine(),
            os.getpid(),
            os.environ.get("SLURM_CLUSTER_NAME", ""),
            os.environ.get("SLURM_JOB_ID", ""),
        )

    def is_gone(self) -> bool:
        """Whether it is known to have ended: on this machine, or by what SLURM says of its job."""
        this = Maker.this()
        if self.machine == this.machine != "":
            return not psutil.pid_exists(self.pid)
        # Another cluster that shares the files has jobs of the same numbers.
        return bool(self.job) and self.cluster == this.cluster != "" and self.job not in _jobs(self.job)


@contextmanager
def private_directory(shared: Path) -> Iterator[Path]:
    """A directory of a name of its own for the length of a `with` block."""
    shared.mkdir(parents=True, exist_ok=True)
    remove_dead(shared)
    with TemporaryDirectory(prefix=PREFIX, dir=shared) as private:
        sign(Path(private))
        yield Path(private)


def sign(private: Path) -> None:
    """Write down who has made a directory."""
    write_atomically(private / "maker.json", json.dumps(asdict(Maker.this())).encode())


def remove_dead(shared: Path) -> None:
    """Remove what runs of this user left that were killed; where nothing tells that they were, it stays."""
    for path in shared.glob(f"{PREFIX}*"):
        # Another start may be at it, too.
        with suppress(OSError, ValueError, TypeError, RecursionError):
            about = path.lstat()
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid():
                maker = Maker(**json.loads((path / "maker.json").read_bytes()))
                if maker.is_gone():
                    shutil.rmtree(path)


def _jobs(number: str) -> list[str]:
    """The user's jobs that wait or run; where SLURM does not say, the one that is asked for."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["squeue", "--me", "--noheader", "--format=%A"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
        ).stdout.split()
    return [number]
