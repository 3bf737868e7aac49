"""What a user sees while a run runs: a bar on a terminal, plain lines elsewhere, nothing on request.

Memory is the most that any process with a tile has taken, as the plan and the certificate count it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar

from cwt_dask.runtime.terminal import drawn_on, visible

log = logging.getLogger(__name__)

T = TypeVar("T")

# How messages begin that a user should not miss.
WARNING = "warning: "

# Seconds of a stage after which its lines have a rate and the time left.
SOON = 10.0


class Reporter:
    """Receives the progress of a run; this one is silent."""

    def message(self, text: str) -> None:
        """One line."""

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Pass on the items of a stage, and show how many have come.

        Parameters
        ----------
        items : iterable
            Passed on one by one, each before the next is requested.
        stage : str
            What the user reads.
        total : int
            Number of items.
        """
        return self._track(items, stage, total)

    def event(self, what: str, **facts: Any) -> None:
        """One tile of a stage, `what` being done or failed; a failure is worth a line."""
        if what == "failed":
            self.message("{stage}: tile {tile} failed, attempt {attempt}: {error}".format(**facts))

    def _track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:  # noqa: ARG002 - each its own way
        return iter(items)


class Logged(Reporter):
    """Silent but for warnings, which go to Python's log: of calls that name no reporter."""

    def message(self, text: str) -> None:
        """One line."""
        if text.startswith(WARNING):
            log.warning("%s", text.removeprefix(WARNING))


class Lines(Reporter):
    """Plain lines, on standard output if on no other file, at every tenth of a stage: for logs and pipes."""

    _left, _most = ", about {} left", ", at most {} a worker"

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file
        self.memory = 0

    def message(self, text: str) -> None:
        """One line."""
        print(visible(text), file=self.file, flush=True)

    def event(self, what: str, **facts: Any) -> None:
        """Keep the memory of tiles that are done; a failure is worth a line."""
        self.memory = max(self.memory, facts.get("memory", 0))
        super().event(what, **facts)

    def _track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        start = time.monotonic()
        for n, item in enumerate(items, 1):
            yield item
            if n == total or n * 10 // total > (n - 1) * 10 // total:
                seconds = time.monotonic() - start
                pace = f", {self._pace(n, total, seconds)}" if seconds >= SOON else ""
                self.message(f"{stage}: {n} of {total}{pace}")

    def _pace(self, n: int, total: int, seconds: float) -> str:
        """Rate, time left and memory."""
        left = self._left.format(duration(seconds / n * (total - n))) if n < total else ""
        most = self._most.format(f"{self.memory / 2**20:.0f} MiB") if self.memory else ""
        return f"{rate(n / max(seconds, 1e-3))}{left}{most}"


class Bar(Lines):
    """A progress bar for each stage, for a terminal."""

    _left, _most = ", {} left", ", {}"

    def __init__(self, file: TextIO | None = None) -> None:
        super().__init__(file)
        from rich.console import Console  # noqa: PLC0415 - only terminals need it

        self.console = Console(file=drawn_on(file or sys.stdout), highlight=False)

    def message(self, text: str) -> None:
        """One line."""
        self.console.print(visible(text), markup=False, soft_wrap=True)

    def _track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.table import Column  # noqa: PLC0415

        # On narrow terminals it is the one that takes two lines.
        title = TextColumn("{task.description}", table_column=Column(no_wrap=False))
        # The time moves while the first tile is not done.
        columns = (title, BarColumn(bar_width=10), MofNCompleteColumn(), TimeElapsedColumn(), "{task.fields[pace]}")
        start = time.monotonic()
        # What is told beside it on the same terminal must not break it; a file of its own is left alone.
        beside = sys.stderr.isatty()
        shown = Progress(*columns, console=self.console, redirect_stdout=beside, redirect_stderr=beside)
        with shown as progress:
            bar = progress.add_task(stage, total=total, pace="")
            for n, item in enumerate(items, 1):
                yield item
                progress.update(bar, completed=n, pace=self._pace(n, total, time.monotonic() - start))


class JsonLines(Reporter):
    """A line of JSON for each event, for programs: time (UTC), event, and its facts."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file

    def message(self, text: str) -> None:
        """One line."""
        self.event("message", text=text)

    def event(self, what: str, **facts: Any) -> None:
        """One line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # In one piece: lines of several threads do not mix.
        line = json.dumps({"time": now, "event": what} | facts)
        print(f"{line}\n", end="", file=self.file, flush=True)

    def _track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        self.event("begun", stage=stage, tiles=total)
        tiles = 0
        for tiles, item in enumerate(items, 1):  # noqa: B007 - the last one is the number of all
            yield item
        self.event("ended", stage=stage, tiles=tiles)


def reporter(file: TextIO | None = None, *, quiet: bool, log_format: str = "text") -> Reporter:
    """The right one for this terminal, or pipe.

    Parameters
    ----------
    file : file, optional
        Where it prints; by default on standard output.
    quiet : bool
        Whether it prints nothing.
    log_format : {"text", "json"}, optional
        Text for people, or a line of JSON for each event.
    """
    if quiet:
        return Reporter()
    if log_format == "json":
        return JsonLines(file)
    # Colours may be asked for where there is no terminal, and some terminals cannot draw. Open MPI gives its processes
    # one, which mostly ends in a file.
    drawn = (file or sys.stdout).isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return Bar(file) if drawn and "OMPI_COMM_WORLD_RANK" not in os.environ else Lines(file)


def rate(per_second: float) -> str:
    """Items per second, minute or hour: the first that is at least one."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"


def duration(seconds: float) -> str:
    """An estimated time, in the largest unit of which there are at least two."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
