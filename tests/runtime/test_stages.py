"""Stages of a run, and tiles that fail."""

import errno
import os
import signal
from collections import Counter

import pytest

from cwt_dask.errors import InputError, InterruptedRun, MachineError, RunError
from cwt_dask.runtime.executors import InProcess
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.stages import TRIES, Stages
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import begin_ledger, count_failures, last_failures, read_records, read_run_id


class Events(Reporter):
    def __init__(self):
        self.kept = []

    def event(self, what, **facts):
        self.kept.append((what, facts["tile"], facts["attempt"]))


@pytest.fixture
def files(tmp_path):
    files = RunDir(tmp_path)
    begin_ledger(files)
    return files


class Fails:
    """A task that fails with an error at one tile, so often."""

    def __init__(self, error, tile=3, times=10**9):
        self.error, self.tile, self.times = error, tile, times
        self.calls = Counter()

    def __call__(self, tile):
        self.calls[tile] += 1
        if tile == self.tile and self.calls[tile] <= self.times:
            raise self.error
        return tile * 10


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), MemoryError("no room"), MachineError("worker lost")])
def test_errors_of_a_machine_are_tried_again_after_the_others(files, error):
    events, task = Events(), Fails(error, times=2)
    assert Stages(InProcess(), events, files).map_tiles(task, range(5), "tiles") == {n: n * 10 for n in range(5)}
    assert task.calls == {n: 3 if n == 3 else 1 for n in range(5)}
    assert events.kept[-3:] == [("done", 4, 1), ("failed", 3, 2), ("done", 3, 3)]
    assert count_failures(files, 3) == 2


def test_tries_are_limited(files):
    task = Fails(MachineError("worker lost"))
    with pytest.raises(RunError, match="1 of 5 tiles failed .3.; tile 3: .*tracebacks are in the ledger"):
        Stages(InProcess(), Reporter(), files).map_tiles(task, range(5), "tiles")
    assert task.calls == {n: TRIES if n == 3 else 1 for n in range(5)}


@pytest.mark.parametrize("error", [ValueError("no number"), InputError("bad"), RunError("bad"), ZeroDivisionError()])
def test_errors_of_data_are_not_tried_again(files, error):
    task = Fails(error)
    with pytest.raises(RunError, match="1 of 5 tiles failed"):
        Stages(InProcess(), Reporter(), files).map_tiles(task, range(5), "tiles")
    assert set(task.calls.values()) == {1}
    # The next run tries again.
    assert Stages(InProcess(), Reporter(), files).map_tiles(abs, range(5), "tiles")[3] == 3


@pytest.mark.parametrize(
    ("numbers", "remedy"),
    [
        ((errno.ENOSPC, errno.EDQUOT), "make room"),
        ((errno.EROFS,), "mount it for writing"),
        ((errno.EFBIG,), r"raise the limit of a file's size \(ulimit -f\)"),
        ((errno.EACCES, errno.EPERM), "give workers permission to read and write there"),
    ],
)
def test_where_nothing_can_be_written_the_stage_ends_at_once(files, numbers, remedy):
    for number in numbers:
        task = Fails(OSError(number, "no"), tile=1)
        with pytest.raises(RunError, match=f"tiles: tile 1 could not be done .*: {remedy}, and give the same command"):
            Stages(InProcess(), Reporter(), files).map_tiles(task, range(5), "tiles")
        assert set(task.calls) == {0, 1}


def test_a_failure_leaves_a_record_with_its_traceback(files):
    with pytest.raises(RunError):
        Stages(InProcess(), Reporter(), files).map_tiles(Fails(ValueError("no number")), [3, 4], "seams")
    record = last_failures(files)[3]
    assert (record.stage, record.attempt, record.error, record.message) == ("seams", 1, "ValueError", "no number")
    assert "raise self.error" in record.traceback
    assert record.run == read_run_id(files)
    assert read_records(files.ledger) == {}


def test_a_failure_that_cannot_be_recorded_is_reported_all_the_same(files, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cwt_dask.storage.ledger.write_atomically", fail)
    with pytest.raises(RunError, match="ValueError: no number"):
        Stages(InProcess(), Reporter(), files).map_tiles(Fails(ValueError("no number")), [3], "tiles")


def test_a_stage_that_stopped_early_is_interrupted(files):
    stop = Stop()

    def task(tile):
        stop.ask()
        return tile

    with pytest.raises(InterruptedRun):
        Stages(InProcess(stop), Reporter(), files).map_tiles(task, range(3), "tiles")
    # Here all tiles are done.
    stop.asked = False
    assert Stages(InProcess(stop), Reporter(), files).map_tiles(task, [1], "tiles") == {1: 1}


def test_a_stop_while_a_tile_waits_for_its_next_try_is_a_stop(files):
    stop = Stop()

    def task(tile):
        stop.asked = tile == 2
        if tile == 0:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(InterruptedRun):
        Stages(InProcess(stop), Reporter(), files).map_tiles(task, range(3), "tiles")


def test_a_second_signal_is_no_failure_of_the_tile_at_hand(files):
    stop = Stop()

    def task(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRun), stop.on_signals(), stop.patience():
        Stages(InProcess(stop), Reporter(), files).map_tiles(task, [0], "tiles")
    assert count_failures(files, 0) == 0


def test_tasks_of_a_run_that_was_replaced_do_nothing(files):
    def task(tile):
        files.run_id.write_text("another")
        return tile

    with pytest.raises(RunError, match="holds another run by now"):
        Stages(InProcess(), Reporter(), files).map_tiles(task, [0, 1], "flags")


def test_a_ledger_without_its_run_id_is_refused(files):
    files.run_id.unlink()
    with pytest.raises(RunError, match="run-id cannot be read .*: the run's own command writes it again"):
        read_run_id(files)
