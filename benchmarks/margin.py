"""Measure what a margin leaves of the difference between a tile and the whole map.

A map is cut; left of the cut, in the core, lie faint sources only, right of it bright ones at every distance: the worst
case, since an error is judged by the core's own model. The core plus a margin is iterated by itself and compared with
the whole map. Prints one row a case: the largest model error in the core over the core's model maximum, and the support
pixels that differ, for margins in units of the kernels' reach. `cwt_dask.plan` takes its
contract from this table (docs/design/0004-margins.md).
"""

from __future__ import annotations

import itertools
import sys

import numpy as np

from cwt_dask.cwt.iterate import Criteria, Field, State, rounding_level, step
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.transform import fast_length, kernel_spectra

MARGINS = (1, 2, 3, 4, 5, 6, 7, 8)
KERNELS = {
    "(2, 6.0, 1.3)": CWTKernels(2, 6.0, 1.3),
    "(3, 1.2, 1.5)": CWTKernels(3, 1.2, 1.5),
    "(1, 1.2, 1.5)": CWTKernels(1, 1.2, 1.5),
    "(3, 1.0, 1.3)": CWTKernels(3, 1.0, 1.3),
    "(4, 1.5, 1.6)": CWTKernels(4, 1.5, 1.6),
    "(3, 0.8, 1.2)": CWTKernels(3, 0.8, 1.2),
    "(2, 3.0, 2.6, old)": CWTKernels(2, 3.0, 2.6, old=True),
    "(2, 0.6, 1.5, old)": CWTKernels(2, 0.6, 1.5, old=True),
}
ITERATIONS = (10, 20, 40)
BRIGHTEST = (1e2, 1e4, 1e6)


def survey(shape: tuple[int, int], core: int, brightest: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and background: beyond the first `core` columns sources of up to `brightest` counts, one in every 15."""
    rng = np.random.default_rng(seed)
    background = np.full(shape, 0.3)
    expected = background.copy()
    y, x = np.ogrid[: shape[0], : shape[1]]
    bright = [
        (rng.uniform(0, shape[0]), x0, brightest * rng.uniform(0.2, 1)) for x0 in np.arange(core + 5, shape[1], 15)
    ]
    faint = [(*rng.uniform(0, shape), rng.uniform(10, 100)) for _ in range(shape[1] // 5)]
    for y0, x0, counts in bright + faint:
        expected += counts * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.5**2)) / (2 * np.pi * 1.5**2)
    return rng.poisson(expected).astype(float), background


def analyse(
    counts: np.ndarray, background: np.ndarray, kernels: CWTKernels, rounding: float, iterations: tuple[int, ...]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Model and support after each of `iterations`."""
    shape = tuple(fast_length(n + kernels.reach) for n in counts.shape)
    inside = tuple(slice(0, n) for n in counts.shape)
    field = Field(np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool))
    field.counts[inside], field.background[inside], field.valid[inside] = counts, background, True
    spectra = kernel_spectra(kernels, shape)
    state = State.start(kernels.n_scale, shape)
    results = {}
    for _ in range(max(iterations)):
        state = step(state, field, spectra, Criteria(3.0, None, True, rounding))
        if state.iteration in iterations:
            results[state.iteration] = state.model[inside], state.support[:, inside[0], inside[1]]
    return results


def main() -> None:
    """Print the table."""
    print("| kernels | reach | gain | iterations | brightest pixel |", *(f"{m} h |" for m in MARGINS))
    print("|" + " --- |" * (5 + len(MARGINS)))
    for (name, kernels), brightest in itertools.product(KERNELS.items(), BRIGHTEST):
        reach = kernels.reach
        core = 4 * reach
        counts, background = survey((6 * reach, core + 14 * reach), core, brightest, seed=1)
        rounding = rounding_level(counts.max())
        whole = analyse(counts, background, kernels, rounding, ITERATIONS)
        rows = dict.fromkeys(ITERATIONS, "")
        for margin in MARGINS:
            end = core + margin * reach
            part = analyse(counts[:, :end], background[:, :end], kernels, rounding, ITERATIONS)
            for n in ITERATIONS:
                error = np.abs(part[n][0][:, :core] - whole[n][0][:, :core]).max() / whole[n][0][:, :core].max()
                flips = np.count_nonzero(part[n][1][..., :core] != whole[n][1][..., :core])
                rows[n] += f" {error:.0e}{f' ({flips})' if flips else ''} |"
        for n in ITERATIONS:
            print(f"| {name} | {reach} | {kernels.gain:.3f} | {n} | {counts.max():.0e} |" + rows[n])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
