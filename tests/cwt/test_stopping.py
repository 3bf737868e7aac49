import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cwt_dask.cwt.stopping import Moments, stops_at

samples = arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e6, 1e6))


@given(samples, st.lists(st.integers(0, 50), max_size=5))
def test_moments_of_the_parts_are_those_of_the_whole(values, cuts):
    parts = np.split(values, sorted(min(cut, values.size) for cut in cuts))
    pooled = Moments.pooled(Moments.of(part) for part in parts)
    size = np.abs(values).max()
    assert pooled.count == values.size
    assert pooled.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-14 * size)
    assert pooled.variance == pytest.approx(values.var(), rel=1e-12, abs=1e-14 * size**2)


def test_moments_of_nothing():
    assert Moments.of(np.empty(0)) == Moments.pooled([]) == Moments(0, 0.0, 0.0)
    assert Moments.pooled([]).variance == 0.0


def test_moments_of_an_image_far_from_zero_keep_their_digits():
    image = 1e8 + np.array([[0.0, 1.0], [2.0, 3.0]])
    assert Moments.of(image).variance == 1.25


@given(st.lists(st.sampled_from([1.0, 1.05, 1.2, 2.0]), max_size=8), st.sampled_from([0.0, 0.06, 0.3]))
def test_it_stops_at_the_first_small_change(variances, tol):
    small = [
        n for n in range(2, len(variances) + 1) if abs(variances[n - 2] - variances[n - 1]) / variances[n - 2] < tol
    ]
    assert stops_at(variances, tol) == (small[0] if small else None)


def test_it_never_stops_at_the_first_iteration_nor_on_an_empty_map():
    assert stops_at([1.0], 0.5) is None
    assert stops_at([0.0, 0.0, 0.0], 0.5) is None
