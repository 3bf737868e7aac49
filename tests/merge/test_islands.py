import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.merge.islands import join_labels
from cwt_dask.tiles.islands import label_core

maps = hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))
cores = st.tuples(st.integers(1, 16), st.integers(1, 16))


def grid_of(shape, core, *, ring=False):
    return TileGrid.plan(shape, core, 0, 1, lambda length: length, ring=ring)


def label_in_tiles(mask, core, *, ring=False):
    """Island numbers of all pixels, 0 outside, and pixels of each island, by way of tiles."""
    grid = grid_of(mask.shape, core, ring=ring)
    pixels = {tile.id: np.flatnonzero(mask[tile.core.slices]) for tile in grid.tiles()}
    found = {tile.id: label_core(pixels[tile.id], tile.core, grid.x.length) for tile in grid.tiles()}
    joined = join_labels({tile: labels for tile, (_, labels) in found.items()}, grid)
    islands = np.zeros(mask.shape, dtype=np.int64)
    for tile in grid.tiles():
        labels = np.zeros(tile.core.shape, dtype=np.int64)
        labels.ravel()[pixels[tile.id]] = found[tile.id][0]
        islands[tile.core.slices] = np.array([0, *(joined.of_label[tile.id] + 1)])[labels]
    return islands, joined.n_pixels


def label_whole(mask, *, ring=False):
    """The same by SciPy on the whole map, renumbered in row-major order of the first pixels."""
    labels, _ = scipy.ndimage.label(mask)
    if ring:
        for row in labels:
            if row[0] and row[-1]:
                labels[labels == row[-1]] = row[0]
    values, first = np.unique(labels, return_index=True)
    order = [value for _, value in sorted(zip(first, values, strict=True)) if value]
    islands = np.zeros(mask.shape, dtype=np.int64)
    for number, value in enumerate(order, 1):
        islands[labels == value] = number
    return islands, np.bincount(islands.ravel(), minlength=len(order) + 1)[1:]


def assert_as_whole(mask, core, *, ring=False):
    islands, n_pixels = label_in_tiles(mask, core, ring=ring)
    expected, expected_pixels = label_whole(mask, ring=ring)
    np.testing.assert_array_equal(islands, expected)
    np.testing.assert_array_equal(n_pixels, expected_pixels)


@given(maps, cores, st.booleans())
def test_tiles_find_the_islands_of_the_whole_map_numbered_alike(mask, core, ring):
    assert_as_whole(mask, core, ring=ring)


@given(st.integers(0, 2**32 - 1), st.floats(0.4, 0.7), st.tuples(st.integers(2, 16), st.integers(2, 40)), st.booleans())
def test_tangled_islands_near_the_percolation_threshold_too(seed, density, core, ring):
    assert_as_whole(np.random.default_rng(seed).random((24, 30)) < density, core, ring=ring)


@pytest.mark.parametrize("core", [(1, 1), (3, 5), (7, 2), (30, 4), (30, 40)])
def test_a_ridge_through_all_tiles_is_one_island(core):
    mask = np.zeros((30, 40), dtype=bool)
    mask[13] = True
    islands, n_pixels = label_in_tiles(mask, core)
    np.testing.assert_array_equal(islands, mask)
    assert n_pixels.tolist() == [40]


def spiral(size):
    """A path one pixel wide that winds inwards, with walls one pixel wide."""
    mask = np.zeros((size, size), dtype=bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True

    def free(y, x):
        return 0 <= y < size and 0 <= x < size and not mask[y, x]

    while True:
        ahead = (y + dy, x + dx)
        beyond = (y + 2 * dy, x + 2 * dx)
        inside = 0 <= beyond[0] < size and 0 <= beyond[1] < size
        if not free(*ahead) or (inside and mask[beyond]):
            dy, dx = dx, -dy
            ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
            if not free(*ahead) or mask[beyond]:
                return mask
        y, x = ahead
        mask[y, x] = True


@pytest.mark.parametrize("core", [(1, 1), (2, 3), (5, 5), (4, 21), (21, 21)])
def test_two_spirals_in_one_another_stay_two(core):
    wall = spiral(21)
    assert scipy.ndimage.label(wall)[1] == scipy.ndimage.label(~wall)[1] == 1
    assert label_in_tiles(wall, core)[0].max() == label_in_tiles(~wall, core)[0].max() == 1
    assert_as_whole(wall, core)
    assert_as_whole(~wall, core)


def test_corners_do_not_join():
    mask = np.eye(6, dtype=bool)
    for core in [(1, 1), (2, 2), (3, 3), (6, 6)]:
        islands, n_pixels = label_in_tiles(mask, core)
        np.testing.assert_array_equal(islands, np.diag(np.arange(1, 7)))
        assert n_pixels.tolist() == [1] * 6


@pytest.mark.parametrize("core", [(2, 3), (10, 10)])
def test_an_empty_map_has_no_island(core):
    islands, n_pixels = label_in_tiles(np.zeros((5, 7), dtype=bool), core)
    assert not islands.any()
    assert n_pixels.size == 0


def test_parts_that_only_another_tile_connects_are_one_island():
    # Two legs in the west meet in the east.
    mask = np.zeros((5, 6), dtype=bool)
    mask[0] = mask[4] = mask[:, 5] = True
    islands, n_pixels = label_in_tiles(mask, (5, 3))
    np.testing.assert_array_equal(islands, mask)
    assert n_pixels.tolist() == [mask.sum()]


@pytest.mark.parametrize("core", [(1, 1), (3, 5), (5, 4), (5, 8)])
def test_on_a_ring_what_meets_at_the_edge_is_one_island(core):
    mask = np.zeros((5, 8), dtype=bool)
    mask[2, :2] = mask[2, 6:] = mask[4, 0] = True
    islands, n_pixels = label_in_tiles(mask, core, ring=True)
    assert n_pixels.tolist() == [4, 1]
    assert islands[2, 0] == islands[2, 7] == 1
    assert label_in_tiles(mask, core)[1].tolist() == [2, 2, 1]
