"""What is told of a cluster from which nothing comes, and when that ends the run; states and clock are played."""

import math

import pytest

from cwt_dask.runtime.watchdog import Cluster, Watchdog, Worker

GIB = 2**30
BUSY = Worker("w1", executing=1, tile=7, held=90.0)
PAUSED = Worker("w2", status="paused", memory=17 * GIB // 10, limit=2 * GIB, tile=8, held=70.0)
ENDED = "workers have ended 3 times since then, and 1 are there"
CLOCK = "the clock of this machine is 2 h behind what it has shown: Dask waits until it caught up"
WAITS = "Dask gives them no task until they take less"


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        (Cluster(), "there is no worker"),
        (Cluster(queue="jobs in SLURM: 1 pending"), "there is no worker (jobs in SLURM: 1 pending)"),
        (Cluster(ended=1, queue="jobs"), "workers have ended 1 times since then, and none are there (jobs)"),
        (Cluster((BUSY,), ended=1, queue="jobs"), "workers have ended 1 times since then, and 1 are there"),
        (Cluster(ended=2), "workers have ended 2 times since then, and none are there"),
        (Cluster((BUSY,), ended=57), "workers have ended 57 times since then, and 1 are there"),
        (
            Cluster(ended=1, too_large=40),
            "workers have ended 40 times since then (40 times one was above its memory limit), and none are there",
        ),
        (
            Cluster((BUSY, PAUSED)),
            f"1 of 2 workers are paused, as one that takes 1.70 GiB of its limit of 2.00 GiB: {WAITS}",
        ),
        (
            Cluster((Worker("w3", "paused", 10 * GIB), PAUSED)),
            f"2 of 2 workers are paused, as one that takes 1.70 GiB of its limit of 2.00 GiB: {WAITS}",
        ),
        (Cluster((Worker("w4", unheard=75.0, tile=7),)), "nothing is heard of 1 of 1 workers, of w4 for 75 s"),
        (Cluster((Worker("w5", tile=9, held=62.0),)), "tile 9 is at worker w5 for 62 s, and is not computed"),
        (Cluster((Worker("w6"), Worker("w7", executing=1))), "2 workers are there, and none is given a task"),
        (Cluster((Worker("w8", executing=1),)), "all workers compute tasks of others"),
        (Cluster(answers=False), "the scheduler does not answer"),
        (
            Cluster((BUSY, Worker("w4", unheard=75.0)), set_back=80.0),
            "the clock of this machine is 80 s behind what it has shown: Dask waits until it caught up",
        ),
        (Cluster((BUSY,), ended=3, set_back=7200.0), f"{CLOCK}; {ENDED}"),
        (Cluster(answers=False, set_back=7200.0), f"{CLOCK}; the scheduler does not answer"),
        (
            Cluster((Worker("w9", "paused", GIB, GIB),), ended=3),
            f"{ENDED}; 1 of 1 workers are paused, as one that takes 1.00 GiB of its limit of 1.00 GiB: {WAITS}",
        ),
    ],
)
def test_the_reason_why_nothing_comes_back(cluster, reason):
    assert cluster.reason() == reason


def looks(watchdog, cluster, until, step=2):
    """Lines, with the time of each, and how the run ends."""
    lines = []
    for now in range(0, until + 1, step):
        found = watchdog.look(now, cluster(now) if callable(cluster) else cluster)
        lines += [(now, line) for line in found.lines]
        if found.over:
            return lines, (now, found.over)
    return lines, None


def test_what_is_waited_for_is_told_after_a_minute_and_at_growing_intervals_until_the_run_ends():
    watchdog = Watchdog(300.0, 300.0)
    watchdog.landed(0)
    lines, over = looks(watchdog, Cluster(), 1000)
    assert lines == [
        (60, "warning: no tile has come back for 60 s: there is no worker"),
        (120, "warning: no tile has come back for 2 min: there is no worker"),
        (240, "warning: no tile has come back for 4 min: there is no worker"),
    ]
    assert over == (300, "no tile has come back for 5 min: there is no worker")


def test_what_comes_back_starts_the_wait_afresh():
    watchdog = Watchdog(100.0, 100.0)
    for now in range(0, 1000, 50):
        watchdog.landed(now)
        assert watchdog.look(now + 2, Cluster()) == watchdog.look(now + 48, Cluster()) == ([], "")


def computing_since(start):
    return lambda now: Cluster((Worker("w1", executing=1, tile=7, held=now - start), Worker("w2")))


def test_a_tile_that_computes_for_long_is_told_of_and_ends_nothing():
    lines, over = looks(Watchdog(100.0, 100.0), computing_since(0), 3000)
    assert over is None
    told = [(60, "60 s"), (120, "2 min"), (240, "4 min"), (480, "8 min"), (960, "16 min"), (1920, "32 min")]
    assert lines == [(now, f"tile 7 has been computing for {text} on worker w1") for now, text in told]


def test_of_many_workers_that_compute_the_longest_is_named():
    busy = tuple(Worker(f"w{n}", executing=1, tile=n, held=60.0 + n) for n in range(3))
    found = Watchdog().look(0, Cluster(busy))
    assert found.lines == ["tile 2 has been computing for 62 s on worker w2; 2 other workers compute, too"]


@pytest.mark.parametrize(
    ("worker", "told"),
    [
        # It is paused while its task goes on: that one comes back.
        (Worker("w", status="paused", executing=1, tile=1, held=40.0), False),
        (Worker("w", executing=1, tile=1, held=40.0, unheard=20.0), True),
        (Worker("w", executing=0, tile=1, held=40.0), True),
        (Worker("w", executing=1, tile=None), True),
        # Workers that end again and again have none for long.
        (Worker("w", executing=1, tile=1, held=1.0), True),
    ],
)
def test_whether_a_worker_is_taken_to_compute(worker, told):
    lines, _ = looks(Watchdog(), Cluster((worker,)), 60)
    assert bool(lines) == told


def test_workers_of_others_are_waited_for_longer():
    for cluster in (Cluster(), Cluster((Worker("w", executing=2),)), Cluster(ended=2)):
        assert looks(Watchdog(60.0, 600.0), cluster, 1000)[1][0] == 600
    for cluster in (Cluster((Worker("w"),)), Cluster(answers=False), Cluster((PAUSED,))):
        assert looks(Watchdog(60.0, 600.0), cluster, 1000)[1][0] == 60
    assert looks(Watchdog(), Cluster(), 10000)[1] is None
    assert Watchdog().patience == math.inf
