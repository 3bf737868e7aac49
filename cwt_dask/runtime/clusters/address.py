"""A scheduler that runs already, given its address or a file that holds it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import distributed
from distributed.utils import json_load_robust

from cwt_dask.errors import InputError
from cwt_dask.runtime.clusters.versions import refuse_other_versions
from cwt_dask.storage.paths import exists

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10
# Batch systems take their time to start the first worker, and workers to load their libraries from a file system that
# many share.
WORKER_SECONDS = 60
OWN_SECONDS = 600
# A worker that is started anew as a run ends is there again so soon.
LATE_SECONDS = 5


@contextmanager
def existing_client(address: str | None, scheduler_file: str | None, **options: Any) -> Iterator[distributed.Client]:
    """A client of a scheduler that runs already; it and its workers run the same versions as this process.

    `options` are those of `distributed.Client`; certificates are those of Dask's configuration, `distributed.comm.tls`.

    Raises
    ------
    InputError
        If nothing answers there, no worker comes, or versions differ in a way that matters.
    """
    where = f"scheduler {address}" if address else f"the scheduler of file {scheduler_file}"
    if scheduler_file and not exists(Path(scheduler_file)):
        # distributed would wait for the file for ever.
        raise InputError(f"cannot reach {where}: there is no such file")
    with _connected(address, scheduler_file, where, options) as client:
        await_workers(client, where, WORKER_SECONDS)
        yield client


@contextmanager
def own_client(
    n_workers: int, *, address: str | None = None, scheduler_file: str | None = None
) -> Iterator[distributed.Client]:
    """A client of a scheduler that was started for this run alone with its workers; they end with it.

    Raises
    ------
    InputError
        As `existing_client`.
    """
    with _connected(address, scheduler_file, "the scheduler of this run", {}) as client:
        first = time.monotonic()
        try:
            await_workers(client, "the scheduler of this run", OWN_SECONDS)
            first = time.monotonic()
            yield client
        finally:
            # One that finds no scheduler any more would look for it for long; one that has not come a minute after the
            # first is lost for good. Workers that a scheduler sends away leave tracebacks behind; those that their
            # nannies end do not.
            left = first + WORKER_SECONDS - time.monotonic()
            with suppress(OSError):
                client.wait_for_workers(n_workers, timeout=max(left, LATE_SECONDS))
            if client.status == "running":
                with suppress(OSError):
                    client.run(_end, nanny=True, wait=False, on_error="ignore")
                client.shutdown()


@contextmanager
def _connected(
    address: str | None, scheduler_file: str | None, where: str, options: dict[str, Any]
) -> Iterator[distributed.Client]:
    ours = {"timeout": CONNECT_SECONDS, "set_as_default": False}
    try:
        address = address or str(json_load_robust(scheduler_file, timeout=CONNECT_SECONDS)["address"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot reach {where} ({error!r}): it holds no address") from error
    _refuse_address(address, where, certified="security" in options)
    try:
        client = distributed.Client(address, **{**ours, **options})
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"cannot reach {where} ({error}): is it running, is the address right, and are these its certificates?"
        ) from error
    with client:
        yield client


def _refuse_address(address: str, where: str, *, certified: bool) -> None:
    """Refuse what Dask would not say clearly, leaving a client behind that nothing can close."""
    scheme = address.partition("://")[0] if "://" in address else "tcp"
    ours = distributed.Security()
    if scheme not in distributed.comm.registry.backends:
        raise InputError(f"cannot reach {where}: it must look like tls://host:8786 or tcp://host:8786")
    if scheme == "tls" and not certified:
        _refuse_certificates({"ca-file": ours.tls_ca_file, "client.cert": ours.tls_client_cert}, where)
    if scheme != "tls" and not certified and ours.require_encryption:
        raise InputError(
            f"cannot reach {where}: Dask's configuration here requires encryption, and {scheme}:// has none: the "
            "address must look like tls://host:8786"
        )


def _refuse_certificates(given: dict[str, str | None], where: str) -> None:
    for name, value in given.items():
        if not value:
            raise InputError(
                f"cannot reach {where}: it speaks TLS, and Dask's configuration here (distributed.comm.tls.{name}) "
                "names no certificate: give it that of the scheduler"
            )
        # It may be the certificate itself.
        if "\n" not in value and not Path(value).is_file():
            raise InputError(
                f"cannot reach {where}: there is no file {value}, which Dask's configuration here "
                f"(distributed.comm.tls.{name}) names"
            )


def await_workers(client: distributed.Client, where: str, seconds: float) -> None:
    """Wait for a first worker, and refuse a cluster of other versions.

    Raises
    ------
    InputError
        If none comes, or versions differ in a way that matters.
    """
    # Clusters that start workers as there is work have none before.
    something = client.submit(os.getpid, pure=False)
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        raise InputError(f"{where} has no workers after {seconds} s: start some first") from error
    finally:
        something.cancel()
    refuse_other_versions(client, where)


async def _end(dask_worker: Any) -> None:
    """End a nanny and its worker; Dask hands it in by this name."""
    await dask_worker.close()
