"""The iterations of one tile: pure computation. Nothing is written here, and nothing known of machine or time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.spectra import kernel_spectra
from cwt_dask.cwt.state import Field, State
from cwt_dask.cwt.step import step
from cwt_dask.cwt.stopping import stops_at
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.geometry.tiling import Tile
from cwt_dask.planning.job import Job
from cwt_dask.survey import Window
from cwt_dask.tiles.checkpoint import TileState


@dataclass(frozen=True)
class TileResult:
    """What a tile was computed from, and how far."""

    tile: Tile  # The tile.
    window: Window  # The pixels of its box.
    reached: TileState  # After the last iteration.


def compute(
    job: Job,
    tile: Tile,
    window: Window,
    begin: TileState,
    select: Callable[..., Bools] | None = None,
    *,
    ring: bool = False,
    observe: Callable[[State, bool], None] | None = None,
) -> TileResult:
    """Iterate a tile to where the job, or the tile's own variance, stops it.

    Parameters
    ----------
    job : Job
        Kernels, criteria, tolerance, and the iteration at which it stops.
    tile : Tile
        The tile, of any grid.
    window : Window
        The pixels of its box.
    begin : TileState
        The state before; its arrays are reused.
    select : callable, optional
        What decides on islands, as `WindowFilter.select`; by default their own peaks in the box do.
    ring : bool
        Whether the tile's box is the whole of a ring.
    observe : callable, optional
        Called with the state after each iteration, and whether the tile has converged; it must keep none of its arrays.
    """
    state, moments, converged = begin.state, list(begin.moments), begin.converged
    if state.iteration == job.stop or converged:
        return TileResult(tile, window, begin)
    field = Field(window.counts, window.background, window.valid, window.owned)
    spectra = kernel_spectra(job.kernels, tile.box.shape, job.threads)
    workspace = Workspace(field, spectra, job.criteria, ring=ring)
    while state.iteration < job.stop and not converged:
        state = step(state, workspace, partial(select, state.iteration + 1, state.joined) if select else None)
        moments.append(workspace.residual_moments(state))
        if job.tol is not None:
            # A core without a pixel that takes part has nothing to wait for.
            converged = moments[-1].count == 0 or stops_at([m.variance for m in moments], job.tol) is not None
        if observe:
            observe(state, converged)
    workspace.close()
    return TileResult(tile, window, replace(begin, state=state, moments=tuple(moments), converged=converged))
