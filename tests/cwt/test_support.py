import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cwt_dask.cwt.loops import label
from cwt_dask.cwt.state import Detected
from cwt_dask.cwt.support import in_bright_islands, in_open_islands, island_peaks

shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
# Few values, so that an island's peak often equals the threshold.
masks_and_significance = shapes.flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(float, shape, elements=st.sampled_from([1.0, 2.0, 3.0])))
)


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


def pixels_of(mask, condition, *, ring=False):
    """For each pixel of a mask whether its island meets a condition."""
    image = np.zeros_like(mask)
    for island in islands(mask, ring=ring):
        image[tuple(np.array(list(island)).T)] = condition(island)
    return image[mask]


def detected(mask, significance, *, ring=False):
    return Detected(mask.shape, np.flatnonzero(mask), significance[mask], ring)


@given(masks_and_significance)
def test_peaks_are_the_largest_of_each_island(drawn):
    mask, significance = drawn
    labels, count = label(np.flatnonzero(mask), mask.shape[1], False)
    peaks = island_peaks(labels, significance[mask])
    assert peaks[0] == -np.inf
    assert len(peaks) == count + 1
    image = np.zeros(mask.shape, dtype=int)
    image[mask] = labels
    for island in islands(mask):
        assert peaks[image[next(iter(island))]] == max(significance[pixel] for pixel in island)


@given(masks_and_significance, st.booleans())
def test_bright_islands_reach_the_threshold(drawn, ring):
    mask, significance = drawn
    found = in_bright_islands(detected(mask, significance, ring=ring), 2.0)
    expected = pixels_of(mask, lambda island: max(significance[pixel] for pixel in island) >= 2.0, ring=ring)
    np.testing.assert_array_equal(found, expected)


@given(masks_and_significance, st.integers(0, 2**32 - 1))
def test_open_islands_are_those_whose_peak_may_lie_outside(drawn, seed):
    mask, significance = drawn
    trusted = np.random.default_rng(seed).random(mask.shape) < 0.5
    expected = pixels_of(
        mask,
        lambda island: (
            any(not trusted[pixel] for pixel in island)
            and not any(trusted[pixel] and significance[pixel] >= 2.0 for pixel in island)
        ),
    )
    found = in_open_islands(detected(mask, significance), 2.0, trusted[mask])
    np.testing.assert_array_equal(found, expected)
