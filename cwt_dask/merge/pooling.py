"""The published stopping rule over all tiles: the variance is that of the whole map's residual."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cwt_dask.cwt.stopping import Moments, relative_change, stops_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cwt_dask.ledger import Record

# Of the iterations that turn out to be needed, the share that may be made in vain, if the rule fires where it can harm
# most; with the FFT that each beginning of a block costs, a run stays below 1.3 times the FFTs that were needed.
LARGEST_WASTE = 0.15
# From one iteration to the next the relative change of the variance is taken not to fall by more than this factor; what
# was measured: docs/design/0006-stopping.md.
FASTEST_FALL = 2.2


def earliest_stop(iteration: int, change: float, tol: float) -> float:
    """First iteration at which a map may stop whose variance changed by `change`, relative, in `iteration`.

    Infinite where it never will.
    """
    if change < tol:
        return iteration
    ratio = change / tol if tol else math.inf
    return iteration + 1 + (math.floor(math.log(ratio, FASTEST_FALL)) if math.isfinite(ratio) else math.inf)


def block_end(begun: int, max_iter: int, earliest: float) -> int:
    """Iteration after which all tiles wait to be told whether the whole map has stopped.

    If it stops within a block, the tiles have gone too far and go again from the block's beginning to where it stops:
    all of the block is wasted. Blocks are so short that this never takes more than `1 + LARGEST_WASTE` times the
    iterations that were needed, if it does not stop before `earliest`.

    Parameters
    ----------
    begun : int
        Iterations that are done.
    max_iter : int
        Largest number of iterations.
    earliest : float
        First iteration at which the map may stop.
    """
    end = int(min(max(earliest, begun + 1), max_iter))
    return min(max(end, begun + math.floor(LARGEST_WASTE * end)), max_iter)


def pooled_variances(records: Mapping[int, Record]) -> list[float]:
    """Variance of the whole map's residual after each iteration that all tiles have made, pooled in tile order."""
    n_common = min(len(record.moments) for record in records.values())
    in_order = [records[tile] for tile in sorted(records)]
    return [Moments.pooled(Moments(*record.moments[n]) for record in in_order).variance for n in range(n_common)]


def stopping_iteration(records: Mapping[int, Record], tol: float) -> int | None:
    """Iteration at which the whole map stops; None if it does not within those that all tiles have made."""
    return stops_at(pooled_variances(records), tol)


def last_change(records: Mapping[int, Record]) -> float:
    """Relative change of the variance in the last iteration that all tiles have made; infinite after the first."""
    variances = pooled_variances(records)
    return relative_change(*variances[-2:]) if len(variances) > 1 else math.inf
