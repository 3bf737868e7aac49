import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cwt_dask.cwt.support import (
    island_peaks,
    label_islands,
    open_islands,
    remove_faint_islands,
    remove_isolated_pixels,
)

shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
masks = shapes.flatmap(lambda shape: arrays(bool, shape))
# Few values, so that an island's peak often equals the threshold.
masks_and_significance = shapes.flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(float, shape, elements=st.sampled_from([1.0, 2.0, 3.0])))
)


def islands(mask):
    """Sets of (y, x): the 4-connected islands, found by walking."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        island, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            island.add((y, x))
            neighbours = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= neighbours
            edge.extend(neighbours)
        found.append(island)
    return found


def without(mask, condemned):
    kept = mask.copy()
    for island in islands(mask):
        if condemned(island):
            kept[tuple(np.array(list(island)).T)] = False
    return kept


@given(masks)
def test_labels_number_the_islands(mask):
    labels, count = label_islands(mask)
    assert labels.dtype == np.int32
    assert count == len(islands(mask))
    for island in islands(mask):
        assert {(int(y), int(x)) for y, x in np.argwhere(labels == labels[next(iter(island))])} == island
    assert not labels[~mask].any()


@given(masks_and_significance)
def test_peaks_are_the_largest_of_each_island(drawn):
    mask, significance = drawn
    labels, count = label_islands(mask)
    peaks = island_peaks(labels, count, significance)
    assert peaks[0] == -np.inf
    for island in islands(mask):
        assert peaks[labels[next(iter(island))]] == max(significance[pixel] for pixel in island)


@given(masks)
def test_isolated_pixels_are_removed(mask):
    np.testing.assert_array_equal(remove_isolated_pixels(mask), without(mask, lambda island: len(island) == 1))


@given(masks_and_significance)
def test_faint_islands_are_removed(drawn):
    mask, significance = drawn
    expected = without(mask, lambda island: max(significance[pixel] for pixel in island) < 2.0)
    np.testing.assert_array_equal(remove_faint_islands(mask, significance, 2.0), expected)


@given(shapes.flatmap(lambda shape: st.tuples(*[arrays(bool, shape)] * 2)), st.integers(0, 2**32 - 1))
def test_open_islands_are_those_whose_peak_may_lie_outside(drawn, seed):
    mask, trusted = drawn
    significance = np.random.default_rng(seed).choice([1.0, 2.0, 3.0], mask.shape)
    known = without(
        mask,
        lambda island: (
            any(not trusted[pixel] for pixel in island)
            and not any(trusted[pixel] and significance[pixel] >= 2.0 for pixel in island)
        ),
    )
    np.testing.assert_array_equal(open_islands(mask, significance, 2.0, trusted), mask & ~known)
