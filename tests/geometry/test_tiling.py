import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.cwt.spectra import fast_length
from cwt_dask.errors import SettingsError
from cwt_dask.geometry.tiling import Box, TileGrid, on_map, parts
from cwt_dask.storage.maps import OPPOSITE


def plans(map_shape, core_shape, margins, *, ring):
    """Grid, margin and reach."""
    return st.builds(
        lambda shape, core, margin, reach: (
            TileGrid.plan(shape, core, margin, reach, fast_length, ring=ring),
            margin,
            reach,
        ),
        st.tuples(*(st.integers(1, most) for most in map_shape)),
        st.tuples(*(st.integers(1, most) for most in core_shape)),
        margins,
        st.integers(1, 8),
    )


grids = plans((25, 25), (30, 30), st.integers(0, 15), ring=False)
rings = plans((15, 25), (20, 30), st.integers(0, 60), ring=True)
any_boxes = st.builds(
    lambda y0, rows, x0, columns: Box(y0, y0 + rows, x0, x0 + columns),
    st.integers(-9, 20),
    st.integers(0, 12),
    st.integers(-60, 60),
    st.integers(0, 80),
)
shapes = st.tuples(st.integers(1, 15), st.integers(1, 25))


def pixels_of(box):
    return {(y, x) for y in range(box.y0, box.y1) for x in range(box.x0, box.x1)}


@given(st.one_of(grids, rings))
def test_cores_partition_the_map(planned):
    grid, _, _ = planned
    owner = np.full((grid.y.length, grid.x.length), -1)
    for tile in grid.tiles():
        assert (owner[tile.core.slices] == -1).all()
        owner[tile.core.slices] = tile.id
        assert grid.tile(tile.id) == grid.at(tile.row, tile.column) == tile
    assert (owner >= 0).all()


@given(grids)
def test_windows_hold_the_margin_and_boxes_take_up_the_circular_wrap(planned):
    grid, margin, reach = planned
    for tile in grid.tiles():
        assert tile.box.shape == grid.box_shape == tuple(map(fast_length, grid.box_shape))
        visible = tile.window.intersection(grid.map_box)
        wanted = tile.core.grown(margin).intersection(grid.map_box)
        assert visible.intersection(wanted) == wanted
        assert visible.intersection(tile.box) == visible
        # A pixel of the core sees, through the wrap, none but pixels more than the margin away from it or zeros.
        rows, columns = wrapped_pixels(tile, reach)
        for wrapped, lo, hi in ((rows, visible.y0, visible.y1), (columns, visible.x0, visible.x1)):
            assert not [p for p in wrapped if lo <= p < hi]


def wrapped_pixels(tile, reach):
    """Rows and columns of the box that the core reads by circular convolution from the box's other side."""
    for core, box in zip(tile.core.slices, tile.box.slices, strict=True):
        read = {p + d for p in (core.start, core.stop - 1) for d in range(-reach, reach + 1)}
        yield [box.start + (p - box.start) % (box.stop - box.start) for p in read if not box.start <= p < box.stop]


@given(grids)
def test_a_margin_of_at_least_the_reach_takes_in_what_the_fft_length_adds(planned):
    grid, margin, reach = planned
    if grid.n_tiles == 1:
        assert grid.margin is None
        assert not grid.has_seams
        assert grid.neighbours(grid.tile(0)) == {}
    elif margin < reach:
        assert grid.margin == margin
    else:
        assert grid.margin >= margin


@given(st.one_of(grids, rings), st.integers(1, 5))
def test_strips_lie_in_the_neighbours_core_and_in_the_tiles_window(planned, width):
    grid, margin, _ = planned
    for tile in grid.tiles():
        strips, neighbours = grid.strips(tile, width), grid.neighbours(tile)
        assert strips.keys() == neighbours.keys()
        for side, box in strips.items():
            other = neighbours[side]
            assert grid.neighbours(other)[OPPOSITE[side]] == tile
            assert box.intersection(other.core) == box
            assert box.intersection(tile.window) == box
            thin, long = box.shape if side in ("north", "south") else box.shape[::-1]
            assert thin <= width
            if margin:
                assert thin >= 1
                assert long == (tile.core.shape[1] if side in ("north", "south") else tile.core.shape[0])


@given(grids)
def test_sound_pixels_are_those_whose_neighbourhood_the_window_shows(planned):
    grid, _, reach = planned
    for tile in grid.tiles():
        sound = np.zeros((grid.y.length, grid.x.length), dtype=bool)
        sound[grid.sound(tile, reach).slices] = True
        for y, x in np.ndindex(sound.shape):
            rows = tile.window.y0 <= y - reach and y + reach < tile.window.y1
            columns = tile.window.x0 <= x - reach and x + reach < tile.window.x1
            assert sound[y, x] == ((rows or not grid.y.has_seams) and (columns or not grid.x.has_seams))


