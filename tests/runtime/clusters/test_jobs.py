"""Jobs of workers that end before a worker comes, on a simulated SLURM. Real ones: tests/cluster."""

import re
import threading
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import pytest
from reporters import Messages

from cwt_dask import run_survey
from cwt_dask.errors import InputError, RunError
from cwt_dask.runtime import absence
from cwt_dask.runtime.clusters import jobs, queue, slurm
from cwt_dask.runtime.observer import Observer

SETTINGS = {"n_scale": 1, "min_scale": 1.2, "tile_size": 65, "max_iter": 2, "workers": 2}
# It takes jobs, and knows none of them any more when it is asked.
TAKES = 'case "$*" in *--test-only*) ;; *) echo "Submitted batch job $$" ;; esac'
REFUSES = 'case "$*" in *--test-only*) ;; *) echo "sbatch: error: no room" >&2; exit 1 ;; esac'
ENDED = "echo JobId=7 JobState=FAILED ExitCode=127:0; echo StdErr=/home/me/slurm-7.out"


@pytest.mark.parametrize(
    ("sbatch", "fragment"),
    [
        (TAKES, r"is FAILED, exit code 127:0: read its log, /home/me/slurm-7\.out; then give the same command again"),
        (REFUSES, "SLURM did not take the last one: .*sbatch: error: no room.*; then give the same command again"),
    ],
)
def test_jobs_that_end_before_a_worker_comes_end_the_run(played, small_survey, tmp_path, monkeypatch, sbatch, fragment):
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.05)
    played(sbatch=sbatch, squeue="", scancel="", scontrol=ENDED)
    cluster = {"kind": "slurm", "options": {"interface": "lo"}}
    with (
        dask.config.set({"distributed.adaptive.interval": "50ms"}),
        pytest.raises(RunError, match=rf"^[6-9] jobs of workers have ended, .* before a worker came: .*{fragment}"),
    ):
        run_survey(small_survey, tmp_path / "run", cluster=cluster, **SETTINGS)
    assert not list(tmp_path.glob(".cwt-dask-*"))


class SeenError(Exception):
    """Ends a run that would wait for long."""


class Waits(Messages):
    """Messages up to the first about jobs."""

    def message(self, text):
        super().message(text)
        if "SLURM" in text:
            raise SeenError


