"""Scratch space of Dask's processes, for this user alone.

Dask puts `dask-scratch-space` below its temporary directory first in `sys.path`, for modules that clients upload. Below
`/tmp` anyone may make that directory before, and with modules in it run code as the user of a scheduler or worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask

from cwt_dask.errors import InputError
from cwt_dask.storage.drafts import scratch_directory

# Where processes of batch jobs make theirs, as the shell there has it.
_NEAR = "${DASK_TEMPORARY_DIRECTORY:-${SLURM_TMPDIR:-${TMPDIR:-/tmp}}}"
IN_JOBS = '"$CWT_DASK_SCRATCH"'


@contextmanager
def private_scratch(near: str | None = None) -> Iterator[None]:
    """Processes of Dask that this one is, or starts, have a scratch directory of their own for a `with` block.

    Parameters
    ----------
    near : str, optional
        Directory to make it in; that of Dask's configuration, or of the system, unless given.
    """
    where = near or dask.config.get("temporary-directory", None)
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_directory(Path(where).absolute() if where else None))
        except OSError as error:
            raise InputError(
                f"processes of Dask cannot have scratch space here ({error}): make room there, or name another place "
                "by DASK_TEMPORARY_DIRECTORY"
            ) from error
        stack.enter_context(dask.config.set({"temporary-directory": str(scratch)}))
        yield


def private_scratch_of_a_job(near: str | None) -> list[str]:
    """Lines of a job's script, by which its processes may take `IN_JOBS`; it is removed when the job ends.

    Parameters
    ----------
    near : str or None
        Directory to make it in, as the shell there has it; by default that of Dask, SLURM or the system.
    """
    return [
        f'CWT_DASK_SCRATCH=$(mktemp --directory "{near or _NEAR}/cwt-dask.XXXXXXXXXX") || exit',
        """trap 'rm --recursive --force -- "$CWT_DASK_SCRATCH"' EXIT""",
    ]
