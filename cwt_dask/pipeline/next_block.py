"""Which iterations the tiles make next: decided here from plain data, carried out by `blocks`.

All tiles go through a block of iterations, then the variance of the whole map is known, and with it whether the map has
stopped in that block or how long the next one may be. Before the first block a few look-ahead tiles show how long that
may be. What is decided depends on records of tiles only: a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cwt_dask.config.settings import Settings
from cwt_dask.cwt.stopping import FIRST_STOP
from cwt_dask.merge.stopping import block_end, earliest_stop, last_change, least_change, stopping_iteration
from cwt_dask.storage.ledger import Record


@dataclass(frozen=True)
class Block:
    """Iterations that some tiles are to make."""

    # Iterations after which they begin and end.
    start: int
    stop: int
    tiles: tuple[int, ...]  # Which tiles: those that have not made these iterations yet.
    tol: float | None = None  # Tolerance by which each tile stops by its own variance, where it does.
    # Whether tiles leave a checkpoint, and whether they publish.
    keeps: bool = False
    publishes: bool = False
    looks_ahead: bool = False  # Whether these are the look-ahead tiles only.
    ends: bool = False  # Whether all tiles are published with it.
    replays: bool = False  # Whether tiles do what they did before, as far as islands go.
    # Iterations after which tiles begin that have a later checkpoint than `start`.
    starts: Mapping[int, int] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """What it is called where progress is shown."""
        if self.ends:
            return "publishing tiles" if self.start else f"tiles, {self.stop} iterations"
        tiles = "look-ahead tiles" if self.looks_ahead else "tiles"
        return f"{tiles}, iterations {self.start + 1} to {self.stop}"


@dataclass(frozen=True)
class RunState:
    """How far the tiles of a run are."""

    settings: Settings  # Stopping rule, tolerance and largest number of iterations.
    n_tiles: int  # How many there are.
    waits: bool  # Whether tiles stop where the whole map does.
    decides_islands: bool  # Whether tiles decide on islands together.
    published: Mapping[int, Record] = field(default_factory=dict)  # By tile, those that are published.
    # Those that are damaged, and have kept what they decided on islands.
    replayable: Mapping[int, Record] = field(default_factory=dict)
    # By block, named by its last iteration, and tile: those with a checkpoint at its end.
    blocks: Mapping[int, Mapping[int, Record]] = field(default_factory=dict)
    # Blocks in which a tile has lost a later round of islands: it must begin where the block begins.
    torn: frozenset[int] = frozenset()
    settled: int = 0  # Block whose islands were settled last, by this process; 0 for none.
    listed: int = 0  # Last iteration up to which it is recorded which islands blocks have left open.
    look_ahead: tuple[int, ...] = ()  # The look-ahead tiles, where `may_look_ahead`.
    scatter: float = 0.0  # Sum of squared deviations of all counts, then.

    @property
    def complete(self) -> bool:
        """Whether all tiles are published, as of where the whole map stops."""
        if len(self.published) < self.n_tiles:
            return False
        stop = self.stop_shown_by(self.published) or self.settings.max_iter
        # Tiles that stop by themselves are published before it is known which islands they leave open.
        if self.decides_islands and self.listed < stop:
            return False
        own_stop = self.settings.stopping == "tile"
        return own_stop or all(record.n_iter == stop for record in self.published.values())

    @property
    def whole_blocks(self) -> tuple[int, int]:
        """The last two blocks that all tiles have made; 0 where there is none."""
        whole = [
            end
            for end, records in sorted(self.blocks.items())
            if len(records) == self.n_tiles and (end not in self.torn or end == self.settled)
        ]
        before, last = (0, 0, *whole)[-2:]
        return before, last

    @property
    def may_look_ahead(self) -> bool:
        """Whether tiles that look ahead can show how long the first block may be, which is the next."""
        can = self.waits and not self.decides_islands and self.next_end(0) < self.settings.max_iter
        return can and not self.published and not self.whole_blocks[1]

    def stop_shown_by(self, records: Mapping[int, Record]) -> int | None:
        """Iteration at which the whole map stops, if it does within those that all tiles have made."""
        return stopping_iteration(records, self.settings.tol) if self.settings.stopping == "global" else None

    def next_end(self, start: int) -> int:
        """End of the block that begins after iteration `start`."""
        settings, earliest = self.settings, float(FIRST_STOP)
        if settings.stopping == "tile":
            return settings.max_iter
        # Where islands are decided, blocks stay short: a tile that is contradicted does all of its block again.
        if start and self.waits and not self.decides_islands:
            earliest = earliest_stop(start, last_change(self.blocks[start]), settings.tol)
        return block_end(start, settings.max_iter, earliest)


def next_block(state: RunState) -> Block | None:
    """Decide what the tiles do next; None where all is done.

    The same state gives the same block; a block without tiles has islands to be settled.
    """
    if state.complete:
        return None
    if (before := replace(state, published={**state.replayable, **state.published})).complete:
        return _replay(before, state)
    settings, (_, last) = state.settings, state.whole_blocks
    if stop := _stop_of_published(state, last):
        return _end(state, last if last < stop else 0, stop)
    if state.waits or state.decides_islands:
        return _in_blocks(state)
    stops = settings.stopping != "fixed" and settings.tol > 0
    return _end(state, 0, settings.max_iter, settings.tol if stops else None)


def _replay(before: RunState, state: RunState) -> Block:
    """Tiles that are damaged in a run that was complete before."""
    settings = state.settings
    stop = before.stop_shown_by(before.published) or settings.max_iter
    return replace(_end(state, 0, stop, settings.tol if settings.stopping == "tile" else None), replays=True)


def _in_blocks(state: RunState) -> Block:
    """What follows the blocks that all tiles have made."""
    before, last = state.whole_blocks
    if last == 0:
        return _first_block(state)
    if state.decides_islands and state.settled != last:
        return _block(state, before, last)
    stop = state.stop_shown_by(state.blocks[last]) or (last if last == state.settings.max_iter else None)
    if stop is None:
        return _block(state, last, state.next_end(last))
    return _end(state, before if stop < last else last, stop)


def _stop_of_published(state: RunState, last: int) -> int | None:
    """Where tiles stop, if published ones alone say so: islands that were decided are not kept so long."""
    settings = state.settings
    if not state.published or state.decides_islands or settings.stopping != "global":
        return None
    if len(state.published) == state.n_tiles:
        # They were published before it was known where the map stops. Tiles of an earlier run may even have stopped too
        # early to tell: then all go to the end, and back to it.
        return state.stop_shown_by(state.published) or settings.max_iter
    # The run had ended before tiles were lost, or was publishing what the last block had shown, or was going through in
    # one go: then these have made all iterations, and whether the map stops before shows in the end.
    stop = min(record.n_iter for record in state.published.values())
    # A stop that the block before had shown is found again by its records.
    shown = last < stop < settings.max_iter and state.next_end(last) == settings.max_iter
    return stop if state.waits and (last == 0 or shown) else None


def _first_block(state: RunState) -> Block:
    """As far as the look-ahead tiles show that no tile needs to wait for others; before that, these tiles."""
    start, end, max_iter = 0, state.next_end(0), state.settings.max_iter
    while state.look_ahead and start < end < max_iter:
        records = state.blocks.get(end, {})
        missing = _without(state.look_ahead, records)
        if missing:
            return Block(start, end, missing, keeps=True, looks_ahead=True)
        change = least_change([records[tile] for tile in state.look_ahead], state.scatter)
        start, end = end, block_end(0, max_iter, earliest_stop(end, change, state.settings.tol))
    return _block(state, 0, end)


def _block(state: RunState, start: int, stop: int) -> Block:
    """All tiles from one iteration to another; the last block publishes, unless islands are to be decided before."""
    last, own_stop = stop == state.settings.max_iter, state.settings.stopping == "tile"
    tol = state.settings.tol if own_stop else None
    keeps, publishes = not last or state.decides_islands, last and (own_stop or not state.decides_islands)
    tiles = range(state.n_tiles)
    missing = set(_without(tiles, state.blocks.get(stop, {}))) if keeps else set()
    if publishes:
        missing |= set(_without(tiles, _published(state, stop, tol)))
    wanted = tuple(sorted(missing))
    return Block(start, stop, wanted, tol, keeps, publishes, starts=_starts(state, wanted, start, stop))


def _end(state: RunState, start: int, stop: int, tol: float | None = None) -> Block:
    """All tiles that are not published as of an iteration."""
    wanted = _without(range(state.n_tiles), _published(state, stop, tol))
    return Block(start, stop, wanted, tol, publishes=True, ends=True, starts=_starts(state, wanted, start, stop))


def _published(state: RunState, stop: int, tol: float | None) -> set[int]:
    return {tile for tile, record in state.published.items() if tol is not None or record.n_iter == stop}


def _starts(state: RunState, tiles: Iterable[int], start: int, stop: int) -> dict[int, int]:
    """The last checkpoint of each tile that has one, where all others begin from the start."""
    if start or state.decides_islands:
        return {}
    sound = {tile: end for end in sorted(state.blocks) if end <= stop for tile in state.blocks[end]}
    return {tile: sound[tile] for tile in tiles if tile in sound}


def _without(tiles: Iterable[int], have: Iterable[int]) -> tuple[int, ...]:
    have = set(have)
    return tuple(tile for tile in tiles if tile not in have)
