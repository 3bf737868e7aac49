import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.cwt.transform import fast_length
from cwt_dask.errors import SettingsError
from cwt_dask.maps import OPPOSITE
from cwt_dask.tiling import Box, TileGrid

grids = st.builds(
    lambda map_shape, core_shape, margin, reach: (
        TileGrid.plan(map_shape, core_shape, margin, reach, fast_length),
        margin,
        reach,
    ),
    map_shape=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    core_shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    margin=st.integers(0, 15),
    reach=st.integers(1, 8),
)


@given(grids)
def test_cores_partition_the_map_and_owners_know_it(planned):
    grid, _, _ = planned
    written = np.zeros((grid.y.length, grid.x.length), dtype=int)
    owner = np.full(written.shape, -1)
    for tile in grid.tiles():
        written[tile.core.slices] += 1
        owner[tile.core.slices] = tile.id
        assert grid.tile(tile.id) == tile
    assert (written == 1).all()
    for y, x in np.ndindex(written.shape):
        assert grid.owner(y, x) == owner[y, x]


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
        rows = circular_reach(tile.core.y0, tile.core.y1, tile.box.y0, tile.box.y1, reach)
        columns = circular_reach(tile.core.x0, tile.core.x1, tile.box.x0, tile.box.x1, reach)
        for wrapped, lo, hi in ((rows, visible.y0, visible.y1), (columns, visible.x0, visible.x1)):
            assert not [p for p in wrapped if lo <= p < hi]


def circular_reach(core0, core1, box0, box1, reach):
    """Pixels of the box that a core's pixel reads by circular convolution from the box's other side."""
    length = box1 - box0
    read = {p + d for p in (core0, core1 - 1) for d in range(-reach, reach + 1)}
    return [box0 + (p - box0) % length for p in read if not box0 <= p < box1]


@given(grids)
def test_a_margin_of_at_least_the_reach_takes_in_what_the_fft_length_adds(planned):
    grid, margin, reach = planned
    if grid.n_tiles == 1:
        assert grid.margin is None
    elif margin < reach:
        assert grid.margin == margin
    else:
        assert grid.margin >= margin


@given(grids, st.integers(1, 5))
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
def test_sound_pixels_are_more_than_the_reach_from_a_cut(planned):
    grid, _, reach = planned
    for tile in grid.tiles():
        visible = tile.window.intersection(grid.map_box)
        sound = np.zeros((grid.y.length, grid.x.length), dtype=bool)
        sound[grid.sound(tile, reach).intersection(grid.map_box).slices] = True
        for y, x in np.ndindex(sound.shape):
            seen = Box(y, y + 1, x, x + 1).grown(reach).intersection(grid.map_box)
            assert sound[y, x] == (seen.intersection(visible) == seen and not on_cut(grid, visible, y, x, reach))


def on_cut(grid, visible, y, x, reach):
    """Whether a window that cuts the map ends nearer than `reach` pixels (a window that ends on the edge does not)."""
    return (
        (visible.y0 > 0 and y - reach < visible.y0)
        or (visible.y1 < grid.y.length and y + reach >= visible.y1)
        or (visible.x0 > 0 and x - reach < visible.x0)
        or (visible.x1 < grid.x.length and x + reach >= visible.x1)
        or not (visible.y0 <= y < visible.y1 and visible.x0 <= x < visible.x1)
    )


@given(st.tuples(*[st.integers(-9, 9)] * 4), st.tuples(*[st.integers(-9, 9)] * 4))
def test_boxes_intersect_as_sets_of_pixels(first, second):
    boxes = [Box(min(a, b), max(a, b), min(c, d), max(c, d)) for a, b, c, d in (first, second)]
    pixels = [{(y, x) for y in range(b.y0, b.y1) for x in range(b.x0, b.x1)} for b in boxes]
    assert boxes[0].intersection(boxes[1]).area == len(pixels[0] & pixels[1])
    assert boxes[0].area == len(pixels[0])


@pytest.mark.parametrize(
    ("core", "margin", "message"),
    [((0, 5), 3, "tile_size is 0"), ((5, 5), -1, "margin is -1")],
)
def test_impossible_grids_are_refused(core, margin, message):
    with pytest.raises(SettingsError, match=message):
        TileGrid.plan((10, 10), core, margin, 3, fast_length)
