"""One iteration: step(State) -> State."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.loops import add_positive, mark_joined, sum_over_scales
from cwt_dask.cwt.state import Criteria, Detected, State
from cwt_dask.cwt.support import in_bright_islands
from cwt_dask.cwt.workspace import Workspace

Judge = Callable[[int, Detected], Bools]


def step(state: State, workspace: Workspace, judge: Judge | None = None) -> State:
    """One iteration, as published; it reuses the arrays of `state`: copy what is to be kept.

    Parameters
    ----------
    state : State
        After the iteration before.
    workspace : Workspace
        What is analysed, with which kernels and criteria.
    judge : callable, optional
        Given scale index and the pixels above the threshold: which of them join the support. By default islands are
        judged by their own peak, as published.

    References
    ----------
    R. Terrier et al. 2001, "Wavelet analysis of EGRET data", ICRC 27, 2923.
    """
    judge = judge or by_own_peak(workspace.criteria)
    workspace.begin(state)
    iteration = state.iteration + 1
    joined, transform_2d = state.joined.reshape(len(state.joined), -1), state.transform_2d.reshape(-1)
    found = []
    for scale in range(len(joined)):
        detected, pixels, transform = workspace.detect(state, scale)
        mark_joined(joined[scale], detected.pixels[judge(scale, detected)], iteration)
        sum_over_scales(joined, scale, pixels, transform, transform_2d)
        found.append(pixels)
    for scale, pixels in enumerate(found):
        add_positive(joined, scale, pixels, transform_2d, state.model.reshape(-1))
    return replace(state, iteration=iteration)


def by_own_peak(criteria: Criteria) -> Judge:
    """Judge islands by their largest T/E in the box, if there is a threshold for it."""
    threshold = criteria.significance_island_threshold

    def judge(_: int, detected: Detected) -> Bools:
        if threshold is None:
            return np.ones(len(detected.pixels), dtype=bool)
        return in_bright_islands(detected, threshold)

    return judge
