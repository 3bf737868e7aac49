"""What a run's catalogue is worth, measured by simulations of its own survey."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.assess.fields import Field, fields_of, sample
from cwt_dask.assess.summary import Outcome, summary_of, table_of
from cwt_dask.assess.trial import OF_SOURCES, Assessment, Found, Trial, carry_out, keep_sources
from cwt_dask.config.execution import Execution
from cwt_dask.config.settings import digest
from cwt_dask.config.validation import counted
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError, RunError
from cwt_dask.measure.false_rows import FalseRows
from cwt_dask.merge.catalogue import expected_false_rows
from cwt_dask.merge.columns import flux_unit_of
from cwt_dask.pipeline.merging import add_table
from cwt_dask.psf import kept_point_spread
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.clusters.choice import prepare_cluster
from cwt_dask.runtime.executors import Executor
from cwt_dask.runtime.progress import Logged, Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage.paths import backend_of, make_directory, store_errors
from cwt_dask.storage.provenance import versions
from cwt_dask.survey import digest_table
from cwt_dask.tiles.fitting import Reach

if TYPE_CHECKING:
    from astropy.table import Table
    from distributed import Client

# Of a survey larger than this a trial simulates as many pixels, in fields that it chooses.
SAMPLE = 10e6
NULLS = INJECTIONS = 4
# Of simulations and their judgement: another one makes all trials anew.
VERSION = 4


@numpys_own
def assess(
    run_dir: str | PathLike[str],
    *,
    nulls: int = NULLS,
    injections: int = INJECTIONS,
    seed: int = 0,
    client: Client | None = None,
    progress: Reporter | None = None,
    **options: Any,
) -> Table:
    """Measure what the catalogue of a finished run is worth, by simulations of its survey through the same pipeline.

    Null skies are noise of the run's background. Others have its sources, too, and injected ones at random places. Each
    field of them, a tile with its margins or a cell of the sphere, is analysed by a run of its own with the settings
    and the number of iterations of the run. Of large surveys a sky is a sample of fields, some 10 million pixels. What
    is done is kept: an assessment that was interrupted goes on, and more skies are added to those that are there.

    Parameters
    ----------
    run_dir : path-like
        The run. Its certificate gets a summary, and the table goes to ``assessment.ecsv``.
    nulls, injections : int, optional
        Numbers of trials.
    seed : int, optional
        All that is random follows from it.
    client : distributed.Client, optional
        Cluster to run on, as of `run_survey`.
    progress : cwt_dask.runtime.progress.Reporter, optional
        Receives messages and progress.
    **options
        Fields of `cwt_dask.execution.Execution`.

    Returns
    -------
    Table
        One row a number that is measured: ``quantity``, ``of`` (what ``low`` and ``high`` are), ``region``, ``low``,
        ``high``, ``n``, ``value``, ``value_low``, ``value_high`` (68 % interval), ``expected``.

    Raises
    ------
    InputError
        If the run is not finished, or a number is impossible.
    RunError
        If a trial could not be done; those that could are kept.
    InterruptedRun
        If it was asked to stop by a signal; what was done is kept.

    Examples
    --------
    >>> import tempfile
    >>> from cwt_dask import run_survey
    >>> from cwt_dask.assess import assess
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> sources = simulate(f"{folder}/survey.fits", (120, 160), seed=1)
    >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", psf=1.5, max_iter=2, workers=0, no_report=True)
    >>> table = assess(f"{folder}/run", nulls=2, injections=0, workers=0)
    >>> [round(float(table[name][0]), 2) for name in ("low", "expected")]  # False rows.
    [1.0, 2.0]
    """
    for name, number in (("nulls", nulls), ("injections", injections), ("seed", seed)):
        if number < 0:
            raise InputError(f"{name} is {number}: it must be 0 or more")
    if not nulls + injections:
        raise InputError("nulls and injections are both 0: ask for one of them at least")
    execution = Execution(**options)
    run, progress = SurveyRun.open(run_dir), progress or Logged()
    certificate = run.certificate
    if not certificate.get("expected_false"):
        raise InputError(f"{run.files.path} was made by an earlier release, which expected no false rows: run it again")
    stop = Stop(lambda: progress.message("stopping: trials that have started are finished first"))
    connect = None if client else prepare_cluster(execution, run.files.path, progress, stop)
    with store_errors(), ExitStack() as stack:
        stack.enter_context(stop.on_signals())
        stack.enter_context(backend_of(run.files.path).hold(run.files, stop.ask))
        if connect:
            client = stack.enter_context(connect())
        plan = run.stored.plan
        executor = stack.enter_context(Workers(client, execution).open(plan, progress, stop))
        reach = Reach.of(run.files, plan, run.survey).margin
        fields = fields_of(plan.grid, run.survey.statistics, reach)
        whole = sum(field.counted.area for field in fields)
        if not whole:
            raise InputError(
                f"no pixel of the survey is farther than {reach} pixels from its edges, within which fields do not "
                "count: it is too small to be assessed"
            )
        trials = _trials(fields, {"null": nulls, "injected": injections}, seed)
        make_directory(run.files.assessed)
        keep_sources(run.files, run.stored.run_id, run.catalogue)
        assessment = Assessment(
            run.files, run.stored.run_id, trials, seed, _identity(run, seed), certificate["n_iter"], execution.threads
        )
        with stop.patience():
            _do_all(assessment, executor, progress)
            stop.check()
        outcome = _outcome(assessment)
        statistics = run.survey.statistics
        expected = None
        if nulls:
            spread = kept_point_spread(run.files, plan.settings.psf, run.wcs)
            expected = expected_false_rows(spread, plan, statistics, *outcome.pixels)
        by_run = FalseRows.from_dict(certificate["expected_false"])
        table = table_of(outcome, by_run, expected, plan.settings.false_sources, flux_unit_of(statistics.exposure_unit))
        simulated = sum(trial.field.counted.area for trial in trials)
        table.meta |= {"NULLS": nulls, "INJECT": injections, "SEED": seed}
        table.meta["SHARE"] = float(f"{simulated / whole / (nulls + injections):.3g}")
        # Another driver may have taken the lease meanwhile.
        stop.check()
        add_table(run.files, certificate, run.files.assessment, table, assessment=summary_of(table))
    return table


def _trials(fields: list[Field], numbers: dict[str, int], seed: int) -> tuple[Trial, ...]:
    """All trials: of each sky the fields that it takes."""
    found = []
    for which, (kind, number) in enumerate(numbers.items()):
        for trial in range(number):
            taken = sample(fields, SAMPLE, np.random.default_rng([seed, which, trial]))
            found += [Trial(kind, trial, fields[field]) for field in taken]
    return tuple(found)


def _identity(run: SurveyRun, seed: int) -> str:
    """Digest of what decides the outcome of trials."""
    plan, certificate = run.stored.plan, run.certificate
    rows = run.catalogue
    sources = digest_table(np.column_stack([np.asarray(rows[name], np.float64) for name in OF_SOURCES]))
    parts = plan.settings_digest, plan.survey_digest, plan.algorithm_version, certificate["n_iter"], versions()
    return digest([*parts, sources, seed, VERSION])


def _do_all(assessment: Assessment, executor: Executor, progress: Reporter) -> None:
    """Do the trials that are not done; those after one that fails, too."""
    todo = [number for number in range(len(assessment.trials)) if assessment.found(number) is None]
    if there := len(assessment.trials) - len(todo):
        progress.message(f"{there} of {counted(len(assessment.trials), 'field')} are done")
    failed: dict[int, BaseException] = {}
    for outcome in progress.track(executor.map(partial(carry_out, assessment), todo), "fields", len(todo)):
        if outcome.error is not None:
            failed[outcome.item] = outcome.error
    if failed:
        first = assessment.trials[min(failed)]
        error = failed[min(failed)]
        raise RunError(
            f"{len(failed)} of {counted(len(todo), 'field')} could not be simulated; field {first.field.number} of "
            f"{first.kind} sky {first.number}: {type(error).__name__}: {error}: the same command tries these again"
        ) from error


def _outcome(assessment: Assessment) -> Outcome:
    found: dict[str, list[Found]] = {"null": [], "injected": []}
    for number, trial in enumerate(assessment.trials):
        kept = assessment.found(number)
        if kept is None:
            raise RunError(f"{trial.path(assessment.files)} is lost or damaged: the same command makes it again")
        found[trial.kind].append(kept)
    return Outcome(found["null"], found["injected"])
