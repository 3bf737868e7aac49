"""The plain whole-map algorithm, written from its description only: the judge of everything else."""

# ruff: noqa: N806 (images have the names of that description)

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label
from scipy.signal import fftconvolve


@dataclass
class Result:
    n_iter: int
    converged: bool
    model: np.ndarray
    approx: np.ndarray
    approx_bkg: np.ndarray
    residual: np.ndarray
    support: np.ndarray
    transform: np.ndarray
    error: np.ndarray
    transform_2d: np.ndarray
    significance: np.ndarray
    best_scale: np.ndarray
    variances: list


def squared_radius(size, centre):
    y, x = np.mgrid[:size, :size]
    return (x - centre) ** 2 + (y - centre) ** 2


def gaussian(r2, w):
    return np.exp(-r2 / (2 * w**2)) / (2 * np.pi * w**2)


def odd_size(w):
    size = int(np.ceil(8 * w))
    return size if size % 2 else size + 1


def base_kernel(scale, step_scale, *, old=False):
    w = scale * step_scale
    if old:
        n = int(8 * step_scale * scale)
        r2 = squared_radius(n - 1, 0.5 * n)
        return gaussian(r2, scale) - gaussian(r2, w)
    r2 = squared_radius(odd_size(w), odd_size(w) // 2)
    return (1 - r2 / (2 * w**2)) * np.exp(-r2 / (2 * w**2)) / (np.pi * w**4)


def approx_kernel(w):
    return gaussian(squared_radius(odd_size(w), odd_size(w) // 2), w)


def analyze(
    counts,
    background,
    *,
    n_scale,
    min_scale,
    step_scale,
    old=False,
    max_iter=10,
    tol=1e-5,
    significance_threshold=3.0,
    significance_island_threshold=None,
    remove_isolated=True,
    mask=None,
    rounding=0.0,
    fixed=False,
):
    valid = np.ones(counts.shape, bool) if mask is None else mask.astype(bool)
    C, B = np.where(valid, counts, 0.0), np.where(valid, background, 0.0)
    kernels = [base_kernel(min_scale * step_scale**i, step_scale, old=old) for i in range(n_scale)]
    k_approx = approx_kernel(min_scale * step_scale**n_scale)

    M, A = np.zeros(C.shape), np.zeros(C.shape)
    S = np.zeros((n_scale, *C.shape), bool)
    T, E = np.zeros(S.shape), np.zeros(S.shape)
    significance = np.full(C.shape, -np.inf)
    best_scale = np.full(C.shape, -1)
    variances = []
    converged = False
    while len(variances) < max_iter and not converged:
        total = M + B + A
        excess = C - total
        A = np.where(valid, fftconvolve(C - M - B, k_approx, mode="same"), 0.0)
        for i, k in enumerate(kernels):
            T[i] = fftconvolve(excess, k, mode="same")
            squared = fftconvolve(total, k**2, mode="same")
            with np.errstate(invalid="ignore"):
                E[i] = np.sqrt(squared)
            defined = valid & (squared > rounding * np.sum(k**2))
            ratio = np.full(C.shape, -np.inf)
            ratio[defined] = T[i][defined] / E[i][defined]
            S[i] |= detected(
                ratio, significance_threshold, significance_island_threshold, remove_isolated=remove_isolated
            )
            best_scale[ratio > significance] = i
            significance = np.maximum(significance, ratio)
        T_2d = np.sum(S * T, axis=0)
        M = M + np.maximum(T_2d, 0)
        residual = C - (M + A)
        variances.append(residual[valid].var())
        if len(variances) >= 2 and not fixed:
            converged = bool(abs(variances[-2] - variances[-1]) < tol * variances[-2])
    return Result(
        n_iter=len(variances),
        converged=converged,
        model=M,
        approx=A,
        approx_bkg=np.where(valid, fftconvolve(B, k_approx, mode="same"), 0.0),
        residual=residual,
        support=S,
        transform=T,
        error=E,
        transform_2d=T_2d,
        significance=np.where(np.isfinite(significance), significance, 0.0),
        best_scale=best_scale,
        variances=variances,
    )


def detected(ratio, threshold, island_threshold, *, remove_isolated):
    mask = ratio > threshold
    islands, _ = label(mask)
    for island, box in enumerate(find_objects(islands), start=1):
        pixels = islands[box] == island
        isolated = remove_isolated and pixels.sum() == 1
        faint = island_threshold is not None and ratio[box][pixels].max() < island_threshold
        if isolated or faint:
            mask[box][pixels] = False
    return mask
