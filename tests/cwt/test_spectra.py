import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from cwt_dask import CWTKernels
from cwt_dask.cwt.spectra import fast_length, kernel_spectra, row_blocks

# Kernels of odd and even size, centred and off their centre.
KERNELS = [
    CWTKernels(n_scale=2, min_scale=1.2, step_scale=1.5),
    CWTKernels(n_scale=1, min_scale=2.0, step_scale=1.3, old=True),
    CWTKernels(n_scale=2, min_scale=2.1, step_scale=1.3, old=True),
]
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def every_kernel(kernels, spectra):
    """Pairs of a kernel and its spectrum."""
    base = list(kernels.kern_base.values())
    yield from zip(base, spectra.base, strict=True)
    yield from zip([kernel**2 for kernel in base], spectra.base_squared, strict=True)
    yield kernels.kern_approx, spectra.approx


def forward(spectra, *images):
    """Half-spectra of images."""
    found = tuple(spectra.new_spectrum() for _ in images)
    spectra.forward(*found, images=lambda rows: (image[rows] for image in images))
    return found


def backward(spectra, *half_spectra):
    """Images with these half-spectra, which stay."""
    blocks = spectra.backward(
        *(spectrum.copy() for spectrum in half_spectra), take=lambda _rows, *images: [image.copy() for image in images]
    )
    return tuple(np.concatenate(image) for image in zip(*blocks, strict=True))


def convolved(spectra, image, spectrum):
    """An image convolved with the kernel that has this spectrum, in the order of `Workspace`."""
    (product,) = forward(spectra, image)
    spectra.over_rows(lambda rows: spectrum.multiply(rows, product[rows], product[rows]))
    result = np.empty(spectra.shape)
    spectra.backward(product, take=lambda _rows, _values: None, into=result)
    return result


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
        ours = convolved(spectra, image, spectrum)
        scale = np.abs(image).max() * np.abs(kernel).sum()
        np.testing.assert_allclose(ours, folded, rtol=0, atol=1e-13 * scale)


@settings(max_examples=25, deadline=None)
@given(shapes, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_several_images_go_there_and_back_at_once(box, n_images, seed):
    images = np.random.default_rng(seed).normal(size=(n_images, *box))
    spectra = kernel_spectra(KERNELS[0], box)
    half_spectra = forward(spectra, *images)
    scale = np.abs(images).sum()
    np.testing.assert_allclose(half_spectra, np.fft.rfft2(images), rtol=0, atol=1e-14 * scale)
    np.testing.assert_allclose(backward(spectra, *half_spectra), images, rtol=0, atol=1e-14 * scale)


def test_an_image_may_go_back_into_its_place_and_be_written_to_on_the_way():
    image = np.random.default_rng(1).normal(size=(40, 30))
    spectra, found = kernel_spectra(KERNELS[0], (40, 30)), np.empty((40, 30))
    (expected,) = backward(spectra, *forward(spectra, image))

    def take(rows, values):
        values[values < 0] = 0.0
        return rows

    rows = spectra.backward(*forward(spectra, image), take=take, into=found)
    np.testing.assert_array_equal(found, np.maximum(expected, 0.0))
    assert rows == row_blocks((40, 30))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KERNELS), shapes, st.integers(0, 2**32 - 1))
def test_a_difference_of_spectra_is_multiplied_as_one(kernels, box, seed):
    images = np.random.default_rng(seed).normal(size=(2, *box))
    spectra = kernel_spectra(kernels, box)
    minuend, subtrahend = forward(spectra, *images)
    for _, spectrum in every_kernel(kernels, spectra):
        expected, found = minuend - subtrahend, spectra.new_spectrum()
        for rows in row_blocks(box):
            spectrum.multiply(rows, expected[rows], expected[rows])
            spectrum.multiply(rows, minuend[rows], found[rows], minus=subtrahend[rows])
        np.testing.assert_array_equal(found, expected)


@given(st.tuples(st.integers(1, 400), st.integers(1, 400)), st.integers(1, 2**20))
def test_blocks_of_rows_follow_each_other_through_the_image(shape, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cwt_dask.cwt.spectra.BLOCK_BYTES", block_bytes)
        blocks = row_blocks(shape)
    assert [y for rows in blocks for y in range(rows.start, rows.stop)] == list(range(shape[0]))
    heights = {rows.stop - rows.start for rows in blocks}
    assert max(heights) == 1 or max(heights) * shape[1] * 8 <= block_bytes


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
