"""Worker processes of this machine, for the length of a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import dask
import distributed

from cwt_dask.runtime.clusters.environment import DASHBOARD_ADDRESS, NANNY_SETTINGS
from cwt_dask.runtime.clusters.extras import options_of
from cwt_dask.runtime.clusters.tls import security


@contextmanager
def local_client(workers: int, memory_limit: int, **options: Any) -> Iterator[distributed.Client]:
    """A cluster of worker processes on this machine, for the length of a `with` block.

    It listens on the loopback interface only, and uses TLS even there.

    Parameters
    ----------
    workers : int
        Number of processes, of one thread each.
    memory_limit : int
        Bytes of memory of each.
    **options
        Of `distributed.LocalCluster`.

    Raises
    ------
    SettingsError
        If it refuses these options.
    """
    ours: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": memory_limit}
    ours |= {"host": "127.0.0.1", "protocol": "tls", "security": security(), "dashboard_address": DASHBOARD_ADDRESS}
    with dask.config.set(NANNY_SETTINGS):
        with options_of("LocalCluster") if options else nullcontext():
            cluster = distributed.LocalCluster(**{**ours, **options})
        with cluster, distributed.Client(cluster) as client:
            yield client
