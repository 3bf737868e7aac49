"""Comparison of the versions of a cluster with those of the driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cwt_dask.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

# What a scheduler and its clients must have in common to understand each other, ...
_OF_THE_PROTOCOL = ("python", "dask", "distributed")
# ... and what decides the bits of a tile, or how it is stored.
_OF_THE_RESULT = ("cwt_dask", "zarr", "numcodecs", "numpy", "scipy", "numba", "astropy")


def refuse_other_versions(client: Client, where: str) -> None:
    """Refuse a cluster of other versions than this process, with an InputError that names them.

    Scheduler and workers must have the same Dask, and the same first two numbers of Python; workers also the same
    libraries that the result depends on. A scheduler needs no cwt_dask.
    """
    found = client.get_versions(packages=list(_OF_THE_RESULT))
    ours = _versions(found["client"])
    differing = _differing("the scheduler", _versions(found["scheduler"]), ours, _OF_THE_PROTOCOL)
    for address, worker in found["workers"].items():
        differing += _differing(f"worker {address}", _versions(worker), ours, _OF_THE_PROTOCOL + _OF_THE_RESULT)
    if differing:
        raise InputError(
            f"{where} runs other versions than this process: {'; '.join(differing[:3])}"
            + (f"; and {len(differing) - 3} more" if len(differing) > 3 else "")
            + ". Start all of it from one environment"
        )


def _versions(found: Mapping[str, Any]) -> dict[str, str]:
    python = ".".join(str(found["host"]["python"]).split(".")[:2])
    return {**found["packages"], "python": python}


def _differing(peer: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [
        f"{peer} has {name} {theirs[name]}, here it is {ours[name]}" if theirs.get(name) else f"{peer} has no {name}"
        for name in names
        if theirs.get(name) != ours.get(name)
    ]
