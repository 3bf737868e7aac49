"""The published stopping rule over all tiles: the variance is that of the whole map's residual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.stopping import Moments, relative_change, stops_at
from cwt_dask.geometry.facets import AnyGrid, FacetGrid
from cwt_dask.geometry.healpix import places_of
from cwt_dask.geometry.tiling import Axis
from cwt_dask.storage.ledger import Record
from cwt_dask.survey import Survey
from cwt_dask.survey.store import CHUNK

# Of the iterations that turn out to be needed, the share that may be made in vain, if the rule fires where it can harm
# most; with the FFT that each beginning of a block costs, a run stays below 1.3 times the FFTs that were needed.
LARGEST_WASTE = 0.15
# From one iteration to the next the relative change of the variance is taken not to fall by more than this factor; what
# was measured: docs/design/0006-stopping.md.
FASTEST_FALL = 2.2


def earliest_stop(iteration: int, change: float, tol: float) -> float:
    """First iteration at which a map may stop; infinite where it never will.

    Parameters
    ----------
    iteration : int
        Iterations made.
    change : float
        Relative change of the variance in the last of them.
    tol : float
        The tolerance.
    """
    if change < tol:
        return iteration
    ratio = change / tol if tol else math.inf
    return iteration + 1 + (math.floor(math.log(ratio, FASTEST_FALL)) if math.isfinite(ratio) else math.inf)


def block_end(done: int, max_iter: int, earliest: float) -> int:
    """Iteration after which all tiles wait, to learn whether the whole map has stopped.

    If it stops within a block, the tiles have gone too far and are made again from the block's start to the stop:
    all of the block is wasted. Blocks are so short that this never takes more than `1 + LARGEST_WASTE` times the
    iterations that were needed, if it does not stop before `earliest`.

    Parameters
    ----------
    done : int
        Iterations that are made.
    max_iter : int
        Largest number of iterations.
    earliest : float
        First iteration at which the map may stop.
    """
    end = int(min(max(earliest, done + 1), max_iter))
    return min(max(end, done + math.floor(LARGEST_WASTE * end)), max_iter)


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


# One tile in this many may look ahead, until such tiles hold half of the scatter.
ONE_IN = 8


def scatter_by_chunk(survey: Survey) -> Floats:
    """Sum of squared deviations of the counts on used pixels from their mean, by chunk of the survey (y, x)."""
    mean = Moments.pooled(chain.from_iterable(survey.moments)).mean
    return np.array(
        [[m.sum_squared_deviations + m.count * (m.mean - mean) ** 2 for m in row] for row in survey.moments]
    )


def look_ahead_tiles(grid: AnyGrid, scatter: Floats) -> list[int]:
    """Look-ahead tiles, those with most scatter first; none of a grid of less than `ONE_IN`.

    Cores smaller than a chunk of the survey share its scatter, that of `scatter_by_chunk`, by their pixels.
    """
    by_tile = _of_facets(grid, scatter) if isinstance(grid, FacetGrid) else _of_cores(grid.y, grid.x, scatter)
    order = np.argsort(-by_tile, kind="stable")
    half = int(np.searchsorted(np.cumsum(by_tile[order]), scatter.sum() / 2)) + 1
    tiles: list[int] = order[: min(half, grid.n_tiles // ONE_IN)].tolist()
    return tiles


def least_change(records: Sequence[Record], scatter: float) -> float:
    """Least relative change of the whole map's variance in the last iteration that some tiles have made.

    By the records of these tiles, and the sum of squared deviations of all counts.
    """
    before, after = (sum(Moments(*record.moments[n]).sum_squared_deviations for record in records) for n in (-2, -1))
    return max(before - after, 0.0) / scatter if scatter else 0.0


def _of_cores(y: Axis, x: Axis, scatter: Floats) -> Floats:
    return np.asarray((_shares(y) @ scatter @ _shares(x).T).ravel())


def _of_facets(grid: FacetGrid, scatter: Floats) -> Floats:
    """Scatter in each facet's cell, which is a square in the image of the sky."""
    size = grid.nside >> grid.order
    rows, columns = (place * size for place in places_of(np.array(grid.cells), 1 << grid.order))
    height, width = (min(CHUNK, length) for length in (12 * grid.nside, grid.nside))
    # Of a chunk, or of all the chunks that the cell has.
    chunks = max(1, size // CHUNK)
    of_cell = [
        scatter[y : y + chunks, x : x + chunks].sum() for y, x in zip(rows // CHUNK, columns // CHUNK, strict=True)
    ]
    return np.array(of_cell) * min(1.0, size * size / (height * width))


def _shares(axis: Axis) -> Floats:
    """Share of each chunk's pixels that lie in each core, (core, chunk)."""
    core = np.arange(axis.n_tiles)[:, np.newaxis] * axis.core
    start = np.arange(0, axis.length, CHUNK)
    end = np.minimum(start + CHUNK, axis.length)
    inside = np.minimum(core + axis.core, end) - np.maximum(core, start)
    shares: Floats = np.maximum(inside, 0) / (end - start)
    return shares
