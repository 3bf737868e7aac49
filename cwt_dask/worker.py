"""What a worker process does when it starts; Dask imports this there (`clusters/environment.py`)."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

# It takes a second: while the process starts, not while the first tile waits.
import cwt_dask.tiles.task  # noqa: F401
from cwt_dask.runtime.signals import ignore_signals
from cwt_dask.runtime.terminal import VisibleStream


def dask_setup(worker: Any) -> None:  # noqa: ARG001 - as Dask calls it
    """Leave signals to the driver, and standard output, too: terminals and batch systems connect workers with both.

    Dask's nanny sends SIGTERM to a worker that takes too much memory, and kills it when that does not help.
    """
    if threading.current_thread() is threading.main_thread():
        ignore_signals()
        # Also for what libraries print that know nothing of Python.
        os.dup2(2, 1)
        # Workers log what goes wrong, with names of files.
        sys.stderr = sys.stdout = VisibleStream(open(2, "wb", closefd=False), "utf-8")  # noqa: SIM115
