from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from cwt_dask.geometry.margins import STRIP_WIDTH
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.merge.seams import Seam, compare_seams, seam_model_error
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.maps import SIDES, create_maps, publish_strips

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


def published(folder, whole, grid=GRID):
    """Seams of tiles that all agree."""
    run_dir = RunDir(folder)
    create_maps(run_dir, grid, SCALES, "")
    for tile in grid.tiles():
        publish_strips(run_dir.seams, grid, tile, window_of(tile, whole, grid))
    return run_dir.seams


@pytest.fixture
def seams(tmp_path, whole):
    return published(tmp_path, whole)


def all_seams(seams, grid=GRID):
    return [seam for tile in grid.tiles() for seam in compare_seams(seams, grid, tile.id)]


def assert_agree(found, grid=GRID):
    """Tiles differ by nothing, and every seam is seen from both sides."""
    pairs = sorted((tile.id, other.id) for tile in grid.tiles() for other in grid.neighbours(tile).values())
    assert sorted((seam.tile, seam.neighbour) for seam in found) == pairs
    assert all(seam.model_difference == seam.support_flips == 0 for seam in found)


def test_tiles_that_agree_differ_by_nothing_and_every_seam_is_seen_from_both_sides(seams):
    found = all_seams(seams)
    assert_agree(found)
    sizes = {(seam.tile, seam.neighbour): seam.n_pixels for seam in found}
    assert sizes[0, 1] == 9 * STRIP_WIDTH
    assert sizes[0, 3] == 12 * STRIP_WIDTH
    # The last column of cores is 7 wide.
    assert sizes[5, 8] == 7 * STRIP_WIDTH


def test_known_disagreements_are_reported_at_their_seams(seams):
    centre, group = GRID.tile(4), zarr.open_group(seams, mode="r+")
    differences, flips = {}, {}
    for number, (whose, side) in enumerate(product(("own", "beyond"), SIDES), 1):
        at, pixels = (centre.id, SIDES.index(side)), ((0, 2), (1, 2), (1, 3))[: 1 + number % 3]
        group[f"{whose}_model"][(*at, 5)] += number / 4
        group[f"{whose}_model"][(*at, 6)] -= number / 2
        for pixel in pixels:
            group[f"{whose}_support"][(*at, *pixel)] ^= True
        # What a tile holds of its own core is what its neighbour is compared with.
        seam = (centre.id, GRID.neighbours(centre)[side].id)[:: 1 if whose == "beyond" else -1]
        differences[seam], flips[seam] = number / 2, len(pixels)
    faulty = [seam for seam in all_seams(seams) if seam.model_difference or seam.support_flips]
    assert {(seam.tile, seam.neighbour): seam.model_difference for seam in faulty} == pytest.approx(differences)
    assert {(seam.tile, seam.neighbour): seam.support_flips for seam in faulty} == flips


def test_what_lies_beyond_a_strip_is_not_compared(seams):
    # The seam of two partial cores is shorter than the array that holds it.
    group = zarr.open_group(seams, mode="r+")
    tile, side = GRID.tile(8), "south"
    group["beyond_model"][tile.id, SIDES.index(side), 7 * STRIP_WIDTH :] = 9.0
    assert all(seam.model_difference == 0 for seam in all_seams(seams))


def test_without_a_margin_nothing_is_compared(tmp_path, whole):
    grid = TileGrid.plan((23, 31), (9, 12), 0, 3, lambda length: length)
    found = compare_seams(published(tmp_path, whole, grid), grid, 4)
    assert [seam.n_pixels for seam in found] == [0, 0, 0, 0]
    assert seam_model_error(found, dict.fromkeys(range(9), 1.0)) is None


def test_differences_are_relative_to_the_larger_of_two_maxima():
    seams = [Seam(0, 1, "east", 8, 0.1, 0), Seam(1, 2, "east", 8, 0.2, 0)]
    assert seam_model_error(seams, {0: 2.0, 1: 4.0, 2: 1.0}) == pytest.approx(0.2 / 4)
    assert seam_model_error(seams, {0: 0.5, 1: 0.25, 2: 4.0}) == pytest.approx(0.1 / 0.5)
    # Where both models are empty only a difference counts.
    nothing = {0: 0.0, 1: 0.0}
    assert seam_model_error([Seam(0, 1, "east", 8, 0.0, 0)], nothing) == 0.0
    assert seam_model_error([Seam(0, 1, "east", 8, 1e-3, 0)], nothing) == 1.0


@pytest.mark.parametrize(("core", "margin"), [((9, 12), 4), ((9, 15), 50), ((23, 31), 4), ((40, 16), 50)])
def test_on_a_ring_seams_at_the_edge_are_compared_too(tmp_path, whole, core, margin):
    grid = TileGrid.plan((23, 31), core, margin, 3, lambda length: length, ring=True)
    seams = published(tmp_path, whole, grid)
    found = all_seams(seams, grid)
    assert_agree(found, grid)
    # A strip has two columns where the core beyond it has as many; that of the last column of cores may not.
    assert all(seam.n_pixels >= min(STRIP_WIDTH, 31 % core[1] or 31) for seam in found)

    # What tile 0 holds of the last column of the map, against what the tile of that column has.
    zarr.open_group(seams, mode="r+")["beyond_model"][0, SIDES.index("west"), 1] += 0.5
    faulty = [seam for seam in all_seams(seams, grid) if seam.model_difference]
    assert [(seam.tile, seam.neighbour) for seam in faulty] == [(0, grid.x.n_tiles - 1)]
    assert faulty[0].model_difference == pytest.approx(0.5)
