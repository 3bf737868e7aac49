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


def test_rates_and_times_left_have_the_unit_that_fits():
    assert [progress.rate(per_second) for per_second in (12, 0.5, 0.01)] == ["12.0/s", "30.0/min", "36.0/h"]
    assert [progress.duration(seconds) for seconds in (7300, 7000, 119)] == ["2 h", "117 min", "119 s"]


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
    assert capsys.readouterr() == ("", "")


def bar_on(width):
    """A bar on a terminal of that many columns; what it draws is in `bar.console.file`."""
    bar = Bar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, no_color=True)
    return bar


def test_a_bar_shows_messages_as_they_are_and_in_one_line():
    bar, text = bar_on(20), "[bold]/data/run[1]: a path that is longer than the terminal [/]"
    bar.message(text)
    assert bar.console.file.getvalue() == f"{text}\n"


def test_a_bar_shows_stage_count_rate_time_left_and_memory_on_eighty_columns(monkeypatch):
    seconds = iter([0.0, 60.0, 120.0, 180.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    bar, shown = bar_on(80), []
    for item in bar.track(range(3), "look-ahead tiles, iterations 1 to 10", 3):
        bar.event("done", stage="tiles", tile=item, attempt=1, memory=700 * 2**20)
        shown.append(bar._pace(item + 1, 3, 60.0 * (item + 1)))
    assert shown == [f"1.0/min{left}, 700 MiB" for left in (", 2 min left", ", 60 s left", "")]
    drawn = bar.console.file.getvalue()
    assert all(text in drawn for text in (shown[-1], "look-ahead tiles", "3/3"))
    assert "…" not in drawn


def test_a_bar_shows_the_time_before_the_first_item_has_come():
    bar = bar_on(80)
    assert list(bar.track([], "tiles", 3)) == []
    assert re.search(r"\d:\d\d:\d\d", bar.console.file.getvalue())


@pytest.mark.parametrize(
    ("quiet", "terminal", "environment", "kind"),
    [
        (True, True, {}, Reporter),
        (False, True, {}, Bar),
        # Nothing can be drawn over on it, and nothing is on a file that is asked to be in colour.
        (False, True, {"TERM": "dumb"}, Lines),
        (False, False, {"FORCE_COLOR": "1"}, Lines),
        # Open MPI gives its processes a terminal, and prints to a file.
        (False, True, {"OMPI_COMM_WORLD_RANK": "1"}, Lines),
    ],
)
def test_the_terminal_decides_how_progress_is_shown(monkeypatch, quiet, terminal, environment, kind):
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: terminal, raising=False)
    assert type(reporter(file, quiet=quiet)) is kind


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
