"""One iteration: step(State) -> State."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.loops import add_positive, sum_over_scales
from cwt_dask.cwt.state import Detected, State
from cwt_dask.cwt.support import in_bright_islands
from cwt_dask.cwt.workspace import Workspace


def step(state: State, workspace: Workspace, select: Callable[[int, Detected], Bools] | None = None) -> State:
    """One iteration, as published; it reuses the arrays of `state`: copy what is to be kept.

    Parameters
    ----------
    state : State
        After the iteration before.
    workspace : Workspace
        What is analysed, with which kernels and criteria.
    select : callable, optional
        Given scale index and the pixels above the threshold: which of them join the support. By default islands
        are selected by their own peak, as published.

    References
    ----------
    R. Terrier et al. 2001, "Wavelet analysis of EGRET data", ICRC 27, 2923.
    """
    workspace.begin(state)
    iteration, island_threshold = state.iteration + 1, workspace.criteria.significance_island_threshold
    joined, transform_2d = state.joined.reshape(len(state.joined), -1), state.transform_2d.reshape(-1)
    found = []
    for scale in range(len(joined)):
        detected, pixels, transform = workspace.detect(state, scale)
        kept = select(scale, detected) if select else in_bright_islands(detected, island_threshold)
        joining = detected.pixels[kept]
        joined[scale, joining[joined[scale, joining] == 0]] = iteration
        sum_over_scales(joined, scale, pixels, transform, transform_2d)
        found.append(pixels)
    for scale, pixels in enumerate(found):
        add_positive(joined, scale, pixels, transform_2d, state.model.reshape(-1))
    return replace(state, iteration=iteration)
