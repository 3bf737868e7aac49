"""The executor of a call: a cluster that exists, a local one made for the call, or this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cwt_dask.config.execution import Execution
from cwt_dask.config.validation import counted
from cwt_dask.cwt.buffers import forget
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.runtime.clusters.environment import cores, dashboard
from cwt_dask.runtime.clusters.ranks import is_step
from cwt_dask.runtime.clusters.script import refuse_no_process
from cwt_dask.runtime.executors import Executor, InProcess, OnDask, ask_workers
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from distributed import Client

# For how long nothing may go on before a run ends: with workers that are there, or that nobody else starts; without any
# where others may start some, by hand or as a site scales its clusters; and where they wait in a queue.
STALL_SECONDS = 300.0
OTHERS_SECONDS = 3600.0
QUEUE_SECONDS = 86400.0


class Work(Protocol):
    """What is to be done, by tiles."""

    @property
    def grid(self) -> AnyGrid:
        """The tiles."""

    @property
    def worker_memory(self) -> int:
        """Largest memory a worker needs, in bytes."""

    @property
    def deadline(self) -> float:
        """Seconds that a task of a tile may take before it is late."""


@dataclass(frozen=True)
class Workers:
    """Where tasks are carried out."""

    client: Client | None  # A cluster to run on; None where there is none yet.
    execution: Execution  # Workers and limits.

    def refuse_early(self, *, several: bool) -> None:
        """Raise InputError if workers of this machine cannot start, and `several` tiles will need some."""
        if several and self.client is None and self.execution.workers != 0:
            refuse_no_process()

    @contextmanager
    def open(self, work: Work, progress: Reporter, stop: Stop) -> Iterator[Executor]:
        """Give what carries out tasks, for the length of a `with` block.

        Parameters
        ----------
        work : Work
            Tiles, and what one takes.
        progress : Reporter
            Receives messages about the workers.
        stop : Stop
            Asked whether the run is to end.

        Raises
        ------
        InputError
            If workers of this machine cannot start, or none of those that are there has the memory that a tile needs,
            or the resources that `dask.annotate` asks for.
        """
        client, execution = self.client, self.execution
        watchdog = Watchdog(*self._patience())
        if client is not None:
            progress.message(_workers(client, execution) + dashboard(client))
            executor = OnDask(
                client,
                stop,
                deadline=work.deadline,
                expected=execution.workers or 1,
                watchdog=watchdog,
                need=work.worker_memory,
                report=progress.message,
            )
            executor.refuse_workers()
            try:
                yield executor
            finally:
                # These workers live on; one that hangs, or a scheduler that was lost, must not hide what ended the run.
                with suppress(OSError, ValueError):
                    ask_workers(client, forget)
        elif work.grid.n_tiles == 1 or execution.workers == 0:
            yield InProcess(stop)
        else:
            from cwt_dask.runtime.clusters.local import local_client  # noqa: PLC0415 - with Dask, which others do without

            # More would have nothing to do.
            workers = min(execution.workers or cores(), work.grid.n_tiles)
            with local_client(workers, execution.memory_limit, **execution.cluster.options) as local:
                executor = OnDask(local, stop, deadline=work.deadline, watchdog=watchdog, report=progress.message)
                executor.refuse_workers()
                progress.message(f"{counted(workers, 'worker')}{dashboard(local)}")
                yield executor

    def _patience(self) -> tuple[float, float]:
        """Seconds for which nothing may go on, and those for which no worker may be there."""
        given, kind = self.execution.stall_timeout, self.execution.cluster.kind
        if given is not None:
            return given, given
        if self.client is None or kind == "mpi" or (kind == "slurm" and is_step()):
            return STALL_SECONDS, STALL_SECONDS
        return STALL_SECONDS, QUEUE_SECONDS if kind in ("slurm", "kubernetes") else OTHERS_SECONDS


def _workers(client: Client, execution: Execution) -> str:
    """How many workers there are, or may be: those of batch systems come one by one."""
    there = len(client.nthreads())
    if there or not execution.workers:
        return f"{counted(there, 'worker')} so far"
    return f"up to {counted(execution.workers, 'worker')}, as the batch system starts them"
