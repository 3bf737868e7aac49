"""Tasks that one `srun` has started in an allocation of SLURM: the scheduler, the driver, and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
from distributed.utils import json_load_robust

from cwt_dask.atomic import write_atomically
from cwt_dask.clusters.address import own_client
from cwt_dask.clusters.environment import DASHBOARD_ADDRESS, NANNY_SETTINGS, be_quiet
from cwt_dask.clusters.extras import options_of
from cwt_dask.clusters.tls import as_configuration, security
from cwt_dask.errors import InputError
from cwt_dask.stop import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import distributed

    from cwt_dask.clusters import Connect
    from cwt_dask.execution import Execution

SCHEDULER, DRIVER = NO_WORKERS = 0, 1
# Tasks of a step start within seconds of each other; where files are shared, these are seen a little later.
SHARED_SECONDS = 120.0


def is_step() -> bool:
    """Whether `srun` has started this process as one of several."""
    return "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def join(jobqueue: Any, execution: Execution, shared: Path) -> Connect:
    """Scheduler, driver, or worker, by the number of this task; only the driver comes back.

    Raises
    ------
    InputError
        If there are too few tasks, or they share no files.
    SettingsError
        If dask-jobqueue does not take its options.
    """
    if int(os.environ["SLURM_NTASKS"]) <= len(NO_WORKERS):
        raise InputError(
            "cluster is slurm, and srun has started 2 tasks: start at least 3, for the scheduler, the driver and a "
            "worker, such as srun --ntasks 4 cwt-dask run ..."
        )
    task, rendezvous = int(os.environ["SLURM_PROCID"]), _rendezvous(shared)
    dask.config.set(NANNY_SETTINGS | _certificate(rendezvous, make=task == SCHEDULER))
    if task != DRIVER:
        be_quiet()
        # It is the driver's to decide what becomes of a signal that all tasks get; by SIGINT the runner ends itself.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, lambda *_: sys.exit())
    options = dict(execution.cluster.options)
    hidden = {"dashboard_address": DASHBOARD_ADDRESS}
    workers = hidden | {"nthreads": 1, "memory_limit": execution.memory_limit} | options.pop("worker_options", {})
    schedulers = hidden | {"protocol": "tls"} | options.pop("scheduler_options", {})
    ours = {"scheduler_file": str(rendezvous / "scheduler.json"), "worker_class": "distributed.Nanny"}
    with options_of("SLURMRunner"):
        # Tasks that are no driver end here.
        _runner(jobqueue.SLURMRunner)(**(ours | options), worker_options=workers, scheduler_options=schedulers)
    return partial(_driver, rendezvous)


@contextmanager
def _driver(rendezvous: Path) -> Iterator[distributed.Client]:
    try:
        n_workers = int(os.environ["SLURM_NTASKS"]) - len(NO_WORKERS)
        with own_client(n_workers, scheduler_file=str(rendezvous / "scheduler.json")) as client:
            yield client
    finally:
        shutil.rmtree(rendezvous, ignore_errors=True)


def _runner(kind: Any) -> Any:
    """dask-jobqueue's runner, whose driver leaves it to its client to speak to the scheduler: that speaks TLS."""

    class Runner(kind):  # type: ignore[misc]
        async def get_scheduler_address(self) -> Any:
            # A file that is being written is no JSON yet.
            return json_load_robust(self.scheduler_file)["address"]

        async def before_client_start(self) -> None:
            self.scheduler_comm = None

    return Runner


def _rendezvous(shared: Path) -> Path:
    """Where the tasks of this step meet: of this step alone, also when its job is requeued."""
    variables = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return shared / f".cwt-dask-{'.'.join(os.environ.get(name, '0') for name in variables)}"


def _certificate(rendezvous: Path, *, make: bool) -> dict[str, Any]:
    """Dask's settings with the certificate of this step, made by one task for all."""
    file = rendezvous / "certificate.json"
    if make:
        # Nobody else may read what is in here.
        rendezvous.mkdir(mode=0o700)
        write_atomically(file, json.dumps(as_configuration(security())).encode())
    patience = time.monotonic() + SHARED_SECONDS
    while not file.exists():
        if time.monotonic() > patience:
            raise InputError(f"{file} does not appear, which one task makes for all: do they share that directory?")
        time.sleep(0.1)
    settings: dict[str, Any] = json.loads(file.read_bytes())
    return settings
