"""Margins by contract: how far an error at a window's edge carries, and how wide a margin must be against it."""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.kernels import CWTKernels, wavenumbers

# Model error, over the tile's own model maximum, with which a tile counts as one with the whole map.
TOLERANCE = 1e-9
# Neighbours are compared on strips this wide beyond their cores, in pixels: the promise holds there, too.
STRIP_WIDTH = 2
# Influence from which a pixel of the support may flip, which is an error of order one; measured.
FLIP_LEVEL = 1e-3
# The model maximum, in counts per pixel, that errors are compared with: of a tile that holds faint sources only.
FAINT = 10.0
# No result of the FFTs is better, at any margin.
ROUNDING = 1e-15
# Decay lengths tried, in units of one over the reach. The least influence over any set of them is a bound.
TILTS = np.geomspace(0.1, 16.0, 48)


def contract_margin(kernels: CWTKernels, n_iter: int, brightest: float) -> int:
    """Least margin, in pixels, that leaves a model error of 1e-9 of the tile's own model maximum.

    It is never below the kernels' reach and never above ``n_iter * (reach + 1)`` and the strip: no pixel depends on
    anything farther away. Where the iteration is not `bounded`, it is the margin that would do if it were.

    Parameters
    ----------
    kernels : CWTKernels
        The kernels.
    n_iter : int
        Largest number of iterations.
    brightest : float
        Largest pixel of counts or background in the map.
    """
    strictest = n_iter * (kernels.reach + 1) + STRIP_WIDTH
    margins = range(kernels.reach, strictest)
    suffices = bisect_left(margins, x=True, key=lambda m: _influence(kernels, n_iter, brightest, m) <= TOLERANCE)
    return kernels.reach + suffices


def expected_error(kernels: CWTKernels, n_iter: int, brightest: float, margin: int) -> float | None:
    """Largest model error that a margin lets one expect, over the tile's own model maximum.

    An envelope of the table that `benchmarks/margin.py` measures (docs/design/0004-margins.md). At most 1e-9 exactly
    where `margin` is at least `contract_margin`.

    Parameters
    ----------
    kernels, n_iter, brightest
        As for `contract_margin`.
    margin : int
        Pixels that a tile reads beyond its core.

    Returns
    -------
    float or None
        From 1e-15 to 1; None where no bound exists: the margin is below the reach, or the iteration not `bounded`.
    """
    if margin < kernels.reach or not bounded(kernels, n_iter, brightest):
        return None
    influence = _influence(kernels, n_iter, brightest, margin)
    return max(ROUNDING, _rounding(brightest), 1.0 if influence > FLIP_LEVEL else influence)


def bounded(kernels: CWTKernels, n_iter: int, brightest: float) -> bool:
    """Whether any margin bounds the error: rounding alone, grown over the iterations, must leave a map to compare.

    No, where the model may grow until one rounding error of it is a count (kernels with a `growth` above 1), or
    where one rounding error of the brightest pixel is more than 1e-9 of a faint tile's model.

    Parameters
    ----------
    kernels, n_iter, brightest
        As for `contract_margin`.
    """
    exponent = n_iter * math.log(growth(kernels)) + math.log(max(brightest, FAINT) * np.finfo(np.float64).eps)
    return exponent <= 0 and _rounding(brightest) <= TOLERANCE


@lru_cache(maxsize=16)
def growth(kernels: CWTKernels) -> float:
    """Largest factor by which one iteration multiplies any wave; above 1 the model grows for ever, of whole maps, too.

    It is 1 for nearly all Mexican hats. Two kinds of kernels exceed it: differences of Gaussians of fine scale, since
    they sit off their own centre and so return short waves with the wrong sign, and summed gains above some 1.5,
    since the approximation adds to them.
    """
    return max(1.0, float(_wave_growth(kernels, np.zeros(1))[0]))


def _rounding(brightest: float) -> float:
    return float(np.finfo(np.float64).eps) * brightest / FAINT


def _influence(kernels: CWTKernels, n_iter: int, brightest: float, margin: int) -> float:
    """Error that `n_iter` iterations carry from a window's edge to the strips, over a faint tile's model maximum.

    The bound of Chernoff, or the method of steepest descent without its prefactor: contour integrals of the n-th power
    of an iteration's symbol, shifted by a tilt t into the complex plane, give exp(-t x) max |radius(t)|^n for every t.
    The prefactor, the square root of brightest / 10 counts, is measured.
    """
    pixels = margin - STRIP_WIDTH
    if pixels >= n_iter * (kernels.reach + 1):
        return 0.0
    tilts, factors = _growth_by_tilt(kernels)
    # A window is cut on all sides: the worse one counts.
    exponent = float(np.max(np.min(n_iter * np.log(factors) - tilts * pixels, axis=1)))
    return math.sqrt(max(brightest / FAINT, 1.0)) * math.exp(min(exponent, 0.0))


@lru_cache(maxsize=16)
def _growth_by_tilt(kernels: CWTKernels) -> tuple[Floats, Floats]:
    """Tilts per pixel, shape (n,), and the growth of waves so tilted, (1, n), or (2, n) where the sign matters."""
    tilts = TILTS / kernels.reach
    # Differences of Gaussians sit off their own centre; Mexican hats carry as far to either side.
    sides = (-1, 1) if kernels.old else (1,)
    return tilts, np.array([_wave_growth(kernels, side * tilts) for side in sides])


def _wave_growth(kernels: CWTKernels, tilts: Floats) -> Floats:
    """Largest factors by which one iteration multiplies waves that grow by a tilt per pixel along x.

    Plane waves exp(i k r) under an iteration where everything is support and no step is negative: an error m of the
    model obeys m' = (1 - k) m + k a m'' with the transforms k and a of base and approximation kernels, m'' being the
    error one iteration before. The factor is the larger root of z² = (1 - k) z + k a.
    """
    along_x = wavenumbers(kernels.widths, 32)
    # Along y both signs are taken: with those along x they cover all directions.
    along_y = np.concatenate([along_x, -along_x])
    base_y = [factors.transform_y(along_y) for factors in kernels.base_factors]
    approx_y = kernels.approx_factors.transform_y(along_y)
    largest = []
    for tilt in tilts:
        tilted = 1j * along_x - tilt
        base = np.zeros((len(along_y), len(along_x)), dtype=np.complex128)
        for of_y, factors in zip(base_y, kernels.base_factors, strict=True):
            base += of_y @ factors.transform_x(tilted)
        approx = approx_y @ kernels.approx_factors.transform_x(tilted)
        root = np.sqrt((1 - base) ** 2 + 4 * base * approx)
        largest.append(np.maximum(np.abs(1 - base + root), np.abs(1 - base - root)).max() / 2)
    return np.array(largest)
