"""Worker processes of this machine, for the length of a call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
import distributed
from distributed.utils import silence_logging_cmgr

from cwt_dask.runtime.clusters.address import OWN_SECONDS
from cwt_dask.runtime.clusters.environment import (
    DASHBOARD_ADDRESS,
    OUR_SETTINGS,
    allow_open_files,
    own_environment,
)
from cwt_dask.runtime.clusters.extras import starting
from cwt_dask.runtime.clusters.scratch import private_scratch
from cwt_dask.runtime.clusters.script import refuse_no_workers
from cwt_dask.runtime.clusters.tls import temporary
from cwt_dask.runtime.signals import kept_from_others

# A site's configuration of Dask is for its own clusters: here all of it has Dask's defaults, but for this.
_SETTINGS = OUR_SETTINGS | {
    # Where an option gives workers a lifetime, others take their place.
    "distributed.worker.lifetime.restart": True,
    # Workers that were stopped with this process, by a signal or a laptop's lid, are as good as before. Nannies know of
    # those that die, deadlines of those that hang.
    "distributed.scheduler.worker-ttl": None,
    # Dask would dismiss the nanny of a worker that takes longer to come again, as on a busy machine.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}


@contextmanager
def local_client(workers: int, memory_limit: int, **options: Any) -> Iterator[distributed.Client]:
    """A cluster of worker processes on this machine, for the length of a `with` block.

    It listens on the loopback interface only, and uses TLS even there, with a certificate of its own.

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
    InputError
        If workers cannot start.
    """
    ours: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": memory_limit}
    ours |= {"host": "127.0.0.1", "protocol": "tls", "dashboard_address": DASHBOARD_ADDRESS}
    # One that neither comes nor ends is given up, which is seen where a run waits without any.
    ours |= {"death_timeout": OWN_SECONDS}
    # What goes wrong at the start is said once, below; later what nannies have to say of their workers is shown.
    ours |= {"silence_logs": logging.CRITICAL}
    defaults = dask.config.merge(*dask.config.defaults)["distributed"]
    with dask.config.set(distributed=defaults), dask.config.set(_SETTINGS), own_environment(), ExitStack() as stack:
        with starting("LocalCluster", "workers", "mend that, or give workers=0", has_options=bool(options)):
            refuse_no_workers()
            stack.enter_context(private_scratch(options.pop("local_directory", None)))
            allow_open_files()
            ours["security"] = temporary()
            # Signals are the driver's also while its workers start, again too: terminals send them to all.
            with kept_from_others():
                cluster = stack.enter_context(distributed.LocalCluster(**{**ours, **options}))
            client = stack.enter_context(distributed.Client(cluster))
        with silence_logging_cmgr(logging.WARNING):
            yield client
