from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from cwt_dask.geometry.margins import STRIP_WIDTH
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.merge.seams import Seam, compare_seams, seam_model_error
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.maps import OPPOSITE, SIDES, create_maps, publish_strips

SCALES = (1.2, 1.8)
N_SCALE = len(SCALES)
# Partial cores in the last row and column.
GRID = TileGrid.plan((23, 31), (9, 12), 6, 3, lambda length: length)


@pytest.fixture
def whole():
    """Model and support of the whole map."""
    rng = np.random.default_rng(4)
    return rng.random((23, 31)), rng.random((N_SCALE, 23, 31)) < 0.3


def window_of(tile, whole, grid=GRID):
    """What a tile would hold in its box had it computed the whole map's result."""
    seen = grid.on_map(tile.box)
    model, joined = np.zeros(tile.box.shape), np.zeros((N_SCALE, *tile.box.shape), dtype=np.uint16)
    for held, image in zip((model, joined), whole, strict=True):
        held[(..., *seen.within(tile.box))] = image[..., seen.y0 : seen.y1, np.arange(seen.x0, seen.x1) % 31]
    return SimpleNamespace(model=model, joined=joined)


@pytest.fixture
def seams(tmp_path, whole):
    """Seams of tiles that all agree."""
    run_dir = RunDir(tmp_path)
    create_maps(run_dir, GRID, SCALES, "")
    for tile in GRID.tiles():
        publish_strips(run_dir.seams, GRID, tile, window_of(tile, whole))
    return run_dir.seams


def all_seams(seams):
    return [seam for tile in range(GRID.n_tiles) for seam in compare_seams(seams, GRID, tile)]


def test_tiles_that_agree_differ_by_nothing_and_every_seam_is_seen_from_both_sides(seams):
    found = all_seams(seams)
    pairs = {(tile.id, other.id) for tile in GRID.tiles() for other in GRID.neighbours(tile).values()}
    assert {(seam.tile, seam.neighbour) for seam in found} == pairs
    assert all(seam.model_difference == seam.support_flips == 0 for seam in found)
    sizes = {(seam.tile, seam.neighbour): seam.n_pixels for seam in found}
    assert sizes[0, 1] == 9 * STRIP_WIDTH
    assert sizes[0, 3] == 12 * STRIP_WIDTH
    # The last column of cores is 7 wide.
    assert sizes[5, 8] == 7 * STRIP_WIDTH


@pytest.mark.parametrize("whose", ["own", "beyond"])
@pytest.mark.parametrize("side", SIDES)
def test_a_known_disagreement_is_reported_at_its_seam(seams, whose, side):
    centre = GRID.tile(4)
    other = GRID.neighbours(centre)[side]
    group = zarr.open_group(seams, mode="r+")
    at = (centre.id, SIDES.index(side))
    group[f"{whose}_model"][(*at, 5)] += 0.25
    group[f"{whose}_model"][(*at, 6)] -= 0.5
    for scale, pixel in ((0, 2), (1, 2), (1, 3)):
        group[f"{whose}_support"][(*at, scale, pixel)] ^= True
    # What a tile holds of its own core is what its neighbour is judged by.
    tile, neighbour = (centre.id, other.id) if whose == "beyond" else (other.id, centre.id)
    for seam in all_seams(seams):
        faulty = (seam.tile, seam.neighbour) == (tile, neighbour)
        assert seam.model_difference == pytest.approx(0.5 if faulty else 0)
        assert seam.support_flips == (3 if faulty else 0)


def test_what_lies_beyond_a_strip_is_not_compared(seams):
    # The seam of two partial cores is shorter than the array that holds it.
    group = zarr.open_group(seams, mode="r+")
    tile, side = GRID.tile(8), "south"
    group["beyond_model"][tile.id, SIDES.index(side), 7 * STRIP_WIDTH :] = 9.0
    assert all(seam.model_difference == 0 for seam in all_seams(seams))


def test_strips_of_neighbours_show_the_same_pixels(seams, whole):
    group = zarr.open_group(seams, mode="r")
    for tile in GRID.tiles():
        for side, box in GRID.strips(tile, STRIP_WIDTH).items():
            other = GRID.neighbours(tile)[side]
            expected = whole[0][box.slices].ravel()
            for name, at in (("beyond", (tile.id, side)), ("own", (other.id, OPPOSITE[side]))):
                kept = group[f"{name}_model"][at[0], SIDES.index(at[1]), : box.area]
                np.testing.assert_array_equal(kept, expected)


def test_without_a_margin_nothing_is_compared(tmp_path, whole):
    grid = TileGrid.plan((23, 31), (9, 12), 0, 3, lambda length: length)
    run_dir = RunDir(tmp_path)
    create_maps(run_dir, grid, SCALES, "")
    publish_strips(run_dir.seams, grid, grid.tile(4), window_of(grid.tile(4), whole, grid))
    found = compare_seams(run_dir.seams, grid, 4)
    assert [seam.n_pixels for seam in found] == [0, 0, 0, 0]
    assert seam_model_error(found, dict.fromkeys(range(9), 1.0)) is None


def test_differences_are_relative_to_the_larger_of_two_maxima():
    seams = [Seam(0, 1, "east", 8, 0.1, 0), Seam(1, 2, "east", 8, 0.2, 0)]
    assert seam_model_error(seams, {0: 2.0, 1: 4.0, 2: 1.0}) == pytest.approx(0.2 / 4)
    assert seam_model_error(seams, {0: 0.5, 1: 0.25, 2: 4.0}) == pytest.approx(0.1 / 0.5)


def test_where_both_models_are_empty_only_a_difference_counts():
    nothing = {0: 0.0, 1: 0.0}
    assert seam_model_error([Seam(0, 1, "east", 8, 0.0, 0)], nothing) == 0.0
    assert seam_model_error([Seam(0, 1, "east", 8, 1e-3, 0)], nothing) == 1.0


def test_no_seams_no_error():
    assert seam_model_error([], {0: 1.0}) is None


@pytest.mark.parametrize("core", [(9, 12), (9, 15), (23, 31), (40, 16)])
@pytest.mark.parametrize("margin", [4, 50])
def test_on_a_ring_seams_at_the_edge_are_compared_too(tmp_path, whole, core, margin):
    grid = TileGrid.plan((23, 31), core, margin, 3, lambda length: length, ring=True)
    run_dir = RunDir(tmp_path)
    create_maps(run_dir, grid, SCALES, "")
    for tile in grid.tiles():
        publish_strips(run_dir.seams, grid, tile, window_of(tile, whole, grid))

    def compared():
        return [seam for tile in grid.tiles() for seam in compare_seams(run_dir.seams, grid, tile.id)]

    assert all(seam.model_difference == seam.support_flips == 0 for seam in compared())
    pairs = sorted((seam.tile, seam.neighbour) for seam in compared())
    assert pairs == sorted((tile.id, other.id) for tile in grid.tiles() for other in grid.neighbours(tile).values())
    # A strip has two columns where the core beyond it has as many; that of the last column of cores may not.
    assert all(seam.n_pixels >= min(STRIP_WIDTH, 31 % core[1] or 31) for seam in compared())

    # What tile 0 believes of the last column of the map, against what its owner says.
    group, owner = zarr.open_group(run_dir.seams, mode="r+"), grid.owner(0, -1)
    group["beyond_model"][0, SIDES.index("west"), 1] += 0.5
    faulty = [seam for seam in compared() if seam.model_difference]
    assert [(seam.tile, seam.neighbour) for seam in faulty] == [(0, owner)]
    assert faulty[0].model_difference == pytest.approx(0.5)
