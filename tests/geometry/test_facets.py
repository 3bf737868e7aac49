"""Facets: they cover the sphere once, with margins of so many pixels, and are what their FITS headers say."""

import json

import numpy as np
import pytest
from astropy.wcs import WCS

from cwt_dask.cwt.spectra import fast_length
from cwt_dask.errors import SettingsError
from cwt_dask.geometry.facets import FacetGrid, grid_from, pixel_of, stored_grid
from cwt_dask.geometry.healpix import edges_of
from cwt_dask.geometry.tiling import Box
from cwt_dask.survey.sphere import FacetSky

TURNS = [(0.0, 0.0, 0.0), (10.0, 70.0, 200.0)]


def grid_of(nside=64, order=2, margin=12, reach=9, rotation=TURNS[0]):
    return FacetGrid.plan(nside, order, range(12 * 4**order), margin, reach, fast_length, rotation=rotation)


@pytest.mark.parametrize("rotation", TURNS)
def test_cells_hold_the_sphere_once_and_lie_in_their_images_with_the_margin(rotation):
    grid = grid_of(rotation=rotation)
    total = 0
    for facet in range(0, 192, 5):
        rows, columns = np.nonzero(grid.core_of(facet))
        total += len(rows)
        for places in (rows, columns):
            assert places.min() >= grid.margin
            assert places.max() < grid.side_of(facet) - grid.margin
    # The projection keeps areas: as many pixels as the survey has there, to their borders.
    assert total / 39 == pytest.approx(12 * 64**2 / 192, rel=0.01)
    assert grid.margin >= 12
    assert all(tile.box.shape[0] >= tile.core.shape[0] + 9 for tile in grid.tiles())
    assert grid.box_shape == max(tile.box.shape for tile in grid.tiles())
    assert grid.core_shape == max(tile.core.shape for tile in grid.tiles())


@pytest.mark.parametrize("frame", ["galactic", "icrs"])
@pytest.mark.parametrize("rotation", TURNS)
def test_pixels_lie_where_the_header_of_a_facet_says(frame, rotation):
    sky = FacetSky(grid_of(rotation=rotation), frame)
    for facet in (0, 17, 63, 100, 190):
        x, y = np.random.default_rng(facet).uniform(0, sky.grid.side - 1, (2, 50))
        by_header = WCS(sky.header_of(facet)).pixel_to_world(x, y)
        assert by_header.separation(sky.pixel_to_world(x, y + facet * sky.grid.side)).arcsec.max() < 1e-5
        # Pixels of the cell are found again by their positions.
        rows, columns = np.nonzero(sky.grid.core_of(facet))
        again = sky.world_to_pixel(sky.pixel_to_world(columns, rows + facet * sky.grid.side))
        np.testing.assert_allclose(again, [columns, rows + facet * sky.grid.side], atol=1e-6)


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (10.0, 70.0, 200.0)])
def test_pixels_of_a_cell_are_those_with_their_centre_in_it(rotation):
    """Cells as wide as blocks of pixels of which one is asked, and wider."""
    for nside, cells in ((16, range(0, 192, 7)), (128, range(0, 192, 11)), (512, (0, 15, 70, 101))):
        grid = FacetGrid.plan(nside, 2, range(192), 10, 9, fast_length, rotation=rotation)
        for facet in cells:
            y, x = np.indices(grid.tile(facet).core.shape, np.float64)
            expected = grid.cells_at(grid.frame(facet).vectors(x, y).reshape(-1, 3)) == facet
            np.testing.assert_array_equal(grid.core_of(facet).ravel(), expected)


def test_positions_in_no_facet_have_no_pixel():
    some = FacetGrid.plan(64, 2, [0, 5, 7], 12, 9, fast_length)
    sky = FacetSky(some, "galactic")
    everywhere = FacetSky(grid_of(), "galactic").vectors(np.full(2, 30.0), np.array([100.5, 30 + 7 * grid_of().side]))
    assert sky.facets_of(everywhere).tolist() == [
        -1 if some.cells_at(v[None])[0] not in (0, 5, 7) else some.cells.index(some.cells_at(v[None])[0])
        for v in everywhere
    ]
    assert np.isnan(sky.vectors(np.array([1.0]), np.array([3.0 * some.side + 5]))).all()


def test_facets_have_no_neighbours_and_boxes_stay_in_their_image():
    grid = grid_of()
    tile = grid.tile(3)
    side = grid.side_of(3)
    assert tile.core.slices == (3, slice(0, side), slice(0, side))
    assert grid.around(tile, 50) == tile.core
    assert grid.on_map(tile.core.grown(5)).bounds == tile.core.bounds
    inner = grid.on_map(tile.core.grown(-5))
    assert inner == Box(3 * grid.side + 5, 3 * grid.side + side - 5, 5, side - 5)
    assert grid.neighbours(tile) == grid.strips(tile, 2) == {}
    assert [other.id for other in grid.overlapping(tile.core)] == [3]
    assert grid.array_shape == (192, grid.side, grid.side)


def test_a_wider_margin_moves_no_pixel():
    grid = grid_of()
    wider = grid.wider(grid.margin + 10, 9, fast_length)
    for facet in range(16):
        more = (wider.side_of(facet) - grid.side_of(facet)) // 2
        assert more >= 10
        vectors = wider.frame(facet).vectors(np.array([more + 3.0]), np.array([more + 4.0]))
        np.testing.assert_allclose(vectors, grid.frame(facet).vectors(np.array([3.0]), np.array([4.0])), atol=1e-14)


def test_a_cell_that_needs_less_has_a_smaller_image():
    grid = grid_of(nside=512)
    sides = [grid.side_of(facet) for facet in range(192)]
    assert max(sides) == grid.side
    # Cells at the equator are squares but for a part in twelve; those at the edge of the caps a third longer.
    assert np.mean(np.square(sides)) < 0.85 * grid.side**2
    assert grid_from(json.loads(json.dumps(stored_grid(grid)))) == grid


def test_finer_cells_stretch_less():
    assert pixel_of(64) == pytest.approx(2 * pixel_of(128))
    assert grid_of(order=3).side < grid_of(order=2).side


def test_a_negative_margin_is_refused():
    with pytest.raises(SettingsError, match="margin is -1: it must be 0 or more pixels"):
        grid_of(margin=-1)


@pytest.mark.parametrize("order", [3, 6])
def test_one_box_holds_the_cells_of_every_base_cell(order):
    """It is measured of two of the twelve, which the others are like."""
    grid = grid_of(nside=512, order=order, margin=0, reach=0)
    for cell in np.random.default_rng(order).integers(12 * 4**order, size=40):
        x, y = grid.frame(int(cell)).pixels(edges_of(np.array([cell]), order)[0])
        assert min(x.min(), y.min()) >= -0.6
        assert max(x.max(), y.max()) <= grid.side_of(int(cell)) - 0.4
