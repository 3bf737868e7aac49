"""What a process knows of the others that MPI, or `srun`, has started with it, before MPI, or Dask, is loaded."""

from __future__ import annotations

import os
import signal
import sys
import time

# Processes of one call take different times to load their libraries.
PATIENCE_SECONDS = 60


def n_started() -> int:
    """Number of processes that MPI has started with this one, by the variables of Open MPI and others."""
    named = next((os.environ[name] for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE") if name in os.environ), "")
    return int(named) if named.isdecimal() else 1


def is_step() -> bool:
    """Whether `srun` has started this process as one of several."""
    return "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def wait_for_the_first() -> None:
    """Keep all processes but the first from printing the same error, before MPI is initialized.

    `mpirun` ends the others when the first one ends: one that is still there after a while has an error of its own.
    """
    if "mpi4py.MPI" not in sys.modules and os.environ.get("OMPI_COMM_WORLD_RANK", "0") != "0":
        # mpirun's signal has nothing to interrupt any more.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(PATIENCE_SECONDS)
