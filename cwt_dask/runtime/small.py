"""Workers that have less than a tile needs: of memory, or of the resources that `dask.annotate` asks for."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
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


def refuse_without_resources(offered: Collection[Mapping[str, float]]) -> None:
    """Raise SettingsError if workers are there, and none offers the resources that `dask.annotate` asks for.

    It is the only way to ask for any. Which workers it names is left to the scheduler, which knows their aliases.

    Parameters
    ----------
    offered : collection of mapping
        Resources of each worker that is there, by name.
    """
    import dask  # noqa: PLC0415 - a run in this process does without

    asked = dask.get_annotations().get("resources")
    if not offered or not isinstance(asked, Mapping):
        return
    if not any(all(has.get(name, 0) >= least for name, least in asked.items()) for has in offered):
        wanted = ",".join(f"{name}={least}" for name, least in asked.items())
        raise SettingsError(
            f"dask.annotate asks for resources {wanted}, which no worker offers: start workers with --resources "
            f"{wanted}, or call without it"
        )


def usable_share(dask_worker: Any) -> float:
    """Share of its memory limit above which a worker is given no task, or is ended; Dask passes it by this name."""
    import dask  # noqa: PLC0415 - a run in this process does without

    shares = [dask_worker.memory_manager.memory_pause_fraction]
    if dask_worker.nanny:
        shares.append(dask.config.get("distributed.worker.memory.terminate"))
    return min([float(share) for share in shares if share], default=1.0)
