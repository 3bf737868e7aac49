"""Where tasks run: in this process, or on the workers of a Dask client with a bounded number in flight."""

from __future__ import annotations

import itertools
import math
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cwt_dask.cwt.buffers import forget
from cwt_dask.errors import InterruptedRun, MachineError, RunError
from cwt_dask.runtime.absence import RunningTime
from cwt_dask.runtime.observer import SCHEDULER_SECONDS, Observer
from cwt_dask.runtime.progress import WARNING
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.small import refuse_small, refuse_without_resources, usable_share
from cwt_dask.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    import distributed

# Enough that no worker waits for the driver, few enough that the scheduler holds no queue.
IN_FLIGHT_PER_THREAD = 2
# How long started tasks may go on after a stop is requested.
GRACE_SECONDS = 60.0
# Deadlines of one task until its worker is taken to hang: a worker holds this many tasks.
DEADLINES = IN_FLIGHT_PER_THREAD
# Waiting for futures can hang when a scheduler restarts, and does not end when a stop is requested: how often both are
# looked at in any case.
WATCHDOG_SECONDS = 2.0
# How long workers may take to answer, and to restart.
ANSWER_SECONDS = 10.0
RESTART_SECONDS = 30.0


class Outcome(NamedTuple):
    """Outcome of one item: its value, or the error that ended it."""

    item: int
    value: Any
    error: BaseException | None


class Executor(Protocol):
    """Runs a function over items in any order."""

    stop: Stop

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in order of arrival; after a request to stop, of started ones only."""
        ...


class InProcess:
    """One after the other, here."""

    def __init__(self, stop: Stop | None = None) -> None:
        self.stop = stop or Stop()

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in their order; after a request to stop, of started ones only."""
        try:
            for item in items:
                if self.stop.notice():
                    return
                try:
                    yield Outcome(item, function(item), None)
                except InterruptedRun:
                    # A second signal.
                    raise
                except Exception as error:  # noqa: BLE001 - an error of one item must not end the others
                    yield Outcome(item, None, error)
        finally:
            forget()


