"""A scheduler that runs already, given its address or a file that holds it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import distributed
from distributed.comm.addressing import parse_host_port
from distributed.utils import json_load_robust

from cwt_dask.config.validation import shown
from cwt_dask.errors import CwtDaskError, InputError
from cwt_dask.runtime import absence
from cwt_dask.runtime.clusters.tls import of_the_site, refuse_unusable
from cwt_dask.runtime.clusters.versions import refuse_other_versions
from cwt_dask.runtime.progress import WARNING
from cwt_dask.storage.paths import exists

CONNECT_SECONDS = 10
# Batch systems take their time to start the first worker, and workers to load their libraries from a file system that
# many share.
WORKER_SECONDS = 60
OWN_SECONDS = 600
# A worker that restarts as the run ends takes this long.
LATE_SECONDS = 5


@contextmanager
def existing_client(address: str | None, scheduler_file: str | None, **options: Any) -> Iterator[distributed.Client]:
    """A client of a scheduler that runs already; it and its workers run the same versions as this process.

    Certificates are those of Dask's configuration, `distributed.comm.tls`.

    Parameters
    ----------
    address : str or None
        Of the scheduler; None to read it from the file.
    scheduler_file : str or None
        File with the address, written by the scheduler.
    **options
        Of `distributed.Client`.

    Raises
    ------
    InputError
        If nothing answers there, no worker comes, or versions differ in a way that matters.
    """
    where = f"scheduler {address}" if address else f"the scheduler of file {scheduler_file}"
    if scheduler_file and not exists(Path(scheduler_file)):
        # distributed would wait for the file for ever.
        raise InputError(f"cannot reach {where}: there is no such file")
    with _connected(address or address_in(scheduler_file), where, options) as client:
        await_workers(client, where, WORKER_SECONDS)
        yield client


def refuse_unusable_client(client: Any) -> None:
    """Refuse what is no client, or one that is not connected, runs in an event loop, or is of other versions."""
    if not isinstance(client, distributed.Client):
        raise InputError(f"client is {shown(client)}: it must be a distributed.Client; of a cluster, its get_client()")
    if client.asynchronous or client.status != "running":
        state = "asynchronous" if client.asynchronous else client.status
        raise InputError(f"client is {state}: it must be connected, and made without asynchronous=True")
    refuse_other_versions(client, "the cluster of the client")


def address_in(scheduler_file: str | None) -> str:
    """Address of a scheduler, from the file that it has written; raises InputError if there is none."""
    try:
        return str(json_load_robust(scheduler_file, timeout=CONNECT_SECONDS)["address"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"cannot reach the scheduler of file {scheduler_file} ({error!r}): it holds no address"
        ) from error


@contextmanager
def own_client(n_workers: int, address: str, report: Callable[[str], None]) -> Iterator[distributed.Client]:
    """A client of a scheduler that was started for this run alone, as its workers; all end with the run.

    Parameters
    ----------
    n_workers : int
        Number of workers that were started.
    address : str
        Of the scheduler.
    report : callable
        Receives messages about waiting.
    """
    with _connected(address, "the scheduler of this run", {}) as client:
        first = time.monotonic()
        try:
            await_workers(client, "the scheduler of this run", OWN_SECONDS, report)
            first = time.monotonic()
            yield client
        finally:
            # A worker without its scheduler would look for it for a long time; one that has not come a minute after the
            # first is lost. Workers that a scheduler closes print tracebacks; those that their nannies close do not.
            left = first + WORKER_SECONDS - time.monotonic()
            with suppress(OSError):
                client.wait_for_workers(n_workers, timeout=max(left, LATE_SECONDS))
            if client.status == "running":
                with suppress(OSError):
                    client.run(_end, nanny=True, wait=False, on_error="ignore")
                client.shutdown()


@contextmanager
def _connected(address: str, where: str, options: dict[str, Any]) -> Iterator[distributed.Client]:
    cannot = f"cannot reach {where}"
    _refuse_address(address, cannot, certified="security" in options)
    try:
        client = distributed.Client(address, **{"timeout": CONNECT_SECONDS, "set_as_default": False} | options)
    except CwtDaskError:
        raise
    except Exception as error:
        # Also of what Dask's configuration has a client load.
        raise InputError(
            f"{cannot} ({error}): is it running, is the address right, and are these its certificates?"
        ) from error
    with client:
        yield client


def _refuse_address(address: str, cannot: str, *, certified: bool) -> None:
    """Refuse addresses for which Dask has no clear error, and leaves a client that nothing can close."""
    scheme = address.partition("://")[0] if "://" in address else "tcp"
    # Those of libraries, such as Dask Gateway's, have a form of their own.
    is_dasks = scheme in ("tcp", "tls")
    if scheme not in distributed.comm.registry.backends or (is_dasks and not _has_port(address)):
        raise InputError(f"{cannot}: it must look like tls://host:8786 or tcp://host:8786")
    if certified:
        return
    site = of_the_site(cannot)
    if scheme == "tls":
        refuse_unusable(site, "client", cannot)
    elif site.require_encryption:
        raise InputError(
            f"{cannot}: Dask's configuration here requires encryption, and {scheme}:// has none: the address must look "
            "like tls://host:8786"
        )


def _has_port(address: str) -> bool:
    """Whether an address has a host and a number that can be a port."""
    with suppress(ValueError):
        host, port = parse_host_port(address)
        return bool(host.strip()) and 0 < int(port) < 2**16
    return False


def await_workers(
    client: distributed.Client, where: str, seconds: float, report: Callable[[str], None] = lambda _: None
) -> None:
    """Wait for a first worker, and refuse a cluster of other versions.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    where : str
        The cluster, in messages.
    seconds : float
        How long to wait.
    report : callable, optional
        Receives a message after each minute of that.

    Raises
    ------
    InputError
        If none comes, or versions differ in a way that matters.
    """
    # Clusters that start workers as there is work have none before.
    task = client.submit(os.getpid, pure=False)
    waited = 0.0
    try:
        while not _has_workers(client, min(absence.QUIET_SECONDS, seconds - waited)):
            waited += absence.QUIET_SECONDS
            if waited >= seconds:
                raise InputError(f"{where} has no workers after {seconds} s: start some first")
            report(f"{WARNING}{where} has had no worker for {waited:.0f} s")
    finally:
        task.cancel()
    refuse_other_versions(client, where)


def _has_workers(client: distributed.Client, seconds: float) -> bool:
    with suppress(TimeoutError):
        client.wait_for_workers(1, timeout=seconds)
        return True
    return False


async def _end(dask_worker: Any) -> None:
    """End a nanny and its worker; Dask passes it by this name."""
    await dask_worker.close()
