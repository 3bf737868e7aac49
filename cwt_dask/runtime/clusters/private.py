"""Directories next to RUN_DIR that hold the certificate of a cluster: for the user alone, removed with the run."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cwt_dask.runtime.clusters.queue import jobs_in_queue
from cwt_dask.storage.drafts import is_gone, this_process
from cwt_dask.storage.paths import write_atomically

PREFIX = ".cwt-dask-"
# A start of a run waits for this; without an answer the directory stays, for a later start.
LOOKUP_SECONDS = 20


@dataclass(frozen=True)
class Maker:
    """The process that has made such a directory."""

    process: str  # As of `this_process`.
    # Of SLURM; empty outside of a job.
    cluster: str
    job: str

    @classmethod
    def this(cls) -> Maker:
        """The calling process."""
        cluster, job = (os.environ.get(f"SLURM_{name}", "") for name in ("CLUSTER_NAME", "JOB_ID"))
        return cls(this_process(), cluster, job)

    def is_gone(self) -> bool:
        """Whether it is known to have ended: by this machine, or because SLURM no longer has its job."""
        gone = is_gone(self.process)
        if gone is not None:
            return gone
        # Another cluster that shares the files has jobs of the same numbers.
        same = self.job and self.cluster == Maker.this().cluster != ""
        known = jobs_in_queue(LOOKUP_SECONDS) if same else None
        return known is not None and self.job not in known


@contextmanager
def private_directory(shared: Path) -> Iterator[Path]:
    """A directory of a name of its own for the length of a `with` block."""
    shared.mkdir(parents=True, exist_ok=True)
    remove_dead(shared)
    with TemporaryDirectory(prefix=PREFIX, dir=shared) as private:
        sign(Path(private))
        yield Path(private)


def sign(private: Path) -> None:
    """Record which process has made a directory."""
    write_atomically(private / "maker.json", json.dumps(asdict(Maker.this())).encode())


def remove_dead(shared: Path) -> None:
    """Remove directories of this user's runs that were killed; those of which this is not known stay."""
    for path in shared.glob(f"{PREFIX}*"):
        # Another start may remove it at the same time.
        with suppress(OSError, ValueError, TypeError, RecursionError):
            about = path.lstat()
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid():
                maker = Maker(**json.loads((path / "maker.json").read_bytes()))
                if maker.is_gone():
                    shutil.rmtree(path)
