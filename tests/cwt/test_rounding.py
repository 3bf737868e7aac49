"""What `state.ROUNDING_FACTOR` claims, measured; and what the rounding level is for: gaps stay empty."""

import math

import numpy as np
import oracle
import pytest
import scipy.fft

from cwt_dask import CWT, CWTData, CWTKernels
from cwt_dask.cwt.spectra import kernel_spectra
from cwt_dask.cwt.state import ROUNDING_FACTOR, rounding_level

EPSILON = float(np.finfo(np.float64).eps)
KERNELS = {
    "fine": CWTKernels(n_scale=3, min_scale=1.2, step_scale=1.5),
    "tutorial": CWTKernels(n_scale=2, min_scale=6.0, step_scale=1.3),
    "old": CWTKernels(n_scale=2, min_scale=3.0, step_scale=2.6, old=True),
}


needs_extended_precision = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="this machine has no extended precision"
)


def bright_pixel(side):
    image = np.random.default_rng(1).poisson(0.3, (side, side)).astype(float)
    image[side // 3, side // 2] = 1e7
    return image


MAPS = {
    "one pixel of 1e7 over 0.3": bright_pixel,
    "1e4 everywhere": lambda side: np.full((side, side), 1e4),
    "1e4 on one half": lambda side: np.full((side, side), 1e4) * (np.arange(side) < side // 2),
    "Poisson noise of 1e4": lambda side: np.random.default_rng(2).poisson(1e4, (side, side)).astype(float),
}


def forward(spectra, image):
    found = spectra.new_spectrum()
    spectra.forward(found, images=lambda rows: iter([image[rows]]))
    return found


def backward(spectra, spectrum):
    image = np.empty(spectra.shape)
    spectra.backward(spectrum, take=lambda _rows, _values: None, into=image)
    return image


def in_extended_precision(image, kernel):
    """Circular convolution with 64 bits of mantissa: 2000 times more exact than what it judges."""
    box = np.zeros(image.shape, dtype=np.longdouble)
    box[: len(kernel), : len(kernel)] = kernel
    centre = (len(kernel) - 1) // 2
    product = scipy.fft.rfft2(np.roll(box, (-centre, -centre), axis=(0, 1)))
    product *= scipy.fft.rfft2(image.astype(np.longdouble))
    return scipy.fft.irfft2(product, s=image.shape)


@needs_extended_precision
@pytest.mark.parametrize(
    ("side", "kernels", "name"),
    # In a large box the worst of them only.
    [*((256, kernels, name) for kernels in KERNELS for name in MAPS), (512, "fine", "Poisson noise of 1e4")],
)
def test_convolution_rounds_by_less_than_the_level(side, kernels, name):
    # Measured: at most 0.2 for one bright pixel, 2.7 for flat maps, 5.7 for noise (6.4 in a box of 2048²).
    kernels, counts = KERNELS[kernels], MAPS[name](side)
    spectra = kernel_spectra(kernels, counts.shape)
    counts_hat, product = forward(spectra, counts), spectra.new_spectrum()
    limit = ROUNDING_FACTOR / 8 * EPSILON * counts.max()
    for i, kernel in kernels.kern_base.items():
        spectra.base[i].multiply(slice(None), counts_hat, product)
        error = np.abs(backward(spectra, product) - in_extended_precision(counts, kernel)).max()
        assert 0 < error / spectra.abs_sum[i] < limit
        # E² is the variance of the expected counts: their spectrum is that of the counts without that of the excess.
        for total in (np.full_like(counts, 0.3), 0.3 + 0.5 * counts, 0.3 + counts):
            spectra.base_squared[i].multiply(slice(None), counts_hat, product, minus=forward(spectra, counts - total))
            error = np.abs(backward(spectra, product) - in_extended_precision(total, kernel**2)).max()
            assert 0 < error / spectra.squared_sum[i] < limit


def test_the_extended_precision_itself_against_an_exact_sum():
    image, kernel = MAPS["Poisson noise of 1e4"](64), KERNELS["fine"].kern_base[2]
    y, x, half = 30, 33, len(kernel) // 2
    window = image[y - half : y + half + 1, x - half : x + half + 1]
    exact = math.fsum((window * kernel[::-1, ::-1]).ravel())
    found = float(in_extended_precision(image, kernel)[y, x])
    assert abs(found - exact) < EPSILON * 1e4 * np.abs(kernel).sum()


def gapped():
    """A source of 10^4 counts over faint background, in a survey with a right part that was never observed."""
    background = np.zeros((64, 320))
    background[:, :64] = 0.3
    counts = np.random.default_rng(3).poisson(background).astype(float)
    counts[30, 30] += 1e4
    return counts, background


def test_nothing_is_detected_in_a_gap_where_the_plain_ratio_detects_noise():
    counts, background = gapped()
    # No kernel has carried anything here in four iterations.
    gap = np.s_[..., 64 + 4 * (KERNELS["fine"].reach + 1) :]

    plain = oracle.analyze(counts, background, n_scale=3, min_scale=1.2, step_scale=1.5, max_iter=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.count_nonzero((plain.transform / plain.error)[gap] > 3) > 100

    data = CWTData(counts, background, n_scale=3)
    CWT(KERNELS["fine"], max_iter=4, tol=0.0).analyze(data)
    assert data.support.data[..., :64].any()
    assert not data.support.data[gap].any()
    assert not data.significance.data[gap].any()
    assert (data.best_scale.data[gap] == -1).all()


def test_an_empty_sky_is_empty():
    data = CWTData(np.zeros((30, 30)), np.zeros((30, 30)), n_scale=3)
    CWT(KERNELS["fine"], significance_threshold=0.0).analyze(data)
    for image in (data.model, data.approx, data.support, data.significance):
        assert not image.data.any()


def test_the_level_does_not_hide_what_is_faint_beside_the_bright():
    # A source of 50 counts over 0.01 a pixel, in one map with a pixel of 1e7.
    background = np.full((64, 200), 0.01)
    counts = np.zeros_like(background)
    counts[32, 20], counts[32, 150] = 1e7, 50
    assert rounding_level(1e7) < 1e-5
    data = CWTData(counts, background, n_scale=3)
    CWT(KERNELS["fine"], max_iter=1).analyze(data)
    assert data.support_2d.data[32, 150]


def test_four_times_the_counts_are_four_times_the_model_at_twice_the_significance():
    counts, background = gapped()
    once, fourfold = CWTData(counts, background, n_scale=3), CWTData(4 * counts, 4 * background, n_scale=3)
    CWT(KERNELS["fine"], significance_threshold=2.0).analyze(once)
    CWT(KERNELS["fine"], significance_threshold=4.0).analyze(fourfold)
    assert once.support.data.any()
    assert once.n_iter == fourfold.n_iter
    np.testing.assert_array_equal(fourfold.support.data, once.support.data)
    np.testing.assert_array_equal(fourfold.model.data, 4 * once.model.data)
    np.testing.assert_array_equal(fourfold.residual.data, 4 * once.residual.data)
