"""The estimate against a plain one of the whole map, and by tiles to the bit."""

import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
from scipy.stats import poisson
from skies import poisson_sky

from cwt_dask.background import estimate_background
from cwt_dask.background.estimate import estimate
from cwt_dask.background.layers import COUNTS, DRAWN, ESTIMATE, EXCLUDED, EXPOSURE, FIRST, MASK, SECOND, InMemory
from cwt_dask.background.passes import BYTES_PER_PIXEL, Passes
from cwt_dask.background.recipe import LAST, LEAST_PROBABILITY, Recipe, in_discs, is_improbable
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.runtime.executors import InProcess
from cwt_dask.runtime.progress import Reporter

SHAPE, SCALE = (70, 110), 4.0


def sky(seed=5):
    """Counts, an exposure with a pixel of 0, and a mask with a hole."""
    counts, _ = poisson_sky(SHAPE, seed, n_sources=9)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    exposure = 1e11 * (1 + 0.3 * np.cos(x / 40) + 0.004 * y)
    exposure[30, 40] = 0
    mask = np.ones(SHAPE, bool)
    mask[20:35, 60:71] = False
    return counts, exposure, mask


def plain(counts, exposure, mask, scale, *, ring):
    """The recipe of the whole map, as its page says it, with no word of tiles."""
    used = mask & (exposure > 0)
    n_rows, n_columns = SHAPE
    dy, dx = (np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float) for n in SHAPE)

    def gaussian(apart, sigma, length=None):
        turns = [0] if length is None else range(-3, 4)
        every = [np.abs(apart + turn * (length or 0)) for turn in turns]
        return sum(np.where(each <= math.ceil(4 * scale), np.exp(-0.5 * (each / sigma) ** 2), 0) for each in every)

    signed = np.subtract.outer(np.arange(n_columns), np.arange(n_columns)).astype(float)

    def smooth(pixels, sigma):
        of_columns = gaussian(signed, sigma, n_columns) if ring else gaussian(dx, sigma)
        return gaussian(dy, sigma) @ pixels @ of_columns.T

    def estimated(free, sigma, times):
        background = np.where(used, exposure, 0)
        for _ in range(times):
            background = background * smooth(free * counts, sigma) / smooth(free * background, sigma)
        return background

    def discs(pixels, radius):
        total = np.zeros(SHAPE)
        for down in range(-radius, radius + 1):
            for right in range(-radius, radius + 1):
                if down**2 + right**2 <= radius**2:
                    shifted = np.roll(pixels, right, axis=1) if ring else np.zeros(SHAPE)
                    if not ring:
                        shifted[:, max(right, 0) : n_columns + min(right, 0)] = pixels[
                            :, max(-right, 0) : n_columns + min(-right, 0)
                        ]
                    total[max(down, 0) : n_rows + min(down, 0)] += shifted[max(-down, 0) : n_rows + min(-down, 0)]
        return total

    excluded = np.zeros(SHAPE, bool)
    while True:
        background = estimated(used & ~excluded, scale, 2)
        found = np.zeros(SHAPE, bool)
        for radius in (1, 2):
            seen, expected = discs(used * counts, radius), discs(used * background, radius)
            found |= discs((poisson.sf(seen - 1, expected) < LEAST_PROBABILITY) & (seen > 0), radius) > 0
        found = (found & used) | excluded
        if (found == excluded).all():
            return estimated(used & ~excluded, 2 * scale, 4), excluded
        excluded = found


def by_tiles(core, *, ring, order=1):
    counts, exposure, mask = sky()
    arrays = {COUNTS: counts * mask, EXPOSURE: exposure, MASK: mask, EXCLUDED: np.zeros(SHAPE, bool)}
    layers = InMemory(arrays, ring)
    grid = TileGrid.plan(SHAPE, core, 0, 0, lambda length: length, ring=ring)
    executor = InProcess()
    executor.map = lambda function, items: InProcess.map(executor, function, list(items)[::order])
    found = estimate(Passes(layers, grid, Recipe(SCALE)), "as given", executor, Reporter())
    return layers.arrays[ESTIMATE], layers.arrays[EXCLUDED], found


@pytest.mark.parametrize("ring", [False, True])
def test_it_is_the_recipe_of_its_page(ring):
    counts, exposure, mask = sky()
    background, excluded = plain(counts, exposure, mask, SCALE, ring=ring)
    found = estimate_background(counts, scale=SCALE, acceptance=exposure, mask=mask, wrap=ring)
    assert 0.01 < excluded.mean() < 0.2
    np.testing.assert_array_equal(found.excluded, excluded)
    np.testing.assert_allclose(found.background, background, rtol=1e-6, atol=0)
    assert found.background.dtype == np.float32
    assert not found.background[~mask].any()


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("core", [(13, 17), (70, 9), (64, 110), (1, 110)])
def test_no_bit_depends_on_the_tiles_or_their_order(core, ring):
    counts, exposure, mask = sky()
    whole = estimate_background(counts, scale=SCALE, acceptance=exposure, mask=mask, wrap=ring)
    background, excluded, found = by_tiles(core, ring=ring, order=-1)
    np.testing.assert_array_equal(background.astype(np.float32), whole.background)
    np.testing.assert_array_equal(excluded, whole.excluded)
    assert found == whole.estimate


def test_discs_are_those_of_their_radius_and_tails_those_of_poisson():
    point = np.zeros((17, 17))
    point[8, 8] = 1
    y, x = np.mgrid[-4:5, -4:5]
    for radius in (1, 2, 4):
        disc = (y**2 + x**2 <= radius**2)[4 - radius : 5 + radius, 4 - radius : 5 + radius]
        found = in_discs(point, radius)
        middle = slice(8 - 2 * radius, 9)
        np.testing.assert_array_equal(found[middle, middle], disc)
    expected = np.geomspace(1e-3, 300, 40)
    for mu in expected:
        least = poisson.isf(LEAST_PROBABILITY, mu) + 1
        assert is_improbable(np.array([least]), np.array([mu]))
        assert not is_improbable(np.array([least - 1]), np.array([mu]))


def test_a_pass_takes_the_memory_that_is_said():
    counts = np.ones((900, 900))
    arrays = {COUNTS: counts.astype(int), EXPOSURE: counts, MASK: counts > 0, EXCLUDED: counts < 0}
    layers = InMemory(arrays | {name: counts.copy() for name in (FIRST, SECOND, ESTIMATE, DRAWN)})
    passes = Passes(layers, TileGrid.plan((900, 900), (300, 300), 0, 0, lambda length: length), Recipe(20))
    smooth, draw = partial(passes.smooth, COUNTS, LAST.width), partial(passes.draw, 0)
    again = partial(passes.smooth_again, COUNTS, LAST.width, FIRST, SECOND)
    for each in (smooth, again, passes.exclude, draw, passes.depart):
        tracemalloc.start()
        each(4)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < BYTES_PER_PIXEL * (300 + 2 * 96) ** 2 < passes.worker_memory


def test_radii_double_up_to_half_the_scale():
    assert [Recipe(scale).radii for scale in (2, 3.9, 4, 20)] == [(1,), (1,), (1, 2), (1, 2, 4, 8)]
