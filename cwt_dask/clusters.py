"""Clients of Dask clusters: one for the call on this machine, or one that exists."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import distributed

from cwt_dask.errors import InputError
from cwt_dask.places import exists

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10
# Batch systems take their time to start the first worker.
WORKER_SECONDS = 60

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
}
NANNY_SETTINGS = {
    # Only what is set before a process starts reaches its allocator and the libraries that it imports first.
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    # It looks what the worker does a hundred times a second, for a page of the dashboard.
    "distributed.worker.profile.enabled": False,
    "distributed.worker.preload": ["cwt_dask.worker"],
}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def dashboard(client: distributed.Client) -> str:
    """Where to see the cluster at work, as the end of a sentence; nothing without Bokeh, which draws it."""
    return f", dashboard at {client.dashboard_link}" if find_spec("bokeh") else ""


@contextmanager
def local_client(workers: int, memory_limit: int) -> Iterator[distributed.Client]:
    """A cluster of worker processes on this machine for the length of a `with` block.

    A scheduler executes whatever it is sent, so even this one listens on the loopback interface only and speaks TLS
    with a certificate made for the call.
    """
    with (
        dask.config.set(NANNY_SETTINGS),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            host="127.0.0.1",
            protocol="tls",
            security=distributed.Security.temporary(),
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def existing_client(address: str | None, scheduler_file: str | None) -> Iterator[distributed.Client]:
    """A client of a scheduler that runs already, given its address or a file that holds it.

    Raises
    ------
    InputError
        If nothing answers there, or no worker comes.
    """
    where = f"scheduler {address}" if address else f"the scheduler of file {scheduler_file}"
    if scheduler_file and not exists(Path(scheduler_file)):
        # distributed would wait for the file for ever.
        raise InputError(f"cannot reach {where}: there is no such file")
    if address and "://" in address and address.partition("://")[0] not in distributed.comm.registry.backends:
        raise InputError(f"cannot reach {where}: it must look like tls://host:8786 or tcp://host:8786")
    try:
        client = distributed.Client(
            address, scheduler_file=scheduler_file, timeout=CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot reach {where} ({error}): is it running, and is the address right?") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise InputError(f"{where} has no workers after {WORKER_SECONDS} s: start some first") from error
        yield client
