"""One function over many tiles: a stage of a run. Failures are tried again where that may help, and leave records."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from cwt_dask.errors import MachineError, RunError
from cwt_dask.storage.ledger import count_failures, read_run_id, record_failure, refuse_another_run
from cwt_dask.storage.paths import store_errors
from cwt_dask.storage.provenance import peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cwt_dask.runtime.executors import Executor, Outcome
    from cwt_dask.runtime.progress import Reporter
    from cwt_dask.storage.layout import RunDir

# What a machine did wrong, another may do right, or the same one later; what data or settings do wrong stays wrong.
OF_THE_MACHINE = (OSError, MemoryError, MachineError)
TRIES = 3
# What meets every tile alike: to go on would be in vain.
NO_ROOM = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "have it mounted for writing",
    errno.EACCES: "see to it that workers may read and write there",
    errno.EPERM: "see to it that workers may read and write there",
}


@dataclass(frozen=True)
class Stages:
    """Where the stages of a run are carried out.

    Attributes
    ----------
    executor : Executor
        Where tasks run.
    progress : Reporter
        Where to tell what goes on.
    files : RunDir
        In whose ledger failures are recorded.
    """

    executor: Executor
    progress: Reporter
    files: RunDir

    @cached_property
    def run_id(self) -> str:
        """Which run this is: of one that has replaced it nothing is touched."""
        return read_run_id(self.files)

    def map_tiles(self, function: Callable[[int], Any], tiles: Iterable[int], stage: str) -> dict[int, Any]:
        """Run a function over tiles; the others go on when one fails.

        Raises
        ------
        RunError
            Naming the tiles that failed, after all others are done; at once where no disk takes what is written.
        InterruptedRun
            If somebody asked to stop before all were begun.
        """
        tiles = list(tiles)
        values: dict[int, Any] = {}
        failed: dict[int, BaseException] = {}
        wanted, attempts = tiles, 0
        run_id = self.run_id
        while wanted and attempts < TRIES:
            attempts += 1
            again = []
            outcomes = self.executor.map(partial(_of_this_run, function, self.files, run_id), wanted)
            told = stage if attempts == 1 else f"{stage}, attempt {attempts} at what failed"
            for outcome in self.progress.track(outcomes, told, len(wanted)):
                if outcome.error is None:
                    values[outcome.item], memory = outcome.value
                    failed.pop(outcome.item, None)
                    self.progress.event("done", stage=stage, tile=outcome.item, attempt=attempts, memory=memory)
                    continue
                failed[outcome.item] = outcome.error
                self._note(outcome, stage, attempts)
                # Object stores give no number with what they do not permit.
                number = errno.EACCES if isinstance(outcome.error, PermissionError) else 0
                remedy = NO_ROOM.get(getattr(outcome.error, "errno", None) or number)
                if remedy:
                    raise RunError(
                        f"{stage}: tile {outcome.item} could not be done ({outcome.error}): {remedy}, and give the "
                        "same command again"
                    ) from outcome.error
                if isinstance(outcome.error, OF_THE_MACHINE):
                    again.append(outcome.item)
            if again or len(values.keys() | failed.keys()) < len(tiles):
                self.executor.stop.check()
            wanted = again
        if failed:
            first = min(failed)
            raise RunError(
                f"{stage}: {len(failed)} of {len(tiles)} tiles failed ({', '.join(map(str, sorted(failed)[:10]))}); "
                f"tile {first}: {type(failed[first]).__name__}: {failed[first]}; tracebacks are in the ledger, and the "
                "same command tries these tiles again"
            ) from failed[first]
        return values

    def _note(self, outcome: Outcome, stage: str, attempt: int) -> None:
        error = outcome.error
        assert error is not None  # noqa: S101 - for the type checker
        record_failure(self.files, outcome.item, stage, error)
        self.progress.event(
            "failed",
            stage=stage,
            tile=outcome.item,
            attempt=attempt,
            failures=count_failures(self.files, outcome.item),
            error=f"{type(error).__name__}: {error}",
        )


def _of_this_run(function: Callable[[int], Any], files: RunDir, run_id: str, tile: int) -> tuple[Any, int]:
    """Carry out a task, if its run has not been replaced by another meanwhile; its value, and the process's memory."""
    with store_errors():
        refuse_another_run(files, run_id)
        return function(tile), peak_memory()
