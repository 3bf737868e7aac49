import numpy as np
import oracle
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cwt_dask.cwt.state import Detected
from cwt_dask.cwt.support import in_bright_islands, in_open_islands

shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
# Few values, so that an island's peak often equals the threshold.
masks_and_significance = shapes.flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(float, shape, elements=st.sampled_from([1.0, 2.0, 3.0])))
)


def pixels_of(mask, condition, *, ring=False):
    """For each pixel of a mask whether its island meets a condition."""
    labels = oracle.label_ring(mask) if ring else scipy.ndimage.label(mask)[0]
    image = np.zeros_like(mask)
    for number in np.unique(labels[mask]):
        image[labels == number] = condition(labels == number)
    return image[mask]


def detected(mask, significance, *, ring=False):
    return Detected(mask.shape, np.flatnonzero(mask), significance[mask], ring)


@given(masks_and_significance, st.booleans())
def test_bright_islands_reach_the_threshold(drawn, ring):
    mask, significance = drawn
    found = in_bright_islands(detected(mask, significance, ring=ring), 2.0)
    expected = pixels_of(mask, lambda island: significance[island].max() >= 2.0, ring=ring)
    np.testing.assert_array_equal(found, expected)


@given(masks_and_significance, st.integers(0, 2**32 - 1))
def test_open_islands_are_those_whose_peak_may_lie_outside(drawn, seed):
    mask, significance = drawn
    trusted = np.random.default_rng(seed).random(mask.shape) < 0.5
    expected = pixels_of(
        mask, lambda island: not trusted[island].all() and not (significance[island & trusted] >= 2.0).any()
    )
    found = in_open_islands(detected(mask, significance), 2.0, trusted[mask])
    np.testing.assert_array_equal(found, expected)
