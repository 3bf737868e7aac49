import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cwt_dask.cwt.loops import label, not_isolated
from cwt_dask.cwt.support import in_bright_islands, in_open_islands, island_peaks

shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
masks = shapes.flatmap(lambda shape: arrays(bool, shape))
# Few values, so that an island's peak often equals the threshold.
masks_and_significance = shapes.flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(float, shape, elements=st.sampled_from([1.0, 2.0, 3.0])))
)
on_ring_or_not = pytest.mark.parametrize("ring", [False, True], ids=["image", "ring"])


def islands(mask, *, ring=False):
    """Sets of (y, x): the 4-connected islands, found by walking."""
    width = mask.shape[1]
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        island, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            island.add((y, x))
            east, west = ((x + 1) % width, (x - 1) % width) if ring else (x + 1, x - 1)
            neighbours = {(y + 1, x), (y - 1, x), (y, east), (y, west)} & left
            left -= neighbours
            edge.extend(neighbours)
        found.append(island)
    return found


def without(mask, condemned, *, ring=False):
    kept = mask.copy()
    for island in islands(mask, ring=ring):
        if condemned(island):
            kept[tuple(np.array(list(island)).T)] = False
    return kept


def image_of(kept, mask):
    """Image of a bool for each pixel of a mask."""
    image = np.zeros_like(mask)
    image[mask] = kept
    return image


def labels_of(mask):
    """Image of the labels of a mask, 0 outside, and how many there are."""
    labels = np.zeros(mask.shape, dtype=np.int32)
    pixels = np.flatnonzero(mask)
    labels.ravel()[pixels], count = label(pixels, mask.shape[1], False)
    return labels, count


@given(masks)
def test_labels_number_the_islands(mask):
    labels, count = labels_of(mask)
    assert count == len(islands(mask))
    for island in islands(mask):
        assert {(int(y), int(x)) for y, x in np.argwhere(labels == labels[next(iter(island))])} == island
    assert not labels[~mask].any()


@given(masks_and_significance)
def test_peaks_are_the_largest_of_each_island(drawn):
    mask, significance = drawn
    labels, count = labels_of(mask)
    peaks = island_peaks(labels, count, significance)
    assert peaks[0] == -np.inf
    for island in islands(mask):
        assert peaks[labels[next(iter(island))]] == max(significance[pixel] for pixel in island)


@on_ring_or_not
@given(masks)
def test_isolated_pixels_are_removed(ring, mask):
    kept = not_isolated(mask, np.flatnonzero(mask), ring)
    expected = without(mask, lambda island: len(island) == 1, ring=ring)
    np.testing.assert_array_equal(image_of(kept, mask), expected)


@on_ring_or_not
@given(masks_and_significance)
def test_faint_islands_are_removed(ring, drawn):
    mask, significance = drawn
    kept = in_bright_islands(np.flatnonzero(mask), significance[mask], mask.shape[1], 2.0, ring=ring)
    expected = without(mask, lambda island: max(significance[pixel] for pixel in island) < 2.0, ring=ring)
    np.testing.assert_array_equal(image_of(kept, mask), expected)


def test_islands_are_not_on_a_ring_unless_told():
    mask, significance = np.array([[True, False, True]]), np.array([3.0, 1.0])
    pixels = np.flatnonzero(mask)
    assert in_bright_islands(pixels, significance, 3, 2.0).tolist() == [True, False]
    assert in_bright_islands(pixels, significance, 3, 2.0, ring=True).tolist() == [True, True]


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
    found = in_open_islands(np.flatnonzero(mask), significance[mask], mask.shape[1], 2.0, trusted[mask])
    np.testing.assert_array_equal(image_of(found, mask), mask & ~known)
