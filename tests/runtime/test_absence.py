"""How long nobody has been at work, with a clock that is played."""

from types import SimpleNamespace

import pytest

from cwt_dask.runtime import absence
from cwt_dask.runtime.absence import MOST_BETWEEN_LOOKS, Absence, RunningTime


def test_an_absence_is_told_at_growing_intervals_and_starts_afresh():
    found = Absence()
    told = [now for now in range(100, 700, 5) if found.look(now, absent=now >= 200)[1]]
    assert told == [260, 320, 440, 680]
    assert found.look(1000, absent=False) == (0, False)
    assert [found.look(now, absent=True) for now in (1001, 1060, 1061)] == [(0, False), (59, False), (60, True)]


@pytest.mark.parametrize("stopped", [60, 10**6])
def test_time_in_which_this_process_was_stopped_does_not_count(monkeypatch, stopped):
    clock = [5.0]
    monkeypatch.setattr(absence, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    running = RunningTime()
    for step, seconds in ((2, 2), (3, 5), (stopped, 5 + MOST_BETWEEN_LOOKS), (1, 6 + MOST_BETWEEN_LOOKS)):
        clock[0] += step
        assert running() == seconds
