"""A run directory: made whole or not at all, or opened to be gone on with."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from cwt_dask.config.options import Options
from cwt_dask.errors import InputError, MachineError, SettingsError
from cwt_dask.pipeline.repair import repair_metadata
from cwt_dask.planning.cost import least_disk
from cwt_dask.planning.plan import Plan, make_plan
from cwt_dask.planning.runfile import read_run, refuse_differences, write_run
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.storage.atomic import fresh_directory, leftovers, write_atomically
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import begin_ledger, read_block_records, read_records, read_run_id
from cwt_dask.storage.lock import read_driver, same_holder, sole_driver, sole_lease
from cwt_dask.storage.maps import create_maps, has_history
from cwt_dask.storage.paths import free_space, is_object, lies_in, refuse_no_bucket, remove_tree, store_errors
from cwt_dask.survey import Survey, SurveySource, ingest, is_store, scan

if TYPE_CHECKING:
    from pathlib import Path

    from cwt_dask.config.options import Options
    from cwt_dask.results import SurveyRun
    from cwt_dask.runtime.progress import Reporter
    from cwt_dask.runtime.signals import Stop
    from cwt_dask.survey import SurveyStatistics


def refuse_another(files: RunDir, survey: Path, options: Options) -> None:
    """Refuse to go on with a run that is not the one that was asked for.

    Raises
    ------
    InputError
        Naming what differs.
    """
    stored = read_run(files)
    plan = make_plan(options.settings, statistics_of(survey, options.source))
    refuse_differences(files, stored.plan, plan)
    stored.plan.check_memory(options.execution.memory_limit)
    if options.execution.keep_history and not has_history(files):
        raise SettingsError(
            f"{files.path} holds a run that keeps no history: leave out keep_history, choose another directory, or "
            "--overwrite"
        )


def create(files: RunDir, survey: Path, options: Options, progress: Reporter, hold: ExitStack, stop: Stop) -> None:
    """Make a run directory, with the survey's store in it unless it is one; nothing is there if that fails.

    From its first moment on it is held for the length of `hold`; `stop` is asked if another takes it over. A run that
    is there already is replaced.

    Raises
    ------
    InputError
        If the survey, a setting or the place is wrong.
    """
    if is_object(files.path):
        refuse_no_bucket(files.path)
    if not files.free and not files.is_run:
        raise InputError(f"{files.path} is not a run directory: it is not overwritten, choose another")
    if not files.free and files.foreign:
        raise InputError(
            f"{files.path} holds {', '.join(files.foreign)}, no part of a run, which would be lost: move it elsewhere"
        )
    if lies_in(survey, files.path):
        raise InputError(f"{survey} lies in {files.path}, which would be overwritten: move it, or choose another")
    if is_object(files.path):
        _create_in_bucket(files, survey, options, progress, hold, stop)
        return
    replaces = files.is_run
    with sole_driver(files) if replaces else nullcontext():
        _remove_dead(files)
        with fresh_directory(files.path, replaces=replaces) as fresh:
            hold.enter_context(sole_driver(RunDir(fresh), moves_to=files))
            _fill(RunDir(fresh), files, survey, options, progress, stop)


def _create_in_bucket(
    files: RunDir, survey: Path, options: Options, progress: Reporter, hold: ExitStack, stop: Stop
) -> None:
    """Make a run where nothing can be renamed: where it will be, and marked as unfinished until it is whole."""
    # What is there cannot be kept until the new run is made: what can be refused is refused before.
    make_plan(options.settings, statistics_of(survey, options.source)).check_memory(options.execution.memory_limit)
    hold.enter_context(sole_lease(files, stop.ask))
    if not files.free and not options.execution.overwrite:
        raise InputError(f"{files.path} holds another run by now: give the same command again to go on with that")
    ours = read_driver(files)
    write_atomically(files.unfinished, b"")
    # Without its settings nobody takes the rest for a run.
    files.settings.unlink(missing_ok=True)
    try:
        remove_tree(files.path, sparing=(files.driver, files.unfinished))
        _fill(files, files, survey, options, progress, stop)
        files.unfinished.unlink()
    except BaseException:
        # What ended it must not be hidden; nor is anything of one who has taken over removed.
        with suppress(OSError, MachineError), store_errors():
            if same_holder(read_driver(files), ours):
                remove_tree(files.path)
        raise


def _fill(new: RunDir, files: RunDir, survey: Path, options: Options, progress: Reporter, stop: Stop) -> None:
    """Make all that a run needs, for now at `new`, and last what says that it is one."""
    if is_store(survey):
        opened = open_store(survey, options.source)
    else:
        progress.message(f"reading {survey}")
        opened = ingest(SurveySource.of(survey, **options.source), new.survey)
    plan = make_plan(options.settings, opened.statistics)
    plan.check_memory(options.execution.memory_limit)
    _check_disk(files.path, opened.statistics, plan, progress)
    if is_object(new.path):
        # Somebody else may have taken the place over meanwhile.
        stop.check()
    history = plan.settings.max_iter if options.execution.keep_history else 0
    create_maps(new, plan.grid, plan.kernels.scales.tolist(), opened.header_text, history=history)
    begin_ledger(new)
    new.islands.mkdir()
    write_run(new, plan, survey if is_store(survey) else None)


def _remove_dead(files: RunDir) -> None:
    """Remove what drivers left that died before their run had appeared; those that live hold theirs."""
    for path in leftovers(files.path.parent, files.path.name):
        # Another starter may be at it, too, or it may be another user's.
        with suppress(InputError, OSError), sole_driver(RunDir(path)):
            remove_tree(path)


def _check_disk(path: Path, statistics: SurveyStatistics, plan: Plan, progress: Reporter) -> None:
    """Refuse what cannot fit on the disk, and warn of what may not."""
    least, free = least_disk(statistics.n_valid), free_space(path.parent)
    if free < least:
        raise InputError(
            f"{path.parent} has {format_bytes(free)} free, the maps alone take {format_bytes(least)}: make room there, "
            "or choose another directory"
        )
    if free < plan.disk:
        progress.message(f"warning: the run may take {format_bytes(plan.disk)} of disk, {format_bytes(free)} are free")


def statistics_of(survey: Path, source: dict[str, Any]) -> SurveyStatistics:
    """What a survey, file or store, is like."""
    return open_store(survey, source).statistics if is_store(survey) else scan(SurveySource.of(survey, **source))


def open_store(survey: Path, source: dict[str, Any]) -> Survey:
    """Open a survey's store.

    Raises
    ------
    SettingsError
        If it is to be told where its planes are: they were chosen when it was made.
    SurveyError
        If it is damaged.
    """
    if source:
        raise SettingsError(
            f"{survey} is a store, its planes were chosen when it was ingested: leave out {', '.join(source)}, or "
            "ingest again with them"
        )
    opened = Survey.open(survey)
    opened.refuse_damage()
    return opened


def check_stores(run: SurveyRun, progress: Reporter) -> None:
    """Refuse a survey that is damaged or another, and mend what describes the arrays of maps and seams."""
    if run.survey.statistics.digest != run.stored.plan.survey_digest:
        raise InputError(
            f"{run.stored.survey} is not the survey that {run.files.path} began with: choose another RUN_DIR"
        )
    run.survey.refuse_damage()
    for mended in repair_metadata(run):
        progress.message(mended)


def report_foreign_records(files: RunDir, progress: Reporter) -> None:
    """Say why tiles are done again whose records do not name this run."""
    run_id = read_run_id(files)
    blocks = [read_block_records(files.ledger, block) for block in files.begun_blocks]
    begun = [record for tiles in blocks for rounds in tiles.values() for record in rounds]
    others = {record.tile for record in (*read_records(files.ledger).values(), *begun) if record.run != run_id}
    if others:
        progress.message(f"{len(others)} tiles are done again: their records name another run than {files.run_id} does")
