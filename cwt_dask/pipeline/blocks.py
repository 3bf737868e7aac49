"""All tiles to the iteration at which the whole map stops, block by block as `next_block` decides.

After a block the tiles' residual statistics are pooled; with an island threshold, islands of the whole map are decided
before that. A tile continues from its checkpoint bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import NamedTuple

from cwt_dask.errors import InputError, RunError
from cwt_dask.merge.islands import Unsettled, decide_islands, open_islands
from cwt_dask.merge.open_islands import listed_until, write_open_islands
from cwt_dask.merge.stopping import look_ahead_tiles, scatter_by_chunk
from cwt_dask.pipeline.next_block import Block, RunState, next_block
from cwt_dask.pipeline.reuse import MOST_NAMED
from cwt_dask.planning.job import Job
from cwt_dask.planning.plan import Plan
from cwt_dask.planning.runfile import note_versions, read_run
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.block_records import begun_blocks, forget_block, read_block_records, recorded_rounds
from cwt_dask.storage.joined import COPIES
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import (
    BlockRecord,
    Record,
    TileRecord,
    read_all_records,
    read_records,
    read_run_id,
)
from cwt_dask.storage.maps import changed_files, published_digests
from cwt_dask.storage.paths import remove, remove_folder
from cwt_dask.storage.provenance import other_versions
from cwt_dask.tiles.checkpoint import remove_checkpoint, sound_rounds
from cwt_dask.tiles.task import contradicted_labels, mark_open_pixels, run_tile, settle_tile

# Rounds in which the islands of a block are decided; None is as many as can be needed. What is right in all cores after
# one iteration makes the local labels of the next right: one round an iteration, and one to see that all is well.
ISLAND_ROUNDS: int | None = None

# All tiles are published at most so often: some may have been before it was known where the map stops, or may have
# stopped too early to tell (`next_block`).
MOST_ENDS = 3


class _Checkpoints(NamedTuple):
    """Sound checkpoints of a block: the last record of each tile that has one; whether a later round is lost."""

    records: Mapping[int, Record]
    torn: bool = False


@dataclass
class Iteration:
    """The iteration of all tiles of one run."""

    run: SurveyRun  # Which run.
    stages: Stages  # Where tiles are done.
    threads: int  # How many an FFT may use.
    allow_versions: bool = False  # Whether tiles may be done under other versions of libraries than those before.
    # By block, its checkpoints. They are looked at once: what was written since is as it was written.
    blocks: dict[int, _Checkpoints] = field(default_factory=dict)
    settled: Job | None = None  # With the block and the round in which islands were decided last.

    @cached_property
    def job(self) -> Job:
        """What all tasks share."""
        job = self.plan.job(self.files, read_run_id(self.files), self.run.survey.path)
        return replace(job, threads=self.threads, keep_history=self.run.stored.keeps_history)

    def is_complete(self) -> bool:
        """Whether all tiles are done; what their blocks have left is removed then."""
        complete = self._state().complete
        if complete:
            self._clean_up()
        return complete

    def carry_out(self) -> None:
        """Do all tiles that are not done.

        Raises RunError if tiles could not be done, or do not stop where they did before; InputError if some were done
        under other versions.
        """
        if not self._state().complete:
            self._look_at_versions()
            # What it says is not so any more, and flags of tiles that are done again have to be set again.
            remove(self.files.certificate)
            if self.plan.decides_islands:
                self._forget_beyond_lists()
            self.blocks = {block: self._check(block) for block in reversed(begun_blocks(self.files))}
        n_ends = 0
        while block := self._next():
            n_ends += block.ends
            if n_ends > MOST_ENDS:
                raise RunError(
                    "tiles done again do not stop at the same iteration as before: use workers of one kind of processor"
                )
            self._do(block)
        self._clean_up()

    @cached_property
    def published(self) -> dict[int, TileRecord]:
        """Records of finished tiles whose pixels are in the maps as recorded."""
        records, found = self._found
        sound = {tile: record for tile, record in records.items() if found[tile] == record.chunk_digests}
        damaged = [tile for tile in records if tile not in sound]
        for tile in damaged[:MOST_NAMED]:
            changed = changed_files(self.files, self.plan.grid, tile, records[tile].chunk_digests, found[tile])
            self.stages.progress.message(f"tile {tile} is computed again: {'; '.join(changed)}")
        if len(damaged) > MOST_NAMED:
            self.stages.progress.message(f"so are {len(damaged) - MOST_NAMED} more, which are damaged, too")
        return sound

    @cached_property
    def _replayable(self) -> dict[int, TileRecord]:
        """Records of finished tiles that have kept what they decided on islands."""
        records, found = self._found
        kept = {tile: found[tile].items() & records[tile].chunk_digests.items() for tile in records}
        return {tile: records[tile] for tile in records if any(name in COPIES for name, _ in kept[tile])}

    @cached_property
    def _found(self) -> tuple[dict[int, TileRecord], dict[int, dict[str, str]]]:
        """Records of finished tiles, and digests of what is there of them."""
        records = self._records()
        function = partial(published_digests, self.files, self.plan.grid)
        return records, self.stages.map_tiles(function, records, "checking tiles") if records else {}

    @property
    def plan(self) -> Plan:
        """What the run follows."""
        return self.run.stored.plan

    @property
    def files(self) -> RunDir:
        """Where its files are."""
        return self.run.files

    @property
    def _tiles(self) -> range:
        return range(self.plan.grid.n_tiles)

    def _look_at_versions(self) -> None:
        records, _ = read_all_records(self.files.ledger, self.job.run_id)
        blocks = (record for record in records if isinstance(record, BlockRecord))
        found: dict[str, None] = {}
        earlier: list[dict[str, str]] = []
        for record in (*self.published.values(), *blocks):
            if (others := other_versions(record.versions)) and record.versions not in earlier:
                found |= dict.fromkeys(others)
                earlier.append(record.versions)
        if earlier and self.allow_versions:
            note_versions(self.files, earlier)
            self.run.stored = read_run(self.files)
        elif earlier:
            raise InputError(
                f"tiles of {self.files.path} were done under other versions: {'; '.join(found)}. Last bits might "
                "differ from tile to tile: go on under those, or with --allow-versions"
            )

    def _next(self) -> Block | None:
        state = self._state()
        if state.may_look_ahead:
            tiles, scatter = self._look_ahead
            state = replace(state, look_ahead=tuple(tiles), scatter=scatter)
        return next_block(state)

    def _state(self) -> RunState:
        plan = self.plan
        return RunState(
            settings=plan.settings,
            n_tiles=plan.grid.n_tiles,
            waits=plan.waits,
            decides_islands=plan.decides_islands,
            published=self.published,
            replayable=self._replayable,
            blocks={end: found.records for end, found in self.blocks.items()},
            torn=frozenset(end for end, found in self.blocks.items() if found.torn),
            settled=self.settled.stop if self.settled else 0,
            listed=self._listed if plan.decides_islands else 0,
        )

    @cached_property
    def _listed(self) -> int:
        """Last iteration up to which lists of open islands are whole. They are looked at once, as `blocks` are."""
        return listed_until(self.files, self.run.stored.run_id)

    @cached_property
    def _look_ahead(self) -> tuple[list[int], float]:
        scatter = scatter_by_chunk(self.run.survey)
        if tiles := look_ahead_tiles(self.plan.grid, scatter):
            self.stages.progress.message(
                f"{len(tiles)} of {self.plan.grid.n_tiles} tiles look ahead, to show how far others need not wait"
            )
        return tiles, float(scatter.sum())

    def _do(self, block: Block) -> None:
        if block.start and not (block.ends or block.looks_ahead):
            # No tile begins from earlier ones any more.
            for end in [end for end in self.blocks if end < block.start]:
                self._forget(end)
        if block.ends and block.stop < self.plan.settings.max_iter:
            self.stages.progress.message(
                f"the whole map stops at iteration {block.stop}: all tiles are taken as of there"
            )
        # What a block has shown of islands holds where tiles go through it again.
        job = self.settled if self.settled and block.ends and block.start < block.stop else self.job
        job = replace(job, start=block.start, stop=block.stop, starts=block.starts, tol=block.tol)
        job = replace(job, keeps=block.keeps, publishes=block.publishes, replays=block.replays)
        self.stages.map_tiles(partial(run_tile, job), block.tiles, block.stage)
        if block.publishes:
            ours = self.published.keys() | set(block.tiles)
            self.published = {tile: record for tile, record in self._records().items() if tile in ours}
        if block.keeps:
            if self.plan.decides_islands:
                self._settle(job)
            self.blocks[block.stop] = _Checkpoints(self._at_end_of(block.stop))

    def _records(self) -> dict[int, TileRecord]:
        records = read_records(self.files.ledger, self.job.run_id)
        return {tile: record for tile, record in records.items() if record.settings_digest == self.plan.settings_digest}

    def _settle(self, job: Job) -> None:
        """Decide the islands of a block, and record which were left open as far as the block counts."""
        self.settled, unsettled = self._decide_islands(job)
        records = self._at_end_of(job.stop)
        last = self._state().stop_shown_by(records) or job.stop
        listed = [island for island in unsettled.islands if island.iteration <= last]
        labels = {
            tile: counted
            for tile, found in unsettled.labels.items()
            if (counted := [label for label in found if label.iteration <= last])
        }
        pixels = self.stages.map_tiles(partial(mark_open_pixels, self.settled, labels), labels, "marking islands")
        start = self._start_of(job.stop)
        write_open_islands(self.files, job.run_id, start, job.stop, listed, pixels)
        if self._listed == start:
            self._listed = job.stop

    def _start_of(self, block: int) -> int:
        """Where a block begins whose islands are decided; tiles may begin before, where checkpoints are lost."""
        state, start = self._state(), 0
        while (end := state.next_end(start)) < block:
            start = end
        return start

    def _decide_islands(self, job: Job) -> tuple[Job, Unsettled]:
        """Decide the whole map's islands until no tile contradicts that.

        Returns the job with the decisions that hold, and what remains contradicted.
        """
        enough = job.stop - job.start + 1 if ISLAND_ROUNDS is None else ISLAND_ROUNDS
        # Tiles that stop by themselves do not wait for each other.
        most = enough if job.tol is None else 0
        for round_ in range(1, most + 2):
            job = replace(job, publishes=False, round=round_, decisions_block=job.stop)
            self.stages.progress.message(
                f"islands of iterations {job.start + 1} to {job.stop} are joined, round {round_}"
            )
            decide_islands(job)
            if round_ > most:
                break
            again = self.stages.map_tiles(partial(settle_tile, job), self._tiles, "islands over seams")
            if not any(again.values()):
                return job, Unsettled()
        found = self.stages.map_tiles(partial(contradicted_labels, job), self._tiles, "islands left open")
        return job, open_islands(job, chain.from_iterable(found.values()))

    def _at_end_of(self, block: int) -> dict[int, Record]:
        """Records of all tiles at the end of a block."""
        return {
            tile: rounds[-1] for tile, rounds in read_block_records(self.files.ledger, block, self.job.run_id).items()
        }

    def _check(self, block: int) -> _Checkpoints:
        """Look at the checkpoints of a block, and remove what is not as recorded."""
        records = read_block_records(self.files.ledger, block, self.job.run_id)
        most_rounds = block + 2 if self.plan.decides_islands else 1
        function = partial(sound_rounds, self.files, self.plan.grid, self.job.run_id, block, most_rounds)
        sound = self.stages.map_tiles(function, records, "checking checkpoints") if records else {}
        rounds, torn = recorded_rounds(self.files, block), False
        for tile, found in rounds.items():
            n = sound.get(tile, 0)
            # Of what cannot be read there are names only.
            for round_ in found[n:]:
                remove(self.files.block_record(block, tile, round_))
                remove_checkpoint(self.files.checkpoint(block, tile, round_))
            torn |= 0 < n < len(found)
        return _Checkpoints({tile: records[tile][n - 1] for tile, n in sound.items() if n}, torn)

    def _forget_beyond_lists(self) -> None:
        """Forget blocks before which a list of open islands is damaged or lost: it is made again on the way."""
        state = self._state()
        for block in begun_blocks(self.files):
            if block > max(state.listed, state.next_end(state.listed)):
                self._forget(block)

    def _clean_up(self) -> None:
        for block in begun_blocks(self.files):
            self._forget(block)
        remove_folder(self.files, self.files.checkpoints)

    def _forget(self, block: int) -> None:
        """Remove the checkpoints and records of a block."""
        self.blocks.pop(block, None)
        remove_folder(self.files, self.files.block(block))
        forget_block(self.files, block)
