"""One function over all tiles: a stage of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cwt_dask.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cwt_dask.executors import Executor
    from cwt_dask.progress import Reporter


def over_tiles(
    executor: Executor, function: Callable[[int], Any], tiles: Iterable[int], stage: str, progress: Reporter
) -> dict[int, Any]:
    """Run a function over tiles; the others go on when one fails.

    Raises
    ------
    RunError
        Naming the tiles that failed, after all others are done.
    """
    tiles = list(tiles)
    values, failed = {}, {}
    for outcome in progress.track(executor.map(function, tiles), stage, len(tiles)):
        if outcome.error is None:
            values[outcome.item] = outcome.value
        else:
            failed[outcome.item] = outcome.error
    if failed:
        first = min(failed)
        raise RunError(
            f"{stage}: {len(failed)} of {len(tiles)} tiles failed ({', '.join(map(str, sorted(failed)[:10]))}); "
            f"tile {first}: {type(failed[first]).__name__}: {failed[first]}"
        ) from failed[first]
    return values
