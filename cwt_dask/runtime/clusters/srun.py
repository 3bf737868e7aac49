"""Tasks that one `srun` has started in an allocation of SLURM: the scheduler, the driver, and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import dask
from distributed.diagnostics.plugin import SchedulerPlugin

from cwt_dask.config.execution import Execution
from cwt_dask.errors import InputError
from cwt_dask.runtime.clusters.address import address_in, own_client
from cwt_dask.runtime.clusters.environment import DASHBOARD_ADDRESS, OUR_SETTINGS, follow_the_driver
from cwt_dask.runtime.clusters.extras import Connect, load, options_of
from cwt_dask.runtime.clusters.private import PREFIX, remove_dead, sign
from cwt_dask.runtime.clusters.scratch import private_scratch
from cwt_dask.runtime.clusters.tls import as_configuration, only_certificates, security
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import ignore_signals
from cwt_dask.storage.paths import write_atomically

if TYPE_CHECKING:
    import distributed

SCHEDULER, DRIVER = NO_WORKERS = 0, 1
# Tasks of a step start within seconds of each other; on a shared file system, files are seen a little later.
SHARED_SECONDS = 120.0


def prepare_task(execution: Execution, shared: Path, progress: Reporter) -> Connect:
    """Be scheduler, driver, or worker, by the number of this task; only the driver returns.

    Parameters
    ----------
    execution : Execution
        Options of the cluster, and limits of its workers.
    shared : Path
        A directory that all tasks see.
    progress : Reporter
        Receives messages about waiting.
    """
    n_workers = int(os.environ["SLURM_NTASKS"]) - len(NO_WORKERS)
    if n_workers < 1:
        raise InputError(
            "cluster is slurm, and srun has started 2 tasks: start at least 3, for the scheduler, the driver and a "
            "worker, such as srun --ntasks 4 cwt-dask run ..."
        )
    task, rendezvous = int(os.environ["SLURM_PROCID"]), _rendezvous(shared)
    if task == DRIVER:
        # It connects to the others once it handles signals.
        return partial(_driver, rendezvous, n_workers, progress)
    follow_the_driver()
    # The runner ends itself by SIGINT.
    signal.signal(signal.SIGINT, _leave)
    if task == SCHEDULER:
        _make_certificate(rendezvous)
    dask.config.set(OUR_SETTINGS | _certificate(rendezvous))
    options = dict(execution.cluster.options)
    hidden = {"dashboard_address": DASHBOARD_ADDRESS}
    workers: dict[str, Any] = {"nthreads": 1, "memory_limit": execution.memory_limit, "death_timeout": SHARED_SECONDS}
    # The runner formats the name, with the job's number.
    file = str(rendezvous / "scheduler.json").replace("{", "{{").replace("}", "}}")
    workers |= hidden | options.pop("worker_options", {})
    with private_scratch(workers.pop("local_directory", None)), options_of("SLURMRunner") as accepted:
        # It ends the process when the cluster ends.
        _careful(load("dask_jobqueue.slurm", "slurm").SLURMRunner, accepted)(
            worker_options=workers,
            scheduler_options=hidden | {"protocol": "tls"} | options.pop("scheduler_options", {}),
            **{"scheduler_file": file, "worker_class": "distributed.Nanny"} | options,
        )
    sys.exit()


def _leave(*_: object) -> None:
    # One more would break into what Python does at its end.
    ignore_signals()
    sys.exit()


@contextmanager
def _driver(rendezvous: Path, n_workers: int, progress: Reporter) -> Iterator[distributed.Client]:
    try:
        with dask.config.set(OUR_SETTINGS | _certificate(rendezvous)):
            file = rendezvous / "scheduler.json"
            _await(file)
            with own_client(n_workers, address_in(str(file)), progress.message) as client:
                yield client
    finally:
        shutil.rmtree(rendezvous, ignore_errors=True)


class EndsWithItsDriver(SchedulerPlugin):  # type: ignore[misc]
    """A driver that is killed leaves no processes that hold the allocation."""

    name = "ends-with-its-driver"

    def remove_client(self, scheduler: Any, client: str) -> None:
        """End the cluster when a client has left: there is one only."""
        if not client.startswith("fire-and-forget"):
            scheduler.loop.add_callback(scheduler.close)


def _careful(kind: Any, accepted: Event) -> Any:
    """dask-jobqueue's runner, with a scheduler that ends with the driver; sets the event when it has started."""

    class Runner(kind):  # type: ignore[misc]
        async def on_scheduler_start(self, scheduler: Any) -> None:
            accepted.set()
            scheduler.add_plugin(EndsWithItsDriver())

        async def on_worker_start(self, _: Any) -> None:
            accepted.set()

    return Runner


def _rendezvous(shared: Path) -> Path:
    """Directory in which the tasks of this step meet: of this step alone, also when its job is requeued."""
    variables = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return shared / f"{PREFIX}{'.'.join(os.environ.get(name, '0') for name in variables)}"


def _make_certificate(rendezvous: Path) -> None:
    """Make the certificate of this step, for all its tasks; only this user may read it."""
    rendezvous.parent.mkdir(parents=True, exist_ok=True)
    remove_dead(rendezvous.parent)
    # From a job of that number that was killed.
    shutil.rmtree(rendezvous, ignore_errors=True)
    rendezvous.mkdir(mode=0o700)
    sign(rendezvous)
    write_atomically(rendezvous / "certificate.json", json.dumps(as_configuration(security())).encode())


def _certificate(rendezvous: Path) -> dict[str, Any]:
    """Dask's settings with the certificate of this step."""
    file = rendezvous / "certificate.json"
    _await(file)
    about = rendezvous.lstat()
    if not (stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and stat.S_IMODE(about.st_mode) == 0o700):
        raise InputError(f"{rendezvous} belongs to another user, or others can read it: remove it")
    return only_certificates(json.loads(file.read_bytes()))


def _await(file: Path) -> None:
    patience = time.monotonic() + SHARED_SECONDS
    while not file.exists():
        if time.monotonic() > patience:
            raise InputError(f"{file}, which one task writes for all, does not appear: do they share that directory?")
        time.sleep(0.1)
