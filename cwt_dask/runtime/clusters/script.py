"""Whether this process can start workers: each is a new Python that first runs the main script as far as its guard."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.spawn import get_preparation_data
from pathlib import Path

from cwt_dask.errors import InputError

GUARD = 'make the call below `if __name__ == "__main__":` in a script, or give workers=0'
# Dask's name of them begins with this.
_WORKER = "Dask Worker process"


def end_repetition() -> None:
    """End this process, without a word, if it is to be a worker, and has come to the call that starts workers.

    The process that was called by the user says what is wrong, once.
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False) and process.name.startswith(_WORKER):
        sys.exit(1)


def refuse_no_workers() -> None:
    """Raise InputError if no worker can start, as far as that shows before one does."""
    if multiprocessing.current_process().daemon:
        raise InputError(
            "this process is itself a worker, of multiprocessing or Dask, and cannot start others: give workers=0, or "
            "make the call elsewhere"
        )
    script = get_preparation_data("").get("init_main_from_path")
    if script and not Path(script).is_file():
        raise InputError(f"workers cannot read the script that starts them, {script}: it must be in a file; {GUARD}")
    # Without a guard, which has this word in it, the first process shows it in a second, a cluster in many.
    if script and b"__name__" not in Path(script).read_bytes():
        _refuse_no_process()


def refuse_no_process() -> None:
    """Raise InputError if no worker can start; this starts a process that ends at once."""
    refuse_no_workers()
    _refuse_no_process()


def _refuse_no_process() -> None:
    process = multiprocessing.get_context("spawn").Process(target=int, name=_WORKER)
    process.start()
    process.join()
    if process.exitcode:
        raise InputError(f"workers end as they start: {GUARD}")
