"""The published stopping rule over all tiles: the variance is that of the whole map's residual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cwt_dask.cwt.stopping import Moments, stops_at

if TYPE_CHECKING:
    from cwt_dask.ledger import TileRecord


def pooled_variances(records: dict[int, TileRecord]) -> list[float]:
    """Variance of the whole map's residual after each iteration that all tiles have made, pooled in tile order."""
    n_common = min(len(record.moments) for record in records.values())
    in_order = [records[tile] for tile in sorted(records)]
    return [Moments.pooled(Moments(*record.moments[n]) for record in in_order).variance for n in range(n_common)]


def stopping_iteration(records: dict[int, TileRecord], tol: float) -> int | None:
    """Iteration at which the whole map stops; None if it does not within those that all tiles have made."""
    return stops_at(pooled_variances(records), tol)
