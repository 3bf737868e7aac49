import io
import json
import re
from datetime import datetime
from types import SimpleNamespace

import pytest
from rich.console import Console

from cwt_dask.runtime import progress
from cwt_dask.runtime.progress import Bar, Lines, Reporter, reporter


def test_lines_tell_every_tenth_of_a_stage_and_its_end(capsys):
    assert list(Lines().track(range(25), "tiles", 25)) == list(range(25))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"tiles: {n} of 25" for n in (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)]


def test_lines_of_a_short_stage_tell_each_item(capsys):
    list(Lines().track("abc", "tiles", 3))
    assert capsys.readouterr().out == "tiles: 1 of 3\ntiles: 2 of 3\ntiles: 3 of 3\n"


def test_lines_of_an_empty_stage_tell_nothing(capsys):
    assert list(Lines().track([], "tiles", 0)) == []
    assert capsys.readouterr().out == ""


def test_lines_of_a_long_stage_tell_rate_time_left_and_memory(capsys, monkeypatch):
    seconds = iter([0.0, 4.0, 3600.0, 5400.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    teller = Lines()
    for item in teller.track(range(3), "tiles", 3):
        teller.event("done", stage="tiles", tile=item, attempt=1, memory=(item + 1) * 2**20 if item < 2 else 2**10)
    assert capsys.readouterr().out.splitlines() == [
        "tiles: 1 of 3",
        "tiles: 2 of 3, 2.0/h, about 30 min left, at most 2 MiB a worker",
        "tiles: 3 of 3, 2.0/h, at most 2 MiB a worker",
    ]


@pytest.mark.parametrize(("per_second", "words"), [(12, "12.0/s"), (0.5, "30.0/min"), (0.01, "36.0/h")])
def test_rates_are_of_whatever_is_counted(per_second, words):
    assert progress.rate(per_second) == words


@pytest.mark.parametrize(("seconds", "words"), [(7300, "2 h"), (7000, "117 min"), (119, "119 s")])
def test_times_left_are_rounded(seconds, words):
    assert progress.duration(seconds) == words


def test_an_item_is_passed_on_before_the_next_is_asked_for():
    asked = []

    def items():
        for item in range(3):
            asked.append(item)
            yield item

    for teller in (Reporter(), Lines(), Bar()):
        asked.clear()
        assert next(iter(teller.track(items(), "tiles", 3))) == 0
        assert asked == [0]


def test_silence(capsys):
    teller = Reporter()
    teller.message("something")
    assert list(teller.track(range(3), "tiles", 3)) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_bar_shows_stage_and_count_and_text_as_it_is():
    bar = Bar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    bar.message("[bold]/data/run[1]: 3 of 4 [/]")
    assert list(bar.track(range(4), "tiles, 10 iterations", 4)) == [0, 1, 2, 3]
    said = bar.console.file.getvalue()
    assert "[bold]/data/run[1]: 3 of 4 [/]" in said
    assert "tiles, 10 iterations" in said
    assert "4/4" in said


def test_a_bar_shows_rate_time_left_and_memory_on_eighty_columns(monkeypatch):
    seconds = iter([0.0, 60.0, 120.0, 180.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    bar = Bar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False, no_color=True)
    said = []
    for item in bar.track(range(3), "look-ahead tiles, iterations 1 to 10", 3):
        bar.event("done", stage="tiles", tile=item, attempt=1, memory=700 * 2**20)
        said.append(bar._pace(item + 1, 3, 60.0 * (item + 1)))
    assert said == [f"1.0/min{left}, 700 MiB" for left in (", 2 min left", ", 60 s left", "")]
    assert said[-1] in bar.console.file.getvalue()
    assert "…" not in bar.console.file.getvalue()


def test_a_bar_shows_the_time_before_the_first_item_has_come():
    bar = Bar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False, no_color=True)
    assert list(bar.track([], "tiles", 3)) == []
    assert re.search(r"\d:\d\d:\d\d", bar.console.file.getvalue())


def test_a_long_message_is_not_broken():
    bar = Bar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=20, highlight=False)
    bar.message("/a/path/that/is/longer/than/the/terminal")
    assert bar.console.file.getvalue() == "/a/path/that/is/longer/than/the/terminal\n"


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"), [(True, True, Reporter), (False, True, Bar), (False, False, Lines)]
)
def test_the_right_one_for_the_occasion(monkeypatch, quiet, terminal, kind):
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=io.StringIO(), force_terminal=terminal))
    assert type(reporter(quiet=quiet)) is kind


def test_what_open_mpi_takes_for_a_terminal_gets_lines(monkeypatch):
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert type(reporter(quiet=False)) is Lines


def test_json_has_a_line_an_event(capsys):
    teller = reporter(quiet=False, log_format="json")
    teller.message("going on")
    assert list(teller.track(range(2), "tiles", 2)) == [0, 1]
    teller.event("failed", stage="tiles", tile=1, attempt=2, error='ValueError: "x"')
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["message", "begun", "ended", "failed"]
    assert lines[0]["text"] == "going on"
    assert lines[1]["tiles"] == 2
    assert (lines[3]["tile"], lines[3]["attempt"], lines[3]["error"]) == (1, 2, 'ValueError: "x"')
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)


def test_in_words_only_failures_are_worth_a_line(capsys):
    teller = Lines()
    teller.event("done", stage="tiles", tile=1, attempt=1)
    teller.event("failed", stage="tiles", tile=1, attempt=2, failures=3, error="ValueError: x")
    assert capsys.readouterr().out == "tiles: tile 1 failed, attempt 2: ValueError: x\n"
