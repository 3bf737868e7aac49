"""Runs that are interrupted: SIGTERM before walltime, or Ctrl-C."""

import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from skies import poisson_sky, write_survey
from tasks import wait
from work import starts

from cwt_dask.errors import InterruptedRun
from cwt_dask.results import SurveyRun
from cwt_dask.runtime import executors
from cwt_dask.runtime.executors import InProcess, OnDask
from cwt_dask.runtime.signals import SIGNALS, Stop, is_echo
from cwt_dask.storage.driver import read_driver

COMMAND = [str(Path(sys.executable).with_name("cwt-dask")), "run"]
OPTIONS = ("--n-scale=2", "--min-scale=1.2", "--step-scale=1.5", "--tile-size=40", "--max-iter=25", "--stopping=fixed")


@pytest.fixture(autouse=True)
def _nothing_heard(monkeypatch):
    """Signals of other tests are no earlier copies."""
    monkeypatch.setattr("cwt_dask.runtime.signals._heard", {})


@pytest.mark.parametrize("number", SIGNALS)
def test_without_patience_a_signal_ends_the_run_at_once(number):
    stop, before = Stop(), signal.getsignal(number)
    with pytest.raises(InterruptedRun, match="give the same command again to resume"), stop.on_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_first_signal_is_announced_once():
    announced = []
    stop = Stop(lambda: announced.append("stopping"))
    assert not stop.notice()
    stop.check()
    with stop.on_signals(), stop.patience():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.notice(), stop.notice(), announced) == (True, True, ["stopping"])
        with pytest.raises(InterruptedRun):
            stop.check()


def test_copies_of_a_signal_are_one_and_a_second_signal_ends_the_run_at_once(monkeypatch):
    """As SLURM sends them, some milliseconds apart; another number, or a later one, is another signal."""
    clock = iter((7.0, 7.01, 7.99, 7.99, 8.01, 8.02))
    monkeypatch.setattr("cwt_dask.runtime.signals.time", SimpleNamespace(monotonic=lambda: next(clock)))
    stop = Stop()
    with stop.on_signals(), stop.patience():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(InterruptedRun):
            os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(InterruptedRun):
            os.kill(os.getpid(), signal.SIGTERM)
        # Ctrl-C that is held down counts every second.
        assert is_echo(signal.SIGTERM)


def test_other_threads_handle_no_signals():
    def look():
        with Stop().on_signals():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        assert pool.submit(look).result() == signal.getsignal(signal.SIGTERM)


def ask(stop, item):
    if item == 2:
        stop.asked = True
    return item


def test_in_this_process_the_task_at_hand_is_ended_first():
    stop = Stop()
    assert [outcome.item for outcome in InProcess(stop).map(partial(ask, stop), range(9))] == [0, 1, 2]


def tasks_of(dask_worker):
    return len(dask_worker.state.tasks)


@pytest.fixture
def asked(one_worker_client, tmp_path, monkeypatch):
    """Runs tasks that wait for a file `end`; a stop is asked for once one runs, and one waits for its turn."""
    monkeypatch.setattr(executors, "WATCHDOG_SECONDS", 0.1)
    stop = Stop()

    def items():
        yield 0
        while not (tmp_path / "started-0").exists():
            time.sleep(0.01)
        stop.ask()
        yield from itertools.count(1)

    def run(**options):
        executor = OnDask(one_worker_client, stop, **options)
        take_back = executor._take_back

        def take_back_all(flying):
            take_back(flying)
            # The worker hears of it later than the scheduler.
            while max(one_worker_client.run(tasks_of).values()) > 1:
                time.sleep(0.01)
            (tmp_path / "taken-back").touch()

        executor._take_back = take_back_all
        return executor.map(partial(wait, tmp_path), items())

    yield run
    (tmp_path / "end").touch()


def test_on_dask_started_tasks_may_end_and_no_others_start(asked, tmp_path):
    (tmp_path / "end").symlink_to("taken-back")
    assert [(outcome.item, outcome.error) for outcome in asked()] == [(0, None)]
    assert not (tmp_path / "started-1").exists()


def test_on_dask_waiting_for_started_tasks_ends(asked):
    assert list(asked(grace=0.1)) == []


def test_workers_leave_signals_to_the_driver(client):
    pids = client.run(os.getpid).values()
    for pid in pids:
        for number in SIGNALS:
            os.kill(pid, number)
    assert client.submit(sum, [1, 2]).result() == 3
    assert sorted(client.run(os.getpid).values()) == sorted(pids)


def test_interrupted_runs_end_with_75_and_the_same_command_resumes(tmp_path):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((160, 240), seed=3))
    kept = {}
    for number, workers in ((signal.SIGTERM, 1), (signal.SIGINT, 0)):
        command = [*COMMAND, str(survey), str(tmp_path / "run"), *OPTIONS, f"--workers={workers}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, start_new_session=True, **pipes) as run:
            assert any(line.startswith("tiles") for line in run.stdout), run.stderr.read()
            # As terminals and batch systems do: to all processes, and more than once.
            for _ in range(2):
                os.killpg(run.pid, number)
                time.sleep(0.05)
            printed, errors = run.communicate()
        assert run.returncode == 75
        assert "stopping: " in printed
        # On a busy machine Dask's nannies warn that workers end slowly.
        lines = [line for line in errors.splitlines() if "distributed.nanny - WARNING" not in line]
        assert lines == ["cwt-dask: interrupted: finished tiles are kept; give the same command again to resume"]
        left = SurveyRun.open(tmp_path / "run")
        assert read_driver(left.files) is None
        earlier, kept = kept, starts(left)
        assert earlier.items() < kept.items()
        assert len(kept) < left.stored.plan.grid.n_tiles


BLOCKED = """
from multiprocessing import resource_tracker
from signal import SIG_BLOCK, SIGUSR1, SIGUSR2, pthread_sigmask
from cwt_dask.runtime.signals import SIGNALS, kept_from_others

with kept_from_others():
    assert pthread_sigmask(SIG_BLOCK, []) >= set(SIGNALS)
assert not pthread_sigmask(SIG_BLOCK, [])
with open(f"/proc/{resource_tracker._resource_tracker._pid}/status") as status:
    (mask,) = (int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))
assert all(mask >> (number - 1) & 1 for number in (SIGUSR1, SIGUSR2))
"""


def test_workers_get_no_signals_and_what_watches_over_them_does_not_die_of_any(client):
    masks = client.run(signal.pthread_sigmask, signal.SIG_BLOCK, [])
    assert all(mask >= set(SIGNALS) for mask in masks.values())
    # Python has one that watches, whoever starts it.
    subprocess.run([sys.executable, "-c", BLOCKED], check=True)
