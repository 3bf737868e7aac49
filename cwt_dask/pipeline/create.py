"""A run directory: created, whole or not at all, or resumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cwt_dask.background import Means, with_estimate
from cwt_dask.config.options import Options
from cwt_dask.config.validation import format_bytes
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.merge.open_islands import mend_lists
from cwt_dask.pipeline.planned import open_store, plan_call, read_point_spread
from cwt_dask.pipeline.repair import repair_metadata, repair_point_spread, repair_run_id, repair_survey
from cwt_dask.pipeline.reuse import MOST_NAMED
from cwt_dask.planning.cost import BYTES_PER_PIXEL, least_disk
from cwt_dask.planning.making import make_plan
from cwt_dask.planning.plan import Plan
from cwt_dask.planning.runfile import (
    DamagedRunFileError,
    StoredRun,
    mend_versions,
    own_run,
    read_run,
    refuse_differences,
    remember_split,
    remember_survey,
    write_run,
)
from cwt_dask.psf import keep_point_spread
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.executors import Executor
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage.foreign import refuse_foreign
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import begin_ledger, forget_damaged_failures, read_all_records, read_records
from cwt_dask.storage.maps import create_maps, has_history
from cwt_dask.storage.marks import is_run, note_user, users_of
from cwt_dask.storage.paths import backend_of, lies_in, make_directory, on_disk
from cwt_dask.storage.record_copies import mend_records
from cwt_dask.survey import Survey, SurveySource, SurveyStatistics, ingest, is_store


@dataclass(frozen=True)
class Call:
    """What a run is begun or continued with."""

    files: RunDir  # The directory.
    survey: Path  # File or store.
    options: Options  # All options of the call.
    progress: Reporter  # Receives messages.
    hold: ExitStack  # The directory is held from its first moment on to the end of this, and the workers are there.
    stop: Stop  # Asked if another process takes hold of it.
    workers: Workers  # Started once tiles are known.
    earlier: RunDir | None = None  # A run whose settings these are; its point spread function is taken with them.

    @property
    def means(self) -> Means:
        """With what a background is estimated, if one is."""
        return Means(self.workers, self.progress, self.stop, on_disk(self.files.path.parent))

    def ingest_to(self, out: Path, begin: Callable[[tuple[int, int]], object] = lambda _: None) -> Survey:
        """Read the survey's files, and write its store; `begin` as of `ingest`."""
        with with_estimate(SurveySource.of(self.survey, **self.options.source), self.means) as described:
            return ingest(described, out, begin=begin)


def create(call: Call) -> Executor:
    """Make a run directory, with the survey's store in it unless it is one, and start workers; all of it, or nothing.

    A run that is there already is replaced. Raises InputError if the survey, a setting or the place is wrong, or
    workers cannot start.
    """
    files, survey, options = call.files, call.survey, call.options
    backend = backend_of(files.path)
    free = backend.is_free(files)
    if not free:
        _refuse_to_replace(files)
    if lies_in(survey, files.path):
        raise InputError(f"{survey} lies in {files.path}, which would be overwritten: move it, or choose another")
    if not backend.keeps_old:
        # What can be refused is refused before anything is removed.
        plan, _ = plan_call(survey, options, call.means, call.earlier)
        plan.check_memory(options.execution.worker_limit)
        call.workers.refuse_early(several=plan.grid.n_tiles > 1)
    with backend.new_run(files, call.hold, call.stop.ask, overwrite=options.execution.overwrite) as new:
        plan = _fill(new, call)
        return call.hold.enter_context(call.workers.open(plan, call.progress, call.stop))


