"""Workers that have less memory than a tile needs."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from cwt_dask.config.validation import format_bytes
from cwt_dask.errors import SettingsError


def refuse_small(usable: Collection[int], need: int) -> str:
    """Raise SettingsError if all workers have too little memory; a warning, if some have.

    Parameters
    ----------
    usable : collection of int
        Bytes that each worker may use; 0 for no limit.
    need : int
        Bytes that a tile needs.
    """
    sizes = [size or sys.maxsize for size in usable]
    if min(sizes, default=need) >= need:
        return ""
    text = f"a worker may take {format_bytes(min(sizes))}, and the plan asks for {format_bytes(need)}"
    if max(sizes) < need:
        raise SettingsError(
            f"{text}: start workers with a larger limit, and have them use all of it "
            "(DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False where they start), or take a smaller tile_size or "
            "memory_target"
        )
    return text


def usable_share(dask_worker: Any) -> float:
    """Share of its memory limit above which a worker is given no task, or is ended; Dask passes it by this name."""
    import dask  # noqa: PLC0415 - a run in this process does without

    shares = [dask_worker.memory_manager.memory_pause_fraction]
    if dask_worker.nanny:
        shares.append(dask.config.get("distributed.worker.memory.terminate"))
    return min([float(share) for share in shares if share], default=1.0)
