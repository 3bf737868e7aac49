import io
import json
import re
from datetime import datetime
from types import SimpleNamespace

import pytest
from rich.console import Console

from cwt_dask.runtime import progress
from cwt_dask.runtime.progress import Bar, Lines, Reporter, reporter


@pytest.mark.parametrize(("total", "shown"), [(25, (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)), (3, (1, 2, 3)), (0, ())])
def test_lines_show_every_tenth_of_a_stage_and_its_end(capsys, total, shown):
    assert list(Lines().track(range(total), "tiles", total)) == list(range(total))
    assert capsys.readouterr().out.splitlines() == [f"tiles: {n} of {total}" for n in shown]


def test_lines_of_a_long_stage_show_rate_time_left_and_memory(capsys, monkeypatch):
    seconds = iter([0.0, 4.0, 3600.0, 5400.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    lines = Lines()
    for item in lines.track(range(3), "tiles", 3):
        lines.event("done", stage="tiles", tile=item, attempt=1, memory=(item + 1) * 2**20 if item < 2 else 2**10)
    assert capsys.readouterr().out.splitlines() == [
        "tiles: 1 of 3",
        "tiles: 2 of 3, 2.0/h, about 30 min left, at most 2 MiB a worker",
        "tiles: 3 of 3, 2.0/h, at most 2 MiB a worker",
    ]


@pytest.mark.parametrize(("per_second", "words"), [(12, "12.0/s"), (0.5, "30.0/min"), (0.01, "36.0/h")])
def test_rates_have_the_unit_that_fits(per_second, words):
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

    for shown in (Reporter(), Lines(), Bar()):
        asked.clear()
        assert next(iter(shown.track(items(), "tiles", 3))) == 0
        assert asked == [0]


def test_silence(capsys):
    silent = Reporter()
    silent.message("something")
    assert list(silent.track(range(3), "tiles", 3)) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_bar_shows_stage_and_count_and_text_as_it_is():
    bar = Bar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    bar.message("[bold]/data/run[1]: 3 of 4 [/]")
    assert list(bar.track(range(4), "tiles, 10 iterations", 4)) == [0, 1, 2, 3]
    drawn = bar.console.file.getvalue()
    for text in ("[bold]/data/run[1]: 3 of 4 [/]", "tiles, 10 iterations", "4/4"):
        assert text in drawn


def test_a_bar_shows_rate_time_left_and_memory_on_eighty_columns(monkeypatch):
    seconds = iter([0.0, 60.0, 120.0, 180.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    bar = Bar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False, no_color=True)
    shown = []
    for item in bar.track(range(3), "look-ahead tiles, iterations 1 to 10", 3):
        bar.event("done", stage="tiles", tile=item, attempt=1, memory=700 * 2**20)
        shown.append(bar._pace(item + 1, 3, 60.0 * (item + 1)))
    assert shown == [f"1.0/min{left}, 700 MiB" for left in (", 2 min left", ", 60 s left", "")]
    assert shown[-1] in bar.console.file.getvalue()
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
    ("quiet", "terminal", "by_mpi", "kind"),
    [
        (True, True, False, Reporter),
        (False, True, False, Bar),
        (False, False, False, Lines),
        # Open MPI gives its processes a terminal, and prints to a file.
        (False, True, True, Lines),
    ],
)
def test_the_terminal_decides_how_progress_is_shown(monkeypatch, quiet, terminal, by_mpi, kind):
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=io.StringIO(), force_terminal=terminal))
    if by_mpi:
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert type(reporter(quiet=quiet)) is kind


def test_json_has_a_line_an_event(capsys):
    log = reporter(quiet=False, log_format="json")
    log.message("text")
    assert list(log.track(range(2), "tiles", 2)) == [0, 1]
    log.event("failed", stage="tiles", tile=1, attempt=2, error='ValueError: "x"')
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["message", "begun", "ended", "failed"]
    assert lines[0]["text"] == "text"
    assert lines[1]["tiles"] == 2
    assert (lines[3]["tile"], lines[3]["attempt"], lines[3]["error"]) == (1, 2, 'ValueError: "x"')
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)


def test_as_text_only_failures_are_worth_a_line(capsys):
    lines = Lines()
    lines.event("done", stage="tiles", tile=1, attempt=1)
    lines.event("failed", stage="tiles", tile=1, attempt=2, failures=3, error="ValueError: x")
    assert capsys.readouterr().out == "tiles: tile 1 failed, attempt 2: ValueError: x\n"
