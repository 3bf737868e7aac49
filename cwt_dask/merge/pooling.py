"""The published stopping rule over all tiles: the variance is that of the whole map's residual."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cwt_dask.cwt.stopping import Moments, stops_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cwt_dask.ledger import Record

# Of the iterations that turn out to be needed, the share that may be made in vain, if the rule fires where it can harm
# most.
LARGEST_WASTE = 0.3


def block_ends(max_iter: int) -> list[int]:
    """Iterations after which all tiles wait to be told whether the whole map has stopped.

    If it stops within a block, the tiles have gone too far and go again from the block's beginning to where it stops.
    Blocks are so short that this never takes more than `1 + LARGEST_WASTE` times the iterations that were needed.
    """
    ends = [min(2, max_iter)]
    while ends[-1] < max_iter:
        # Stopped just after the beginning, at ends[-1] + 1, the block's whole length is wasted.
        length = max(1, math.floor(LARGEST_WASTE * (ends[-1] + 1)))
        ends.append(min(ends[-1] + length, max_iter))
    return ends


def pooled_variances(records: Mapping[int, Record]) -> list[float]:
    """Variance of the whole map's residual after each iteration that all tiles have made, pooled in tile order."""
    n_common = min(len(record.moments) for record in records.values())
    in_order = [records[tile] for tile in sorted(records)]
    return [Moments.pooled(Moments(*record.moments[n]) for record in in_order).variance for n in range(n_common)]


def stopping_iteration(records: Mapping[int, Record], tol: float) -> int | None:
    """Iteration at which the whole map stops; None if it does not within those that all tiles have made."""
    return stops_at(pooled_variances(records), tol)
