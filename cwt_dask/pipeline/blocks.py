"""All tiles to the iteration at which the whole map stops, in blocks of iterations.

After a block the tiles' residual statistics are pooled; with an island threshold the tiles are told before that what
became of the whole map's islands. A tile goes on from its checkpoint bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from cwt_dask.cwt.stopping import FIRST_STOP
from cwt_dask.errors import RunError
from cwt_dask.merge.islands import Unsettled, decide_islands, open_islands
from cwt_dask.merge.stopping import (
    block_end,
    earliest_stop,
    last_change,
    least_change,
    look_ahead_tiles,
    scatter_by_chunk,
    stopping_iteration,
)
from cwt_dask.storage.atomic import write_atomically
from cwt_dask.storage.ledger import read_block_records, read_records, read_run_id
from cwt_dask.storage.maps import digests_of_tile
from cwt_dask.storage.paths import remove_tree
from cwt_dask.tiles.checkpoint import remove_checkpoint, sound_rounds
from cwt_dask.tiles.decisions import contradicted_labels, mark_open_pixels
from cwt_dask.tiles.task import run_tile, settle_tile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cwt_dask.planning.job import Job
    from cwt_dask.planning.plan import Plan
    from cwt_dask.results import SurveyRun
    from cwt_dask.runtime.stages import Stages
    from cwt_dask.storage.layout import RunDir
    from cwt_dask.storage.ledger import Record, TileRecord

# Rounds in which a block's tiles are told the fates of islands; None is as many as can be needed. What is right in all
# cores after one iteration makes the pieces of the next right: one round an iteration, and one to see that all is well.
ISLAND_ROUNDS: int | None = None


@dataclass(frozen=True)
class Iteration:
    """The iteration of all tiles of one run.

    Attributes
    ----------
    run : SurveyRun
        Which run.
    stages : Stages
        Where tiles are done.
    job : Job
        What all tasks share.
    checked : dict
        By block, what is known of its checkpoints: see `_checked_block`.
    """

    run: SurveyRun
    stages: Stages
    job: Job
    checked: dict[int, dict[int, bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, run: SurveyRun, stages: Stages, *, threads: int, keep_history: bool) -> Iteration:
        """The iteration of a run, by its plan."""
        stored = run.stored
        run_id = read_run_id(run.files)
        job = stored.plan.job(run.files, run_id, stored.survey, threads=threads, keep_history=keep_history)
        return cls(run, stages, job)

    def carry_out(self) -> bool:
        """Do all tiles that are not done; tell whether any had to be done.

        Raises
        ------
        RunError
            If tiles could not be done, or do not stop where they did before.
        """
        done = self._trusted_tiles()
        if self._complete(done):
            self._clean_up()
            return False
        # What it says is not so any more, and flags of tiles that are done again have to be set again.
        self.files.certificate.unlink(missing_ok=True)
        settings = self.plan.settings
        before, begun = self._whole_blocks()
        if self._alone:
            stops = settings.stopping != "fixed" and settings.tol > 0
            self._publish(replace(self.job, tol=settings.tol) if stops else self.job, done)
        elif self._knows_the_stop(begun, done):
            self._publish(replace(self.job, start=begun, stop=min(record.n_iter for record in done.values())), done)
        else:
            self._in_blocks(before, begun, done)
        # Tiles may have been published before it was known where the map stops. Where they were taken over from another
        # run they may even have stopped too early to tell: then all go to the end, and back to it.
        for _ in range(2):
            records = self._records()
            if settings.stopping == "global" and not self._judges_islands and not self._complete(records):
                n_iter = stopping_iteration(records, settings.tol) or settings.max_iter
                self._publish(replace(self.job, stop=n_iter), records)
        if not self._complete(self._records()):
            raise RunError(
                "tiles done again do not stop at the same iteration as before: use workers of one kind of processor"
            )
        self._clean_up()
        return True

    @property
    def plan(self) -> Plan:
        """What the run follows."""
        return self.run.stored.plan

    @property
    def files(self) -> RunDir:
        """Where its files are."""
        return self.run.files

    @property
    def _judges_islands(self) -> bool:
        """Whether an island may reach from one tile to another, or round a ring, and its peak decides."""
        return self.plan.settings.significance_island_threshold is not None and self.plan.grid.has_seams

    @property
    def _alone(self) -> bool:
        """Whether each tile can go through by itself, needing to hear nothing of others."""
        return not (self.plan.waits or self._judges_islands)

    def _complete(self, done: Mapping[int, TileRecord]) -> bool:
        """Whether all tiles are done, to where the whole map stops."""
        settings = self.plan.settings
        if len(done) < self.plan.grid.n_tiles:
            return False
        if settings.stopping == "tile":
            # These tiles are published before it is known which islands they leave open.
            return not self._judges_islands or self.files.open_islands(settings.max_iter).exists()
        n_iter = stopping_iteration(done, settings.tol) if settings.stopping == "global" else None
        return {record.n_iter for record in done.values()} == {n_iter or settings.max_iter}

    def _knows_the_stop(self, begun: int, done: Mapping[int, TileRecord]) -> bool:
        """Whether finished tiles, and nothing else, say how far to go.

        The run had ended before tiles were lost, or was publishing what the last block had shown, or was going through
        in one go: then these have made all iterations, and whether the map stops before shows in the end. Decisions of
        islands are not kept beyond the end: with them all is done again.
        """
        if not done or self._judges_islands:
            return False
        max_iter, stop = self.plan.settings.max_iter, min(record.n_iter for record in done.values())
        # A stop that the block before had shown is found again by its records.
        return begun == 0 or (begun < stop < max_iter and self._next_end(begun) == max_iter)

    def _in_blocks(self, before: int, end: int, done: Mapping[int, TileRecord]) -> None:
        """Go on to where the whole map stops from the block of iterations from `before` to `end`, 0 for none."""
        settings = self.plan.settings
        end = end or self._first_end()
        while True:
            last = end == settings.max_iter
            own_stop = settings.stopping == "tile"
            job = replace(
                self.job,
                start=before,
                stop=end,
                tol=settings.tol if own_stop else None,
                keeps=not last or self._judges_islands,
                publishes=last and (own_stop or not self._judges_islands),
            )
            self._do_block(job, done)
            judged, unsettled = self._settle(job) if self._judges_islands else (job, Unsettled())
            n_iter = self._stop_within(judged) or (end if last else None)
            if self._judges_islands:
                self._note(unsettled, judged, n_iter or end)
            if n_iter is None:
                for block in self.files.begun_blocks:
                    if block < end:
                        self._forget(block)
                before, end = end, self._next_end(end)
                continue
            if n_iter < end:
                self._publish(replace(judged, stop=n_iter), done)
            elif not job.publishes:
                self._publish(replace(job, start=end), done)
            return

    def _stop_within(self, job: Job) -> int | None:
        """Iteration at which the whole map stops, if it does by the end of a block."""
        if self.plan.settings.stopping != "global":
            return None
        records = self._at_end_of(job.stop) if job.keeps else self._records()
        return stopping_iteration(records, self.plan.settings.tol)

    def _first_end(self) -> int:
        """End of the first block: as far as the look-ahead tiles show that no tile needs to hear of others."""
        settings, begun, end = self.plan.settings, 0, self._next_end(0)
        if settings.stopping != "global" or self._judges_islands or end == settings.max_iter:
            return end
        scatter = scatter_by_chunk(self.run.survey)
        if look_ahead := look_ahead_tiles(self.plan.grid, scatter):
            self.stages.progress.message(
                f"{len(look_ahead)} of {self.plan.grid.n_tiles} tiles look ahead, to show how far others need not wait"
            )
        while look_ahead and begun < end < settings.max_iter:
            self._do_block(replace(self.job, start=begun, stop=end, keeps=True, publishes=False), {}, look_ahead)
            records = self._at_end_of(end)
            change = least_change([records[tile] for tile in look_ahead], float(scatter.sum()))
            begun, end = end, block_end(0, settings.max_iter, earliest_stop(end, change, settings.tol))
        return end

    def _next_end(self, begun: int) -> int:
        """End of the block that follows the one that ended with iteration `begun`."""
        settings = self.plan.settings
        if settings.stopping == "tile":
            return settings.max_iter
        earliest = float(FIRST_STOP)
        # Where islands are judged, blocks stay short: a tile that is told otherwise does all of its block again.
        if begun and settings.stopping == "global" and not self._judges_islands:
            earliest = earliest_stop(begun, last_change(self._at_end_of(begun)), settings.tol)
        return block_end(begun, settings.max_iter, earliest)

    def _at_end_of(self, block: int) -> Mapping[int, Record]:
        """Records of all tiles at the end of a block."""
        return {tile: rounds[-1] for tile, rounds in read_block_records(self.files.ledger, block).items()}

    def _do_block(self, job: Job, done: Mapping[int, TileRecord], tiles: Iterable[int] | None = None) -> None:
        have = set(self._checked_block(job.stop)) if job.keeps else set(done)
        if job.publishes:
            have &= {tile for tile, record in done.items() if job.tol is not None or record.n_iter == job.stop}
        wanted = [tile for tile in (self._tiles if tiles is None else tiles) if tile not in have]
        who = "tiles" if tiles is None else "look-ahead tiles"
        self._iterate(job, wanted, f"{who}, iterations {job.start + 1} to {job.stop}")
        if job.keeps:
            self.checked.setdefault(job.stop, {}).update(dict.fromkeys(wanted, True))

    def _publish(self, job: Job, done: Mapping[int, TileRecord]) -> None:
        """Publish all tiles that are not `done` so."""
        job = replace(job, keeps=False, publishes=True)
        have = {tile for tile, record in done.items() if job.tol is not None or record.n_iter == job.stop}
        if job.stop < self.plan.settings.max_iter:
            self.stages.progress.message(
                f"the whole map stops at iteration {job.stop}: all tiles are taken as of there"
            )
        stage = f"tiles, {job.stop} iterations" if job.start == 0 else "publishing tiles"
        self._iterate(job, [tile for tile in self._tiles if tile not in have], stage)

    def _iterate(self, job: Job, tiles: Collection[int], stage: str) -> None:
        if job.start == 0 and not self._judges_islands:
            # Look-ahead tiles continue from there.
            blocks = [block for block in self.files.begun_blocks if block <= job.stop]
            sound = {tile: block for block in blocks for tile in self._checked_block(block)}
            job = replace(job, starts={tile: sound[tile] for tile in tiles if tile in sound})
        self.stages.map_tiles(partial(run_tile, job), tiles, stage)

    def _settle(self, job: Job) -> tuple[Job, Unsettled]:
        """Tell tiles the fates of the whole map's islands until none contradicts them.

        Returns the job with the fates that hold, and what remains contradicted.
        """
        threshold = self.plan.criteria.significance_island_threshold
        assert threshold is not None  # noqa: S101 - for the type checker
        enough = job.stop - job.start + 1 if ISLAND_ROUNDS is None else ISLAND_ROUNDS
        # Tiles that stop by themselves do not wait to be told.
        most = enough if job.tol is None else 0
        for round_ in range(1, most + 2):
            job = replace(job, publishes=False, round=round_, decisions_block=job.stop)
            self.stages.progress.message(
                f"islands of iterations {job.start + 1} to {job.stop} are joined, round {round_}"
            )
            decide_islands(self.files, self.plan.grid, job.stop, round_, threshold)
            if round_ > most:
                break
            again = self.stages.map_tiles(partial(settle_tile, job), self._tiles, "islands over seams")
            if not any(again.values()):
                return job, Unsettled()
        found = self.stages.map_tiles(partial(contradicted_labels, job), self._tiles, "islands left open")
        contradicted = chain.from_iterable(found.values())
        return job, Unsettled(*open_islands(self.files, self.plan.grid, job.stop, job.round, contradicted))

    def _note(self, unsettled: Unsettled, job: Job, n_iter: int) -> None:
        """Keep which islands were left open in a block, as far as it counts, and mark their pixels."""
        listed = [island._asdict() for island in unsettled.islands if island.iteration <= n_iter]
        pieces = {tile: [piece for piece in found if piece[0] <= n_iter] for tile, found in unsettled.labels.items()}
        self.stages.map_tiles(
            partial(mark_open_pixels, job, pieces), [tile for tile in pieces if pieces[tile]], "marking islands"
        )
        write_atomically(self.files.open_islands(job.stop), json.dumps(listed, indent=1).encode())

    @property
    def _tiles(self) -> range:
        return range(self.plan.grid.n_tiles)

    def _records(self) -> dict[int, TileRecord]:
        ours = (self.job.run_id, self.plan.settings_digest)
        records = read_records(self.files.ledger)
        return {tile: record for tile, record in records.items() if (record.run, record.settings_digest) == ours}

    def _trusted_tiles(self) -> dict[int, TileRecord]:
        """Records of finished tiles whose pixels are in the maps as recorded."""
        records = self._records()
        function = partial(digests_of_tile, self.files, self.plan.grid)
        found = self.stages.map_tiles(function, records, "checking tiles") if records else {}
        return {tile: record for tile, record in records.items() if found[tile] == record.chunk_digests}

    def _whole_blocks(self) -> tuple[int, int]:
        """The last two blocks of which all tiles are done, by their ends; 0 where there is none."""
        whole: list[int] = []
        for end in reversed(self.files.begun_blocks):
            checked = self._checked_block(end)
            # A tile that lost a later round must begin where the block begins.
            if len(whole) < 2 and len(checked) == self.plan.grid.n_tiles and all(checked.values()):
                whole.append(end)
        last, before = (*whole, 0, 0)[:2]
        return before, last

    def _checked_block(self, block: int) -> dict[int, bool]:
        """Tiles whose first checkpoint of a block is as recorded, and whether those of later rounds are, too.

        What is not as recorded is removed. It is looked at once: what was written since is as it was written.
        """
        if block in self.checked:
            return self.checked[block]
        records = read_block_records(self.files.ledger, block)
        most_rounds = block + 2 if self._judges_islands else 1
        function = partial(sound_rounds, self.files, self.job.run_id, block, most_rounds)
        sound = self.stages.map_tiles(function, records, "checking checkpoints") if records else {}
        for tile, rounds in records.items():
            for record in rounds[sound[tile] :]:
                self.files.block_record(block, tile, record.round).unlink()
                remove_checkpoint(self.files.checkpoint(block, tile, record.round))
        self.checked[block] = {tile: n == len(records[tile]) for tile, n in sound.items() if n}
        return self.checked[block]

    def _forget(self, block: int) -> None:
        """Remove what a block left that will not be begun from any more."""
        self.checked.pop(block, None)
        remove_tree(self.files.block(block))
        for path in self.files.ledger.glob(f"tile-*.block-{block:05d}.round-*.json"):
            path.unlink()

    def _clean_up(self) -> None:
        for block in self.files.begun_blocks:
            self._forget(block)
        remove_tree(self.files.checkpoints)
