"""The plain whole-map algorithm, written from its description only: the judge of everything else."""

# ruff: noqa: N803, N806 (images have the names of that description)

from dataclasses import dataclass
from functools import cache
from math import factorial

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
    best_iteration: np.ndarray
    sigma: np.ndarray
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


@cache
def curve(kernel):
    """Of a kernel over its maximum, as bytes: transforms over their scale, and the two parts of S there."""
    v = np.frombuffer(kernel)
    powers = {n: np.sum(v**n) / factorial(n) for n in range(2, 8)}
    rows = []
    for t in np.concatenate([-np.geomspace(30, 1e-4, 400), np.geomspace(1e-4, 40, 1200)]):
        phi, phi1, phi2 = np.sum(np.expm1(t * v) - t * v), np.sum(v * np.expm1(t * v)), np.sum(v**2 * np.exp(t * v))
        if abs(t) < 2e-3:
            # The difference above would be rounding alone.
            phi = sum(t**n * power for n, power in powers.items())
        w = np.sign(t) * np.sqrt(2 * (t * phi1 - phi))
        rows.append((phi1, w, np.log(t * np.sqrt(phi2) / w)))
    return np.array(rows).T


def calibrated(T, squared, third, k):
    """S of the transforms T with a kernel, of this variance and this third cumulant."""
    v = k / k.max()
    x, w, log = curve(v.tobytes())
    k2, k3 = squared / k.max() ** 2, third / k.max() ** 3
    a = np.clip(k3 / k2 * np.sum(v**2) / np.sum(v**3), 0.05, 5)
    mu = k2 / (a**2 * np.sum(v**2))
    at = T / k.max() / (a * mu)
    root = np.sqrt(mu) * np.interp(at, x, w)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(root) < 1e-3, 0.0, root + np.interp(at, x, log) / root)


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
    wrap=False,
):
    """The whole map at once; with `wrap` its last column is the neighbour of its first."""
    valid = np.ones(counts.shape, bool) if mask is None else mask.astype(bool)
    C, B = np.where(valid, counts, 0.0), np.where(valid, background, 0.0)
    kernels = [base_kernel(min_scale * step_scale**i, step_scale, old=old) for i in range(n_scale)]
    k_approx = approx_kernel(min_scale * step_scale**n_scale)

    M, A = np.zeros(C.shape), np.zeros(C.shape)
    S = np.zeros((n_scale, *C.shape), bool)
    T, E = np.zeros(S.shape), np.zeros(S.shape)
    significance, sigma = np.full(C.shape, -np.inf), np.full(C.shape, -np.inf)
    best_scale = np.full(C.shape, -1)
    best_iteration = np.zeros(C.shape, int)
    variances = []
    converged = False

    def smooth(image, kernel):
        return convolve(image, kernel, wrap=wrap)

    while len(variances) < max_iter and not converged:
        total = M + B + A
        excess = C - total
        A = np.where(valid, smooth(C - M - B, k_approx), 0.0)
        for i, k in enumerate(kernels):
            T[i] = smooth(excess, k)
            squared = smooth(total, k**2)
            with np.errstate(invalid="ignore"):
                E[i] = np.sqrt(squared)
            defined = valid & (squared > rounding * np.sum(k**2))
            ratio = np.full(C.shape, -np.inf)
            ratio[defined] = T[i][defined] / E[i][defined]
            if not variances:
                cumulants = squared[defined], smooth(B, k**3)[defined]
                sigma[defined] = np.maximum(sigma[defined], calibrated(T[i][defined], *cumulants, k))
            S[i] |= detected(
                ratio,
                significance_threshold,
                significance_island_threshold,
                remove_isolated=remove_isolated,
                wrap=wrap,
            )
            best_scale[ratio > significance] = i
            with np.errstate(invalid="ignore"):
                best_iteration[ratio - significance > 1e-9 * np.abs(ratio)] = len(variances) + 1
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
        approx_bkg=np.where(valid, smooth(B, k_approx), 0.0),
        residual=residual,
        support=S,
        transform=T,
        error=E,
        transform_2d=T_2d,
        significance=np.where(np.isfinite(significance), significance, 0.0),
        best_scale=best_scale,
        best_iteration=best_iteration,
        sigma=np.where(np.isfinite(sigma), sigma, 0.0),
        variances=variances,
    )


def convolve(image, kernel, *, wrap):
    """Convolution with zeros outside the map, or with the map again and again to the west and east."""
    rim = kernel.shape[1] // 2 if wrap else 0
    around = np.pad(image, ((0, 0), (rim, rim)), mode="wrap")
    return fftconvolve(around, kernel, mode="same")[:, rim : rim + image.shape[1]]


def label_ring(mask):
    """Islands of a map whose last column is the neighbour of its first."""
    islands, _ = label(mask)
    for y in range(len(mask)):
        west, east = islands[y, 0], islands[y, -1]
        if west and east:
            islands[islands == east] = west
    return islands


def detected(ratio, threshold, island_threshold, *, remove_isolated, wrap):
    mask = ratio > threshold
    islands = label_ring(mask) if wrap else label(mask)[0]
    for island, box in enumerate(find_objects(islands), start=1):
        if box is None:
            # Joined over the edge to another, whose number it has now.
            continue
        pixels = islands[box] == island
        isolated = remove_isolated and pixels.sum() == 1
        faint = island_threshold is not None and ratio[box][pixels].max() < island_threshold
        if isolated or faint:
            mask[box][pixels] = False
    return mask
