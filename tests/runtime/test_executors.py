import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import distributed
import pytest
from distributed.scheduler import KilledWorker, NoWorkerError
from reporters import Messages
from tasks import count_calls, die_once, eat_memory, hang_once, invert, wait, wait_but_first

from cwt_dask import run_survey
from cwt_dask.config.options import Options
from cwt_dask.errors import InputError, MachineError, RunError, SettingsError
from cwt_dask.runtime import absence, executors, observer
from cwt_dask.runtime.clusters import address
from cwt_dask.runtime.clusters.address import existing_client
from cwt_dask.runtime.clusters.environment import dashboard
from cwt_dask.runtime.clusters.local import local_client
from cwt_dask.runtime.executors import IN_FLIGHT_PER_THREAD, InProcess, OnDask, ask_workers
from cwt_dask.runtime.observer import Observer
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.small import usable_share
from cwt_dask.runtime.stages import Stages
from cwt_dask.runtime.watchdog import Watchdog
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import begin_ledger, last_failures


@pytest.fixture(params=["in process", "on dask"])
def executor(request):
    return InProcess() if request.param == "in process" else OnDask(request.getfixturevalue("client"))


def test_every_item_has_an_outcome_and_an_error_ends_only_its_own(executor):
    outcomes = {outcome.item: outcome for outcome in executor.map(invert, [4, 0, 2, 5])}
    assert {item: outcome.value for item, outcome in outcomes.items()} == {4: 0.25, 0: None, 2: 0.5, 5: 0.2}
    assert isinstance(outcomes[0].error, ZeroDivisionError)
    assert outcomes[4].error is None
    assert list(executor.map(invert, [])) == []


def test_two_calls_are_two_computations(executor, tmp_path):
    calls = [executor.map(partial(count_calls, tmp_path), [1]) for _ in range(2)]
    assert [outcome.value for call in calls for outcome in call] == [1, 2]


def test_a_worker_that_hangs_is_restarted_and_its_task_tried_again(one_worker_client, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "WATCHDOG_SECONDS", 0.2)
    files = RunDir(tmp_path)
    begin_ledger(files)
    before = one_worker_client.run(os.getpid)
    stages = Stages(OnDask(one_worker_client, deadline=1.5), Reporter(), files)
    assert stages.map_tiles(partial(hang_once, str(tmp_path)), range(4), "naps") == {n: n for n in range(4)}
    assert set(one_worker_client.run(os.getpid).values()).isdisjoint(before.values())
    failure = last_failures(files)[1]
    assert (failure.error, failure.attempt) == ("MachineError", 1)
    assert failure.message == "no result after 3 s: its worker is taken to hang"


def test_a_worker_that_dies_under_a_task_does_not_end_it(one_worker_client, tmp_path):
    outcomes = list(OnDask(one_worker_client).map(partial(die_once, str(tmp_path)), [0, 1, 2]))
    assert {outcome.item: outcome.value for outcome in outcomes} == {0: 0, 1: 1, 2: 2}, outcomes
    assert (tmp_path / "died").exists()


def test_a_task_that_runs_out_of_memory_ends_by_itself_and_not_the_others():
    with local_client(1, 400 * 2**20, scheduler_kwargs={"allowed_failures": 0}) as client:
        outcomes = {outcome.item: outcome for outcome in OnDask(client).map(eat_memory, [0, 1])}
    assert outcomes[0].value == 0
    assert isinstance(outcomes[1].error, MachineError)
    assert "out of memory or killed" in str(outcomes[1].error)


def test_a_bounded_number_is_in_flight(client):
    done, flying = 0, []

    def items():
        for item in range(40):
            flying.append(item - done)
            yield item

    for _ in OnDask(client).map(abs, items()):
        done += 1
    assert done == 40
    assert max(flying) <= IN_FLIGHT_PER_THREAD * sum(client.nthreads().values())


def test_a_cancelled_task_is_an_error_of_its_item(client, tmp_path):
    outcomes = OnDask(client).map(partial(wait_but_first, tmp_path), range(4))
    assert next(outcomes).error is None
    waiting = [key for key, state in client.futures.items() if "wait_but" in str(key) and state.status == "pending"]
    client.cancel([distributed.Future(waiting[-1], client)])
    (tmp_path / "end").touch()
    errors = [outcome.error for outcome in outcomes if outcome.error]
    assert [str(error) for error in errors] == ["its task was cancelled"]


