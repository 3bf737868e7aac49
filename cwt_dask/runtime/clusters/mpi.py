"""Processes that `mpirun` has started: the scheduler, the driver, and workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import dask

from cwt_dask.errors import InputError
from cwt_dask.runtime.clusters.address import OWN_SECONDS, own_client
from cwt_dask.runtime.clusters.environment import DASHBOARD_ADDRESS, NANNY_SETTINGS, be_quiet
from cwt_dask.runtime.clusters.extras import load, options_of
from cwt_dask.runtime.clusters.tls import as_configuration, security
from cwt_dask.runtime.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    import distributed

    from cwt_dask.config.execution import Execution
    from cwt_dask.runtime.clusters.extras import Connect

SCHEDULER, DRIVER = NO_WORKERS = 0, 1
# Processes of one call load their libraries at unlike speeds.
PATIENCE_SECONDS = 60


def join(execution: Execution) -> Connect:
    """Scheduler, driver, or worker, by the rank of this process; only the driver comes back.

    Raises
    ------
    InputError
        If dask-mpi is missing, or there are too few processes.
    """
    dask_mpi = load("dask_mpi", "mpi")
    world = load("mpi4py.MPI", "mpi").COMM_WORLD
    n_workers = world.Get_size() - len(NO_WORKERS)
    with _together(world) if world.Get_size() > 1 else nullcontext():
        # All would say so: one is enough.
        if n_workers < 1 and world.Get_rank() == SCHEDULER:
            raise InputError(
                f"cluster is mpi, and the number of processes is {world.Get_size()}: start at least 3, "
                "for the scheduler, the driver and a worker, such as mpirun -n 4 cwt-dask run ..."
            )
        is_driver = _take_part(dask_mpi, world, execution)
    if not is_driver:
        sys.exit()
    return partial(_driver, world, n_workers, dask.config.get("scheduler_address"))


def n_started() -> int:
    """How many processes MPI has started together with this one, as Open MPI and others name it."""
    named = next((os.environ[name] for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE") if name in os.environ), "")
    return int(named) if named.isdecimal() else 1


def wait_for_the_first() -> None:
    """Before MPI has begun, all processes would say the same: `mpirun` ends the others when the first one ends.

    One that is still there then has something of its own to say.
    """
    if "mpi4py.MPI" not in sys.modules and os.environ.get("OMPI_COMM_WORLD_RANK", "0") != "0":
        # And mpirun's signal that ends it has nothing to interrupt any more.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(PATIENCE_SECONDS)


def _take_part(dask_mpi: Any, world: Any, execution: Execution) -> bool:
    """Be what falls to this rank for as long as it lasts; whether that is the driver, who only begins."""
    # The certificate is made by one, and goes to the others by MPI.
    certificate = world.bcast(as_configuration(security()) if world.Get_rank() == SCHEDULER else None)
    dask.config.set(NANNY_SETTINGS | certificate)
    ours = {
        "nthreads": 1,
        "memory_limit": execution.memory_limit,
        "protocol": "tls",
        "dashboard_address": DASHBOARD_ADDRESS,
        "worker_class": "distributed.Nanny",
        "worker_options": {"dashboard_address": DASHBOARD_ADDRESS, "death_timeout": OWN_SECONDS},
    }
    if world.Get_rank() != DRIVER:
        be_quiet()
        # It is the driver's to decide what becomes of a signal that all processes get.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    with options_of("dask_mpi.initialize") as taken:
        comm = _Comm(world, taken)
        return bool(dask_mpi.initialize(**{**ours, **execution.cluster.options}, comm=comm, exit=False))


class _Comm:
    """MPI's, which notices when the scheduler has begun: all meet then."""

    def __init__(self, world: Any, begun: Event) -> None:
        self._world = world
        self._begun = begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def Barrier(self) -> None:  # noqa: N802 - MPI's name
        self._world.Barrier()
        if self._world.Get_rank() == SCHEDULER:
            self._begun.set()


@contextmanager
def _driver(world: Any, n_workers: int, address: str) -> Iterator[distributed.Client]:
    with ExitStack() as stack:
        with _together(world):
            client = stack.enter_context(own_client(n_workers, address=address))
        yield client


@contextmanager
def _together(world: Any) -> Iterator[None]:
    """End all ranks where one cannot begin: they would wait for each other for ever."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        sys.stderr.write(f"cwt-dask: {' '.join(str(error).split())}\n")
        sys.stderr.flush()
        world.Abort(getattr(error, "exit_status", 1))