@given(any_boxes, any_boxes)
def test_boxes_intersect_as_sets_of_pixels(first, second):
    assert pixels_of(first.intersection(second)) == pixels_of(first) & pixels_of(second)
    assert first.intersection(second).area == len(pixels_of(first) & pixels_of(second))


@given(rings, st.integers(-4, 4))
def test_tiles_of_other_turns_are_shifted_copies(planned, turn):
    grid, _, _ = planned
    for tile in grid.tiles():
        other = grid.at(tile.row, tile.column + turn * grid.x.n_tiles)
        assert (other.id, other.row) == (tile.id, tile.row)
        for name in ("core", "window", "box"):
            assert getattr(other, name) == getattr(tile, name).shifted(turn * grid.x.length)


@given(rings)
def test_windows_on_a_ring_hold_the_margin_on_both_sides_and_the_circular_wrap_stays_in_it(planned):
    grid, margin, reach = planned
    assert grid.has_seams
    assert grid.margin == grid.x.margin or grid.y.n_tiles > 1
    assert grid.margin >= margin
    for tile in grid.tiles():
        assert tile.box.shape == grid.box_shape == tuple(map(fast_length, grid.box_shape))
        assert tile.window.intersection(tile.box) == tile.window or grid.y.n_tiles == 1
        assert tile.box.x0 <= tile.window.x0 <= tile.core.x0 - margin
        assert tile.core.x1 + margin <= tile.window.x1 <= tile.box.x1
        _, columns = wrapped_pixels(tile, reach)
        assert not [x for x in columns if tile.core.x0 - margin <= x < tile.core.x1 + margin]


@given(rings)
def test_on_a_ring_every_tile_has_neighbours_in_the_west_and_the_east_that_adjoin_it(planned):
    grid, _, _ = planned
    for tile in grid.tiles():
        neighbours = grid.neighbours(tile)
        assert neighbours.keys() >= {"west", "east"}
        assert ("south" in neighbours) == (tile.row > 0)
        assert ("north" in neighbours) == (tile.row < grid.y.n_tiles - 1)
        assert neighbours["west"].core.x1 == tile.core.x0
        assert neighbours["east"].core.x0 == tile.core.x1


@given(rings)
def test_a_window_cuts_a_ring_on_both_sides_however_wide_it_is(planned):
    grid, _, reach = planned
    for tile in grid.tiles():
        sound = grid.sound(tile, reach)
        assert sound.x0 == tile.window.x0 + reach
        assert sound.x1 == max(tile.window.x1 - reach, sound.x0)


@given(st.one_of(grids, rings), any_boxes)
def test_overlapping_tiles_are_those_whose_cores_have_pixels_of_a_box(planned, box):
    grid, _, _ = planned
    # Enough turns for any of the boxes.
    turns = range(-60, 141 // grid.x.length + 1) if grid.ring else range(1)
    copies = [
        grid.at(row, turn * grid.x.n_tiles + column)
        for row in range(grid.y.n_tiles)
        for turn in turns
        for column in range(grid.x.n_tiles)
    ]
    assert list(grid.overlapping(box)) == [tile for tile in copies if tile.core.intersection(box).area]


@given(any_boxes, shapes, st.booleans())
def test_parts_are_the_pixels_of_a_box_that_the_map_has(box, shape, ring):
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    found = {}
    for part, inside in parts(box, shape, ring=ring):
        assert part.shape == inside.shape
        assert pixels_of(part) <= pixels_of(box)
        assert inside.area == inside.intersection(Box(0, shape[0], 0, shape[1])).area > 0
        for (y, x), value in zip(sorted(pixels_of(part)), image[inside.slices].ravel(), strict=True):
            assert (y, x) not in found
            found[y, x] = value
    wanted = {
        (y, x): image[y, x % shape[1]] for y, x in pixels_of(box) if 0 <= y < shape[0] and (ring or 0 <= x < shape[1])
    }
    assert found == wanted
    assert pixels_of(on_map(box, shape, ring=ring)) == wanted.keys()


@pytest.mark.parametrize(("core", "margin", "message"), [((0, 5), 3, "tile_size is 0"), ((5, 5), -1, "margin is -1")])
def test_impossible_grids_are_refused(core, margin, message):
    with pytest.raises(SettingsError, match=message):
        TileGrid.plan((10, 10), core, margin, 3, fast_length)
