import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from cwt_dask import CWTKernels
from cwt_dask.cwt.transform import fast_length, kernel_spectra

# Kernels of odd and even size, centred and off their centre.
KERNELS = [
    CWTKernels(n_scale=2, min_scale=1.2, step_scale=1.5),
    CWTKernels(n_scale=1, min_scale=2.0, step_scale=1.3, old=True),
    CWTKernels(n_scale=2, min_scale=2.1, step_scale=1.3, old=True),
]
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def test_the_kernels_here_are_of_odd_and_even_size():
    sizes = [len(kernel) for kernels in KERNELS for kernel in kernels.kern_base.values()]
    assert {size % 2 for size in sizes} == {0, 1}


def every_kernel(kernels, spectra):
    """Pairs of a kernel and its half-spectrum."""
    base = list(kernels.kern_base.values())
    yield from zip(base, spectra.base, strict=True)
    yield from zip([kernel**2 for kernel in base], spectra.base_squared, strict=True)
    yield kernels.kern_approx, spectra.approx


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KERNELS), shapes, st.integers(0, 2**32 - 1))
def test_with_a_rim_of_zeros_it_is_the_linear_convolution(kernels, shape, seed):
    image = np.random.default_rng(seed).normal(size=shape)
    box = tuple(fast_length(n + kernels.reach) for n in shape)
    spectra = kernel_spectra(kernels, box)
    padded = np.pad(image, [(0, length - n) for length, n in zip(box, shape, strict=True)])
    for kernel, spectrum in every_kernel(kernels, spectra):
        ours = spectra.backward(spectra.forward(padded) * spectrum)[: shape[0], : shape[1]]
        scale = np.abs(image).max() * np.abs(kernel).sum()
        np.testing.assert_allclose(ours, fftconvolve(image, kernel, mode="same"), rtol=0, atol=1e-14 * scale)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KERNELS), shapes, st.integers(0, 2**32 - 1))
def test_in_a_box_it_is_the_circular_convolution_however_small_the_box(kernels, box, seed):
    image = np.random.default_rng(seed).normal(size=box)
    spectra = kernel_spectra(kernels, box)
    for kernel, spectrum in every_kernel(kernels, spectra):
        full = fftconvolve(image, kernel)
        rows, columns = (
            (np.arange(n) - (len(kernel) - 1) // 2) % length for n, length in zip(full.shape, box, strict=True)
        )
        folded = np.zeros(box)
        np.add.at(folded, (rows[:, np.newaxis], columns), full)
        ours = spectra.backward(spectra.forward(image) * spectrum)
        scale = np.abs(image).max() * np.abs(kernel).sum()
        np.testing.assert_allclose(ours, folded, rtol=0, atol=1e-13 * scale)


def test_threads_do_not_change_bits():
    image = np.random.default_rng(1).normal(size=(90, 100))
    one, two = (kernel_spectra(KERNELS[0], (90, 100), threads) for threads in (1, 2))
    for a, b in zip(every_kernel(KERNELS[0], one), every_kernel(KERNELS[0], two), strict=True):
        assert a[1].tobytes() == b[1].tobytes()
    assert one.backward(one.forward(image)).tobytes() == two.backward(two.forward(image)).tobytes()


def test_sums_of_the_kernels():
    spectra = kernel_spectra(KERNELS[0], (30, 30))
    for i, kernel in KERNELS[0].kern_base.items():
        assert spectra.abs_sum[i] == pytest.approx(np.abs(kernel).sum())
        assert spectra.squared_sum[i] == pytest.approx((kernel**2).sum())


def test_spectra_are_computed_once_for_equal_kernels():
    again = CWTKernels(n_scale=2, min_scale=1.2, step_scale=1.5)
    assert kernel_spectra(KERNELS[0], (30, 31)) is kernel_spectra(again, (30, 31))


@given(st.integers(1, 10**6))
def test_fast_length_is_not_shorter_and_has_small_factors(least):
    length = fast_length(least)
    assert least <= length < 2 * least + 1
    for factor in (2, 3, 5):
        while length % factor == 0:
            length //= factor
    assert length == 1
