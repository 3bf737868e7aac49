"""Backgrounds at the rounding floor: tiles decide as the whole map does (docs/design/0005-rounding.md)."""

import numpy as np
import pytest
from floors import KERNELS, assert_tiles_equal_whole, random_sky, sky_at_the_floor
from numpy.testing import assert_array_equal

from cwt_dask.cwt import workspace
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.loops import replace_by_sums


@pytest.mark.parametrize("make", [random_sky, sky_at_the_floor])
def test_tiles_equal_the_whole_map_with_any_acceptance(make):
    # Another two thousand of each: tests/run/test_acceptances.py.
    assert assert_tiles_equal_whole(make, range(60)) < 12


def test_without_sums_tiles_decide_otherwise(monkeypatch):
    monkeypatch.setattr(workspace, "NEAR_FLOOR", (1.0, 1.0))
    with pytest.raises(AssertionError):
        assert_tiles_equal_whole(sky_at_the_floor, range(60))


@pytest.mark.parametrize("kernels", [KERNELS[1], KERNELS[3], CWTKernels(1, 4.0, 1.5)], ids=["mexican", "old", "wide"])
@pytest.mark.parametrize("ring", [False, True], ids=["plane", "ring"])
def test_sums_are_the_convolution_and_have_the_same_bits_in_every_box(kernels, ring):
    rng = np.random.default_rng(1)
    # The widest kernel goes round this ring more than once.
    image = rng.random((120, 30 if ring else 100))
    square = kernels.base_factors[0].power(2)
    size, half = square.size, (square.size - 1) // 2
    rows, columns = np.indices(image.shape)
    expected = np.zeros(image.shape)
    for (dy, dx), weight in np.ndenumerate(square.image):
        y, x = rows + half - dy, columns + half - dx
        inside = (y >= 0) & (y < image.shape[0]) & (ring | ((x >= 0) & (x < image.shape[1])))
        expected += weight * np.where(inside, image[y.clip(0, image.shape[0] - 1), x % image.shape[1]], 0.0)

    def summed(image, wanted, rows=slice(None), *, ring=ring):
        values = np.where(wanted, 1.0, 3.0)[rows]
        replace_by_sums(values, values, rows.start or 0, image, square.along_y, square.along_x, (0.0, 2.0), ring)
        return values

    everywhere = summed(image, np.ones(image.shape, dtype=bool))
    np.testing.assert_allclose(everywhere, expected, rtol=1e-12)
    wanted = rng.random(image.shape) < 0.1
    assert_array_equal(summed(image, wanted, slice(20, 40)), np.where(wanted, everywhere, 3.0)[20:40])
    # A window of five pixels by five, with all that they depend on.
    window = np.take(image[60 - size : 65 + size], np.arange(40 - size, 45 + size), axis=1, mode="wrap").copy()
    part = summed(window, np.ones(window.shape, dtype=bool), ring=False)[size:-size, size:-size]
    assert_array_equal(part, everywhere[60:65].take(range(40, 45), axis=1, mode="wrap"))


def test_what_lies_between_the_bounds_only_is_replaced():
    square = KERNELS[0].base_factors[0].power(2)
    values = np.array([[0.5, 1.0, 1.5, 2.0, np.nan, np.inf, -1.0]])
    replace_by_sums(values, values, 0, np.zeros((1, 7)), square.along_y, square.along_x, (1.0, 2.0), False)
    assert_array_equal(values, [[0.5, 1.0, 0.0, 2.0, np.nan, np.inf, -1.0]])
