"""The detector on one image in memory: `CWT`."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.cwt.data import CWTData
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.limits import MOST_ITERATIONS
from cwt_dask.cwt.spectra import fast_length, kernel_spectra
from cwt_dask.cwt.state import Criteria, Field, State, rounding_level
from cwt_dask.cwt.step import step
from cwt_dask.cwt.stopping import relative_change, stops_at
from cwt_dask.cwt.workspace import Workspace, smooth
from cwt_dask.errors import InputError, SettingsError

log = logging.getLogger(__name__)


@dataclass(eq=False)
class CWT:
    """Iterative continuous wavelet transform source detection on one image.

    Parameters
    ----------
    kernels : CWTKernels
        Kernels of the transform.
    max_iter : int, optional
        Largest number of iterations.
    tol : float, optional
        Stop when the variance of the residual changes by less than this, relative to the iteration before; 0 means
        that all `max_iter` iterations are done.
    significance_threshold : float, optional
        Pixels with a transform / error above it join the support.
    significance_island_threshold : float or None, optional
        Islands (4-connected) of such pixels are dropped if their largest transform / error is below it.
    remove_isolated : bool, optional
        Drop islands of one pixel.
    keep_history : bool, optional
        Keep the data of every iteration.

    Attributes
    ----------
    history : list of CWTData
        Of the last `analyze`: the start, then every iteration. Empty unless `keep_history`.

    Raises
    ------
    SettingsError
        If a parameter is impossible.

    References
    ----------
    R. Terrier et al. 2001, "Wavelet analysis of EGRET data", ICRC 27, 2923.

    Examples
    --------
    >>> import numpy as np
    >>> from cwt_dask import CWT, CWTData, CWTKernels
    >>> counts = np.ones((40, 50))
    >>> counts[20, 30] += 60
    >>> data = CWTData(counts, background=np.ones((40, 50)), n_scale=2)
    >>> cwt = CWT(CWTKernels(n_scale=2, min_scale=1.2, step_scale=1.5), significance_threshold=4.0, keep_history=True)
    >>> cwt.analyze(data)
    >>> np.argwhere(data.significance.data == data.significance.data.max())
    array([[20, 30]])
    >>> [kept.n_iter for kept in cwt.history[:3]]
    [0, 1, 2]
    """

    kernels: CWTKernels
    max_iter: int = 10
    tol: float = 1e-5
    significance_threshold: float = 3.0
    significance_island_threshold: float | None = None
    remove_isolated: bool = True
    keep_history: bool = False
    history: list[CWTData] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.max_iter, int | np.integer) or self.max_iter < 1:
            raise SettingsError(f"max_iter is {self.max_iter}: it must be a whole number of at least 1")
        if self.max_iter > MOST_ITERATIONS:
            raise SettingsError(f"max_iter is {self.max_iter}: it must be at most {MOST_ITERATIONS}")
        if not (math.isfinite(self.tol) and self.tol >= 0):
            raise SettingsError(f"tol is {self.tol}: it must be a number of at least 0")
        if not math.isfinite(self.significance_threshold):
            raise SettingsError(f"significance_threshold is {self.significance_threshold}: it must be a number")
        island = self.significance_island_threshold
        if island is not None and not math.isfinite(island):
            raise SettingsError(f"significance_island_threshold is {island}: it must be a number or None")

    @numpys_own
    def analyze(self, data: CWTData) -> None:
        """Detect sources in `data`, which holds the results afterwards, and no earlier ones.

        Outside the map everything is zero.

        Parameters
        ----------
        data : CWTData
            Counts and background, for as many scales as the kernels have.

        Raises
        ------
        InputError
            If the number of scales differs from that of the kernels.

        Notes
        -----
        If it is broken off, by Ctrl-C, say, neither `data` nor `history` holds results.

        Examples
        --------
        >>> import numpy as np
        >>> from cwt_dask import CWTData, CWTKernels
        >>> data = CWTData(np.ones((20, 30)), background=np.ones((20, 30)), n_scale=1)
        >>> CWT(CWTKernels(n_scale=1, min_scale=1.2, step_scale=1.5)).analyze(data)
        >>> data.n_iter, data.converged
        (10, False)
        """
        if data.n_scale != self.kernels.n_scale:
            raise InputError(
                f"the data is made for n_scale {data.n_scale}, the kernels have {self.kernels.n_scale}: make both alike"
            )
        data.reset()
        self.history = [copy.copy(data)] if self.keep_history else []
        try:
            self._iterate(data)
        except BaseException:
            # An iteration that was broken off leaves arrays that belong to no iteration.
            self.history = []
            data.reset()
            raise

    def _iterate(self, data: CWTData) -> None:
        # Zeros as wide as the kernels reach make circular convolution linear.
        field, shape = data.field, data.field.counts.shape
        box = fast_length(shape[0] + self.kernels.reach), fast_length(shape[1] + self.kernels.reach)
        rim = [(0, box[0] - shape[0]), (0, box[1] - shape[1])]
        padded = Field(np.pad(field.counts, rim), np.pad(field.background, rim), np.pad(field.valid, rim))
        spectra = kernel_spectra(self.kernels, box)
        rounding = rounding_level(float(max(padded.counts.max(), padded.background.max())))
        thresholds = self.significance_threshold, self.significance_island_threshold
        # Before the workspace: its spectra use the buffers that this gives back.
        background_approx = smooth(padded.background, padded.valid, spectra)[: shape[0], : shape[1]]
        workspace = Workspace(padded, spectra, Criteria(*thresholds, self.remove_isolated, rounding))
        core = slice(0, shape[0]), slice(0, shape[1])
        state = State.start(self.kernels.n_scale, box, core, with_cubes=True)
        variances: list[float] = []
        while len(variances) < self.max_iter and not data.converged:
            state = step(state, workspace)
            variances.append(workspace.residual_moments(state).variance)
            stopped = stops_at(variances, self.tol) is not None
            data.update(_state_in_corner(state, shape), background_approx, converged=stopped)
            if self.keep_history:
                data.state = copy.deepcopy(data.state)
                self.history.append(copy.copy(data))
            _log_iteration(state, variances)
        reason = "the relative change is below" if data.converged else "max_iter reached before"
        log.info("stopped after iteration %d: %s tol = %g", data.n_iter, reason, self.tol)


def _log_iteration(state: State, variances: list[float]) -> None:
    change = relative_change(*variances[-2:]) if len(variances) > 1 else math.inf
    log.info(
        "iteration %d: residual variance %.6g, relative change %.3g, model sum %.6g, support pixels %d",
        *(state.iteration, variances[-1], change, state.model.sum(), np.count_nonzero(state.support)),
    )


def _state_in_corner(state: State, shape: tuple[int, int]) -> State:
    names = ("model", "approx", "joined", "transform_2d", "transform", "error")
    arrays: dict[str, Any] = {name: getattr(state, name)[..., : shape[0], : shape[1]] for name in names}
    return replace(state, **arrays)
