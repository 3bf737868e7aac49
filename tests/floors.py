"""Backgrounds at the rounding floor, and tiles of maps in memory against the same maps whole."""

from __future__ import annotations

import numpy as np

from cwt_dask import CWTKernels
from cwt_dask.cwt.spectra import fast_length, kernel_spectra
from cwt_dask.cwt.state import Criteria, Field, State, rounding_level
from cwt_dask.cwt.step import step
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.geometry.margins import TOLERANCE, contract_margin
from cwt_dask.geometry.tiling import TileGrid

KERNELS = (
    CWTKernels(1, 1.0, 1.4),
    CWTKernels(2, 1.2, 1.5),
    CWTKernels(2, 1.0, 1.3),
    CWTKernels(1, 1.3, 1.6, old=True),
    CWTKernels(3, 1.0, 1.3),
)
THRESHOLDS = (2.0, 3.0, 5.0, 8.0)
SHAPE, CORE, N_ITER = (36, 120), (36, 37), 3


def acceptance(rng, floor):
    """A field of view (y, x), 1 at its best, whose acceptance falls to `floor`, or past it."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot(y - rng.uniform(0, SHAPE[0]), x - rng.uniform(10, 110)) / rng.uniform(5, 25)
    profiles = (
        np.exp(-(radius**2) / 2),
        np.exp(-radius * rng.uniform(0.5, 6)),
        (1 + radius) ** -rng.uniform(4, 16),
        np.where(radius < 2, 1.0, 1e-300),
    )
    profile = profiles[rng.integers(len(profiles))]
    clipped = np.maximum(profile, floor)
    ends = (
        profile,
        clipped,
        profile + floor,
        clipped.astype(np.float32).astype(float),
        np.where(profile < floor, 1e-300, profile),
        np.where(profile < floor, 5e-324, profile),
    )
    return ends[rng.integers(len(ends))]


def counts_of(rng, background):
    """Noise, and single counts and sources where they fall."""
    counts = rng.poisson(background).astype(float)
    y, x = rng.integers(0, SHAPE[0], 8), rng.integers(0, SHAPE[1], 8)
    np.add.at(counts, (y, x), rng.choice([1, 1, 5, 30, 300], 8))
    return counts


def random_sky(rng):
    """Counts and background of a random acceptance, with a floor of 1e-6 to 1e-16 of the brightest."""
    background = 10.0 ** rng.uniform(-1, 5) * acceptance(rng, 10.0 ** -rng.uniform(6, 16))
    return counts_of(rng, background), background


def sky_at_the_floor(rng):
    """The same with the background laid at the very floor of the first iteration, or of the second."""
    counts, background = random_sky(rng)
    level = rounding_level(float(max(counts.max(), background.max())))
    # In the second the approximation has taken up all of a flat background but this.
    level *= rng.choice([1.0, 1 / 8.5e-5])
    level *= 1 + rng.choice([0, 1e-15, -1e-15, 1e-12, 1e-6, 1e-3, 0.05, -0.05])
    laid = np.maximum(background, level), np.where(background < level * rng.choice([1, 10, 1e3]), level, background)
    return counts, laid[rng.integers(2)]


def iterate(field, spectra, criteria, core):
    """The state of a box after all iterations."""
    workspace, state = Workspace(field, spectra, criteria), State.start(len(spectra.base), spectra.shape, core)
    for _ in range(N_ITER):
        state = step(state, workspace)
    workspace.close()
    return state


def assert_tiles_equal_whole(make, seeds):
    """Compare skies with the same whole; return how many of these have a pixel that is counted as near a threshold."""
    counted = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        kernels, threshold = KERNELS[rng.integers(len(KERNELS))], THRESHOLDS[rng.integers(len(THRESHOLDS))]
        (model, joined, _, undefined), whole = tiles_and_whole(*make(rng), kernels, threshold)
        np.testing.assert_array_equal(joined, whole[1], err_msg=f"seed {seed}")
        np.testing.assert_allclose(model, whole[0], rtol=0, atol=TOLERANCE * whole[0].max(), err_msg=f"seed {seed}")
        np.testing.assert_array_equal(undefined, whole[3], err_msg=f"seed {seed}")
        counted += whole[2].any()
    return counted


def tiles_and_whole(counts, background, kernels, threshold):
    """Of all tiles together, and of the whole map: model, iterations of joining, pixels near a threshold, undefined."""
    brightest = float(max(counts.max(), background.max()))
    criteria = Criteria(threshold, None, remove_isolated=True, rounding=rounding_level(brightest))
    margin = contract_margin(kernels, N_ITER, brightest)
    shape = counts.shape
    whole = TileGrid.plan(shape, shape, 0, kernels.reach, fast_length)
    grid = TileGrid.plan(shape, CORE, margin, kernels.reach, fast_length)
    found = []
    for laid in (grid, whole):
        model, undefined = np.empty(shape), np.empty(shape, dtype=bool)
        joined, near = np.empty((kernels.n_scale, *shape), dtype=int), np.empty(shape, dtype=bool)
        for number in range(laid.n_tiles):
            tile = laid.tile(number)
            seen = laid.on_map(tile.window)
            there, here = seen.slices, seen.within(tile.box)
            field = Field(*(np.zeros(tile.box.shape, dtype) for dtype in (float, float, bool)))
            field.counts[here], field.background[here], field.valid[here] = counts[there], background[there], True
            core = tile.core.within(tile.box)
            state = iterate(field, kernel_spectra(kernels, tile.box.shape), criteria, core)
            at = tile.core.slices
            model[at], joined[(..., *at)] = state.model[core], state.joined[(..., *core)]
            near[at], undefined[at] = state.near_threshold, state.undefined
            state.close()
        found.append((model, joined, near, undefined))
    return found
