"""Jobs of workers: what they wait for, and others in their place when they end before a worker of theirs has come."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import distributed

from cwt_dask.errors import RunError
from cwt_dask.runtime.clusters.queue import ask_slurm, jobs_in_queue
from cwt_dask.runtime.signals import Stop

LOOK_SECONDS = 5.0
# Submissions of each worker's job while no worker comes.
TRIES = 3


def careful(kind: Any) -> Any:
    """A `SLURMCluster` that tells what its jobs wait for, without two faults of these.

    It raises a refusal of `sbatch` where nothing catches it. A job that was closed keeps its status, and an assertion
    of Dask's about that would hide the error that ended a run.
    """

    class Job(kind.job_cls):  # type: ignore[misc]
        refusal = ""

        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, OSError, ValueError) as error:
                self.refusal = " ".join(str(error).split())
                self.status = distributed.Status.running

        async def close(self) -> None:
            await super().close()
            self.status = distributed.Status.closed

    return type(kind.__name__, (kind,), {"job_cls": Job, "jobs_that_wait": ""})


class Jobs:
    """Jobs of a cluster's workers, as SLURM and Dask know them.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    most : int
        Largest number of jobs at a time.
    report : callable
        Receives messages for the user.
    """

    def __init__(self, cluster: Any, most: int, report: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.most = most
        self.report = report
        # Numbers of the jobs of which a worker has come.
        self._come: set[str] = set()
        self._in_vain = 0

    def look(self) -> None:
        """Compare once, submit jobs in place of those that have ended, and note in the cluster what others wait for.

        Raises RunError if no worker is there, and all tries have ended without one.
        """
        submitted = dict(self.cluster.workers)
        known = jobs_in_queue()
        if known is None:
            return
        there = {str(name) for name in self.cluster.observed}
        with_workers = {job.job_id for name, job in submitted.items() if _has_come(str(name), there)}
        if with_workers - self._come:
            self._in_vain = 0
        self._come |= with_workers
        waiting = [known[job.job_id] for job in submitted.values() if job.job_id in known.keys() - with_workers]
        gone = {name: job for name, job in submitted.items() if job.job_id not in known.keys() | with_workers}
        if self._in_vain < TRIES * self.most:
            self._in_vain += len([job for job in gone.values() if job.job_id not in self._come])
            if gone:
                # Adaptive scaling, which keeps the number of workers, submits others in their place.
                self.cluster.sync(self.cluster.scale_down, list(gone))
        elif gone and not there and not waiting:
            raise RunError(
                f"{self._in_vain} jobs of workers have ended, one after the other, before a worker came: "
                f"{_end_of(list(gone.values())[-1])}; then give the same command again"
            )
        counted = [f"{number} {state}" for state, number in Counter(waiting).most_common()]
        self.cluster.jobs_that_wait = f"jobs in SLURM: {', '.join(counted)}" if counted else ""


@contextmanager
def watched(jobs: Jobs, stop: Stop) -> Iterator[None]:
    """Look at jobs now and then for the length of a `with` block; `stop` receives the error that ends the run."""
    over = threading.Event()

    def watch() -> None:
        reported = ""
        while not over.wait(LOOK_SECONDS):
            try:
                jobs.look()
            except RunError as error:
                stop.give_up(error)
                return
            except Exception as error:  # noqa: BLE001 - without a watcher a run could wait for ever
                if reported != (reported := repr(error)):
                    jobs.report(f"jobs of workers could not be checked ({reported}): this is tried again")

    watcher = threading.Thread(target=watch, name="jobs", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _has_come(name: str, there: set[str]) -> bool:
    """Whether a worker of a job is there: of several, each has a number after the job's name."""
    return name in there or any(worker.startswith(f"{name}-") for worker in there)


def _end_of(job: Any) -> str:
    """How a job has ended, and where to read why."""
    if job.job_id is None:
        return f"SLURM did not take the last one: {job.refusal}"
    output = ask_slurm("scontrol", "show", "job", job.job_id) or ""
    found = dict(re.findall(r"\b(JobState|ExitCode|StdErr)=(\S+)", output))
    if not found:
        return f"read the log of the last one, job {job.job_id}"
    state = f"is {found.get('JobState')}, exit code {found.get('ExitCode')}"
    return f"the last one, job {job.job_id}, {state}: read its log, {found.get('StdErr')}"