@pytest.fixture
def threads(monkeypatch):
    """A cluster of threads of this process, which has no workers yet."""
    monkeypatch.setattr(executors, "WATCHDOG_SECONDS", 0.01)
    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "protocol": "tcp", "host": "127.0.0.1"}
    with distributed.LocalCluster(**options, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


@pytest.fixture
def their_client(threads):
    with distributed.Client(threads, set_as_default=False) as client:
        yield client


def test_tasks_that_wait_for_a_worker_do_not_hang(their_client):
    """Where workers have not come, or have gone, tasks wait without limit."""
    executor, observer = OnDask(their_client, deadline=0.0), Observer(their_client)
    future = their_client.submit(abs, -1)
    assert observer.look(0.0, {future.key: 1}).workers == ()
    assert executor._hanging({future: 1}, observer.since, 1.0) == []
    assert (future.status, observer.since) == ("pending", {})


@pytest.mark.parametrize("done", [0, 1])
def test_without_any_worker_a_run_of_this_machine_ends(threads, their_client, done):
    """They are gone before the first task, or later."""

    def scale(n_workers):
        threads.scale(n_workers)
        # However long that takes.
        while len(their_client.nthreads()) != n_workers:
            time.sleep(0.01)

    scale(done)
    outcomes = OnDask(their_client, watchdog=Watchdog(0.5, 0.5)).map(abs, range(20))
    assert [next(outcomes).error for _ in range(done)] == [None] * done
    scale(0)
    with pytest.raises(
        RunError,
        match=r"^no tile .* \d s: (there is no worker|workers have.* none are there); what is done is kept",
    ):
        list(outcomes)


def test_where_workers_may_come_their_absence_is_told(threads, their_client, monkeypatch):
    monkeypatch.setattr(absence, "QUIET_SECONDS", 0.1)
    told = []

    def report(text):
        told.append(text)
        threads.scale(1)

    assert len(list(OnDask(their_client, report=report).map(abs, range(3)))) == 3
    assert told[0] == "warning: no tile has come back for 0 s: there is no worker"


def stalled(client, monkeypatch, tmp_path):
    """The warnings of a run on a cluster that goes on with nothing, and how it ends."""
    monkeypatch.setattr(absence, "QUIET_SECONDS", 0.2)
    told = []
    executor = OnDask(client, watchdog=Watchdog(1.0, 1.0), report=told.append)
    with pytest.raises(RunError) as ended:
        list(executor.map(partial(wait, tmp_path), range(3)))
    assert not client.futures or all(future.status == "cancelled" for future in client.futures.values())
    return told, str(ended.value)


def test_workers_that_are_paused_for_good_end_a_run_with_their_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(executors, "WATCHDOG_SECONDS", 0.05)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "protocol": "tcp", "host": "127.0.0.1"}
    site = {"distributed.worker.memory.pause": 0.001, "distributed.worker.memory.spill": False}
    with (
        dask.config.set(site),
        distributed.LocalCluster(**options, memory_limit=2**30, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        # They pause within a tenth of a second, however long that takes.
        while {each["status"] for each in client.scheduler_info()["workers"].values()} != {"paused"}:
            time.sleep(0.01)
        told, end = stalled(client, monkeypatch, tmp_path)
        assert set(ask_workers(client, usable_share).values()) == {0.001}
    reason = r"\d of 2 workers are paused, as one that takes \d.* MiB of its limit of 1.00 GiB: Dask gives them no task"
    assert re.match(f"warning: no tile has come back for 0 s: {reason}", told[0])
    assert re.match(f"no tile has come back for 1 s: {reason} .*; what is done is kept: mend that, and give the", end)


def test_a_clock_that_is_set_back_is_what_is_told(their_client, monkeypatch):
    shown = itertools.count(10**6, -100)
    monkeypatch.setattr(observer, "time", SimpleNamespace(time=lambda: next(shown)))
    with pytest.raises(RunError, match="the clock of this machine is .* min behind what it has shown: Dask"):
        list(OnDask(their_client, watchdog=Watchdog(0.1, 0.1)).map(abs, range(3)))


def test_a_value_that_is_lost_with_its_worker_is_waited_for(their_client, threads, monkeypatch):
    """The scheduler has it computed again; who waits for that alone sees nothing else."""
    threads.scale(1)
    results, result = [TimeoutError, KilledWorker("a", None, 3)], distributed.Future.result

    def late(future, timeout):
        if results:
            raise results.pop()
        return result(future, timeout=timeout)

    monkeypatch.setattr(distributed.Future, "result", late)
    assert sorted(outcome.value for outcome in OnDask(their_client).map(abs, [-1, -2])) == [1, 2]
    assert not results


def test_workers_of_a_queue_are_looked_at_once_they_come(threads, their_client, monkeypatch):
    """By what they may use of their limits, half of them here; the others are not refused, but told of."""
    told = []

    def executor(need):
        return OnDask(their_client, need=need, watchdog=Watchdog(60.0, 60.0), report=told.append)

    monkeypatch.setattr(executors, "ask_workers", lambda client, _: dict.fromkeys(client.nthreads(), 0.5))
    late = executor(2**60)
    threads.scale(1)
    refused = "a worker may take .*iB, and the plan asks for 1024.00 PiB: start workers with a larger limit"
    with pytest.raises(SettingsError, match=refused):
        list(late.map(abs, range(3)))
    (limit,) = (worker["memory_limit"] for worker in their_client.scheduler_info(n_workers=-1)["workers"].values())
    executor(limit // 2).refuse_workers()
    with pytest.raises(SettingsError, match=refused.replace("1024.00 PiB", ".*")):
        executor(limit // 2 + 1).refuse_workers()
    threads.scale(2)
    their_client.wait_for_workers(2)
    first, _ = their_client.nthreads()
    monkeypatch.setattr(executors, "ask_workers", lambda *_: {first: 0.5})
    executor(limit // 2 + 1).refuse_workers()
    (line,) = told
    assert line.startswith("warning: a worker may take ")


def test_the_time_of_a_task_does_not_run_while_this_process_is_stopped(threads, their_client, monkeypatch):
    clock = itertools.count(0, 10**6)
    monkeypatch.setattr(absence, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    threads.scale(1)
    (outcome,) = OnDask(their_client, deadline=1e5).map(time.sleep, [0.5])
    assert outcome.error is None


def test_what_a_scheduler_gives_up_for_want_of_workers_is_tried_again():
    future = Mock(status="error", exception=lambda: NoWorkerError("a", 60.0), traceback=lambda: None)
    assert isinstance(executors._outcome(future, 1).error, MachineError)


def test_waiting_for_a_first_worker_ends(threads, monkeypatch):
    monkeypatch.setattr(address, "WORKER_SECONDS", 0.2)
    with (
        pytest.raises(InputError, match=r"has no workers after 0\.2 s: start some first"),
        existing_client(threads.scheduler_address, None),
    ):
        pass


@pytest.fixture
def scheduler_process(tmp_path):
    """A scheduler and one worker as processes of their own, and the file with its address."""
    dask, file = str(Path(sys.executable).with_name("dask")), tmp_path / "scheduler.json"
    where = ("--scheduler-file", str(file), "--no-dashboard")
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([dask, "scheduler", *where, "--host", "127.0.0.1", "--port", "0"], stderr=log) as scheduler,
        subprocess.Popen([dask, "worker", *where, "--nthreads", "1", "--no-nanny"], stderr=log) as worker,
    ):
        while not file.exists():
            assert scheduler.poll() is None, "the scheduler has ended"
            time.sleep(0.05)
        yield scheduler, file
        worker.kill()
        scheduler.kill()


LOST = "the Dask scheduler was lost: give the same command again to resume"


def test_a_lost_scheduler_ends_the_run_with_a_remedy(scheduler_process, monkeypatch):
    monkeypatch.setattr(executors, "WATCHDOG_SECONDS", 1.0)
    scheduler, file = scheduler_process
    with existing_client(None, str(file)) as client:
        outcomes = OnDask(client).map(time.sleep, range(50))
        assert next(outcomes).error is None
        scheduler.kill()
        with pytest.raises(RunError, match=LOST):
            list(outcomes)


@pytest.mark.parametrize("call", ["nthreads", "wait", "sync"])
def test_a_lost_scheduler_is_noticed_at_every_call(monkeypatch, call):
    """Which one comes first is chance with a real scheduler."""
    monkeypatch.setattr("distributed.wait", Mock(side_effect=TimeoutError))
    client = Mock(
        status="closed" if call == "wait" else "running",
        nthreads=lambda **_: {"worker": 1},
        submit=lambda *_, **__: Mock(status="pending"),
        as_current=nullcontext,
    )
    if call != "wait":
        setattr(client, call, Mock(side_effect=OSError("Timed out trying to connect")))
    with pytest.raises(RunError, match=LOST):
        list(OnDask(client).map(abs, [1]))


def test_a_local_cluster_speaks_tls_on_the_loopback_interface_only(client):
    assert client.scheduler.address.startswith("tls://127.0.0.1")
    assert "127.0.0.1" in client.dashboard_link
    with pytest.raises(OSError, match="."):
        distributed.Client(client.scheduler.address.replace("tls", "tcp"), timeout=2, set_as_default=False)


def test_workers_compute_with_one_thread_and_no_profiler_looks_at_them(client):
    found = client.run(lambda dask_worker: (dict(os.environ), list(dask_worker.periodic_callbacks)))
    for environment, callbacks in found.values():
        assert environment["OMP_NUM_THREADS"] == environment["BLOSC_NTHREADS"] == "1"
        assert ("heartbeat" in callbacks, "profile" in callbacks) == (True, False)
    assert set(client.nthreads().values()) == {1}


def test_what_workers_print_is_no_output_of_the_run(client):
    assert all(client.run(lambda: os.path.samestat(os.fstat(1), os.fstat(2))).values())


# What each would do to a run: no worker after a while; no more tasks, for ever; no cluster.
SITE = {
    "worker.lifetime.duration": ("6s", None),
    "worker.lifetime.restart": (False, True),
    "worker.memory.pause": (0.1, False),
    "worker.memory.terminate": (0.1, 1.0),
    "scheduler.worker-ttl": ("1s", None),
    "deploy.lost-worker-timeout": ("1s", "1000 days"),
    "scheduler.idle-timeout": ("1s", None),
    "scheduler.preload": (["absent"], []),
    "nanny.preload": (["absent"], []),
    "client.preload": (["absent"], []),
    "comm.tls.ca-file": ("/none", None),
    "comm.tls.min-version": (9, 1.2),
}


def test_a_sites_configuration_of_dask_does_not_reach_workers_of_this_machine(client, monkeypatch):
    def ours():
        return {name: dask.config.get(f"distributed.{name}") for name in SITE}

    found = []
    monkeypatch.setattr(distributed, "LocalCluster", lambda **_: found.append(ours()) or 1 / 0)
    site = {f"distributed.{name}": theirs for name, (theirs, _) in SITE.items()}
    with dask.config.set(site), pytest.raises(InputError, match="workers cannot start here"), local_client(1, 2**30):
        pass
    right = {name: right for name, (_, right) in SITE.items()}
    assert found == [right]
    # Nor does what their environment says.
    assert list(client.run(ours).values()) == [right, right]


def test_all_workers_are_checked_and_one_that_hangs_ends_no_run(monkeypatch):
    monkeypatch.setattr(executors, "ANSWER_SECONDS", 0.1)
    limits, over = dict.fromkeys("abcdef", 2**40) | {"f": 1000}, threading.Event()

    # As Dask, it describes five workers unless all are asked for.
    def describe(n_workers=5):
        names = list(limits)[: n_workers if n_workers >= 0 else None]
        return {"workers": {name: {"memory_limit": limits[name], "resources": {}} for name in names}}

    many = Mock(
        nthreads=lambda **_: limits, scheduler_info=describe, run=lambda *_, **__: over.wait(), dashboard_link=""
    )
    plan, progress = SimpleNamespace(worker_memory=2**30, deadline=60.0), Messages()
    with Workers(many, Options.parse({}).execution).open(plan, progress, Stop()):
        pass
    over.set()
    assert progress.texts[-1] == "warning: a worker may take 0.98 kiB, and the plan asks for 1.00 GiB"


ASKED = "^dask.annotate asks for resources GPU=2,DISK=1, which no worker offers: start workers with --resources GPU"


@pytest.mark.parametrize("ours", [True, False])
def test_resources_that_no_worker_offers_are_refused_before_anything_is_made(
    survey, tmp_path, client, monkeypatch, ours
):
    monkeypatch.setattr("cwt_dask.runtime.clusters.local.local_client", lambda *_, **__: nullcontext(client))
    options = {"workers": 2} if ours else {"client": client}
    with dask.annotate(resources={"GPU": 2, "DISK": 1}), pytest.raises(SettingsError, match=ASKED):
        run_survey(survey, tmp_path / "run", min_scale=1.2, n_scale=2, step_scale=1.5, tile_size=64, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("offered", [{"GPU": 1, "DISK": 1}, {"GPU": 3}, {"GPU": 2, "DISK": 1.5}])
def test_resources_that_a_worker_offers_are_kept_to(threads, their_client, offered):
    plan, workers = SimpleNamespace(worker_memory=0, deadline=60.0), Workers(their_client, Options.parse({}).execution)
    with dask.annotate(resources={"GPU": 2, "DISK": 1}):
        # Of workers that are not there nothing is known.
        with workers.open(plan, Reporter(), Stop()):
            pass
        threads.new_spec["options"]["resources"] = offered
        threads.scale(1)
        their_client.wait_for_workers(1)
        is_enough = min(offered.get("GPU", 0) - 2, offered.get("DISK", 0) - 1) >= 0
        refused = nullcontext() if is_enough else pytest.raises(SettingsError, match=ASKED)
        with refused, workers.open(plan, Reporter(), Stop()) as executor:
            assert len(list(executor.map(abs, range(3)))) == 3


def test_the_dashboard_is_named_where_it_can_be_seen(client):
    assert dashboard(client) == f", dashboard at {client.dashboard_link}"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        link = f"http://127.0.0.1:{silent.getsockname()[1]}/status"
        assert dashboard(SimpleNamespace(dashboard_link=link)) == f", dashboard on the scheduler's machine at {link}"
    assert dashboard(SimpleNamespace(dashboard_link="")) == ""
