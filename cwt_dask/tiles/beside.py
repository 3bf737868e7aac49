"""What still stands out beside the sources of a joint model: maxima of S with all of them in the background."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.spectra import fast_length, kernel_spectra
from cwt_dask.cwt.state import Criteria, Field, State
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.measure.candidates import SAME
from cwt_dask.measure.likelihood import Fit
from cwt_dask.measure.peaks import find_peaks
from cwt_dask.planning.plan import Plan

# S that one more source beside others must have: what a shape lacks, and noise, must not take counts of what is there.
_LEAST_BESIDE = 4.5
# Rows and columns of the parts of a window in which S is made.
_PART = 512
# T/E above which pixels join a support, where none should.
_NEVER = 1e30


@dataclass(frozen=True)
class Beside:
    """Maxima of S with all sources in the background, in pixels of the window."""

    y: Ints
    x: Ints
    sigma: Floats
    scale: Ints

    @classmethod
    def nothing(cls) -> Beside:
        """None at all."""
        none = np.zeros(0, np.int64)
        return cls(none, none, np.zeros(0), none)


def stand_out(plan: Plan, fit: Fit, images: tuple[Floats, Floats, Bools]) -> Beside:
    """Find maxima of S at the finest scale that the joint model leaves, but for those at its own sources.

    Parameters
    ----------
    plan : Plan
        Of the run.
    fit : Fit
        With its sources, of a window.
    images : tuple of ndarray
        Counts, background and which pixels are valid (y, x).
    """
    # What lies beside others is seen best by the finest kernel; what the widest leave of a shape is no source.
    kernels = replace(plan.kernels, n_scale=1)
    height, width = images[0].shape
    sigma, scale = (np.empty((height, width), dtype) for dtype in (np.float32, np.int8))
    # Part by part: beside what the fit itself holds, all of it at once would take twice as much.
    for y0, x0 in product(range(0, height, _PART), range(0, width, _PART)):
        part = slice(y0, min(y0 + _PART, height)), slice(x0, min(x0 + _PART, width))
        sigma[part], scale[part] = _sigma_in(part, kernels, plan.rounding, fit, images)
    sigma[sigma <= _LEAST_BESIDE] = -np.inf
    y, x = find_peaks(sigma, SAME * kernels.scales[0])
    sources = fit.sources
    apart = distance_to(y, x, np.rint(sources.y), np.rint(sources.x))[0] > SAME * kernels.scales[0]
    return Beside(y[apart], x[apart], sigma[y, x][apart].astype(np.float64), scale[y, x][apart].astype(np.int64))


def _sigma_in(
    part: tuple[slice, slice], kernels: CWTKernels, rounding: float, fit: Fit, images: tuple[Floats, Floats, Bools]
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """S and its scale in a part of a window, of what the joint model leaves."""
    reach = kernels.reach
    around, inside = [], []
    for at in part:
        start = max(at.start - reach, 0)
        around.append(slice(start, at.stop + reach))
        inside.append(slice(at.start - start, at.stop - start))
    counts, background, valid = (image[tuple(around)] for image in images)
    # All parts in one box; a rim of zeros against the circular convolution.
    side = fast_length(_PART + 3 * reach)
    rim = [(0, side - length) for length in counts.shape]
    # Not where the fit takes a floor for the background: without one there is no S.
    expected = np.where(valid, background + fit.of_sources((around[0], around[1])), 0.0)
    field = Field(np.pad(counts, rim), np.pad(expected, rim), np.pad(valid, rim))
    criteria = Criteria(_NEVER, None, remove_isolated=False, rounding=rounding)
    workspace = Workspace(field, kernel_spectra(kernels, (side, side)), criteria)
    state = State.start(kernels.n_scale, (side, side), (inside[0], inside[1]))
    workspace.begin(state, approximate=False)
    workspace.detect(state, 0)
    found = state.sigma.copy(), state.sigma_scale.copy()
    workspace.close()
    state.close()
    return found


def distance_to(y: NDArray[Any], x: NDArray[Any], of_y: NDArray[Any], of_x: NDArray[Any]) -> tuple[Floats, Ints]:
    """Distance of positions to the nearest of others, and which that is; infinite where there are none.

    Parameters
    ----------
    y, x : ndarray
        The positions.
    of_y, of_x : ndarray
        The others.
    """
    if not len(of_y) or not len(y):
        return np.full(len(y), np.inf), np.zeros(len(y), np.int64)
    from scipy.spatial import cKDTree  # noqa: PLC0415 - see find_peaks

    distance, nearest = cKDTree(np.column_stack([of_y, of_x])).query(np.column_stack([y, x]))
    return np.asarray(distance), np.asarray(nearest)
