"""Where tasks run: in this process, or on the workers of a Dask client with a bounded number in flight."""

from __future__ import annotations

import itertools
import math
import threading
import time
import uuid
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import distributed

from cwt_dask.cwt.buffers import forget
from cwt_dask.errors import InterruptedRun, MachineError, RunError
from cwt_dask.runtime.signals import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Enough that no worker waits for the driver, few enough that the scheduler holds no queue.
IN_FLIGHT_PER_THREAD = 2
# Tasks that are begun when a run is asked to stop have so long to end.
GRACE_SECONDS = 60.0
# A worker that hangs keeps waiting what it holds besides: this often the deadline of one task is waited for.
DEADLINES = IN_FLIGHT_PER_THREAD
# Waiting for futures can hang when a scheduler restarts, and does not end when a stop is asked: this often both are
# looked at in any case.
WATCHDOG_SECONDS = 2.0
# Workers have so long to say what they are at.
ANSWER_SECONDS = 10.0
# A worker that was told to start anew has so long to do so.
RESTART_SECONDS = 30.0


class Outcome(NamedTuple):
    """What became of one item: its value, or the error that ended it."""

    item: int
    value: Any
    error: BaseException | None


class Executor(Protocol):
    """Runs a function over items in any order."""

    stop: Stop

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in order of arrival; only for those that were begun when a stop is asked."""
        ...


class InProcess:
    """One after the other, here."""

    def __init__(self, stop: Stop | None = None) -> None:
        self.stop = stop or Stop()

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in their order; only for those that were begun when a stop is asked."""
        try:
            for item in items:
                if self.stop.notice():
                    return
                try:
                    yield Outcome(item, function(item), None)
                except InterruptedRun:
                    # A second signal: nobody waits for this any more.
                    raise
                except Exception as error:  # noqa: BLE001 - whatever ends one item must not end the others
                    yield Outcome(item, None, error)
        finally:
            forget()


