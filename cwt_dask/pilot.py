"""Tiles that go ahead: what they show bounds from below how fast the whole map's variance changes.

The variance is largest where the counts scatter most, so a few tiles are most of it. With two assumptions, that the
whole map's residual does not scatter more than its counts and that what these tiles do not show does not scatter more
after the iteration than before, the whole map's variance changes at least by what changes in these, over the scatter of
all counts. Where that is far above the tolerance, tiles need not wait for each other; these go on for as long as they
see farther.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.stopping import Moments
from cwt_dask.survey.store import CHUNK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cwt_dask.ledger import Record
    from cwt_dask.survey import Survey
    from cwt_dask.tiling import Axis, TileGrid

# One tile in so many may go ahead, until those that do hold half of the scatter.
ONE_IN = 8


def scatter_by_chunk(survey: Survey) -> NDArray[np.float64]:
    """Sum of squared deviations of the counts on used pixels from their mean, by chunk of the survey (y, x)."""
    mean = Moments.pooled(chain.from_iterable(survey.moments)).mean
    return np.array(
        [[m.sum_squared_deviations + m.count * (m.mean - mean) ** 2 for m in row] for row in survey.moments]
    )


def pilot_tiles(grid: TileGrid, scatter: NDArray[np.float64]) -> list[int]:
    """Tiles that go ahead, those with most scatter first; none of a grid of less than `ONE_IN`.

    Cores smaller than a chunk of the survey share its scatter by their pixels.

    Parameters
    ----------
    grid : TileGrid
        The tiles.
    scatter : ndarray
        As `scatter_by_chunk` gives it.
    """
    by_tile = (_shares(grid.y) @ scatter @ _shares(grid.x).T).ravel()
    order = np.argsort(-by_tile, kind="stable")
    half = int(np.searchsorted(np.cumsum(by_tile[order]), scatter.sum() / 2)) + 1
    tiles: list[int] = order[: min(half, grid.n_tiles // ONE_IN)].tolist()
    return tiles


def least_change(records: Sequence[Record], scatter: float) -> float:
    """Least relative change of the whole map's variance in the last iteration that some tiles have made.

    Parameters
    ----------
    records : sequence of Record
        Of these tiles.
    scatter : float
        Sum of squared deviations of all counts.
    """
    before, after = (sum(Moments(*record.moments[n]).sum_squared_deviations for record in records) for n in (-2, -1))
    return max(before - after, 0.0) / scatter if scatter else 0.0


def _shares(axis: Axis) -> NDArray[np.float64]:
    """Share of each chunk's pixels that lie in each core, (core, chunk)."""
    core = np.arange(axis.n_tiles)[:, np.newaxis] * axis.core
    start = np.arange(0, axis.length, CHUNK)
    end = np.minimum(start + CHUNK, axis.length)
    inside = np.minimum(core + axis.core, end) - np.maximum(core, start)
    shares: NDArray[np.float64] = np.maximum(inside, 0) / (end - start)
    return shares
