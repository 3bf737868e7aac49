import math

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwt_dask import CWTKernels
from cwt_dask.errors import SettingsError


def test_published_kernels():
    kernels = CWTKernels(n_scale=2, min_scale=6.0, step_scale=1.3)
    assert kernels.scales == pytest.approx([6.0, 7.8], rel=1e-15)
    assert kernels.widths == pytest.approx([7.8, 10.14], rel=1e-15)
    assert kernels.reach == 41
    assert kernels.kern_approx.shape == (83, 83)
    assert kernels.kern_approx.sum() == pytest.approx(0.9999153345163221, rel=1e-14)
    assert kernels.kern_approx.max() == pytest.approx(0.0015479047097235869, rel=1e-14)
    assert [kernel.shape for kernel in kernels.kern_base.values()] == [(63, 63), (83, 83)]
    # The sums of these kernels are differences of numbers a thousand times larger.
    assert kernels.kern_base[0].sum() == pytest.approx(3.0166320971388447e-05, rel=1e-11)
    assert kernels.kern_base[1].sum() == pytest.approx(1.456141213300368e-05, rel=1e-11)
    assert kernels.kern_base[0].max() == pytest.approx(8.599470609575481e-05, rel=1e-14)
    assert kernels.kern_base[1].max() == pytest.approx(3.0109136968507695e-05, rel=1e-14)


def test_kernels_as_first_published():
    kernels = CWTKernels(n_scale=2, min_scale=3.0, step_scale=2.6, old=True)
    sums = [kernel.sum() for kernel in kernels.kern_base.values()]
    maxima = [kernel.max() for kernel in kernels.kern_base.values()]
    assert sums == pytest.approx([0.000207093150419, 0.000146764160432], rel=1e-11)
    assert maxima == pytest.approx([0.0150679236063, 0.002228982782], rel=1e-11)
    # N = int(8 * 2.6 * 3.0) = 62: 61 pixels, and the peak next to the middle one.
    assert kernels.kern_base[0].shape == (61, 61)
    assert np.unravel_index(kernels.kern_base[0].argmax(), (61, 61)) == (31, 31)


scales, steps = st.floats(0.8, 12.0), st.floats(1.05, 3.0)


def assert_close_to(expected, found, largest):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15 * largest)


@settings(max_examples=80, deadline=None)
@given(scales, steps, st.booleans())
def test_kernels_are_sums_of_products(scale, step, old):
    kernels = CWTKernels(1, scale, step, old=old)
    base, approx = oracle.base_kernel(scale, step, old=old), oracle.approx_kernel(scale * step)
    # A difference of two Gaussians is as exact as the larger of them, however little of it is left.
    largest = oracle.gaussian(0.0, scale) if old else base.max()
    for factors, expected, limit in [
        (kernels.base_factors[0], base, largest),
        (kernels.approx_factors, approx, approx.max()),
    ]:
        assert factors.size == len(expected)
        assert_close_to(expected, factors.image, limit)
        assert_close_to(factors.image**2, factors.power(2).image, limit**2)
    np.testing.assert_array_equal(kernels.kern_base[0], kernels.base_factors[0].image)
    np.testing.assert_array_equal(kernels.kern_approx, kernels.approx_factors.image)


@pytest.mark.parametrize(("scale", "step"), [(3.0, 2.6), (7.8, 2.6), (2.0, 1.5), (1.2, 1.5), (1.0, 1.6)])
def test_a_difference_of_gaussians_is_a_sum_of_products_to_rounding_of_its_own_maximum(scale, step):
    (factors,) = CWTKernels(1, scale, step, old=True).base_factors
    expected = oracle.base_kernel(scale, step, old=True)
    assert_close_to(expected, factors.image, expected.max())
    assert_close_to(factors.image**2, factors.power(2).image, expected.max() ** 2)


@pytest.mark.parametrize("old", [False, True])
def test_gain_is_the_largest_value_of_the_summed_transforms(old):
    kernels = CWTKernels(n_scale=2, min_scale=1.1, step_scale=1.4, old=old)
    summed = np.zeros((512, 512))
    for kernel in kernels.kern_base.values():
        image = np.zeros((512, 512))
        image[: len(kernel), : len(kernel)] = kernel
        centre = (len(kernel) - 1) // 2
        summed += np.roll(image, (-centre, -centre), axis=(0, 1))
    assert kernels.gain == pytest.approx(np.abs(np.fft.fft2(summed)).max(), rel=1e-3)


def test_info_table_names_what_identifies_the_kernels():
    table = CWTKernels(n_scale=2, min_scale=6.0, step_scale=1.3).info_table
    assert table.colnames == ["Name", "Source"]
    rows = dict(table.iterrows())
    assert rows["Number of scales"] == "2"
    assert rows["Kernels approx width"] == "83"
    assert rows["Kernels approx sum"] == "0.999915334516"
    assert rows["Kernels base, 6.0 scale, max"] == "8.59947060958e-05"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((0, 6.0, 1.3), "n_scale is 0: it must be a whole number"),
        ((1.5, 6.0, 1.3), "n_scale is 1.5: it must be a whole number"),
        ((2, 0.0, 1.3), "min_scale is 0.0: it must be a positive"),
        ((2, math.nan, 1.3), "min_scale is nan: it must be a positive"),
        ((2, 6.0, 1.0), "step_scale is 1.0: it must be above 1"),
        ((2, 6.0, math.nan), "step_scale is nan: it must be above 1"),
        ((1, 0.1, 1.2), "the finest kernel is less than 3 pixels; raise min_scale"),
        ((1, 0.1, 1.2, True), "the finest kernel is less than 3 pixels; raise min_scale"),
        ((3, 0.6, 1.3), "the iteration diverges .* summed gain is 2.*; raise min_scale"),
    ],
)
def test_impossible_settings_are_refused(arguments, complaint):
    with pytest.raises(SettingsError, match=complaint):
        CWTKernels(*arguments)
