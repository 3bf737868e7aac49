"""What is known of this process: where it runs, on what, under which batch job, and how much memory it took."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

# As SLURM, PBS, LSF and Grid Engine name the job to its processes.
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


def batch_job() -> str:
    """Number of the batch job that this process is part of; empty outside of one."""
    return next((os.environ[name] for name in JOB_VARIABLES if name in os.environ), "")


@cache
def processor() -> str:
    """Kind of processor: on unlike ones last bits may differ."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def peak_memory() -> int:
    """Largest resident size that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux it starts at what the parent process held when it started this one.
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Of Python the first two numbers count.
_DECISIVE = ("python", "cwt_dask", "numpy", "numba", "scipy", "astropy")


def other_versions(theirs: Mapping[str, str]) -> list[str]:
    """What decides bits and had another version than here, as text."""
    ours = versions()
    return [
        f"{name} was {theirs.get(name, 'not recorded')}, is {ours[name]}"
        for name in _DECISIVE
        if _deciding(name, theirs.get(name, "")) != _deciding(name, ours[name])
    ]


def mixed_versions(all_versions: Iterable[Mapping[str, str]]) -> list[str]:
    """What decides bits and had several versions, as text."""
    found: dict[str, dict[str, None]] = {name: {} for name in _DECISIVE}
    for each in all_versions:
        for name in each.keys() & found.keys():
            found[name][_deciding(name, each[name])] = None
    return [f"{name} {' and '.join(sorted(several))}" for name, several in found.items() if len(several) > 1]


def _deciding(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version


def versions() -> dict[str, str]:
    """Versions of what can change last bits."""
    packages = ("cwt_dask", "numpy", "numba", "scipy", "astropy", "zarr", "dask", "distributed")
    return {"python": platform.python_version()} | {name: _version_of(name) for name in packages}


# It is looked up on the disk.
_version_of = cache(importlib.metadata.version)
