import numpy as np
import scipy.ndimage
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.merge.islands import join_labels
from cwt_dask.tiles.islands import label_core


def label_in_tiles(mask, core, *, ring):
    """Island numbers of all pixels, 0 outside, and pixels of each island, by way of tiles."""
    grid = TileGrid.plan(mask.shape, core, 0, 1, lambda length: length, ring=ring)
    pixels = {tile.id: np.flatnonzero(mask[tile.core.slices]) for tile in grid.tiles()}
    found = {tile.id: label_core(pixels[tile.id], tile.core, grid.x.length) for tile in grid.tiles()}
    joined = join_labels({tile: labels for tile, (_, labels) in found.items()}, grid)
    islands = np.zeros(mask.shape, dtype=np.int64)
    for tile in grid.tiles():
        labels = np.zeros(tile.core.shape, dtype=np.int64)
        labels.ravel()[pixels[tile.id]] = found[tile.id][0]
        islands[tile.core.slices] = np.array([0, *(joined.of_label[tile.id] + 1)])[labels]
    return islands, joined.n_pixels


def assert_as_whole(mask, core, *, ring):
    """Compare with SciPy on the whole map, renumbered in row-major order of the first pixels."""
    labels, _ = scipy.ndimage.label(mask)
    if ring:
        for row in labels:
            if row[0] and row[-1]:
                labels[labels == row[-1]] = row[0]
    values, first = np.unique(labels, return_index=True)
    order = [value for _, value in sorted(zip(first, values, strict=True)) if value]
    expected = np.zeros(mask.shape, dtype=np.int64)
    for number, value in enumerate(order, 1):
        expected[labels == value] = number
    islands, n_pixels = label_in_tiles(mask, core, ring=ring)
    np.testing.assert_array_equal(islands, expected)
    np.testing.assert_array_equal(n_pixels, np.bincount(expected.ravel(), minlength=len(order) + 1)[1:])


cores = st.tuples(st.integers(1, 16), st.integers(1, 16))
# Two legs in the west that meet in the east only.
LEGS = np.zeros((5, 6), dtype=bool)
LEGS[0] = LEGS[4] = LEGS[:, 5] = True


@given(mask=hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))), core=cores, ring=st.booleans())
@example(mask=np.zeros((5, 7), dtype=bool), core=(2, 3), ring=False)
@example(mask=np.eye(6, dtype=bool), core=(2, 2), ring=False)
@example(mask=LEGS, core=(5, 3), ring=False)
@example(mask=LEGS, core=(1, 1), ring=True)
def test_tiles_find_the_islands_of_the_whole_map_numbered_alike(mask, core, ring):
    assert_as_whole(mask, core, ring=ring)


@given(st.integers(0, 2**32 - 1), st.floats(0.4, 0.7), st.tuples(st.integers(2, 16), st.integers(2, 40)), st.booleans())
def test_tangled_islands_near_the_percolation_threshold_too(seed, density, core, ring):
    assert_as_whole(np.random.default_rng(seed).random((24, 30)) < density, core, ring=ring)
