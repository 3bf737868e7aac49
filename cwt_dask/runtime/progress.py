"""What a user sees while a run runs: a bar on a terminal, plain lines elsewhere, nothing when asked.

Memory is the most that any process has taken that did a tile, as the plan and the certificate count it.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

# Seconds of a stage after which its lines say how fast it is and what is left.
SOON = 10.0

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class Reporter:
    """Where a run tells how far it is; this one keeps silent."""

    def message(self, text: str) -> None:
        """One line."""

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:  # noqa: ARG002
        """Pass on items."""
        return iter(items)

    def event(self, what: str, **facts: Any) -> None:
        """What became of one tile in a stage: `what` is done or failed; failures are worth a line."""
        if what == "failed":
            words = "{stage}: tile {tile} failed, attempt {attempt}: {error}"
            self.message(words.format(**facts))


class Lines(Reporter):
    """Plain lines on standard output, at every tenth of a stage: for logs and pipes."""

    def __init__(self) -> None:
        self.memory = 0

    def message(self, text: str) -> None:
        """One line."""
        print(text, flush=True)  # noqa: T201 - this is the command line's voice

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Pass on items, with a line at every tenth; of long stages with rate, time left and memory."""
        begun = time.monotonic()
        for n, item in enumerate(items, 1):
            yield item
            if n == total or n * 10 // total > (n - 1) * 10 // total:
                self.message(f"{stage}: {n} of {total}{self._more(n, total, time.monotonic() - begun)}")

    def event(self, what: str, **facts: Any) -> None:
        """Keep the memory of tiles that are done; failures are worth a line."""
        self.memory = max(self.memory, facts.get("memory", 0))
        super().event(what, **facts)

    def _more(self, n: int, total: int, seconds: float) -> str:
        if seconds < SOON:
            return ""
        left = f", about {duration(seconds / n * (total - n))} left" if n < total else ""
        memory = f", at most {mebibytes(self.memory)} a worker" if self.memory else ""
        return f", {rate(n / seconds)}{left}{memory}"


class Bar(Reporter):
    """A progress bar a stage, for a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.memory = 0

    def message(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Pass on items, and draw how many there were, how fast, how long the rest will take, and the memory."""
        columns = (
            # On narrow terminals it is the one that takes two lines.
            TextColumn("{task.description}", table_column=Column(no_wrap=False)),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            # It goes on while the first tile takes its time.
            TimeElapsedColumn(),
            TextColumn("{task.fields[more]}"),
        )
        begun = time.monotonic()
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task(stage, total=total, more="")
            for n, item in enumerate(items, 1):
                yield item
                progress.update(bar, completed=n, more=self._more(n, total, time.monotonic() - begun))

    def event(self, what: str, **facts: Any) -> None:
        """Keep the memory of tiles that are done; failures are worth a line."""
        self.memory = max(self.memory, facts.get("memory", 0))
        super().event(what, **facts)

    def _more(self, n: int, total: int, seconds: float) -> str:
        left = f", {duration(seconds / n * (total - n))} left" if n < total else ""
        memory = f", {mebibytes(self.memory)}" if self.memory else ""
        return f"{rate(n / max(seconds, 1e-3))}{left}{memory}"


class JsonLines(Reporter):
    """A line of JSON an event, for machines: time (UTC), event, and what there is to know of it."""

    def message(self, text: str) -> None:
        """One line."""
        self.event("message", text=text)

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Pass on items, and tell when a stage begins and ends."""
        self.event("begun", stage=stage, tiles=total)
        tiles = 0
        for item in items:
            tiles += 1
            yield item
        self.event("ended", stage=stage, tiles=tiles)

    def event(self, what: str, **facts: Any) -> None:
        """One line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": now, "event": what} | facts), flush=True)  # noqa: T201 - see Lines


def reporter(*, quiet: bool, log_format: str = "text") -> Reporter:
    """The right one for this terminal, or pipe."""
    if quiet:
        return Reporter()
    if log_format == "json":
        return JsonLines()
    # To Open MPI's processes everything looks like a terminal, and mostly ends up in a file.
    drawn = Console().is_terminal and "OMPI_COMM_WORLD_RANK" not in os.environ
    return Bar() if drawn else Lines()


def rate(per_second: float) -> str:
    """How many a second, a minute or an hour: the first that is at least one."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"


def duration(seconds: float) -> str:
    """A time that is estimated, in the largest unit of which there are two."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def mebibytes(n_bytes: int) -> str:
    """Memory, as the plan says it."""
    return f"{n_bytes / 2**20:.0f} MiB"
