"""Workers and schedulers from which nothing comes back: the reason is told, and the run ends whole."""

import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager

import psutil
import pytest
from batch import SECONDS, wait_for
from elsewhere import ENVIRONMENT, LONG, PRINTED, tiles_done

# A worker of which nothing is heard for 15 s is silent.
ENDS = "40s"
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
PLACE = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file")
UNPAUSED = {"DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False", "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "1.0"}


@contextmanager
def killed_at_last(*command):
    process = subprocess.Popen(command, env=ENVIRONMENT | UNPAUSED, **SILENT)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def cluster(tmp_path):
    """A scheduler, two workers with what watches over them, and how to reach the scheduler."""
    file = str(tmp_path / "scheduler.json")
    worker = ("--nworkers", "2", "--nthreads", "1", "--memory-limit", "1GiB", "--preload", "cwt_dask.worker")
    with (
        killed_at_last("dask", "scheduler", "--port", "0", *PLACE, file) as scheduler,
        killed_at_last("dask", "worker", *PLACE, file, *worker) as workers,
    ):
        yield scheduler, workers, ("--scheduler-file", file)


@contextmanager
def begun(survey, run_dir, *where):
    """A run that has done a tile."""
    command = ["cwt-dask", "run", survey, run_dir, *where, "--stall-timeout", ENDS, *LONG]
    with subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, **PRINTED) as driver:
        wait_for(lambda: driver.poll() is not None or tiles_done(run_dir), "a tile")
        assert driver.poll() is None, driver.stdout.read()
        yield driver


def assert_ended(driver, run_dir, reason):
    printed = driver.communicate(timeout=SECONDS)[0]
    assert driver.returncode == 1, printed
    (last,) = [line for line in printed.splitlines() if line.startswith("cwt-dask: ")]
    assert "no tile has come back for" in last
    assert re.search(reason, last)
    assert last.endswith("what is done is kept: mend that, and give the same command again to go on")
    assert tiles_done(run_dir)
    # Neither what tells of the driver, nor its unfinished files; those of a worker that was killed or stopped stay
    # until the next start.
    hidden = [path.name for path in run_dir.rglob(".*") if f"-{driver.pid}-" in path.name]
    assert not [*hidden, *run_dir.rglob("driver.json")]


def killed(_, workers):
    os.killpg(workers.pid, signal.SIGKILL)


def stopped(_, workers):
    for worker in psutil.Process(workers.pid).children(recursive=True):
        worker.suspend()


def scheduler_stopped(scheduler, _):
    scheduler.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        # They are counted from the last result on, which may come after they were killed.
        (killed, "workers have ended [12] times since then, and none are there|there is no worker"),
        (stopped, "nothing is heard of 2 of 2 workers, of tcp://127.0.0.1:"),
        (scheduler_stopped, "the scheduler does not answer"),
    ],
)
def test_a_cluster_that_stands_still_ends_the_run(cluster, survey, tmp_path, happens, reason):
    scheduler, workers, where = cluster
    with begun(survey, tmp_path / "run", *where) as driver:
        happens(scheduler, workers)
        assert_ended(driver, tmp_path / "run", reason)


def test_workers_that_are_killed_each_second_end_the_run(survey, tmp_path):
    with begun(survey, tmp_path / "run", "--workers", "2") as driver:
        while driver.poll() is None:
            for process in psutil.Process(driver.pid).children(recursive=True):
                try:
                    if "spawn_main" in " ".join(process.cmdline()):
                        process.kill()
                except psutil.Error:
                    pass
            time.sleep(1)
        assert_ended(driver, tmp_path / "run", "workers have ended ")
