import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import distributed
import numpy as np
import pytest

from cwt_dask.config.options import Options
from cwt_dask.errors import InputError, MachineError, RunError
from cwt_dask.pipeline.executor import open_executor as _executor
from cwt_dask.runtime import executors
from cwt_dask.runtime.clusters import existing_client, local_client
from cwt_dask.runtime.clusters.environment import dashboard
from cwt_dask.runtime.executors import IN_FLIGHT_PER_THREAD, InProcess, OnDask
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import begin_ledger, last_failures

DASK = str(Path(sys.executable).with_name("dask"))


def invert(item):
    return 1 / item


def die_once(folder, item):
    """Kill the worker process at the first try."""
    mark = Path(folder) / f"died-{item}"
    if item == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.fixture(params=["in process", "on dask"])
def executor(request):
    return InProcess() if request.param == "in process" else OnDask(request.getfixturevalue("client"))


def test_every_item_has_an_outcome_and_an_error_ends_only_its_own(executor):
    outcomes = {outcome.item: outcome for outcome in executor.map(invert, [4, 0, 2, 5])}
    assert {item: outcome.value for item, outcome in outcomes.items()} == {4: 0.25, 0: None, 2: 0.5, 5: 0.2}
    assert isinstance(outcomes[0].error, ZeroDivisionError)
    assert outcomes[4].error is None


def test_no_items_no_outcomes(executor):
    assert list(executor.map(invert, [])) == []


def test_two_calls_are_two_computations(executor, tmp_path):
    function = functools.partial(count_calls, tmp_path)
    assert [outcome.value for outcome in executor.map(function, [1])] == [1]
    assert [outcome.value for outcome in executor.map(function, [1])] == [2]


def hang_once(folder, item):
    """Never come back from the first try of one item."""
    mark = Path(folder) / f"hung-{item}"
    if item == 1 and not mark.exists():
        mark.touch()
        time.sleep(3600)
    return item


def test_a_worker_that_hangs_is_started_anew_and_its_task_tried_again(tmp_path):
    progress, files = Reporter(), RunDir(tmp_path)
    begin_ledger(files)
    with local_client(1, 2**30) as client:
        before = client.run(os.getpid)
        stages = Stages(OnDask(client, deadline=2.0), progress, files)
        assert stages.map_tiles(functools.partial(hang_once, str(tmp_path)), range(4), "naps") == {
            n: n for n in range(4)
        }
        assert set(client.run(os.getpid).values()).isdisjoint(before.values())
    failure = last_failures(files)[1]
    assert (failure.error, failure.attempt) == ("MachineError", 1)
    assert failure.message == "it took more than 4 s: its worker was taken to hang"


def test_what_waits_for_a_worker_does_not_hang(scheduler_process):
    """Tasks of a cluster whose workers have not come, or went, wait as long as it takes."""
    _, file = scheduler_process
    with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
        client.wait_for_workers(1)
        client.retire_workers(list(client.scheduler_info()["workers"]))
        executor = OnDask(client, deadline=0.0)
        future = client.submit(abs, -1)
        seen = {future.key: -1.0}
        assert executor._hanging({future: 1}, seen) == []
        assert (future.status, seen) == ("pending", {})


def test_a_lost_scheduler_is_noticed_where_hanging_tasks_are_looked_for():
    client = Mock(processing=Mock(side_effect=OSError))
    with pytest.raises(RunError, match="scheduler was lost"):
        OnDask(client)._hanging({}, {})


def eat_memory(item):
    """Take a GB, bit by bit, if it is the one that does."""
    eaten = [np.ones(2**21) for _ in range(64 if item == 1 else 0) if not time.sleep(0.1)]
    return item + len(eaten)


def test_a_task_that_runs_out_of_memory_ends_by_itself_and_not_the_others():
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), local_client(1, 400 * 2**20) as client:
        outcomes = {outcome.item: outcome for outcome in OnDask(client).map(eat_memory, [0, 1])}
    assert outcomes[0].value == 0
    assert isinstance(outcomes[1].error, MachineError)
    assert "out of memory or killed" in str(outcomes[1].error)


def count_calls(folder, item):
    (folder / f"{item}-{time.time_ns()}").touch()
    return len(list(folder.iterdir()))


def test_a_bounded_number_is_in_flight(client):
    most = 0

    def items():
        nonlocal most
        for item in range(40):
            most = max(most, item - done)
            yield item

    done = 0
    for _ in OnDask(client).map(abs, items()):
        done += 1
    assert done == 40
    assert most <= IN_FLIGHT_PER_THREAD * sum(client.nthreads().values())


def test_a_worker_that_dies_under_a_task_does_not_end_it(tmp_path):
    with local_client(1, 2**30) as client:
        outcomes = list(OnDask(client).map(functools.partial(die_once, str(tmp_path)), [0, 1, 2]))
    assert sorted(outcome.value for outcome in outcomes) == [0, 1, 2]
    assert (tmp_path / "died-1").exists()


