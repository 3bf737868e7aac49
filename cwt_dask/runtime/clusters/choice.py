"""The cluster of a run, chosen by its kind."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cwt_dask.config.execution import Execution
from cwt_dask.runtime.clusters.extras import Connect
from cwt_dask.runtime.clusters.ranks import n_started
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop

# Kinds that ignore the option `workers`, and what they take instead.
_WORKERS_OF = {"address": "all workers of the scheduler", "mpi": "all processes of mpirun but two"}


def prepare_cluster(
    execution: Execution, run_dir: Path, progress: Reporter | None = None, stop: Stop | None = None
) -> Connect | None:
    """Check what can be checked before the cluster is there, and return how to connect to it.

    Of processes that `mpirun` or `srun` has started together only the driver returns: the others are scheduler and
    workers, and exit with the run.

    Parameters
    ----------
    execution : Execution
        Kind of cluster, and limits of its workers.
    run_dir : Path
        Files that processes of the cluster share are written next to it.
    progress : Reporter, optional
        Receives warnings, and messages about waiting.
    stop : Stop, optional
        Receives an error of the cluster that ends the run.

    Returns
    -------
    callable or None
        Makes a context manager with a client; None for workers of this machine, which start once tiles are known.

    Raises
    ------
    InputError
        If this kind of cluster is not available here.
    SettingsError
        If its options are wrong.
    """
    kind, progress = execution.cluster.kind, progress or Reporter()
    if kind == "local" and (n_processes := n_started()) > 1:
        # No refusal: each may have a run of its own.
        progress.message(
            f"warning: MPI has started {n_processes} processes, each of which is a run by itself, and only one can use "
            "RUN_DIR: for one run of all of them give --cluster mpi"
        )
    if execution.workers and kind in _WORKERS_OF:
        progress.message(f"warning: workers is {execution.workers}, which is ignored: workers are {_WORKERS_OF[kind]}")
    # Each is imported for its kind only: a run in this process does without Dask.
    if kind == "slurm":
        from cwt_dask.runtime.clusters.slurm import prepare_slurm  # noqa: PLC0415

        return prepare_slurm(execution, run_dir, progress, stop or Stop())
    if kind == "mpi":
        from cwt_dask.runtime.clusters.mpi import prepare_rank  # noqa: PLC0415

        return prepare_rank(execution, progress)
    if kind == "kubernetes":
        from cwt_dask.runtime.clusters.kubernetes import prepare_pods  # noqa: PLC0415

        return prepare_pods(execution, progress)
    if kind == "address":
        from cwt_dask.runtime.clusters.address import existing_client  # noqa: PLC0415

        return partial(existing_client, execution.scheduler, execution.scheduler_file, **execution.cluster.options)
    return None
