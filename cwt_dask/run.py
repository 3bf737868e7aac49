"""The main job: survey in, tiles on workers, merge, catalogue, certificate and report out; the order of stages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cwt_dask.background import Means
from cwt_dask.config.execution import Execution
from cwt_dask.config.options import Options
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.errors import InterruptedRun, SettingsError
from cwt_dask.events import as_survey
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.pipeline.blocks import Iteration
from cwt_dask.pipeline.create import Call, create, resume
from cwt_dask.pipeline.merging import Merging
from cwt_dask.pipeline.planned import plan_call
from cwt_dask.pipeline.reuse import reuse_tiles
from cwt_dask.planning.plan import Plan
from cwt_dask.products.files import is_small
from cwt_dask.report import report_is_current, write_report
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.clusters.choice import prepare_cluster
from cwt_dask.runtime.clusters.script import end_repetition
from cwt_dask.runtime.progress import Logged, Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.stages import Stages
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import as_path, backend_of, on_disk, store_errors
from cwt_dask.survey import as_file

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SurveyRun", "plan_survey", "run_survey"]


@numpys_own
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

    Examples
    --------
    >>> import tempfile
    >>> from cwt_dask.run import plan_survey
    >>> from cwt_dask.simulate import simulate
    >>> survey = f"{tempfile.mkdtemp()}/survey.fits"
    >>> sources = simulate(survey, (120, 160), seed=1)
    >>> plan = plan_survey(survey, n_scale=1, min_scale=1, tile_size=60)
    >>> plan.grid.n_tiles, plan.grid.margin, plan.exact
    (6, 32, True)
    """
    with as_file(survey) as (path, named):
        parsed = Options.parse(named | options)
        with as_survey(path, parsed, Reporter()) as (read, described):
            plan, _ = plan_call(read, described, Means.of(parsed.execution))
    plan.check_memory(parsed.execution.worker_limit)
    return plan


