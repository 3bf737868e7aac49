"""Jobs that are submitted to SLURM, each with one or more workers, as many as there is work for."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dask
import distributed
from dask.utils import parse_bytes

from cwt_dask.config.execution import Execution
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.runtime.clusters.environment import DASHBOARD_ADDRESS, MEMORY_OF_A_JOB, OUR_SETTINGS, setting_of_dask
from cwt_dask.runtime.clusters.extras import Connect, load, starting
from cwt_dask.runtime.clusters.jobs import Jobs, careful, watched
from cwt_dask.runtime.clusters.private import private_directory
from cwt_dask.runtime.clusters.queue import ANSWER_SECONDS
from cwt_dask.runtime.clusters.ranks import is_step
from cwt_dask.runtime.clusters.scratch import IN_JOBS, private_scratch, private_scratch_of_a_job
from cwt_dask.runtime.clusters.srun import prepare_task
from cwt_dask.runtime.clusters.tls import kept_in, security
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.storage.paths import on_disk

# Workers end before their walltime, at different times, so that some are always there.
LIFETIME, STAGGER = 0.85, 0.1
# Days, hours, minutes and seconds, as sbatch takes them; a number alone is minutes.
_WALLTIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


def prepare_slurm(execution: Execution, run_dir: Path, progress: Reporter, stop: Stop) -> Connect:
    """Be one of the tasks of a step of `srun`; outside of one, check what can be checked before jobs are submitted.

    Parameters
    ----------
    execution : Execution
        Options of the cluster, and limits of its workers.
    run_dir : Path
        Certificates are kept next to it.
    progress : Reporter
        Receives messages about jobs that wait.
    stop : Stop
        Receives the error that ends the run if no job has a worker.

    Raises
    ------
    InputError
        If dask-jobqueue or SLURM is missing, or `srun` has started too few tasks.
    SettingsError
        If dask-jobqueue refuses its options, or the largest number of workers is not given.
    """
    jobqueue = load("dask_jobqueue.slurm", "slurm")
    shared = on_disk(run_dir.resolve().parent) or Path.cwd()
    if is_step():
        return prepare_task(execution, shared, progress)
    if not execution.workers:
        raise SettingsError("cluster is slurm: give workers, as many as there may be at a time")
    if shlex.quote(str(shared)) != str(shared):
        raise InputError(
            f"cluster is slurm, and job scripts cannot name {shared}: choose a directory without blanks and quotes"
        )
    if shutil.which("sbatch") is None:
        raise InputError("cluster is slurm, and there is no sbatch here: give the command where jobs are submitted")
    return partial(_submitted, careful(jobqueue.SLURMCluster), execution, shared, progress, stop)


@contextmanager
def _submitted(
    kind: Any, execution: Execution, shared: Path, progress: Reporter, stop: Stop
) -> Iterator[distributed.Client]:
    # Workers read the certificate where the driver writes it.
    with private_directory(shared) as private, ExitStack() as stack:
        options = _with_defaults(execution.cluster.options, execution.memory_limit)
        with starting("SLURMCluster", "a scheduler", "mend that, and give the same command again", has_options=True):
            stack.enter_context(private_scratch())
            stack.enter_context(dask.config.set(OUR_SETTINGS))
            cluster = stack.enter_context(kind(**options, security=kept_in(private, security()), protocol="tls://"))
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        _refuse_no_job(cluster.job_script())
        cluster.adapt(minimum=execution.fewest_workers, maximum=execution.workers)
        most = math.ceil((execution.workers or 1) / options["processes"])
        with watched(Jobs(cluster, most, progress.message), stop):
            yield client


def _refuse_no_job(script: str) -> None:
    """Ask SLURM before the first job is submitted in the background, where a refusal is not seen."""
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
            f"SLURM does not answer: sbatch --test-only had no output for {ANSWER_SECONDS} s; give the same command "
            "again when it answers"
        ) from error
    if asked.returncode:
        raise InputError(f"SLURM takes no job with these cluster.options: {' '.join(asked.stderr.split())}")


def _with_defaults(given: Mapping[str, Any], memory_limit: int) -> dict[str, Any]:
    """Options of `SLURMCluster`: the user's, else those of the site's configuration, else ours."""
    sites = {name: value for name, value in dask.config.get("jobqueue.slurm").items() if value}
    theirs = {name: sites[name] for name in ("cores", "processes", "memory") if name in sites}
    options: dict[str, Any] = {"cores": 1, "processes": 1} | theirs | dict(given)
    options.setdefault("memory", memory_limit * options["processes"])
    walltime = options.get("walltime", sites.get("walltime"))
    return options | {
        "job_mem": options.get("job_mem", f"{parse_bytes(options['memory']) * MEMORY_OF_A_JOB / 2**20:.0f}M"),
        "job_script_prologue": [
            f"export {'='.join(setting_of_dask())}",
            *private_scratch_of_a_job(options.get("local_directory", sites.get("local-directory"))),
            *options.get("job_script_prologue", sites.get("job-script-prologue", [])),
        ],
        "local_directory": IN_JOBS,
        "worker_extra_args": [
            *("--dashboard-address", DASHBOARD_ADDRESS),
            *(lifetime_options(walltime) if walltime else []),
            *options.get("worker_extra_args", sites.get("worker-extra-args", [])),
        ],
        "scheduler_options": {"dashboard_address": DASHBOARD_ADDRESS} | options.get("scheduler_options", {}),
    }


def lifetime_options(walltime: str) -> list[str]:
    """Options of workers that SLURM would kill after `walltime`, by which they end before."""
    found = _WALLTIME.fullmatch(str(walltime))
    if not found:
        raise SettingsError(f"cluster.options.walltime is {walltime}: it must look like 02:00:00 or 1-00:00:00")
    days = found["days"]
    numbers = [int(number) for number in (found["first"], found["second"], found["third"]) if number]
    # After days come hours; without them one or two numbers begin with minutes.
    units = [3600, 60, 1] if days or len(numbers) == 3 else [60, 1]
    seconds = int(days or 0) * 86400 + sum(number * unit for number, unit in zip(numbers, units, strict=False))
    return ["--lifetime", f"{LIFETIME * seconds:.0f}s", "--lifetime-stagger", f"{STAGGER * seconds:.0f}s"]
