"""Where tasks run: in this process, or on the workers of a Dask client with a bounded number in flight."""

from __future__ import annotations

import itertools
import uuid
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import distributed

from cwt_dask.cwt.rooms import forget
from cwt_dask.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Enough that no worker waits for the driver, few enough that the scheduler holds no queue.
IN_FLIGHT_PER_THREAD = 2
# Workers may die under a task that is innocent of it (preemption): it is tried again this often.
RETRIES = 2
# Waiting for futures can hang when a scheduler restarts: their status is looked at this often in any case.
WATCHDOG_SECONDS = 30.0


class Outcome(NamedTuple):
    """What became of one item: its value, or the error that ended it."""

    item: int
    value: Any
    error: BaseException | None


class Executor(Protocol):
    """Runs a function over items in any order."""

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in order of arrival."""
        ...


class InProcess:
    """One after the other, here."""

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in their order."""
        try:
            for item in items:
                try:
                    yield Outcome(item, function(item), None)
                except Exception as error:  # noqa: BLE001 - whatever ends one item must not end the others
                    yield Outcome(item, None, error)
        finally:
            forget()


class OnDask:
    """On the workers of a client; only items and small values travel."""

    def __init__(self, client: distributed.Client) -> None:
        self.client = client

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in order of arrival."""
        # A key that was used before would return that result: keys are unique to the call.
        call = f"{getattr(function, 'func', function).__name__}-{uuid.uuid4().hex}"
        waiting = iter(items)
        flying: dict[distributed.Future, int] = {}
        while True:
            for item in itertools.islice(waiting, max(self._room() - len(flying), 0)):
                flying[self.client.submit(function, item, key=f"{call}-{item}", pure=False, retries=RETRIES)] = item
            if not flying:
                return
            for future in self._landed(flying):
                # A future that is held would be computed again if its worker died.
                yield _outcome(future, flying.pop(future))
                future.release()

    def _room(self) -> int:
        try:
            threads: int = sum(self.client.nthreads().values())
        except OSError as error:
            raise _lost() from error
        return max(IN_FLIGHT_PER_THREAD * threads, 1)

    def _landed(self, flying: dict[distributed.Future, int]) -> list[distributed.Future]:
        # Whatever ends the wait, only the futures themselves say what became of them.
        with suppress(TimeoutError, CancelledError), self.client.as_current():
            distributed.wait(list(flying), timeout=WATCHDOG_SECONDS, return_when="FIRST_COMPLETED")
        if self.client.status != "running":
            raise _lost()
        return [future for future in flying if future.status != "pending"]


def _lost() -> RunError:
    return RunError("the Dask scheduler was lost: start the same command again, it goes on where this stopped")


def _outcome(future: distributed.Future, item: int) -> Outcome:
    if future.status == "finished":
        return Outcome(item, future.result(), None)
    if future.status == "error":
        return Outcome(item, None, future.exception())
    return Outcome(item, None, RunError(f"its task was {future.status}"))
