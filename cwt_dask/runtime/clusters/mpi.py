"""Processes that `mpirun` has started: the scheduler, the driver, and workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

import dask

from cwt_dask.config.execution import Execution
from cwt_dask.errors import InputError
from cwt_dask.runtime.clusters.address import OWN_SECONDS, own_client
from cwt_dask.runtime.clusters.environment import DASHBOARD_ADDRESS, OUR_SETTINGS, follow_the_driver
from cwt_dask.runtime.clusters.extras import Connect, load, options_of
from cwt_dask.runtime.clusters.scratch import private_scratch
from cwt_dask.runtime.clusters.tls import as_configuration, security
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.terminal import visible

if TYPE_CHECKING:
    import distributed

SCHEDULER, DRIVER = NO_WORKERS = 0, 1


def prepare_rank(execution: Execution, progress: Reporter) -> Connect:
    """Be scheduler, driver, or worker, by the rank of this process; only the driver returns."""
    dask_mpi = load("dask_mpi", "mpi")
    world = load("mpi4py.MPI", "mpi").COMM_WORLD
    n_workers = world.Get_size() - len(NO_WORKERS)
    with _together(world) if world.Get_size() > 1 else nullcontext():
        # All ranks find this: one message is enough.
        if n_workers < 1 and world.Get_rank() == SCHEDULER:
            raise InputError(
                f"cluster is mpi, and the number of processes is {world.Get_size()}: start at least 3, "
                "for the scheduler, the driver and a worker, such as mpirun -n 4 cwt-dask run ..."
            )
        is_driver = _take_role(dask_mpi, world, execution)
    if not is_driver:
        sys.exit()
    return partial(_driver, world, n_workers, dask.config.get("scheduler_address"), progress)


def _take_role(dask_mpi: Any, world: Any, execution: Execution) -> bool:
    """Be scheduler or worker until the cluster ends, and return False; as the driver, return True at once."""
    # The certificate is made by one, and goes to the others by MPI.
    certificate = world.bcast(as_configuration(security()) if world.Get_rank() == SCHEDULER else None)
    dask.config.set(OUR_SETTINGS | certificate)
    ours = {
        "nthreads": 1,
        "memory_limit": execution.memory_limit,
        "protocol": "tls",
        "dashboard_address": DASHBOARD_ADDRESS,
        "worker_class": "distributed.Nanny",
        "worker_options": {"dashboard_address": DASHBOARD_ADDRESS, "death_timeout": OWN_SECONDS},
    }
    if world.Get_rank() != DRIVER:
        follow_the_driver()
    options = {**ours, **execution.cluster.options}
    with private_scratch(options.pop("local_directory", None)), options_of("dask_mpi.initialize") as accepted:
        return bool(dask_mpi.initialize(**options, comm=_Comm(world, accepted), exit=False))


class _Comm:
    """MPI's communicator, which sets an event when the scheduler has started: all ranks meet then."""

    def __init__(self, world: Any, started: Event) -> None:
        self._world = world
        self._started = started

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def Barrier(self) -> None:  # noqa: N802 - MPI's name
        self._world.Barrier()
        if self._world.Get_rank() == SCHEDULER:
            self._started.set()


@contextmanager
def _driver(world: Any, n_workers: int, address: str, progress: Reporter) -> Iterator[distributed.Client]:
    with ExitStack() as stack:
        with _together(world):
            client = stack.enter_context(own_client(n_workers, address, progress.message))
        yield client


@contextmanager
def _together(world: Any) -> Iterator[None]:
    """End all ranks where one has an error: they would wait for each other for ever."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - any error
        sys.stderr.write(visible(f"cwt-dask: {' '.join(str(error).split())}\n"))
        sys.stderr.flush()
        world.Abort(getattr(error, "exit_status", 1))
