"""Islands over tiles: what tiles see of them, joined, and decided on."""

from types import SimpleNamespace

import numpy as np
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from cwt_dask.cwt.state import Criteria, Detected
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.merge.islands import OpenIsland, decide_islands, open_islands
from cwt_dask.storage.layout import RunDir
from cwt_dask.tiles.checkpoint import TileState, write_checkpoint
from cwt_dask.tiles.decisions import open_decisions
from cwt_dask.tiles.islands import DROPPED, KEPT, UNKNOWN, WindowFilter
from cwt_dask.tiles.task import contradicted_labels

THRESHOLD, ISLAND_THRESHOLD, REACH = 3.0, 5.0, 2
CRITERIA = Criteria(THRESHOLD, ISLAND_THRESHOLD, remove_isolated=False, rounding=0.0)


def ratio_of(seed, shape):
    """A map of T/E with islands of all lengths."""
    rng = np.random.default_rng(seed)
    return scipy.ndimage.gaussian_filter(rng.normal(size=shape), 1.0) * 9


def true_islands(ratio, *, ring):
    mask = ratio > THRESHOLD
    labels = scipy.ndimage.label(mask)[0]
    if ring:
        for y in range(len(labels)):
            if labels[y, 0] and labels[y, -1]:
                labels[labels == labels[y, -1]] = labels[y, 0]
    return mask, labels


def window_of(image, tile, grid, fill):
    """What a tile's box holds of a map."""
    box, seen = np.full(tile.box.shape, fill, dtype=image.dtype), grid.on_map(tile.window)
    box[seen.within(tile.box)] = image[seen.y0 : seen.y1, np.arange(seen.x0, seen.x1) % grid.x.length]
    return box


def job_of(files, grid, round_=1):
    return SimpleNamespace(run_dir=files, run_id="r", grid=grid, decisions_block=2, round=round_, criteria=CRITERIA)


def store_islands(files, grid, ratio, *, decided=None, round_=0):
    """As tiles do in iteration 2 of a block that ends there, with one scale; what they have seen, by number."""
    found = {}
    files.block(2).mkdir(parents=True, exist_ok=True)
    for tile in grid.tiles():
        seen = window_of(ratio, tile, grid, -np.inf)
        known = None if decided is None else lambda _, tile=tile: decided[tile.id]
        islands = WindowFilter(tile, grid.sound(tile, REACH), grid.x.length, CRITERIA, known)
        pixels = np.flatnonzero(seen > THRESHOLD)
        detected = Detected(tile.box.shape, pixels, seen.ravel()[pixels])
        islands.select(2, np.zeros((1, *tile.box.shape), dtype=np.uint16), 0, detected)
        write_checkpoint(files.checkpoint(2, tile.id, round_), "r", TileState.start(1, tile), islands.found)
        found[tile.id] = islands.found[2, 0]
    return found


grids = st.builds(
    lambda height, width, core, margin, ring: TileGrid.plan(
        (height, width), (core, core), margin, REACH, lambda length: length, ring=ring
    ),
    st.integers(6, 24),
    st.integers(6, 24),
    st.integers(4, 13),
    st.integers(2, 6),
    st.booleans(),
)


@given(grids, st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_every_tile_knows_what_is_decided_on_the_islands_of_the_whole_map(tmp_path_factory, grid, seed):
    files = RunDir(tmp_path_factory.mktemp("islands"))
    ratio = ratio_of(seed, grid.map_box.shape)
    seen = store_islands(files, grid, ratio)
    decide_islands(job_of(files, grid))
    mask, labels = true_islands(ratio, ring=grid.ring)
    expected = np.full(mask.shape, UNKNOWN)
    for island in np.unique(labels[mask]):
        pixels = labels == island
        expected[pixels] = KEPT if ratio[pixels].max() >= ISLAND_THRESHOLD else DROPPED

    decided = {}
    for tile in grid.tiles():
        with open_decisions(job_of(files, grid), tile) as decisions:
            on_pixels = decided[tile.id] = decisions.of_pixels((2, 0))
            np.testing.assert_array_equal(on_pixels, window_of(expected, tile, grid, UNKNOWN))
            assert decisions.own.keys == [(2, 0)]
            kept = np.zeros(tile.box.shape, dtype=bool)
            kept.ravel()[seen[tile.id].pixels] = seen[tile.id].kept
            sound = np.zeros(tile.box.shape, dtype=bool)
            sound[grid.sound(tile, REACH).within(tile.box)] = True
            wrong = (on_pixels != UNKNOWN) & (kept != (on_pixels == KEPT))
            np.testing.assert_array_equal(decisions.own.contradicting((2, 0), on_pixels) & sound, wrong & sound)

    # By these decisions no tile contradicts any more.
    store_islands(files, grid, ratio, decided=decided, round_=1)
    decide_islands(job_of(files, grid, 2))
    for tile in grid.tiles():
        with open_decisions(job_of(files, grid, 2), tile) as decisions:
            assert decisions.contradicted() == []


def test_a_contradicted_island_is_named_once_with_all_its_labels(tmp_path):
    # Three tiles in a row, a ridge through all that is high enough in the last only, and a spot of its own.
    grid = TileGrid.plan((9, 36), (9, 12), 3, REACH, lambda length: length)
    ratio = np.zeros((9, 36))
    ratio[4] = 4.0
    ratio[4, 25] = 6.0
    ratio[0:2, 1:3] = 4.0
    job = job_of(RunDir(tmp_path), grid)
    store_islands(job.run_dir, grid, ratio)
    decide_islands(job)
    contradicted = [label for tile in range(3) for label in contradicted_labels(job, tile)]
    # The first tile does not see the peak, the second does.
    assert {label.tile for label in contradicted} == {0, 1}
    unsettled = open_islands(job, contradicted)
    assert unsettled.islands == [OpenIsland(2, 0, 4, 0, 36, 6.0)]
    assert unsettled.labels == {0: [(2, 0, 0, 2)], 1: [(2, 0, 1, 1)], 2: [(2, 0, 2, 1)]}
