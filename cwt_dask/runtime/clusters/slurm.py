"""Jobs that are submitted to SLURM, one a group of workers, as many as there is work for."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import distributed
from dask.utils import parse_bytes

from cwt_dask.errors import InputError, SettingsError
from cwt_dask.runtime.clusters import srun
from cwt_dask.runtime.clusters.environment import DASHBOARD_ADDRESS, setting_of_dask
from cwt_dask.runtime.clusters.extras import load, options_of
from cwt_dask.runtime.clusters.jobs import ANSWER_SECONDS, Jobs, careful, watched
from cwt_dask.runtime.clusters.private import private_directory
from cwt_dask.runtime.clusters.tls import kept_in, security
from cwt_dask.storage.paths import backend_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cwt_dask.config.execution import Execution
    from cwt_dask.runtime.clusters.extras import Connect
    from cwt_dask.runtime.progress import Reporter
    from cwt_dask.runtime.signals import Stop

# SLURM kills a job that takes more memory than it asked for, before Dask's nanny can do anything about it.
MEMORY_OF_A_JOB = 1.2
# Workers end before their walltime, each at a time of its own, so that they are not all away at once.
LIFETIME, STAGGER = 0.85, 0.1
# Days, hours, minutes and seconds, as sbatch takes them; a number alone is minutes.
_WALLTIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


def join(execution: Execution, run_dir: Path, progress: Reporter, stop: Stop) -> Connect:
    """Take part in what `srun` has started; outside of it, submit jobs.

    Raises
    ------
    InputError
        If dask-jobqueue or SLURM is missing, or `srun` has started too few tasks.
    SettingsError
        If dask-jobqueue does not take its options, or it is not said how many workers there may be.
    """
    jobqueue = load("dask_jobqueue.slurm", "slurm")
    shared = backend_of(run_dir).on_disk(run_dir.resolve().parent) or Path.cwd()
    if srun.is_step():
        return srun.join(jobqueue, execution, shared)
    if not execution.workers:
        raise SettingsError("cluster is slurm: give workers, as many as there may be at a time")
    if shlex.quote(str(shared)) != str(shared):
        raise InputError(
            f"cluster is slurm, and job scripts cannot name {shared}: choose one without blanks and quotes"
        )
    if shutil.which("sbatch") is None:
        raise InputError("cluster is slurm, and there is no sbatch here: start it where jobs are submitted")
    return partial(_submitted, careful(jobqueue.SLURMCluster), execution, shared, progress, stop)


@contextmanager
def _submitted(
    kind: Any, execution: Execution, shared: Path, progress: Reporter, stop: Stop
) -> Iterator[distributed.Client]:
    # Workers read the certificate where the driver writes it.
    with private_directory(shared) as private:
        options = _with_defaults(execution.cluster.options, execution.memory_limit)
        with options_of("SLURMCluster"):
            cluster = kind(**options, security=kept_in(private, security()), protocol="tls://")
        with cluster, distributed.Client(cluster, set_as_default=False) as client:
            _refuse_no_job(cluster.job_script())
            cluster.adapt(minimum=execution.fewest_workers, maximum=execution.workers)
            with watched(
                Jobs(cluster, math.ceil((execution.workers or 1) / options["processes"]), progress.message), stop
            ):
                yield client


def _refuse_no_job(script: str) -> None:
    """Ask SLURM before the first job is submitted in the background, where nobody hears of a refusal."""
    try:
        asked = subprocess.run(
            ["sbatch", "--test-only"],  # noqa: S607 - wherever the site has it
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"SLURM does not answer: sbatch --test-only has said nothing for {ANSWER_SECONDS} s; give the same command "
            "again when it does"
        ) from error
    if asked.returncode:
        raise InputError(f"SLURM takes no job with these cluster.options: {' '.join(asked.stderr.split())}")


def _with_defaults(given: Mapping[str, Any], memory_limit: int) -> dict[str, Any]:
    """What a job asks for and its workers are told, where neither the user nor the site's configuration says it."""
    sites = {name: value for name, value in dask.config.get("jobqueue.slurm").items() if value}
    options: dict[str, Any] = {"cores": 1, "processes": 1} | {
        name: sites[name] for name in ("cores", "processes", "memory") if name in sites
    }
    options |= given
    options.setdefault("memory", memory_limit * options["processes"])
    walltime = options.get("walltime", sites.get("walltime"))
    return options | {
        "job_mem": options.get("job_mem", f"{parse_bytes(options['memory']) * MEMORY_OF_A_JOB / 2**20:.0f}M"),
        "job_script_prologue": [
            f"export {'='.join(setting_of_dask())}",
            *options.get("job_script_prologue", sites.get("job-script-prologue", [])),
        ],
        "worker_extra_args": [
            *("--dashboard-address", DASHBOARD_ADDRESS),
            *(lifetime_options(walltime) if walltime else []),
            *options.get("worker_extra_args", sites.get("worker-extra-args", [])),
        ],
        "scheduler_options": {"dashboard_address": DASHBOARD_ADDRESS} | options.get("scheduler_options", {}),
    }


def lifetime_options(walltime: str) -> list[str]:
    """How long workers live that SLURM would kill after `walltime`.

    Raises
    ------
    SettingsError
        If it is no walltime of SLURM's.
    """
    found = _WALLTIME.fullmatch(str(walltime))
    if not found:
        raise SettingsError(f"cluster.options.walltime is {walltime}: it must look like 02:00:00 or 1-00:00:00")
    days = found["days"]
    numbers = [int(number) for number in (found["first"], found["second"], found["third"]) if number]
    # After days come hours; without them one or two numbers begin with minutes.
    units = [3600, 60, 1] if days or len(numbers) == 3 else [60, 1]
    seconds = int(days or 0) * 86400 + sum(number * unit for number, unit in zip(numbers, units, strict=False))
    return [
        *("--lifetime", f"{LIFETIME * seconds:.0f}s"),
        *("--lifetime-stagger", f"{STAGGER * seconds:.0f}s"),
    ]