def resume(call: Call) -> Executor:
    """Open a run directory to continue its run, repair the metadata of its maps, and start workers.

    Raises InputError if it holds another run, its survey is damaged or another, or workers cannot start.
    """
    files, survey, options, progress = call.files, call.survey, call.options, call.progress
    stored = None
    with suppress(DamagedRunFileError):
        stored = read_run(files, "choose another (SURVEY comes first)")
        if stored.plan.settings.psf is None:
            # Earlier releases left out what a survey's own file has.
            options = replace(options, given=options.given | {"psf"})
    plan, spread = plan_call(survey, options, call.means, call.earlier)
    own = own_run(files, stored, plan)
    if isinstance(own, StoredRun):
        refuse_differences(files, own.plan, plan)
        if not own.run_id:
            raise InputError(f"{files.path} was begun by an earlier release: choose another directory, or --overwrite")
    plan.check_memory(options.execution.worker_limit)
    keeps_history = own.keeps_history if isinstance(own, StoredRun) else has_history(files)
    if options.execution.keep_history and not keeps_history:
        raise SettingsError(
            f"{files.path} holds a run that keeps no history: leave out keep_history, or choose another directory; "
            "--overwrite would remove that run"
        )
    backend = backend_of(files.path)
    lost = call.hold.enter_context(backend.hold(files, call.stop.ask))
    if lost:
        progress.message(f"continuing for {lost}, which did not end by itself")
        backend.remove_leftovers(files.path, elsewhere=lost.is_gone)
    if not isinstance(own, StoredRun):
        write_run(files, own, plan, survey if is_store(survey) else None, keeps_history=keeps_history)
        progress.message(f"{files.settings} was not as the run wrote it: written again, as call and records have it")
    elif is_store(survey):
        remember_survey(files, own, survey)
    remember_split(files, plan)
    run = SurveyRun.open(files.path)
    for folder in (files.ledger, files.islands):
        # They may be lost with all that is in them.
        make_directory(folder)
    repaired_psf = repair_point_spread(run, spread) if spread else []
    for repaired in (
        *repair_run_id(run),
        *mend_versions(files, run.stored),
        *mend_lists(files, run.stored.run_id),
        *(mend_records(files, run.stored.run_id) if run.stored.plan.decides_islands else ()),
        *repair_survey(run, survey, call.ingest_to),
        *repaired_psf,
    ):
        progress.message(repaired)
    run.survey.refuse_unproven()
    for repaired in repair_metadata(run):
        progress.message(repaired)
    if 0 < (n_done := len(read_records(files.ledger, run.stored.run_id))) < run.stored.plan.grid.n_tiles:
        progress.message(f"continuing: {n_done} of {run.stored.plan.grid.n_tiles} tiles are done")
    _report_lost_records(run, progress)
    forget_damaged_failures(files, run.stored.run_id)
    note_user(files, run.survey.path, run.stored.run_id)
    return call.hold.enter_context(call.workers.open(run.stored.plan, progress, call.stop))


def _refuse_to_replace(files: RunDir) -> None:
    """Refuse to overwrite what is not only a run's, or is needed by another run, before anything is removed."""
    if not is_run(files):
        raise InputError(f"{files.path} is not a run directory: it is not overwritten, choose another")
    refuse_foreign(files, backend_of(files.path).entries(files.path))
    if users := users_of(files):
        raise InputError(
            f"{files.survey} is the survey of {', '.join(map(str, users))}, too, which would lose it: choose another "
            "directory"
        )


def _fill(new: RunDir, call: Call) -> Plan:
    """Make all that a run needs, for now at `new`, and last what says that it is one."""
    files, survey, options, progress = call.files, call.survey, call.options, call.progress
    spread, doubts = read_point_spread(survey, options, call.earlier)
    if is_store(survey):
        opened = open_store(survey, options)
    else:
        progress.message(f"reading {'the map of the events' if options.onto else survey}")

        def begin(shape: tuple[int, int]) -> None:
            # So large a map is not one tile, and takes long to read.
            too_large = math.prod(shape) * BYTES_PER_PIXEL > options.execution.memory_limit
            call.workers.refuse_early(several=too_large)

        opened = call.ingest_to(new.survey, begin)
    plan = make_plan(options.settings, opened.statistics, spread, options.given, doubts)
    plan.check_memory(options.execution.worker_limit)
    _check_disk(files.path, opened.statistics, plan, progress)
    if not backend_of(files.path).keeps_old:
        # Another driver may have taken the lease meanwhile.
        call.stop.check()
    history = plan.settings.max_iter if options.execution.keep_history else 0
    create_maps(new, plan.grid, plan.kernels.scales.tolist(), opened.header_text, history=history)
    run_id = begin_ledger(new)
    make_directory(new.islands)
    if spread:
        keep_point_spread(new, spread)
    write_run(new, run_id, plan, survey if is_store(survey) else None, keeps_history=history > 0)
    if is_store(survey):
        note_user(files, survey, run_id)
    return plan


def _check_disk(path: Path, statistics: SurveyStatistics, plan: Plan, progress: Reporter) -> None:
    """Refuse what cannot fit on the disk, and warn of what may not."""
    least, free = least_disk(statistics.n_valid), backend_of(path).free_space(path.parent)
    if free < least:
        raise InputError(
            f"{path.parent} has {format_bytes(free)} free, the maps alone take {format_bytes(least)}: make room there, "
            "or choose another directory"
        )
    if free < plan.disk:
        progress.message(f"warning: the run may take {format_bytes(plan.disk)} of disk, {format_bytes(free)} are free")


def _report_lost_records(run: SurveyRun, progress: Reporter) -> None:
    """Report records that count as none."""
    _, lost = read_all_records(run.files.ledger, run.stored.run_id)
    for fault in lost[:MOST_NAMED]:
        progress.message(f"{fault}: it counts as none")
    if len(lost) > MOST_NAMED:
        progress.message(f"so do {len(lost) - MOST_NAMED} more records")