@numpys_own
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

    On an existing run directory of the same survey and settings it continues where that stopped.

    Parameters
    ----------
    survey : path-like, sequence of path-like, or dataset
        FITS file (``.fits``, ``.fits.gz``, ``.fits.fz``) or a store made by `cwt_dask.survey.ingest`; or maps in
        memory, such as Gammapy's `MapDataset` or a dict of maps: see `cwt_dask.survey.as_file`; or event lists, as of
        `cwt_dask.events.ingest_events`.
    run_dir : path-like
        Directory of the results; created.
    kernels : CWTKernels, optional
        In place of the options n_scale, min_scale, step_scale and old_kernels.
    client : distributed.Client, optional
        Cluster to run on; its workers must see the same files. By default a local cluster is made for the call.
    progress : cwt_dask.runtime.progress.Reporter, optional
        Receives messages and progress; by default warnings go to Python's log, and nothing else is said.
    **options
        Fields of `cwt_dask.config.Settings` and `cwt_dask.execution.Execution`, and those of
        `cwt_dask.config.options.SourceOptions`: where the planes of the survey are found, and which bands are taken.
        With event lists those of `cwt_dask.config.events.MapOptions`: the map that they are binned onto.

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

    Examples
    --------
    >>> import tempfile
    >>> from cwt_dask import run_survey
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> truth = simulate(f"{folder}/survey.fits", (60, 80), seed=2, n_sources=1)
    >>> options = {"min_scale": 1.5, "significance_threshold": 6, "workers": 0, "no_report": True}
    >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", **options)
    >>> run.certificate["tiling_exact"], run.catalogue["source_id", "x_peak", "y_peak"].as_array().tolist()
    (True, [(1, 3, 42)])
    """
    if kernels is not None:
        of_kernels = {name: getattr(kernels, name) for name in ("n_scale", "min_scale", "step_scale")}
        of_kernels["old_kernels"] = kernels.old
        if twice := sorted(options.keys() & of_kernels.keys()):
            raise SettingsError(f"kernels and {', '.join(twice)} are both given: give one of them")
        options |= of_kernels
    with as_file(survey) as (path, named):
        parsed = Options.parse(named | options)
        return execute(path, as_path(run_dir), parsed, client=client, progress=progress)


def execute(
    survey: Any,
    run_dir: Path,
    options: Options,
    *,
    client: Client | None = None,
    progress: Reporter | None = None,
    earlier: RunDir | None = None,
) -> SurveyRun:
    """Carry out a run.

    Parameters
    ----------
    survey : path-like or sequence of path-like
        File, store, or event lists.
    run_dir : Path
        Directory of the results.
    options : Options
        All options of the call.
    client, progress : optional
        As of `run_survey`.
    earlier : RunDir, optional
        An earlier run: tiles that would come out the same are reused.
    """
    end_repetition()
    progress, execution = progress or Logged(), options.execution
    stop = Stop(
        lambda: progress.message("stopping: tasks that have started are finished first; another signal ends at once")
    )
    connect = None
    if client is None:
        connect = prepare_cluster(execution, run_dir, progress, stop)
    else:
        from cwt_dask.runtime.clusters.address import refuse_unusable_client  # noqa: PLC0415 - with Dask

        refuse_unusable_client(client)
    with store_errors(), ExitStack() as stack:
        stack.enter_context(stop.on_signals())
        if connect:
            client = stack.enter_context(connect())
        files = RunDir(run_dir.resolve())
        survey, options = stack.enter_context(as_survey(survey, options, progress, on_disk(files.path.parent)))
        if backend_of(files.path).restore(files.path):
            progress.message(f"{files.path} is what it was before an --overwrite that was killed")
        begin = create if backend_of(files.path).is_free(files) or execution.overwrite else resume
        executor = begin(Call(files, survey, options, progress, stack, stop, Workers(client, execution), earlier))
        run = SurveyRun.open(files.path)
        stages = Stages(executor, progress, files)
        with stop.patience():
            if earlier:
                reuse_tiles(run, earlier, stages)
            _carry_out(run, stages, execution, earlier)
    return run


class Stage(NamedTuple):
    """A stage of a run."""

    name: str  # What it makes.
    carry_out: Callable[[], None]  # Makes it.
    is_needed: Callable[[bool], bool] = bool  # Whether it must be made, given whether anything was made before.


def _stages_of(run: SurveyRun, stages: Stages, execution: Execution, earlier: RunDir | None) -> tuple[Stage, ...]:
    """The stages of a run in order; what was made from what is made again is made again."""
    files, merging = run.files, Merging(run, stages, earlier)
    iteration = Iteration(run, stages, execution.threads, allow_versions=execution.allow_versions)
    # What an earlier call has made is kept up to date.
    with_fits = execution.fits == "yes" or (execution.fits == "auto" and is_small(run.stored.plan))
    on_sphere = isinstance(run.stored.plan.grid, FacetGrid)
    of_maps = files.maps_hpx if on_sphere else files.maps_fits
    with_fits, with_report = with_fits or of_maps.exists(), not execution.no_report or files.report.exists()
    without_fits = with_fits and not of_maps.exists()
    return (
        Stage("tiles", iteration.carry_out, lambda _: not iteration.is_complete()),
        Stage("seams", merging.compare_seams, lambda redone: redone or merging.is_stale() or without_fits),
        Stage("flags", merging.flag),
        Stage("candidates", merging.find_candidates),
        Stage("sources", merging.fit),
        Stage("catalogue", merging.write_catalogue),
        Stage(
            of_maps.name,
            merging.write_maps,
            lambda redone: redone and with_fits and (without_fits or not merging.keeps_maps),
        ),
        Stage("certificate", merging.certify),
        Stage(
            "report",
            partial(_report, run, stages),
            lambda redone: with_report and (redone or not report_is_current(run)),
        ),
    )


def _carry_out(run: SurveyRun, stages: Stages, execution: Execution, earlier: RunDir | None) -> None:
    plan, redone = run.stored.plan, False
    if plan.used:
        stages.progress.message(f"pixels used: {plan.used}")
    if plan.no_flux:
        stages.progress.message(f"no photon flux: {plan.no_flux}")
    if plan.psf:
        stages.progress.message(f"psf: {plan.psf}")
    if plan.background:
        stages.progress.message(plan.background)
    for warning in plan.warnings:
        stages.progress.message(f"warning: {warning}")
    for stage in _stages_of(run, stages, execution, earlier):
        if stage.is_needed(redone):
            stage.carry_out()
            redone = True
    if not redone:
        stages.progress.message(f"{run.files.path}: all {plan.grid.n_tiles} tiles were done; checked, nothing to do")


def _report(run: SurveyRun, stages: Stages) -> None:
    """Write the report; a run that is whole without it stays so."""
    try:
        write_report(run, stages)
    except InterruptedRun:
        raise
    except Exception as error:  # noqa: BLE001 - an error in a page must not spoil a run that is done
        stages.progress.message(
            f"warning: the report could not be written ({type(error).__name__}: {error}); all else is done: "
            f"cwt-dask report {run.files.path} tries again"
        )
