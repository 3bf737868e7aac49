"""Processes that `mpirun` has started: the scheduler, the driver, and workers."""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import dask

from cwt_dask.clusters.address import own_client
from cwt_dask.clusters.environment import DASHBOARD_ADDRESS, NANNY_SETTINGS, be_quiet
from cwt_dask.clusters.extras import load, options_of
from cwt_dask.clusters.tls import as_configuration, security
from cwt_dask.errors import InputError
from cwt_dask.stop import SIGNALS

if TYPE_CHECKING:
    from cwt_dask.clusters import Connect
    from cwt_dask.execution import Execution

SCHEDULER, DRIVER = NO_WORKERS = 0, 1


def join(execution: Execution) -> Connect:
    """Scheduler, driver, or worker, by the rank of this process; only the driver comes back.

    Raises
    ------
    InputError
        If dask-mpi is missing, or there are too few processes.
    SettingsError
        If dask-mpi does not take its options.
    """
    dask_mpi = load("dask_mpi", "mpi")
    world = load("mpi4py.MPI", "mpi").COMM_WORLD
    if world.Get_size() <= len(NO_WORKERS):
        raise InputError(
            f"cluster is mpi, and there are {world.Get_size()} processes: start at least 3, "
            "for the scheduler, the driver and a worker, such as mpirun -n 4 cwt-dask run ..."
        )
    # The certificate is made by one, and goes to the others by MPI.
    certificate = world.bcast(as_configuration(security()) if world.Get_rank() == SCHEDULER else None)
    dask.config.set(NANNY_SETTINGS | certificate)
    ours = {
        "nthreads": 1,
        "memory_limit": execution.memory_limit,
        "protocol": "tls",
        "dashboard_address": DASHBOARD_ADDRESS,
        "worker_class": "distributed.Nanny",
        "worker_options": {"dashboard_address": DASHBOARD_ADDRESS},
    }
    if world.Get_rank() != DRIVER:
        be_quiet()
        # It is the driver's to decide what becomes of a signal that all processes get.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    with options_of("dask_mpi.initialize"):
        is_driver = dask_mpi.initialize(**{**ours, **execution.cluster.options}, comm=world, exit=False)
    if not is_driver:
        sys.exit()
    return partial(own_client, world.Get_size() - len(NO_WORKERS), address=dask.config.get("scheduler_address"))