class OnDask:
    """On the workers of a client; only items and small values travel.

    Parameters
    ----------
    client : distributed.Client
    stop : Stop, optional
        By whom to be asked to stop.
    grace : float, optional
        Seconds that tasks that are begun have to end then.
    deadline : float, optional
        Seconds that a task may take. One that has been at a worker for `DEADLINES` times as long, its turn included, is
        taken to hang, and its worker is started anew.
    expected : int, optional
        Threads that there may be: where workers are started as there is work, so much is given at once.
    """

    def __init__(
        self,
        client: distributed.Client,
        stop: Stop | None = None,
        *,
        grace: float = GRACE_SECONDS,
        deadline: float = math.inf,
        expected: int = 1,
    ) -> None:
        self.client = client
        self.stop = stop or Stop()
        self.grace = grace
        self.deadline = deadline
        self.expected = expected

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in order of arrival; only for those that were begun when a stop is asked.

        These have the grace time to end.
        """
        # A key that was used before would return that result: keys are unique to the call.
        call = f"{name_of(function)}-{uuid.uuid4().hex}"
        waiting = iter(items)
        flying: dict[distributed.Future, int] = {}
        patience = math.inf
        seen: dict[tuple[str, str], float] = {}
        look = time.monotonic()
        while True:
            if self.stop.notice() and patience == math.inf:
                patience = time.monotonic() + self.grace
                self._take_back(flying)
            if not self.stop.asked:
                for item in itertools.islice(waiting, max(self._room() - len(flying), 0)):
                    future = self.client.submit(function, item, key=f"{call}-{item}", pure=False)
                    flying[future] = item
            if not flying or time.monotonic() >= patience:
                if flying:
                    self.client.cancel(list(flying))
                return
            for future in self._landed(flying, min(WATCHDOG_SECONDS, patience - time.monotonic())):
                # A future that is held would be computed again if its worker died.
                yield _outcome(future, flying.pop(future))
                future.release()
            if time.monotonic() >= look:
                look = time.monotonic() + max(WATCHDOG_SECONDS, self.deadline / 10)
                for future in self._hanging(flying, seen):
                    error = MachineError(
                        f"it took more than {DEADLINES * self.deadline:.0f} s: its worker was taken to hang"
                    )
                    yield Outcome(flying.pop(future), None, error)

    def _hanging(
        self, flying: Mapping[distributed.Future, int], seen: dict[tuple[str, str], float]
    ) -> list[distributed.Future]:
        """Take away what a worker has been at for too long, and start that worker anew.

        `seen` tells since when each key is known to be at a worker: what waits for one may wait as long as it takes,
        and at another one it begins anew.
        """
        try:
            holders = self.client.processing()
        except OSError as error:
            raise _lost() from error
        now = time.monotonic()
        since = {(where, key): seen.get((where, key), now) for where, keys in holders.items() for key in keys}
        seen.clear()
        seen.update(since)
        late = {key for (_, key), first in since.items() if now - first > DEADLINES * self.deadline}
        hanging = [future for future in flying if future.key in late]
        self.client.cancel(hanging)
        for where in [where for where, keys in holders.items() if late & set(keys)]:
            # Without a nanny it cannot be started anew; it may have gone, or not come back in time.
            with suppress(ValueError, KeyError, TimeoutError):
                self.client.restart_workers([where], timeout=RESTART_SECONDS)
        return hanging

    def _take_back(self, flying: dict[distributed.Future, int]) -> None:
        """Cancel what waits for its turn at a worker."""
        try:
            found = ask_workers(self.client, _executing).values()
        except TimeoutError:
            # Then all that is anywhere is taken to have begun.
            return
        begun = {key for keys in found if isinstance(keys, list) for key in keys}
        waiting = [future for future in flying if future.key not in begun and future.status == "pending"]
        self.client.cancel(waiting)
        for future in waiting:
            flying.pop(future)

    def _room(self) -> int:
        try:
            threads: int = sum(self.client.nthreads().values())
        except OSError as error:
            raise _lost() from error
        return IN_FLIGHT_PER_THREAD * max(threads, self.expected)

    def _landed(self, flying: dict[distributed.Future, int], seconds: float) -> list[distributed.Future]:
        # Whatever ends the wait, only the futures themselves say what became of them.
        with suppress(TimeoutError, CancelledError), self.client.as_current():
            distributed.wait(list(flying), timeout=seconds, return_when="FIRST_COMPLETED")
        if self.client.status != "running":
            raise _lost()
        return [future for future in flying if future.status != "pending"]


def ask_workers(client: distributed.Client, function: Callable[..., Any]) -> dict[str, Any]:
    """What a function says on each worker that can tell.

    Raises
    ------
    TimeoutError
        If one does not answer, as a worker that is stopped.
    """
    answer: Future[dict[str, Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(client.run(function, on_error="ignore"))
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked
            answer.set_exception(error)

    # Python waits at its end for the threads of pools, not for these.
    threading.Thread(target=ask, name="ask", daemon=True).start()
    return answer.result(ANSWER_SECONDS)


def name_of(function: Any) -> str:
    """Name of what is called in the end, for Dask's dashboard."""
    while isinstance(function, partial):
        function = function.args[0] if function.args and callable(function.args[0]) else function.func
    name: str = function.__name__
    return name


def _executing(dask_worker: Any) -> list[str]:
    """Keys of the tasks that a worker is at; Dask hands it in by this name."""
    return [task.key for task in dask_worker.state.executing]


def _lost() -> RunError:
    return RunError("the Dask scheduler was lost: start the same command again, it goes on where this stopped")


def _outcome(future: distributed.Future, item: int) -> Outcome:
    if future.status == "finished":
        return Outcome(item, future.result(), None)
    if future.status == "error":
        error = future.exception()
        if isinstance(error, distributed.KilledWorker):
            error = MachineError(f"workers died under it, out of memory or killed ({error})")
        return Outcome(item, None, error.with_traceback(future.traceback()))
    return Outcome(item, None, MachineError(f"its task was {future.status}"))
