"""The main job: survey in, tiles on workers, merge, catalogue and certificate out; the order of stages."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from cwt_dask.atomic import fresh_directory, write_atomically
from cwt_dask.blocks import Iteration
from cwt_dask.catalogue import build_catalogue
from cwt_dask.clusters import cores, dashboard, existing_client, local_client
from cwt_dask.cost import least_disk
from cwt_dask.cwt.rooms import forget
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.executors import Executor, InProcess, OnDask
from cwt_dask.flags import bad_sides, flag_tile, tiles_to_flag
from cwt_dask.layout import RunDir
from cwt_dask.ledger import read_records
from cwt_dask.maps import create_maps, cut_history, has_history
from cwt_dask.merge.certificate import certify, read_open_islands
from cwt_dask.merge.seams import compare_seams
from cwt_dask.options import Options
from cwt_dask.plan import Plan, make_plan
from cwt_dask.products import digest_catalogue, is_small, write_catalogue, write_maps_fits
from cwt_dask.progress import Reporter
from cwt_dask.results import SurveyRun
from cwt_dask.runfile import read_run, refuse_differences, write_run
from cwt_dask.sources import measure_tile
from cwt_dask.stages import over_tiles
from cwt_dask.survey import Survey, SurveySource, ingest, is_store, scan
from cwt_dask.tile import peak_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from distributed import Client

    from cwt_dask.config import Execution
    from cwt_dask.cwt.kernels import CWTKernels
    from cwt_dask.survey import SurveyFacts

__all__ = ["SurveyRun", "plan_survey", "run_survey"]


def plan_survey(survey: str | PathLike[str], **options: Any) -> Plan:
    """Plan a run and write nothing.

    Parameters
    ----------
    survey : path-like
        FITS file or survey store.
    **options
        Those of `run_survey`.

    Raises
    ------
    InputError
        As `run_survey`.
    """
    parsed = Options.parse(options)
    plan = make_plan(parsed.settings, _facts(Path(survey), parsed.source))
    plan.check_memory(parsed.execution.memory_limit)
    return plan


def run_survey(
    survey: str | PathLike[str],
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
    survey : path-like
        FITS file (``.fits``, ``.fits.gz``, ``.fits.fz``) or a store made by `cwt_dask.survey.ingest`.
    run_dir : path-like
        Directory of the results; created.
    kernels : CWTKernels, optional
        In place of the options n_scale, min_scale, step_scale and old_kernels.
    client : distributed.Client, optional
        Cluster to run on; its workers must see the same files. By default a local cluster is made for the call.
    progress : cwt_dask.progress.Reporter, optional
        Where to tell what goes on; nowhere by default.
    **options
        Fields of `cwt_dask.config.Settings` and `cwt_dask.config.Execution`, and where the planes of the survey are
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
    parsed = Options.parse(options)
    progress = progress or Reporter()
    with ExitStack() as stack:
        if client is None and (parsed.execution.scheduler or parsed.execution.scheduler_file):
            where = existing_client(parsed.execution.scheduler, parsed.execution.scheduler_file)
            client = stack.enter_context(where)
        files = RunDir(Path(run_dir).resolve())
        _open_or_create(files, Path(survey), parsed, progress)
        run = SurveyRun.open(files.path)
        executor = stack.enter_context(_executor(client, parsed.execution, run.stored.plan.grid.n_tiles, progress))
        _carry_out(run, executor, parsed.execution, progress)
    return run


def _open_or_create(files: RunDir, survey: Path, options: Options, progress: Reporter) -> None:
    if not files.free and not options.execution.overwrite:
        stored = read_run(files)
        plan = make_plan(options.settings, _facts(survey, options.source))
        refuse_differences(files, stored.plan, plan)
        stored.plan.check_memory(options.execution.memory_limit)
        if options.execution.keep_history and not has_history(files):
            raise SettingsError(
                f"{files.path} holds a run that keeps no history: leave out keep_history, choose another directory, or "
                "--overwrite"
            )
        return
    if not files.free and not files.is_run:
        raise InputError(f"{files.path} is not a run directory: it is not overwritten, choose another")
    if not files.free and files.foreign:
        raise InputError(
            f"{files.path} holds {', '.join(files.foreign)}, no part of a run, which would be lost: move it elsewhere"
        )
    if survey.resolve().is_relative_to(files.path.resolve()):
        raise InputError(f"{survey} lies in {files.path}, which would be overwritten: move it, or choose another")
    with fresh_directory(files.path) as fresh:
        new = RunDir(fresh)
        if is_store(survey):
            opened = _store(survey, options.source)
        else:
            progress.message(f"reading {survey}")
            opened = ingest(SurveySource.of(survey, **options.source), new.survey)
        plan = make_plan(options.settings, opened.facts)
        plan.check_memory(options.execution.memory_limit)
        _check_disk(files.path, opened.facts, plan, progress)
        history = plan.settings.max_iter if options.execution.keep_history else 0
        create_maps(new, plan.grid, plan.kernels.n_scale, opened.header_text, history=history)
        new.ledger.mkdir()
        new.islands.mkdir()
        write_run(new, plan, survey if is_store(survey) else None)


def _check_disk(path: Path, facts: SurveyFacts, plan: Plan, progress: Reporter) -> None:
    """Refuse what cannot fit on the disk, and warn of what may not."""
    least, free = least_disk(facts.n_valid), shutil.disk_usage(path.parent).free
    if free < least:
        raise InputError(
            f"{path.parent} has {format_bytes(free)} free, the maps alone take {format_bytes(least)}: make room there, "
            "or choose another directory"
        )
    if free < plan.disk:
        progress.message(f"warning: the run may take {format_bytes(plan.disk)} of disk, {format_bytes(free)} are free")


@contextmanager
def _executor(client: Client | None, execution: Execution, n_tiles: int, progress: Reporter) -> Iterator[Executor]:
    if client is not None:
        progress.message(f"{len(client.nthreads())} workers{dashboard(client)}")
        try:
            yield OnDask(client)
        finally:
            # These workers live on; a scheduler that was lost must not hide what ended the run.
            with suppress(OSError, ValueError):
                client.run(forget, on_error="ignore")
    elif n_tiles == 1 or execution.workers == 0:
        yield InProcess()
    else:
        workers = execution.workers or min(cores(), n_tiles)
        with local_client(workers, execution.memory_limit) as local:
            progress.message(f"{workers} workers{dashboard(local)}")
            yield OnDask(local)


def _carry_out(run: SurveyRun, executor: Executor, execution: Execution, progress: Reporter) -> None:
    started, clock = datetime.now(UTC), time.perf_counter()
    files, plan = run.files, run.stored.plan
    if run.survey.facts.digest != plan.survey_digest:
        raise InputError(f"{run.stored.survey} is not the survey that {files.path} began with: choose another RUN_DIR")
    for warning in plan.warnings:
        progress.message(f"warning: {warning}")
    iteration = Iteration.of(run, executor, progress, threads=execution.threads, keep_history=has_history(files))
    redone = iteration.carry_out()
    with_fits = execution.fits == "yes" or (execution.fits == "auto" and is_small(plan))
    products = [files.certificate, files.catalogue, files.catalogue_fits, *([files.maps_fits] if with_fits else [])]
    if not redone and all(product.exists() for product in products):
        progress.message(f"{files.path}: all {plan.grid.n_tiles} tiles were done; checked, nothing to do")
        return

    files.certificate.unlink(missing_ok=True)
    tiles = range(plan.grid.n_tiles)
    found = over_tiles(executor, partial(compare_seams, files.seams, plan.grid), tiles, "seams", progress)
    seams = [seam for tile in sorted(found) for seam in found[tile]]
    bad = bad_sides(seams, read_records(files.ledger))
    over_tiles(executor, partial(flag_tile, files, plan, bad), tiles_to_flag(files, bad), "flags", progress)
    over_tiles(executor, partial(measure_tile, files, plan), tiles, "sources", progress)
    write_catalogue(files, build_catalogue(files, plan, run.wcs))
    if with_fits:
        write_maps_fits(files, plan, run.survey)
    records = read_records(files.ledger)
    if has_history(files):
        cut_history(files, max(record.n_iter for record in records.values()))
    certificate = certify(plan, run.survey.facts, records, seams, read_open_islands(files)) | {
        "digest_catalogue": digest_catalogue(files),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {"run": time.perf_counter() - clock, "tiles": sum(r.seconds for r in records.values())},
        "peak_memory": {"driver": peak_memory(), "worker": max(r.peak_memory for r in records.values())},
    }
    write_atomically(files.certificate, json.dumps(certificate, indent=1, allow_nan=False).encode())


def _facts(survey: Path, source: dict[str, Any]) -> SurveyFacts:
    return _store(survey, source).facts if is_store(survey) else scan(SurveySource.of(survey, **source))


def _store(survey: Path, source: dict[str, Any]) -> Survey:
    if source:
        raise SettingsError(
            f"{survey} is a store, its planes were chosen when it was ingested: leave out {', '.join(source)}, or "
            "ingest again with them"
        )
    return Survey.open(survey)
