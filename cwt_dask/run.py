"""The main job: survey in, tiles on workers, merge, catalogue, certificate and report out; the order of stages."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from cwt_dask.config.options import Options
from cwt_dask.errors import InputError, InterruptedRun, RunError, SettingsError
from cwt_dask.merge.catalogue import build_catalogue
from cwt_dask.merge.certificate import certify, read_open_islands, sealed
from cwt_dask.merge.seam_flags import bad_sides, flag_tile, tiles_to_flag
from cwt_dask.merge.seams import compare_seams
from cwt_dask.pipeline.blocks import iterate_tiles
from cwt_dask.pipeline.create import check_stores, create, refuse_another, report_foreign_records, statistics_of
from cwt_dask.pipeline.executor import open_executor
from cwt_dask.pipeline.reuse import reuse_tiles
from cwt_dask.planning.plan import Plan, make_plan
from cwt_dask.products.files import (
    changed_products,
    digest_catalogue,
    digest_products,
    is_small,
    write_catalogue,
    write_maps_fits,
)
from cwt_dask.report import report_is_current, write_report
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.clusters import join
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.atomic import remove_leftovers, write_atomically
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.lock import sole_driver, sole_lease
from cwt_dask.storage.maps import cut_history, has_history
from cwt_dask.storage.paths import as_path, is_object, store_errors
from cwt_dask.storage.provenance import peak_memory
from cwt_dask.survey import as_file
from cwt_dask.tiles.sources import measure_tile

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from distributed import Client

    from cwt_dask.config.execution import Execution
    from cwt_dask.cwt.kernels import CWTKernels

__all__ = ["SurveyRun", "plan_survey", "run_survey"]


def plan_survey(survey: Any, **options: Any) -> Plan:
    """Plan a run and write nothing.

    Parameters
    ----------
    survey : path-like or dataset
        As of `run_survey`.
    **options
        Those of `run_survey`.

    Returns
    -------
    cwt_dask.planning.plan.Plan
        Tiles, margin, memory, disk and warnings.

    Raises
    ------
    InputError
        As `run_survey`.
    """
    parsed = Options.parse(options)
    with as_file(survey) as path:
        plan = make_plan(parsed.settings, statistics_of(as_path(path), parsed.source))
    plan.check_memory(parsed.execution.memory_limit)
    return plan


def run_survey(
    survey: Any,
    run_dir: str | PathLike[str],
    *,
    kernels: CWTKernels | None = None,
    client: Client | None = None,
    progress: Reporter | None = None,
    **options: Any,
) -> SurveyRun:
    """Run the detector on a survey, tile by tile, and merge.

    On an existing run directory of the same survey and settings it goes on where that stopped.

    Parameters
    ----------
    survey : path-like or dataset
        FITS file (``.fits``, ``.fits.gz``, ``.fits.fz``) or a store made by `cwt_dask.survey.ingest`; or maps in
        memory, such as Gammapy's `MapDataset` or a dict of maps: see `cwt_dask.survey.as_file`.
    run_dir : path-like
        Directory of the results; created.
    kernels : CWTKernels, optional
        In place of the options n_scale, min_scale, step_scale and old_kernels.
    client : distributed.Client, optional
        Cluster to run on; its workers must see the same files. By default a local cluster is made for the call.
    progress : cwt_dask.runtime.progress.Reporter, optional
        Where to tell what goes on; nowhere by default.
    **options
        Fields of `cwt_dask.config.Settings` and `cwt_dask.execution.Execution`, and where the planes of the survey are
        found (counts_hdu, background_hdu, exposure_hdu, mask_hdu, background, exposure, mask, band).

    Returns
    -------
    SurveyRun
        The results; its certificate says whether every promise was kept.

    Raises
    ------
    InputError
        If the survey, an option or the directory is wrong: nothing was written.
    RunError
        If tiles could not be done.
    InterruptedRun
        If it was asked to stop by a signal (`cwt_dask.runtime.signals.SIGNALS`); what was done is kept.
    """
    if kernels is not None:
        of_kernels = {
            "n_scale": kernels.n_scale,
            "min_scale": kernels.min_scale,
            "step_scale": kernels.step_scale,
            "old_kernels": kernels.old,
        }
        if twice := sorted(options.keys() & of_kernels.keys()):
            raise SettingsError(f"kernels and {', '.join(twice)} are both given: give one of them")
        options |= of_kernels
    with as_file(survey) as path:
        return execute(as_path(path), as_path(run_dir), Options.parse(options), client=client, progress=progress)


def execute(
    survey: Path,
    run_dir: Path,
    options: Options,
    *,
    client: Client | None = None,
    progress: Reporter | None = None,
    earlier: RunDir | None = None,
) -> SurveyRun:
    """Carry out a run; tiles that an earlier run has done and that would come out the same are taken over."""
    progress, execution = progress or Reporter(), options.execution
    stop = Stop(lambda: progress.message("stopping: what is begun is ended first; another signal ends at once"))
    connect = None if client else join(execution, run_dir, progress, stop)
    with store_errors(), ExitStack() as stack:
        stack.enter_context(stop.on_signals())
        if connect:
            client = stack.enter_context(connect())
        files = RunDir(run_dir.resolve())
        if files.free or execution.overwrite:
            create(files, survey, options, progress, stack, stop)
        else:
            refuse_another(files, survey, options)
            held = sole_lease(files, stop.ask) if is_object(files.path) else sole_driver(files)
            lost = stack.enter_context(held)
            if lost:
                progress.message(f"going on for {lost}, which did not end by itself")
            if lost and lost.is_gone:
                remove_leftovers(files.path)
            check_stores(opened := SurveyRun.open(files.path), progress)
            if 0 < (n_done := len(read_records(files.ledger))) < opened.stored.plan.grid.n_tiles:
                progress.message(f"going on: {n_done} of {opened.stored.plan.grid.n_tiles} tiles are done")
            report_foreign_records(files, progress)
        run = SurveyRun.open(files.path)
        executor = stack.enter_context(open_executor(client, execution, run.stored.plan, progress, stop))
        stages = Stages(executor, progress, files)
        with stop.patience():
            if earlier:
                reuse_tiles(run, earlier, stages)
            _carry_out(run, stages, execution)
    return run


def _carry_out(run: SurveyRun, stages: Stages, execution: Execution) -> None:
    started, clock = datetime.now(UTC), time.perf_counter()
    files, plan, progress = run.files, run.stored.plan, stages.progress
    for warning in plan.warnings:
        progress.message(f"warning: {warning}")
    redone = iterate_tiles(run, stages, threads=execution.threads)
    # What an earlier call has made must not grow old beside the rest.
    with_fits = execution.fits == "yes" or (execution.fits == "auto" and is_small(plan)) or files.maps_fits.exists()
    with_report = not execution.no_report or files.report.exists()
    if not redone:
        faults = _faults(run)
        if not faults and (files.maps_fits.exists() or not with_fits):
            if with_report and not report_is_current(run):
                _report(run, stages)
                return
            progress.message(f"{files.path}: all {plan.grid.n_tiles} tiles were done; checked, nothing to do")
            return
        if files.certificate.exists():
            for fault in faults:
                progress.message(f"{fault}: made again")

    for path in (files.certificate, files.report):
        path.unlink(missing_ok=True)
    tiles = range(plan.grid.n_tiles)
    found = stages.map_tiles(partial(compare_seams, files.seams, plan.grid), tiles, "seams")
    seams = [seam for tile in sorted(found) for seam in found[tile]]
    bad = bad_sides(seams, read_records(files.ledger))
    stages.map_tiles(partial(flag_tile, files, plan, bad), tiles_to_flag(files, bad), "flags")
    stages.map_tiles(partial(measure_tile, files, plan, run.stored.survey), tiles, "sources")
    # They are of the catalogue that is replaced.
    files.associations.unlink(missing_ok=True)
    write_catalogue(files, build_catalogue(files, plan, run.survey.statistics, run.wcs))
    if with_fits:
        write_maps_fits(files, plan, run.survey)
    # Workers that were killed leave what they were writing.
    remove_leftovers(files.path)
    records = read_records(files.ledger)
    if has_history(files):
        cut_history(files, max(record.n_iter for record in records.values()))
    certificate = certify(plan, run.survey.statistics, records, seams, read_open_islands(files)) | {
        "digest_catalogue": digest_catalogue(files),
        "digest_products": digest_products(files),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {"run": time.perf_counter() - clock, "tiles": sum(r.seconds for r in records.values())},
        "peak_memory": {"driver": peak_memory(), "worker": max(r.peak_memory for r in records.values())},
    }
    write_atomically(files.certificate, json.dumps(sealed(certificate), indent=1, allow_nan=False).encode())
    if with_report:
        _report(run, stages)


def _report(run: SurveyRun, stages: Stages) -> None:
    """Write the report; a run that is whole without it stays so."""
    try:
        write_report(run, stages)
    except InterruptedRun:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a page must not spoil a run that is done
        stages.progress.message(
            f"warning: the report could not be written ({type(error).__name__}: {error}); all else is done: "
            f"cwt-dask report {run.files.path} tries again"
        )


def _faults(run: SurveyRun) -> list[str]:
    """What is not as it was when the run ended, in words: certificate, catalogue, FITS files."""
    try:
        certificate = run.certificate
    except (InputError, RunError):
        return [f"{run.files.certificate} is damaged or missing"]
    return [f"{path} is damaged or missing" for path in changed_products(run.files, certificate)]
