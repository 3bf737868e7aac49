"""One function over many tiles: a stage of a run. Failures are recorded, and tried again where that may help."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from cwt_dask.errors import AccessError, MachineError, RunError
from cwt_dask.runtime.executors import Executor
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import count_failures, read_run_id, record_failure, refuse_another_run
from cwt_dask.storage.paths import store_errors
from cwt_dask.storage.provenance import peak_memory

# Errors that another machine, or the same one later, may not have; errors of data and settings stay.
OF_THE_MACHINE = (OSError, MemoryError, MachineError)
TRIES = 3
# Errors of the file system, which all tiles would have, and their remedies.
REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room") | {errno.EROFS: "mount it for writing"}
REMEDIES |= {errno.EFBIG: "raise the limit of a file's size (ulimit -f)"}
REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM), "give workers permission to read and write there")


@dataclass(frozen=True)
class Stages:
    """Where the stages of a run are carried out."""

    executor: Executor  # Runs tasks.
    progress: Reporter  # Receives messages and events.
    files: RunDir  # Its ledger holds the failures.
    peak_memory: dict[str, int] = field(default_factory=dict)  # Largest resident size of a worker, in bytes, by stage.

    @cached_property
    def run_id(self) -> str:
        """Which run this is: nothing is written to another one that has replaced it."""
        return read_run_id(self.files)

    def map_tiles(self, function: Callable[[int], Any], tiles: Iterable[int], stage: str) -> dict[int, Any]:
        """Run a function over tiles, also over those after one that fails.

        Parameters
        ----------
        function : callable
            Of a tile's number.
        tiles : iterable of int
            Their numbers.
        stage : str
            Name of the stage, for messages and records.

        Returns
        -------
        dict
            Values of the function by tile.

        Raises
        ------
        RunError
            Naming the tiles that failed, after all others are done; at once where nothing can be written.
        InterruptedRun
            If a stop was requested before all tiles were started.
        """
        tiles = list(tiles)
        values: dict[int, Any] = {}
        failed: dict[int, BaseException] = {}
        task = partial(_of_this_run, function, self.files, self.run_id)
        wanted, attempt = tiles, 0
        while wanted and attempt < TRIES:
            attempt += 1
            again = []
            title = stage if attempt == 1 else f"{stage}, attempt {attempt} at failed tiles"
            for outcome in self.progress.track(self.executor.map(task, wanted), title, len(wanted)):
                if outcome.error is None:
                    values[outcome.item], memory = outcome.value
                    failed.pop(outcome.item, None)
                    self.peak_memory[stage] = max(memory, self.peak_memory.get(stage, 0))
                    self.progress.event("done", stage=stage, tile=outcome.item, attempt=attempt, memory=memory)
                    continue
                failed[outcome.item] = outcome.error
                self._record(outcome.item, stage, attempt, outcome.error)
                _refuse_lasting(outcome.item, stage, outcome.error)
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

    def _record(self, tile: int, stage: str, attempt: int, error: BaseException) -> None:
        record_failure(self.files, tile, stage, error)
        failures, text = count_failures(self.files, tile), f"{type(error).__name__}: {error}"
        self.progress.event("failed", stage=stage, tile=tile, attempt=attempt, failures=failures, error=text)


def _refuse_lasting(tile: int, stage: str, error: BaseException) -> None:
    """End a stage at an error that all other tiles would have."""
    # Object stores give no number with what they do not permit.
    number = errno.EACCES if isinstance(error, PermissionError | AccessError) else 0
    remedy = REMEDIES.get(getattr(error, "errno", None) or number)
    if remedy:
        message = f"{stage}: tile {tile} could not be done ({error}): {remedy}, and give the same command again"
        raise RunError(message) from error


def _of_this_run(function: Callable[[int], Any], files: RunDir, run_id: str, tile: int) -> tuple[Any, int]:
    """Carry out a task unless another run has replaced this one; its value, and the memory of this process."""
    with store_errors():
        refuse_another_run(files, run_id)
        return function(tile), peak_memory()
