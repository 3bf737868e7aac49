"""A new version of a survey that was analysed before: what has not changed is reused."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cwt_dask.background import Means, with_estimate
from cwt_dask.config.declaration import option_names
from cwt_dask.config.options import Options
from cwt_dask.config.settings import Settings
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.events import as_survey
from cwt_dask.pipeline.planned import open_store
from cwt_dask.pipeline.reuse import NOT_WITH_ISLANDS, reason_to_compute, summary
from cwt_dask.planning.making import make_plan
from cwt_dask.results import SurveyRun
from cwt_dask.run import execute
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.drafts import scratch_directory
from cwt_dask.storage.ledger import read_run_id
from cwt_dask.storage.paths import as_path, backend_of, on_disk
from cwt_dask.survey import SurveySource, as_file, ingest, is_store

if TYPE_CHECKING:
    from distributed import Client


@numpys_own
def reprocess(
    survey: Any,
    old_run: str | PathLike[str],
    new_run: str | PathLike[str],
    *,
    client: Client | None = None,
    progress: Reporter | None = None,
    **options: Any,
) -> SurveyRun:
    """Run the detector on a new version of a survey under the settings of an earlier run.

    Tiles whose windows, settings and algorithm version have not changed are reused. The result
    has the `digest_maps` of a run of the new survey from scratch.

    Parameters
    ----------
    survey : path-like or dataset
        The new version, as of `run_survey`.
    old_run, new_run : path-like
        Directories of the earlier run, which must be finished and is only read, and of the new one.
    client : distributed.Client, optional
        Cluster to run on, as of `run_survey`.
    progress : cwt_dask.runtime.progress.Reporter, optional
        Receives messages and progress.
    **options
        Fields of `cwt_dask.execution.Execution`, and where the planes of the survey are found; settings are the old
        run's.

    Returns
    -------
    SurveyRun
        The new run.

    Raises
    ------
    InputError
        If the earlier run is not finished, or as `run_survey`.
    RunError, InterruptedRun
        As `run_survey`.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.io import fits
    >>> from cwt_dask import run_survey
    >>> from cwt_dask.reprocess import reprocess
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> sources = simulate(f"{folder}/survey.fits", (120, 160), seed=1)
    >>> settings = {"n_scale": 1, "min_scale": 1, "tile_size": 60, "margin": 8, "stopping": "fixed", "max_iter": 1}
    >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", **settings, workers=0, no_report=True)
    >>> with fits.open(f"{folder}/survey.fits", mode="update") as hdus:
    ...     hdus["COUNTS"].data[0, 0] += 1
    >>> new = reprocess(f"{folder}/survey.fits", f"{folder}/run", f"{folder}/new", workers=0, no_report=True)
    >>> [run.certificate["digest_maps"] == each.certificate["digest_maps"] for each in (run, new)]
    [True, False]
    """
    with as_file(survey) as (path, named):
        earlier, parsed = _prepare(old_run, named | options)
        if as_path(new_run).resolve() == earlier.files.path.resolve():
            raise InputError(
                f"{new_run} is the earlier run, which is only read: choose another directory for the new one"
            )
        return execute(path, as_path(new_run), parsed, client=client, progress=progress, earlier=earlier.files)


@numpys_own
def what_would_be_reused(survey: Any, old_run: str | PathLike[str], **options: Any) -> list[str]:
    """Find what `reprocess` would reuse, and why not the rest: lines of text. Nothing is run, and nothing is kept.

    Raises InputError, as `reprocess`.
    """
    earlier, parsed = _prepare(old_run, options)
    # A disk that holds the earlier run has room for its survey.
    near = on_disk(earlier.files.path.parent)
    with scratch_directory(near) as scratch, as_survey(survey, parsed, Reporter(), near) as (read, parsed):
        path = read
        if not is_store(path):
            with with_estimate(SurveySource.of(path, **parsed.source), Means.of(parsed.execution)) as described:
                path = ingest(described, scratch / "survey.zarr").path
        plan = make_plan(parsed.settings, open_store(path, replace(parsed, source={})).statistics)
        if plan.decides_islands:
            return [f"nothing can be reused: {NOT_WITH_ISLANDS}"]
        job = plan.job(earlier.files, read_run_id(earlier.files), path)
        reason = partial(reason_to_compute, earlier.files, job)
        return summary({tile: reason(tile) for tile in range(plan.grid.n_tiles)})


def point_to(link: Path, run: SurveyRun) -> None:
    """Have a pointer name a run from now on: readers see the one before or this one, never neither.

    In a directory it is a symbolic link, in an object store an object that holds the run's URL.

    Raises InputError if something else is there, or nothing can be.
    """
    backend = backend_of(link)
    backend.refuse_no_link(link)
    backend.point_to(link, run.files.path)


def _prepare(old_run: str | PathLike[str], options: dict[str, Any]) -> tuple[SurveyRun, Options]:
    earlier = SurveyRun.open(old_run)
    if not earlier.files.certificate.exists():
        raise InputError(f"{earlier.files.path} is not finished: end it first, with the command that began it")
    if given := sorted(options.keys() & set(option_names(Settings))):
        raise SettingsError(f"{', '.join(given)}: settings are those of the earlier run, leave them out")
    if options.get("keep_history"):
        raise SettingsError("keep_history: tiles that are reused have no history, leave it out, or run from scratch")
    settings = {name: value for name, value in asdict(earlier.stored.plan.settings).items() if value is not None}
    return earlier, Options.parse(settings | options)
