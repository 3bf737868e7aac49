"""What is seen of a cluster from look to look; the scheduler's answers are played. Real ones: test_executors.py."""

from types import SimpleNamespace

import pytest

from cwt_dask.runtime import observer
from cwt_dask.runtime.observer import Observer
from cwt_dask.runtime.watchdog import Cluster, Worker

TILES = {"a": 4, "b": 5}
GONE = (1.0, {"action": "remove-worker"})
RETIRED = (2.0, {"action": "remove-worker", "expected": True})
CAME = (3.0, {"action": "add-worker"})


class Scheduler:
    """Answers of a scheduler; its workers have nannies in this process."""

    def __init__(self):
        self.holders, self.seen, self.ended, self.too_large, self.pids = {}, {}, [], [], []
        self.answers = True

    def client(self):
        nannies = {n: SimpleNamespace(pid=pid) for n, pid in enumerate(self.pids)}
        return SimpleNamespace(sync=self._sync, scheduler=None, cluster=SimpleNamespace(workers=nannies))

    def _sync(self, *_, callback_timeout):
        assert callback_timeout
        if not self.answers:
            raise TimeoutError
        return self.holders, {"workers": dict(self.seen)}, self.ended, self.too_large


def known(last_seen, *, executing=1, status="running"):
    metrics = {"memory": 50, "task_counts": {"executing": executing}}
    return {"status": status, "memory_limit": 100, "last_seen": last_seen, "metrics": metrics}


@pytest.fixture
def scheduler():
    return Scheduler()


@pytest.fixture
def watched(scheduler, monkeypatch):
    """Looks at that scheduler, on a machine whose clock stands."""
    monkeypatch.setattr(observer, "time", SimpleNamespace(time=lambda: 1000.0))
    found = Observer(scheduler.client())

    def look(now):
        found._client = scheduler.client()
        return found.look(now, TILES)

    look.landed, look.since = found.landed, lambda: found.since
    return look


def test_a_worker_has_its_oldest_tile_since_it_came_or_the_one_before_left(scheduler, watched):
    scheduler.seen, scheduler.holders = {"w": known(1.0)}, {"w": ["a", "b", "of others"]}
    assert watched(10.0).workers == (Worker("w", "running", 50, 100, 1, 0.0, 4, 0.0),)
    assert watched(40.0).workers[0].held == 30.0
    scheduler.holders = {"w": ["b", "of others"]}
    assert watched(50.0).workers[0].tile == 5
    assert watched(56.0).workers[0].held == 6.0
    assert watched.since() == {("w", "b"): 10.0, ("w", "of others"): 10.0}
    scheduler.holders = {}
    assert (watched(60.0).workers[0].tile, watched.since()) == (None, {})


def test_a_worker_is_unheard_since_the_scheduler_has_last_heard_of_it(scheduler, watched):
    scheduler.seen = {"w": known(1.0), "new": known(1.0) | {"metrics": None, "memory_limit": None}}
    watched(10.0)
    scheduler.seen["w"] = known(2.0)
    assert [worker.unheard for worker in watched(14.0).workers] == [0.0, 4.0]
    assert [worker.unheard for worker in watched(20.0).workers] == [6.0, 10.0]


def test_workers_that_end_are_counted_since_something_came_back(scheduler, watched):
    scheduler.ended, scheduler.too_large = [GONE, CAME], [(0.5, {"pid": 1})]
    assert watched(0.0) == Cluster()
    scheduler.ended = [*scheduler.ended, RETIRED, (4.0, GONE[1]), (4.5, CAME[1]), (5.0, GONE[1])]
    scheduler.too_large = [*scheduler.too_large, (5.0, {"pid": 2})]
    assert watched(2.0) == watched(4.0) == Cluster(ended=2, too_large=1), "the one that retired does not count"
    # The scheduler keeps a number of them only.
    scheduler.ended = [(6.0, GONE[1])]
    assert watched(6.0).ended == 3
    watched.landed()
    assert watched(8.0) == Cluster()


def test_of_workers_that_end_before_the_scheduler_knows_them_the_processes_are_counted(scheduler, watched):
    for look, (pids, ended) in enumerate([([1, 2], 0), ([1, 3], 1), ([None, 4], 3), ([5, 4], 3), ([5, 6], 4)]):
        scheduler.pids = pids
        assert watched(2.0 * look).ended == ended


def test_a_scheduler_that_does_not_answer_is_told_and_asked_again(scheduler, watched):
    scheduler.answers = False
    assert watched(0.0) == Cluster(answers=False)
    scheduler.answers = True
    assert watched(2.0) == Cluster()


def test_a_clock_that_is_set_back_is_noticed_until_it_has_caught_up(watched, monkeypatch):
    behind = []
    for shown in (920.0, 950.0, 1000.0, 1700.0, 1600.0):
        monkeypatch.setattr(observer, "time", SimpleNamespace(time=lambda shown=shown: shown))
        behind.append(watched(0.0).set_back)
        # Tasks that were on their way come back meanwhile.
        watched.landed()
    assert behind == [80.0, 50.0, 0.0, 0.0, 100.0]
