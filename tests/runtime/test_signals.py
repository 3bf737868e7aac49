"""A run that is asked to stop: SIGTERM before walltime, or Ctrl-C."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from skies import poisson_sky, write_survey
from work import digests

from cwt_dask import run_survey
from cwt_dask.errors import InterruptedRun
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.clusters import local_client
from cwt_dask.runtime.executors import WATCHDOG_SECONDS, InProcess, OnDask
from cwt_dask.runtime.signals import SIGNALS, Stop, is_echo
from cwt_dask.storage.driver import read_driver

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 40, "max_iter": 40, "stopping": "fixed"}
COMMAND = [str(Path(sys.executable).with_name("cwt-dask")), "run"]
ARGUMENTS = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()] + ["--fits=no"]


@pytest.fixture(autouse=True)
def _nothing_heard(monkeypatch):
    """What other tests have heard is nothing to these."""
    monkeypatch.setattr("cwt_dask.runtime.signals._heard", {})


@pytest.mark.parametrize("number", SIGNALS)
def test_where_nobody_has_patience_a_signal_ends_at_once(number):
    stop, before = Stop(), signal.getsignal(number)
    with pytest.raises(InterruptedRun, match="give the same command again"), stop.on_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_first_signal_is_noted_and_told_once_and_a_second_one_ends_at_once(monkeypatch):
    monkeypatch.setattr("cwt_dask.runtime.signals.ECHO_SECONDS", 0.0)
    told = []
    stop = Stop(lambda: told.append("stopping"))
    assert not stop.notice()
    stop.check()
    with stop.on_signals(), stop.patience():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.notice(), stop.notice(), told) == (True, True, ["stopping"])
        with pytest.raises(InterruptedRun):
            stop.check()
        with pytest.raises(InterruptedRun):
            os.kill(os.getpid(), signal.SIGTERM)


def test_copies_of_a_signal_are_one(monkeypatch):
    """As SLURM sends them, some milliseconds apart; what it says otherwise, and says later, is another one."""
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
        # Whoever holds Ctrl-C is heard every second.
        assert is_echo(signal.SIGTERM)


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def look():
        with Stop().on_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]


def ask(stop, item):
    if item == 2:
        stop.asked = True
    return item


def test_in_this_process_the_task_at_hand_is_ended_first():
    stop = Stop()
    assert [outcome.item for outcome in InProcess(stop).map(partial(ask, stop), range(9))] == [0, 1, 2]


def nap(seconds, _):
    time.sleep(seconds)


def test_on_dask_tasks_that_are_begun_have_their_time_and_no_others_begin(client):
    """Two are in flight for each of two workers, which are at one each; what waits for its turn is taken back."""
    stop = Stop()
    outcomes = OnDask(client, stop).map(partial(nap, 2 * WATCHDOG_SECONDS), asking(stop, 4))
    assert len(list(outcomes)) == 2


def test_on_dask_patience_ends():
    stop = Stop()
    with local_client(1, 2**30) as client:
        stop.asked = False
        executor = OnDask(client, stop, grace=1.0)
        outcomes = executor.map(partial(nap, 600), asking(stop, 1))
        assert list(outcomes) == []


def asking(stop, n_items):
    """Items, with the last of which a stop is asked, though more would follow."""
    for item in itertools.count():
        stop.asked = item >= n_items - 1
        yield item


@pytest.mark.parametrize("number", SIGNALS)
def test_workers_leave_it_to_the_driver_what_a_signal_is(client, number):
    pids = client.run(os.getpid).values()
    for pid in pids:
        os.kill(pid, number)
    assert client.submit(sum, [1, 2]).result() == 3
    assert sorted(client.run(os.getpid).values()) == sorted(pids)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("stop") / "survey.fits", *poisson_sky((160, 240), seed=3))


@pytest.fixture(scope="module")
def undisturbed(survey, tmp_path_factory):
    return digests(run_survey(survey, tmp_path_factory.mktemp("whole") / "run", workers=0, fits="no", **OPTIONS))


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_a_run_that_is_asked_to_stop_ends_with_75_and_the_same_command_ends_it(
    survey, undisturbed, tmp_path, number, workers
):
    command = [*COMMAND, str(survey), str(tmp_path / "run"), *ARGUMENTS, f"--workers={workers}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert any(line.startswith("tiles") for line in run.stdout), run.stderr.read()
        # As terminals and batch systems do: to all processes, and more than once.
        for _ in range(2):
            os.killpg(run.pid, number)
            time.sleep(0.05)
        said, complained = run.communicate()
    assert run.returncode == 75
    assert "stopping: tasks that have started are finished first" in said
    assert complained == (
        "cwt-dask: interrupted: what was done is kept; give the same command again, it goes on with it\n"
    )
    left = SurveyRun.open(tmp_path / "run")
    assert read_driver(left.files) is None
    some = digests(left)
    assert 0 < len(some) < len(undisturbed)
    assert digests(run_survey(survey, tmp_path / "run", workers=0, fits="no", **OPTIONS)) == undisturbed
