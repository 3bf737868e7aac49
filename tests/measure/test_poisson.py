import math

import numpy as np
import pytest
from astropy.stats import poisson_conf_interval
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import gammaln

from cwt_dask.measure.poisson import ONE_SIGMA, excess_interval, sqrt_ts


@pytest.mark.parametrize(
    ("counts", "background"), [(1, 0.01), (3, 0.5), (5, 3.2), (30, 20.0), (90, 80.0), (100, 99.0), (20, 0.1)]
)
def test_intervals_are_those_of_astropy(counts, background):
    expected = poisson_conf_interval(
        counts, "kraft-burrows-nousek", background=background, confidence_level=ONE_SIGMA
    ).ravel()
    np.testing.assert_allclose(excess_interval(counts, background), expected, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 300), st.floats(0.0, 300.0))
def test_intervals_hold_their_share_and_are_the_shortest(counts, background):
    def density(s):
        mean = s + background
        if mean == 0:
            return float(counts == 0)
        return math.exp(counts * math.log(mean) - mean - gammaln(counts + 1))

    low, high = (float(end) for end in excess_interval(counts, background))
    assert 0 <= low < high
    assert low == 0 or counts > background
    mode, far = max(counts - background, 0.0), counts + 60 + 12 * math.sqrt(counts + 1)
    inside = quad(density, low, max(mode, low))[0] + quad(density, max(mode, low), high)[0]
    everything = inside + quad(density, 0, low)[0] + quad(density, high, far, limit=200)[0]
    assert inside / everything == pytest.approx(ONE_SIGMA, abs=1e-6)
    # Equal densities at both ends; or nothing below.
    if low > 0:
        assert density(low) == pytest.approx(density(high), rel=1e-6)
    else:
        assert density(0) >= density(high) * (1 - 1e-9)


def test_of_many_counts_they_are_the_normal_ones():
    low, high = excess_interval(np.array([1e6, 1e9]), np.array([1e5, 1e5]))
    np.testing.assert_allclose(high - low, 2 * np.sqrt([1e6, 1e9]), rtol=1e-3)


def test_of_far_too_few_counts_the_interval_is_that_of_an_exponential():
    low, high = excess_interval(np.array([0.0, 10.0]), np.array([1e4, 2000.0]))
    assert low.tolist() == [0, 0]
    np.testing.assert_allclose(high, -math.log(1 - ONE_SIGMA) / (1 - np.array([0, 10.0]) / [1e4, 2000.0]), rtol=1e-12)
    assert excess_interval(np.array([10.0]), np.array([500.0]))[1] == pytest.approx(1.148 / (1 - 10 / 500), rel=1e-2)


def test_the_test_statistic_is_cashs():
    def cash(n, mean):
        return 2 * (mean - n * math.log(mean))

    for n, b in ((10, 4.0), (3, 2.9), (1000, 1.0)):
        assert sqrt_ts(n, b) == pytest.approx(math.sqrt(cash(n, b) - cash(n, n)))
        assert sqrt_ts(b, n) == pytest.approx(-math.sqrt(2 * (b * math.log(b / n) - b + n)))


def test_the_test_statistic_of_nothing_and_on_nothing():
    assert sqrt_ts(np.array([0.0]), np.array([0.0])) == 0
    assert sqrt_ts(np.array([4.0]), np.array([4.0])) == 0
    assert sqrt_ts(np.array([0.0]), np.array([2.0])) == pytest.approx(-2.0)
    assert sqrt_ts(np.array([3.0]), np.array([0.0])) == np.inf
