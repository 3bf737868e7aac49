"""What the tiles do next, decided without doing any of it: runs of plain records, interrupted anywhere."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.config.settings import Settings
from cwt_dask.merge.stopping import stopping_iteration
from cwt_dask.pipeline.next_block import RunState, next_block


@dataclass
class Record:
    n_iter: int
    moments: list


class Run:
    """A run whose tiles are rows of variances of their residuals, one an iteration; it keeps what a disk would."""

    def __init__(self, variances, settings, *, islands=False, look_ahead=(), scatter=1.0):
        self.variances = np.array(variances)
        n_tiles = len(self.variances)
        waits = settings.stopping == "global" and n_tiles > 1 and settings.tol > 0
        self.state = RunState(settings, n_tiles, waits, decides_islands=islands)
        self.look_ahead, self.scatter = look_ahead, scatter
        self.done = []

    def record(self, tile, stop, tol=None):
        moments = [(10, 0.0, 10.0 * variance) for variance in self.variances[tile, :stop]]
        own = stopping_iteration({tile: Record(stop, moments)}, tol) if tol else None
        return Record(own or stop, moments[: own or stop])

    @property
    def all_records(self):
        return {tile: self.record(tile, self.variances.shape[1]) for tile in range(len(self.variances))}

    def next(self):
        state = self.state
        if state.may_look_ahead:
            state = replace(state, look_ahead=self.look_ahead, scatter=self.scatter)
        return next_block(state)

    def do(self, block, n_tiles=None):
        """Do a block, or the first few of its tiles; then the process has died."""
        state = self.state
        for tile in block.tiles:
            begun = block.starts.get(tile, block.start)
            assert begun == 0 or tile in state.blocks[begun]
            assert begun <= block.stop
        tiles = block.tiles[:n_tiles]
        made = {tile: self.record(tile, block.stop, block.tol) for tile in tiles}
        self.done.append((block.start, block.stop, len(tiles)))
        if block.publishes:
            state = replace(state, published=dict(state.published) | made)
        if block.keeps:
            blocks = {end: records for end, records in state.blocks.items() if block.looks_ahead or end >= block.start}
            state = replace(state, blocks=blocks | {block.stop: blocks.get(block.stop, {}) | made})
            if n_tiles is None:
                state = replace(state, settled=block.stop, torn=state.torn - {block.stop})
                state = replace(state, listed=block.stop)
        self.state = state if n_tiles is None else replace(state, settled=0)

    def finish(self):
        """Do all that is to be done, and return the blocks."""
        blocks = []
        while block := self.next():
            assert block.tiles or self.state.decides_islands
            blocks.append(block)
            self.do(block)
            assert sum(block.ends for block in blocks) <= 3
            assert len(blocks) <= 3 * self.state.settings.max_iter
        return blocks


@st.composite
def runs(draw):
    """Runs of few tiles, whose variances fall as fast as they may or do not fall at all."""
    n_tiles, max_iter = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    falls = st.floats(0, 0.3)
    rows = [
        np.cumprod([1.0, *(1 - fall for fall in draw(st.lists(falls, min_size=max_iter - 1, max_size=max_iter - 1)))])
        for _ in range(n_tiles)
    ]
    stopping = draw(st.sampled_from(["global", "global", "tile", "fixed"]))
    settings = Settings(stopping=stopping, tol=draw(st.sampled_from([0.0, 1e-5, 1e-2, 0.1])), max_iter=max_iter)
    ahead = (0,) if n_tiles > 2 else ()
    return Run(rows, settings, islands=draw(st.booleans()), look_ahead=ahead, scatter=draw(st.floats(0.1, 100)))


def assert_right(run):
    """All tiles are published as of where the whole map stops, which all their records say."""
    state = run.state
    assert next_block(state) is None
    stops = {
        "global": stopping_iteration(run.all_records, state.settings.tol) or state.settings.max_iter,
        "fixed": state.settings.max_iter,
    }
    expected = {
        tile: run.record(tile, state.settings.max_iter, state.settings.tol).n_iter
        if state.settings.stopping == "tile"
        else stops[state.settings.stopping]
        for tile in range(state.n_tiles)
    }
    assert {tile: record.n_iter for tile, record in state.published.items()} == expected


@given(runs())
def test_every_run_ends_where_the_whole_map_stops(run):
    blocks = run.finish()
    assert_right(run)
    assert all(block.start < block.stop or block.ends for block in blocks)


@given(runs(), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=4), st.data())
def test_a_run_that_died_anywhere_ends_there_too(run, deaths, data):
    for n_blocks, n_tiles in deaths:
        for _ in range(n_blocks):
            if block := run.next():
                run.do(block)
        if block := run.next():
            run.do(block, n_tiles)
    # What is damaged meanwhile counts as not there.
    state = run.state
    blocks = {end: lose(records, data) for end, records in state.blocks.items()}
    torn = frozenset(data.draw(st.sets(st.sampled_from(sorted(blocks))))) if blocks and state.decides_islands else ()
    run.state = replace(state, published=lose(state.published, data), blocks=blocks, torn=frozenset(torn), settled=0)
    run.finish()
    assert_right(run)


def lose(records, data):
    lost = data.draw(st.sets(st.sampled_from(sorted(records)), max_size=2)) if records else ()
    return {tile: record for tile, record in records.items() if tile not in lost}


# Three tiles of a map that stops at iteration 5.
VARIANCES = [[1.0, 0.8, 0.6, 0.5, 0.47, 0.44, 0.42, 0.4]] * 3
ALL = (0, 1, 2)
# Tiles that have made each block, published tiles and where they stopped; what is done next, with which tiles.
NEXT = {
    "nothing": ({}, {}, "tiles, iterations 1 to 2", ALL),
    "a block that not all have made": ({2: ALL, 3: (1,)}, {}, "tiles, iterations 3 to 3", (0, 2)),
    "no block that all have made": ({3: (0, 1)}, {}, "tiles, iterations 1 to 2", ALL),
    "a stop within the last block": ({3: ALL, 6: ALL}, {}, "publishing tiles", ALL),
    "some are published already": ({3: ALL, 6: ALL}, {1: 5}, "publishing tiles", (0, 2)),
    "one was lost after the end": ({}, {0: 5, 2: 5}, "tiles, 5 iterations", (1,)),
    "published before the stop was known": ({}, {0: 8, 1: 8, 2: 8}, "tiles, 5 iterations", ALL),
    "published too early to tell": ({}, {0: 3, 1: 3, 2: 3}, "tiles, 8 iterations", ALL),
}
LOOK_AHEAD = {
    "nothing": ({}, "look-ahead tiles, iterations 1 to 2", (1,)),
    "not far enough": ({2: (1,)}, "look-ahead tiles, iterations 3 to 6", (1,)),
    "as far as it goes": ({2: (1,), 6: (1,)}, "tiles, iterations 1 to 8", ALL),
    "the first block": ({2: ALL}, "tiles, iterations 3 to 3", ALL),
}
ISLANDS = {
    "not settled": ({2: ALL}, 0, "tiles, iterations 1 to 2", ()),
    "settled": ({2: ALL}, 2, "tiles, iterations 3 to 3", ALL),
    "a later round lost": ({2: ALL, 3: ALL}, 2, "tiles, iterations 3 to 3", ()),
}


def falling(blocks, published, **more):
    """A run of that map."""
    run = Run(VARIANCES, Settings(tol=0.1, max_iter=8), **more)
    run.state = replace(
        run.state,
        published={tile: run.record(tile, stop) for tile, stop in published.items()},
        blocks={end: {tile: run.record(tile, end) for tile in tiles} for end, tiles in blocks.items()},
    )
    return run


@pytest.mark.parametrize(("blocks", "published", "stage", "tiles"), NEXT.values(), ids=NEXT)
def test_what_follows(blocks, published, stage, tiles):
    block = falling(blocks, published).next()
    assert (block.stage, block.tiles) == (stage, tiles)


@pytest.mark.parametrize(("blocks", "stage", "tiles"), LOOK_AHEAD.values(), ids=LOOK_AHEAD)
def test_what_follows_where_tiles_look_ahead(blocks, stage, tiles):
    block = falling(blocks, {}, look_ahead=(1,)).next()
    assert (block.stage, block.tiles) == (stage, tiles)
    assert block.starts == ({1: 6} if block.stop == 8 else {})


@pytest.mark.parametrize(("blocks", "settled", "stage", "tiles"), ISLANDS.values(), ids=ISLANDS)
def test_what_follows_where_islands_are_decided(blocks, settled, stage, tiles):
    run = falling(blocks, {}, islands=True)
    block = next_block(replace(run.state, settled=settled, torn=frozenset({3})))
    assert (block.stage, block.tiles) == (stage, tiles)


@pytest.mark.parametrize(("replayable", "listed", "replays"), [((1,), 5, True), ((), 5, False), ((1,), 4, False)])
def test_a_tile_lost_after_the_end_is_done_again_by_what_it_has_kept_of_islands(replayable, listed, replays):
    run = falling({}, {0: 5, 2: 5}, islands=True)
    kept = {tile: run.record(tile, 5) for tile in replayable}
    block = next_block(replace(run.state, replayable=kept, listed=listed))
    expected = ("tiles, 5 iterations", (1,)) if replays else ("tiles, iterations 1 to 2", ALL)
    assert (block.stage, block.tiles, block.replays) == (*expected, replays)