@dataclass(eq=False)
class OnDask:
    """On the workers of a client; only items and small values travel.

    What it needs of `distributed` is imported where it is used: a run in this process does without.
    """

    client: distributed.Client
    stop: Stop = field(default_factory=Stop)  # May hold a request to stop.
    _: KW_ONLY
    grace: float = GRACE_SECONDS  # How long started tasks may go on then.
    # Seconds that a task may take. One that has been at a worker for `DEADLINES` times as long, with its wait there, is
    # taken to hang, and its worker is restarted.
    deadline: float = math.inf
    # Threads that there may be later: clusters that start workers as there is work see work for all of them.
    expected: int = 1
    watchdog: Watchdog = field(default_factory=Watchdog)  # Ends the run where nothing goes on.
    need: int = 0  # Bytes of memory that a task needs; 0 where workers were made to have them.
    report: Callable[[str], None] = lambda _: None  # Receives messages about what is waited for.
    _known: bool = field(default=False, init=False)  # Whether the first workers were looked at.

    def refuse_workers(self) -> None:
        """Look at the first workers that there are, once; of a queue they come late.

        Those that come later still are like them. Raises SettingsError if none can do a task; tells where some cannot.
        """
        workers = {} if self._known else self.client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            return
        self._known = True
        refuse_without_resources([worker["resources"] for worker in workers.values()])
        shares: dict[str, float] = {}
        # A worker that does not answer at once ends no run.
        with suppress(TimeoutError):
            shares = ask_workers(self.client, usable_share) if self.need else {}
        usable = [int(worker["memory_limit"] * shares.get(name, 1.0)) for name, worker in workers.items()]
        if warning := refuse_small(usable, self.need):
            self.report(f"{WARNING}{warning}")

    def map(self, function: Callable[[int], Any], items: Iterable[int]) -> Iterator[Outcome]:
        """Yield outcomes as they arrive; after a request to stop, of started ones only, which have the grace time."""
        # A key that was used before would return that result: keys are unique to the call.
        call = f"{name_of(function)}-{uuid.uuid4().hex}"
        waiting = iter(items)
        flying: dict[distributed.Future, int] = {}
        patience = math.inf
        clock, look, observer = RunningTime(), 0.0, Observer(self.client)
        self.watchdog.landed(clock())
        while True:
            if self.stop.notice() and patience == math.inf:
                patience = clock() + self.grace
                self._take_back(flying)
            if not self.stop.asked:
                for item in itertools.islice(waiting, max(self._room() - len(flying), 0)):
                    flying[self.client.submit(function, item, key=f"{call}-{item}", pure=False)] = item
            if not flying or clock() >= patience:
                if flying:
                    self.client.cancel(list(flying))
                return
            for future in self._landed(flying, min(WATCHDOG_SECONDS, patience - clock())):
                item = flying.pop(future)
                if (outcome := _outcome(future, item)) is None:
                    # After the others, and after a look at the cluster.
                    flying[future] = item
                    break
                # A future that is held would be computed again if its worker died.
                yield outcome
                future.release()
                observer.landed()
                self.watchdog.landed(clock())
            if flying and (now := clock()) >= look:
                look = now + WATCHDOG_SECONDS
                self._judge(flying, observer, now)
                for future in self._hanging(flying, observer.since, now):
                    text = f"no result after {DEADLINES * self.deadline:.0f} s: its worker is taken to hang"
                    yield Outcome(flying.pop(future), None, MachineError(text))

    def _judge(self, flying: Mapping[distributed.Future, int], observer: Observer, now: float) -> None:
        """Tell what is waited for; RunError where nothing has gone on for too long."""
        try:
            cluster = observer.look(now, {future.key: item for future, item in flying.items()})
            if cluster.workers:
                self.refuse_workers()
        except OSError as error:
            raise _lost() from error
        found = self.watchdog.look(now, cluster)
        for line in found.lines:
            self.report(line)
        if found.over:
            self.client.cancel(list(flying))
            raise RunError(f"{found.over}; what is done is kept: mend that, and give the same command again to go on")

    def _hanging(
        self, flying: Mapping[distributed.Future, int], since: Mapping[tuple[str, str], float], now: float
    ) -> list[distributed.Future]:
        """Cancel tasks that have been at a worker for too long, and restart that worker.

        `since` has the time since when each key is known to be at a worker: a task may wait for one without limit, and
        its time starts again at another one.
        """
        late = {key: where for (where, key), first in since.items() if now - first > DEADLINES * self.deadline}
        hanging = [future for future in flying if future.key in late]
        self.client.cancel(hanging)
        for where in {late[future.key] for future in hanging}:
            # Without a nanny it cannot be restarted; it may have gone, or not come back in time.
            with suppress(ValueError, KeyError, TimeoutError):
                self.client.restart_workers([where], timeout=RESTART_SECONDS)
        return hanging

    def _take_back(self, flying: dict[distributed.Future, int]) -> None:
        """Cancel tasks that no worker has started."""
        try:
            found = ask_workers(self.client, _executing).values()
        except TimeoutError:
            # Then any of them may have been started.
            return
        started = {key for keys in found if isinstance(keys, list) for key in keys}
        waiting = [future for future in flying if future.key not in started and future.status == "pending"]
        self.client.cancel(waiting)
        for future in waiting:
            flying.pop(future)

    def _room(self) -> int:
        """Tasks that may be in flight; none where the scheduler does not answer."""
        try:
            threads: int = sum(self.client.nthreads(callback_timeout=SCHEDULER_SECONDS).values())
        except TimeoutError:
            return 0
        except OSError as error:
            raise _lost() from error
        return IN_FLIGHT_PER_THREAD * max(threads, self.expected)

    def _landed(self, flying: dict[distributed.Future, int], seconds: float) -> list[distributed.Future]:
        from distributed import wait  # noqa: PLC0415 - see `OnDask`

        # However the wait ends, the states of the futures decide.
        with suppress(TimeoutError, CancelledError), self.client.as_current():
            wait(list(flying), timeout=seconds, return_when="FIRST_COMPLETED")
        if self.client.status != "running":
            raise _lost()
        return [future for future in flying if future.status != "pending"]


def ask_workers(client: distributed.Client, function: Callable[..., Any]) -> dict[str, Any]:
    """Values of a function on each worker, without those where it raises; TimeoutError if one does not answer."""
    answer: Future[dict[str, Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(client.run(function, on_error="ignore"))
        except Exception as error:  # noqa: BLE001 - it is raised in the calling thread
            answer.set_exception(error)

    # At its end Python waits for threads of pools, not for these.
    threading.Thread(target=ask, name="ask", daemon=True).start()
    return answer.result(ANSWER_SECONDS)


def name_of(function: Any) -> str:
    """Name of the function within partial ones, for Dask's dashboard."""
    while isinstance(function, partial):
        function = function.args[0] if function.args and callable(function.args[0]) else function.func
    name: str = function.__name__
    return name


def _executing(dask_worker: Any) -> list[str]:
    """Keys of the tasks that a worker has started; Dask passes the worker by this name."""
    return [task.key for task in dask_worker.state.executing]


def _lost() -> RunError:
    return RunError("the Dask scheduler was lost: give the same command again to resume")


def _outcome(future: distributed.Future, item: int) -> Outcome | None:
    """Outcome of a task that is done; None where its value does not come."""
    from distributed.scheduler import KilledWorker, NoWorkerError  # noqa: PLC0415 - see `OnDask`

    if future.status == "finished":
        # It is lost with the worker that has it, and then computed again.
        with suppress(TimeoutError, CancelledError, KilledWorker):
            return Outcome(item, future.result(timeout=SCHEDULER_SECONDS), None)
        return None
    if future.status == "error":
        error = future.exception()
        if isinstance(error, KilledWorker):
            error = MachineError(f"its workers died, out of memory or killed ({error})")
        if isinstance(error, NoWorkerError):
            error = MachineError(f"no worker came within the time that the scheduler's configuration gives ({error})")
        return Outcome(item, None, error.with_traceback(future.traceback()))
    return Outcome(item, None, MachineError(f"its task was {future.status}"))
