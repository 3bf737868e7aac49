"""What a worker process does when it starts; Dask imports this there (`clusters/environment.py`)."""

from __future__ import annotations

import signal
import threading
from typing import Any

# It takes a second: while the process starts, not while the first tile waits.
from cwt_dask.runtime.signals import SIGNALS


def dask_setup(worker: Any) -> None:  # noqa: ARG001 - as Dask calls it
    """Leave it to the driver what becomes of a signal: terminals and batch systems send it to its workers, too.

    Dask's nanny, who sends SIGTERM to a worker that takes too much memory, kills it when that does not help.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
