"""Clients of Dask clusters of every kind: what a run needs to know of a cluster is its client."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cwt_dask.runtime.clusters import kubernetes, mpi, slurm
from cwt_dask.runtime.clusters.address import existing_client
from cwt_dask.runtime.clusters.local import local_client
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop

if TYPE_CHECKING:
    from pathlib import Path

    from cwt_dask.config.execution import Execution
    from cwt_dask.runtime.clusters.extras import Connect

# Who decides how many there are, where it is not the user's to say by `workers`.
_WORKERS_OF = {
    "address": "the scheduler's workers are taken as they are",
    "mpi": "all processes that mpirun has started but two are workers",
}

__all__ = ["existing_client", "join", "local_client"]


def join(
    execution: Execution, run_dir: Path, progress: Reporter | None = None, stop: Stop | None = None
) -> Connect | None:
    """Take the part that falls to this process, and say how to reach the cluster.

    Where many processes were started together, by `mpirun` or `srun`, all but the one that drives the run stay here for
    as long as it lasts, as scheduler and workers, and then exit.

    Parameters
    ----------
    execution : Execution
        Which cluster, and what its workers may take.
    run_dir : Path
        Files that the cluster's processes share stand beside it.
    progress : Reporter, optional
        Where to tell what the cluster waits for.
    stop : Stop, optional
        Is told what ends the run from beside it.

    Returns
    -------
    callable or None
        Makes a context manager with a client; None where workers of this machine are started once tiles are known.

    Raises
    ------
    InputError
        If this kind of cluster cannot be had here.
    """
    kind = execution.cluster.kind
    if progress and kind == "local" and (n_started := mpi.n_started()) > 1:
        # No refusal: each may have a run of its own.
        progress.message(
            f"warning: MPI has started {n_started} processes, and each is a run by itself, of which RUN_DIR takes one: "
            "for one run of all of them give --cluster mpi"
        )
    if progress and execution.workers and kind in _WORKERS_OF:
        progress.message(f"warning: workers is {execution.workers}, which has no part in it: {_WORKERS_OF[kind]}")
    if kind == "slurm":
        return slurm.join(execution, run_dir, progress or Reporter(), stop or Stop())
    if kind == "mpi":
        return mpi.join(execution)
    if kind == "kubernetes":
        return kubernetes.join(execution)
    if kind == "address":
        return partial(existing_client, execution.scheduler, execution.scheduler_file, **execution.cluster.options)
    return None
