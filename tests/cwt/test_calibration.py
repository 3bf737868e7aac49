"""S against the exact distribution of T, which the characteristic function gives without simulation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ndtri

from cwt_dask import CWT, CWTData, CWTKernels
from cwt_dask.cwt.calibration import Calibration, calibrations, keep_calibrated

FINE, COARSE = CWTKernels(1, 1.2, 1.5), CWTKernels(1, 2.7, 1.5)
OLD = CWTKernels(1, 2.0, 1.5, old=True)
KERNELS = {
    "finest": FINE.base_factors[0],
    "coarser": COARSE.base_factors[0],
    "old": OLD.base_factors[0],
    "Gaussian": FINE.approx_factors,
}
ASKED = np.array([1e-3, 1e-4, 1e-5, 1e-6, 1e-8])


def exact_tail(values, mean, step, length):
    """P(Y >= y) of Y, the sum of `values` times Poisson numbers of `mean`, for y on a lattice."""
    on_lattice = values.ravel() / step
    below = np.floor(on_lattice).astype(int)
    above = on_lattice - below
    means = np.broadcast_to(mean, values.shape).ravel()
    # A value between two points of the lattice has its mean there.
    rate = np.bincount(below % length, (1 - above) * means, length)
    rate += np.bincount((below + 1) % length, above * means, length)
    probability = np.fft.irfft(np.exp(np.fft.rfft(rate) - means.sum()), length)
    # Around the mean; the lattice is a circle.
    points = np.arange(length) - length // 2 + round(float(values.ravel() @ means) / step)
    return points * step, np.cumsum(probability[points % length][::-1])[::-1]


def obtained_over_asked(factors, mean, step=1 / 256, length=2**16):
    """Probability that T exceeds what S puts at each of `ASKED`, over that."""
    calibration, values = Calibration.of(factors), factors.image / factors.image.max()
    squares, cubes = (float((values**n * mean).sum()) for n in (2, 3))
    transforms = np.linspace(0, 60 * max(1, np.sqrt(squares)), 20001)[1:]
    largest = factors.image.max()
    cumulants = squares * largest**2, cubes * largest**3
    sigma = np.array([calibration.sigma(transform * largest, *cumulants) for transform in transforms])
    at = np.interp(-ndtri(ASKED), np.maximum.accumulate(sigma), transforms) + (values * mean).sum()
    y, tail = exact_tail(values, mean, step, length)
    return np.interp(at, y, tail) / ASKED


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("mean", "within"), [(0.01, 0.25), (0.05, 0.1), (0.28, 0.03), (1.0, 0.02), (10.0, 0.02), (100.0, 0.02)]
)
def test_on_a_flat_background_p_is_what_was_asked_for(kernel, mean, within):
    wide = {"step": 1 / 128, "length": 2**17} if mean > 3 else {}
    assert_allclose(obtained_over_asked(KERNELS[kernel], mean, **wide), 1, atol=within)


@pytest.mark.parametrize("mean", [0.003, 0.3, 30.0])
def test_the_threshold_of_a_flat_background_has_the_s_it_is_of(mean):
    calibration = Calibration.of(FINE.base_factors[0])
    flat = calibration.of_flat(mean)
    for sigma in (1.0, 4.0, 12.0):
        assert_allclose(calibration.sigma(calibration.threshold(sigma, mean), *flat), sigma, rtol=1e-3)


def test_where_single_counts_decide_p_goes_in_steps():
    # A count every third of a kernel: the tail is a staircase, which no smooth S follows between its steps.
    obtained = obtained_over_asked(KERNELS["finest"], 0.003)
    assert (obtained > 0.3).all()
    assert (obtained < 3).all()


@pytest.mark.parametrize("distance", [0, 5, 20])
@pytest.mark.parametrize(("height", "within"), [(15.0, 0.05), (3.0, 0.75)])
def test_on_a_ridge_p_is_nearly_what_was_asked_for(height, within, distance):
    size = KERNELS["finest"].size
    y = np.arange(size) - size // 2 + distance
    mean = np.repeat(0.02 + 2 * np.exp(-np.abs(y) / height)[:, np.newaxis], size, axis=1)
    assert_allclose(obtained_over_asked(KERNELS["finest"], mean), 1, atol=within)


@pytest.mark.parametrize(
    ("masked", "within"),
    # Half of the kernel, a third of it, and the rows in its very middle: a factor of two at p = 1e-8.
    [(np.s_[:, 8:], 0.12), (np.s_[:6], 0.12), (np.s_[7:9, :], 1.0)],
)
def test_beside_a_mask_or_an_edge_p_is_nearly_what_was_asked_for(masked, within):
    # Pixels without counts and background: beyond an edge is the same.
    mean = np.full(KERNELS["finest"].image.shape, 1.0)
    mean[masked] = 0
    assert_allclose(obtained_over_asked(KERNELS["finest"], mean), 1, atol=within)


def test_large_kernels_are_known_by_a_histogram():
    # The same shape, half as wide and known by each pixel.
    wide, narrow = CWTKernels(1, 12.0, 1.5), CWTKernels(1, 4.0, 1.5)
    many, few = calibrations(wide)[0], calibrations(narrow)[0]
    assert wide.base_factors[0].size ** 2 > 4096 > narrow.base_factors[0].size ** 2
    for mean in (0.05, 3.0):
        for excess in (-2.0, 3.0, 8.0):
            ours, theirs = (
                one.sigma(excess * np.sqrt(variance), variance, third)
                for one, (variance, third) in ((many, many.of_flat(mean)), (few, few.of_flat(9 * mean)))
            )
            assert ours == pytest.approx(theirs, rel=2e-3)


def test_nothing_is_known_where_nothing_is_expected():
    assert Calibration.of(KERNELS["finest"]).sigma(1.0, 0.0, 0.0) == 0
    counts, background = np.zeros((40, 60)), np.zeros((40, 60))
    counts[20, 10], background[:, 40:] = 5, 1.0
    data = CWTData(counts, background, 1)
    CWT(FINE, max_iter=1).analyze(data)
    assert data.sigma.data[20, 10] == 0
    assert data.sigma.data[:, 45:].all()
    assert np.isfinite(data.sigma.data).all()


def test_noise_exceeds_s_as_often_as_a_normal_number_does():
    # 32 in 10^6 are asked for; they come in blobs of some pixels, so that their number scatters by a third or so.
    rng = np.random.default_rng(11)
    for mean in (0.01, 0.3, 10.0):
        data = CWTData(rng.poisson(mean, (1200, 1200)), np.full((1200, 1200), mean), 1)
        CWT(FINE, max_iter=1).analyze(data)
        found = np.count_nonzero(data.sigma.data > 4)
        assert 15 * 1.44 < found < 75 * 1.44, f"{found} pixels at {mean} a pixel"


def test_rows_of_pixels_have_what_the_tables_have_between_their_points():
    # Whatever bucket a value falls into: of all sizes and both signs, on the points, and beyond both ends.
    calibration, mean = Calibration.of(FINE.base_factors[0]), 0.7
    rng = np.random.default_rng(7)
    ratio = np.concatenate([rng.normal(size=4000) * 10 ** rng.uniform(-9, 14, 4000), calibration.ratio, [0.0, -0.0]])
    variance, third = (np.full((1, len(ratio)), value) for value in calibration.of_flat(mean))
    transform = ratio[np.newaxis] * mean * calibration.largest
    sigma, scale = np.full(transform.shape, -np.inf, np.float32), np.full(transform.shape, -1, np.int8)
    keep_calibrated(transform, variance, third, np.zeros(transform.shape), 0, calibration.tables, sigma, scale)
    w = np.sqrt(mean) * np.interp(ratio, calibration.ratio, calibration.root)
    expected = w + np.interp(ratio, calibration.ratio, calibration.correction) / w
    known = np.abs(w) > 1e-2
    assert known.sum() > 3000
    assert_allclose(sigma[0, known], expected[known], rtol=1e-5, atol=1e-5)
    assert (scale == 0).all()