def test_a_cancelled_task_is_an_error_of_its_item(client):
    outcomes = OnDask(client).map(nap, range(1, 5))
    first = next(outcomes)
    waiting = [key for key, state in client.futures.items() if "nap" in str(key) and state.status == "pending"]
    client.cancel([distributed.Future(waiting[-1], client)])
    rest = list(outcomes)
    assert first.error is None
    assert sum("its task was cancelled" in str(outcome.error) for outcome in rest) == 1
    assert sum(outcome.error is None for outcome in rest) == 2


def nap(item):
    time.sleep(1)
    return item


@pytest.fixture
def scheduler_process(tmp_path):
    """A scheduler and one worker as processes of their own, and the file that tells where."""
    file = tmp_path / "scheduler.json"
    where = ("--scheduler-file", str(file), "--no-dashboard")
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([DASK, "scheduler", *where, "--host", "127.0.0.1", "--port", "0"], stderr=log) as scheduler,
        subprocess.Popen([DASK, "worker", *where, "--nthreads", "1", "--no-nanny"], stderr=log) as worker,
    ):
        while not file.exists():
            assert scheduler.poll() is None, "the scheduler has ended"
            time.sleep(0.05)
        yield scheduler, file
        worker.kill()
        scheduler.kill()


def test_a_lost_scheduler_ends_the_run_with_what_to_do(scheduler_process, monkeypatch):
    monkeypatch.setattr(executors, "WATCHDOG_SECONDS", 1.0)
    scheduler, file = scheduler_process
    with existing_client(None, str(file)) as client:
        outcomes = OnDask(client).map(time.sleep, range(50))
        assert next(outcomes).error is None
        scheduler.kill()
        with pytest.raises(RunError, match="scheduler was lost: start the same command again"):
            list(outcomes)


def test_a_scheduler_that_is_not_there_is_a_wrong_call(tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.runtime.clusters.address.CONNECT_SECONDS", 1)
    with (
        pytest.raises(InputError, match="cannot reach scheduler tcp://127.0.0.1:9 "),
        existing_client("tcp://127.0.0.1:9", None),
    ):
        pass
    with (
        pytest.raises(InputError, match="cannot reach scheduler foo://x: it must look like tls://host:8786"),
        existing_client("foo://x", None),
    ):
        pass
    with (
        pytest.raises(InputError, match="cannot reach the scheduler of file .*no such file"),
        existing_client(None, str(tmp_path / "no")),
    ):
        pass


def test_a_scheduler_without_workers_is_not_waited_for_for_ever(scheduler_process, monkeypatch):
    monkeypatch.setattr("cwt_dask.runtime.clusters.address.WORKER_SECONDS", 1)
    _, file = scheduler_process
    with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
        client.wait_for_workers(1)
        client.retire_workers(list(client.scheduler_info()["workers"]))
        with (
            pytest.raises(InputError, match="has no workers after 1 s: start some first"),
            existing_client(None, str(file)),
        ):
            pass


def test_a_local_cluster_speaks_tls_on_the_loopback_interface_only(client):
    assert client.scheduler.address.startswith("tls://127.0.0.1")
    assert "127.0.0.1" in client.dashboard_link
    with pytest.raises(OSError, match="."):
        distributed.Client(client.scheduler.address.replace("tls", "tcp"), timeout=2, set_as_default=False)


def test_workers_compute_with_one_thread(client):
    for environment in client.run(lambda: dict(os.environ)).values():
        assert environment["OMP_NUM_THREADS"] == environment["BLOSC_NTHREADS"] == "1"
    assert set(client.nthreads().values()) == {1}


class ManyWorkers:
    """A client of six workers, of which one hangs and the last has too little memory; as Dask, it describes five."""

    dashboard_link = ""

    def __init__(self):
        self.over = threading.Event()

    def nthreads(self):
        return dict.fromkeys("abcdef", 1)

    def scheduler_info(self, n_workers=5):
        limits = dict.fromkeys("abcdef", 2**40) | {"f": 1000}
        names = list(limits)[: n_workers if n_workers >= 0 else None]
        return {"workers": {name: {"memory_limit": limits[name]} for name in names}}

    def run(self, *_, **__):
        self.over.wait()
        return {}


def test_all_workers_are_looked_at_and_one_that_hangs_ends_no_run(monkeypatch):
    monkeypatch.setattr(executors, "ANSWER_SECONDS", 0.1)
    many, told = ManyWorkers(), []
    plan = SimpleNamespace(worker_memory=2**30, deadline=60.0)
    progress = SimpleNamespace(message=told.append)
    with _executor(many, Options.parse({}).execution, plan, progress, Stop()):
        pass
    many.over.set()
    assert told[-1] == "warning: a worker may take 0.98 kiB, and the plan asks for 1.00 GiB"


def test_no_profiler_looks_at_workers(client):
    callbacks = client.run(lambda dask_worker: list(dask_worker.periodic_callbacks))
    for names in callbacks.values():
        assert "heartbeat" in names
        assert "profile" not in names


def test_the_dashboard_is_named_where_it_can_be_seen(client):
    assert dashboard(client) == f", dashboard at {client.dashboard_link}"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        elsewhere = SimpleNamespace(dashboard_link=f"http://127.0.0.1:{port}/status")
        assert dashboard(elsewhere) == f", dashboard on the scheduler's machine at http://127.0.0.1:{port}/status"
    assert dashboard(SimpleNamespace(dashboard_link="")) == ""