def test_one_line_tells_that_no_worker_comes_and_what_the_jobs_do(played, small_survey, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(absence, "QUIET_SECONDS", 0.1)
    played(sbatch="echo Submitted batch job 7", squeue="echo 7 PENDING Resources", scancel="")
    cluster, told = {"kind": "slurm", "options": {"interface": "lo"}}, Waits()
    with dask.config.set({"distributed.adaptive.interval": "50ms"}), pytest.raises(SeenError):
        run_survey(small_survey, tmp_path / "run", cluster=cluster, progress=told, **SETTINGS)
    *before, last = [text for text in told.texts if "worker" in text and "up to 2 workers" not in text]
    none = r"warning: no tile has come back for [^:]*: there is no worker"
    assert re.fullmatch(rf"{none} \(jobs in SLURM: [12] pending \(Resources\)\)", last)
    assert all(re.fullmatch(none, text) for text in before)


def test_where_slurm_has_forgotten_a_job_its_log_is_named(played):
    played(scontrol="exit 1")
    assert jobs._end_of(SimpleNamespace(job_id="7")) == "read the log of the last one, job 7"


class PlayedCluster:
    """Two jobs, which a test changes."""

    def __init__(self):
        self.workers = {"c-0": SimpleNamespace(job_id="1"), "c-10": SimpleNamespace(job_id="2")}
        self.observed = set()

    def sync(self, function, *arguments):
        function(*arguments)

    def scale_down(self, names):
        for name in names:
            self.workers.pop(name)


@pytest.fixture
def watcher(monkeypatch):
    """Looks at two jobs; its messages, and what SLURM knows."""
    known, lines = {}, []
    monkeypatch.setattr(jobs, "jobs_in_queue", lambda: known)
    return SimpleNamespace(jobs=jobs.Jobs(PlayedCluster(), 2, lines.append), known=known, lines=lines)


def test_what_jobs_without_workers_wait_for_is_noted_and_the_watchdog_alone_tells_it(watcher):
    cluster = watcher.jobs.cluster
    watcher.known.update({"1": "pending (Resources)", "2": "pending (Resources)"})
    watcher.jobs.look()
    client = Mock(cluster=cluster, sync=lambda *_, **__: ({}, {"workers": {}}, (), ()))
    reason = Observer(client).look(0.0, {}).reason()
    assert (
        reason
        == f"there is no worker ({cluster.jobs_that_wait})"
        == "there is no worker (jobs in SLURM: 2 pending (Resources))"
    )
    cluster.observed.add("c-10-0")
    watcher.jobs.look()
    assert cluster.jobs_that_wait == "jobs in SLURM: 1 pending (Resources)"
    cluster.observed.add("c-0")
    watcher.jobs.look()
    assert (cluster.jobs_that_wait, watcher.lines) == ("", [])


def test_a_job_stays_until_its_worker_is_gone(watcher):
    cluster = watcher.jobs.cluster
    cluster.observed.add("c-10")
    watcher.known["1"] = "running"
    watcher.jobs.look()
    assert list(cluster.workers) == ["c-0", "c-10"]
    # Another one is submitted in its place, and that a worker had come of it is no failure.
    cluster.observed.clear()
    watcher.jobs.look()
    assert list(cluster.workers) == ["c-0"]
    assert watcher.jobs._in_vain == 0


def test_while_other_workers_are_there_the_run_goes_on(watcher):
    cluster = watcher.jobs.cluster
    cluster.observed.add("c-10")
    for number in range(10):
        cluster.workers["c-0"] = SimpleNamespace(job_id=f"1{number}")
        watcher.jobs.look()
    assert list(cluster.workers) == ["c-10", "c-0"]
    cluster.observed.clear()
    with pytest.raises(RunError, match="6 jobs of workers have ended, one after the other, before a worker came"):
        watcher.jobs.look()


def test_an_error_of_a_look_is_reported_once_and_looking_goes_on(watcher, monkeypatch):
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.001)
    errors, ended = [OSError("busy"), OSError("busy"), KeyError("c-0"), RunError("no worker came")], threading.Event()

    def give_up(reason):
        assert str(reason) == "no worker came"
        ended.set()

    watcher.jobs.look = Mock(side_effect=errors)
    with jobs.watched(watcher.jobs, SimpleNamespace(give_up=give_up)):
        assert ended.wait(60)
    tried = "jobs of workers could not be checked ({}): this is tried again"
    assert watcher.lines == [tried.format(error) for error in ("OSError('busy')", "KeyError('c-0')")]


def test_only_lines_of_jobs_count_and_no_answer_is_no_news(played):
    odd = ["squeue: warning: maintenance on Monday", "", "1 RUNNING", " 2 PENDING Nodes required for job are DOWN", "3"]
    played(squeue="; ".join(f"echo '{line}'" for line in [*odd, "4 RUNNING None"]))
    nodes = "pending (Nodes required for job are DOWN)"
    assert queue.jobs_in_queue() == {"1": "running", "2": nodes, "4": "running"}
    played(squeue="exit 1")
    cluster = PlayedCluster()
    jobs.Jobs(cluster, 2, [].append).look()
    assert len(cluster.workers) == 2


def test_waiting_for_a_slurm_that_does_not_answer_ends(played, monkeypatch):
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.1)
    played(sbatch="exec sleep 60")
    with pytest.raises(InputError, match="SLURM does not answer: sbatch --test-only had no output for 0.1 s"):
        slurm._refuse_no_job("#!/bin/sh")
