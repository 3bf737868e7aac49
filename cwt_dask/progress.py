"""What a user sees while a run runs: a bar on a terminal, plain lines elsewhere, nothing when asked."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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

    def message(self, text: str) -> None:
        """One line."""
        print(text, flush=True)  # noqa: T201 - this is the command line's voice

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Pass on items, with a line at every tenth."""
        for n, item in enumerate(items, 1):
            yield item
            if n == total or n * 10 // total > (n - 1) * 10 // total:
                self.message(f"{stage}: {n} of {total}")


class Bar(Reporter):
    """A progress bar a stage, for a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    def message(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Pass on items, and draw how many there were and how long the rest will take."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            yield from progress.track(items, total=total, description=stage)


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
