"""Settings of worker processes before they start, on every kind of cluster."""

from __future__ import annotations

import logging
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cwt_dask.runtime.signals import ignore_signals

if TYPE_CHECKING:
    import distributed

# Workers run one compute thread each; libraries read these when they are imported.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "BLOSC_NTHREADS": "1",
    "ZARR_THREADING__MAX_WORKERS": "1",
    # Dask has workers give memory back to the system at once: to get it again for every block of rows takes a fifth of
    # their time. One arena, so that threads which take turns do not hoard.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**25),
    # Dask logs every worker that comes or goes; a run reports its tiles.
    "DASK_LOGGING__DISTRIBUTED": "warning",
}
# Of all of Dask's processes that are started for a run.
OUR_SETTINGS = {
    # Only what is set before a process starts reaches its allocator and the libraries that it imports first.
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    # It samples the worker a hundred times a second, for a page of the dashboard.
    "distributed.worker.profile.enabled": False,
    # Workers hold no results, and keep their arrays from tile to tile: above such a share of its memory a worker would
    # wait for ever to have less, with its tasks. One that takes too much is restarted by its nanny: if it is more than
    # all of its limit, so that what a plan asks for is enough.
    **{f"distributed.worker.memory.{deed}": False for deed in ("target", "spill", "pause")},
    "distributed.worker.memory.terminate": 1.0,
    # A site has its own workers end now and then; a run's end with it, or as its batch system would have it.
    "distributed.worker.lifetime.duration": None,
    "distributed.worker.preload": ["cwt_dask.worker"],
    "distributed.dashboard.link": "http://127.0.0.1:{port}/status",
    # A scheduler is idle while results are merged, and tasks wait for a batch system for as long as that takes.
    "distributed.scheduler.idle-timeout": None,
    "distributed.scheduler.no-workers-timeout": None,
}
# Only on the machine itself, at any port: a dashboard shows what is computed.
DASHBOARD_ADDRESS = "127.0.0.1:0"
# Batch systems kill a job or pod that takes more memory than it asks for, before Dask's nanny can do anything about it.
# This many times the limit of its workers is asked for.
MEMORY_OF_A_JOB = 1.2


@contextmanager
def own_environment() -> Iterator[None]:
    """Give this process its environment back at the end of a `with` block: nannies set that of their workers here."""
    import dask  # noqa: PLC0415 - see setting_of_dask

    names = *dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED", "__DASK_PARENT_PID"
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def follow_the_driver() -> None:
    """In a process that is scheduler or worker: ignore signals, which the driver handles, and log warnings only."""
    ignore_signals()
    logging.getLogger("distributed").setLevel(logging.WARNING)


def allow_open_files() -> None:
    """Have the system allow this process as many open files as it may: with each worker of its own it has nine."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems say that there is no limit, and allow no such number.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def dashboard(client: distributed.Client) -> str:
    """Address of the dashboard, as the end of a sentence; empty where the scheduler has none."""
    link = urlsplit(client.dashboard_link)
    if not link.port:
        return ""
    try:
        socket.create_connection((link.hostname, link.port), timeout=1).close()
    except OSError:
        # It listens where it should, on its own machine only.
        return f", dashboard on the scheduler's machine at http://127.0.0.1:{link.port}/status"
    return f", dashboard at {client.dashboard_link}"


def setting_of_dask() -> tuple[str, str]:
    """Name and value of the environment variable that gives these settings to workers of batch systems and pods."""
    import dask  # noqa: PLC0415 - a run in this process does without

    return "DASK_INTERNAL_INHERIT_CONFIG", str(dask.config.serialize(OUR_SETTINGS))
