"""Jobs of workers: told of while they wait, replaced when they end before a worker of theirs has come."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import distributed

from cwt_dask.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cwt_dask.runtime.signals import Stop

LOOK_SECONDS = 5.0
# So long nothing is said of jobs that wait; then at twice the time, and so on.
QUIET_SECONDS = 60.0
# A worker's job is submitted so often in vain, while none comes.
TRIES = 3
# SLURM answers late when it is busy: then nothing is known for now.
ANSWER_SECONDS = 60


def careful(kind: Any) -> Any:
    """A `SLURMCluster` whose jobs mend two things.

    What `sbatch` says that refuses one is raised where nobody hears it. A job that was closed does not say so, and an
    assertion of Dask's about that would hide what ended a run.
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

    return type(kind.__name__, (kind,), {"job_cls": Job})


class Jobs:
    """Jobs of a cluster's workers, as SLURM and Dask know them.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    most : int
        Jobs that there may be at a time.
    tell : callable
        Says something to the user.
    """

    def __init__(self, cluster: Any, most: int, tell: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.most = most
        self.tell = tell
        # Numbers of the jobs of which a worker has come.
        self._come: set[str] = set()
        self._in_vain = 0
        self._alone_since = time.monotonic()
        self._quiet = QUIET_SECONDS

    def look(self) -> None:
        """Look once.

        Raises
        ------
        RunError
            If no worker is there, and as many jobs as may be tried have ended without one.
        """
        submitted = dict(self.cluster.workers)
        known = _known()
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
                # What keeps so many workers submits others in their place.
                self.cluster.sync(self.cluster.scale_down, list(gone))
        elif gone and not there and not waiting:
            raise RunError(
                f"{self._in_vain} jobs of workers have ended, one after the other, before a worker came: "
                f"{_end_of(list(gone.values())[-1])}; then give the same command again"
            )
        self._tell_of_waiting(there, waiting)

    def _tell_of_waiting(self, there: set[str], states: list[str]) -> None:
        now = time.monotonic()
        if there or not states:
            self._alone_since, self._quiet = now, QUIET_SECONDS
        elif now - self._alone_since >= self._quiet:
            self._quiet *= 2
            counted = ", ".join(f"{number} {state}" for state, number in Counter(states).most_common())
            self.tell(f"no worker for {now - self._alone_since:.0f} s; its jobs in SLURM: {counted}")


@contextmanager
def watched(jobs: Jobs, stop: Stop) -> Iterator[None]:
    """Look at jobs now and then for the length of a `with` block; `stop` is told what ends the run."""
    over = threading.Event()

    def watch() -> None:
        told = ""
        while not over.wait(LOOK_SECONDS):
            try:
                jobs.look()
            except RunError as error:
                stop.give_up(error)
                return
            except Exception as error:  # noqa: BLE001 - without a watcher a run could wait for ever
                if told != (told := repr(error)):
                    jobs.tell(f"jobs of workers could not be looked at ({told}): this is tried again")

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


def _known() -> Mapping[str, str] | None:
    """State and reason of each of the user's jobs that wait or run; None where SLURM does not say."""
    said = _said("squeue", "--me", "--noheader", "--format=%A %T %r")
    if said is None:
        return None
    # Sites have their commands say other things, too.
    lines = re.findall(r"^ *(\d+) +([A-Z_]+) *(.*)$", said, re.MULTILINE)
    return {
        number: state.lower() if reason in ("", "None") else f"{state.lower()} ({reason})"
        for number, state, reason in lines
    }


def _end_of(job: Any) -> str:
    """How a job has ended, and where to read why."""
    if job.job_id is None:
        return f"SLURM did not take the last one: {job.refusal}"
    facts = dict(re.findall(r"\b(JobState|ExitCode|StdErr)=(\S+)", _said("scontrol", "show", "job", job.job_id) or ""))
    if not facts:
        return f"look at what the last one said, job {job.job_id}"
    return (
        f"the last one, job {job.job_id}, is {facts.get('JobState')}, exit code {facts.get('ExitCode')}: look at "
        f"what it said, {facts.get('StdErr')}"
    )


def _said(*command: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS).stdout
    return None
