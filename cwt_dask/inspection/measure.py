"""What finished runs say of given positions: the catalogue's columns there, upper limits where nothing is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from cwt_dask.config.options import Options
from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import Floats, numpys_own
from cwt_dask.errors import CwtDaskError, InputError, InterruptedRun, RunError
from cwt_dask.geometry.facets import AnyGrid, FacetGrid
from cwt_dask.inspection.external import ExternalCatalogue, read_external_catalogue
from cwt_dask.inspection.measured import joined, table_of
from cwt_dask.inspection.sources import KEPT_SINCE
from cwt_dask.planning.plan import Plan
from cwt_dask.products.sampling import Sampler
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.clusters.choice import prepare_cluster
from cwt_dask.runtime.executors import Executor, InProcess
from cwt_dask.runtime.progress import Logged, Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import store_errors
from cwt_dask.tiles.fitting import Reach
from cwt_dask.tiles.given import Places, measure_given
from cwt_dask.tiles.shapes import EXTENSIONS, point_spread_of

if TYPE_CHECKING:
    from distributed import Client

# Version of the algorithm before which fits on the sphere were others.
_ON_SPHERE_SINCE = 8


@dataclass(frozen=True)
class _Task:
    """Positions in a core of a run."""

    files: RunDir
    run_id: str
    plan: Plan
    survey: Path
    reach: Reach
    tile: int
    places: Places


@dataclass(frozen=True)
class _Work:
    """What is to be done, as `Workers` asks."""

    grid: AnyGrid
    worker_memory: int
    deadline: float


@numpys_own
def measure(
    runs: SurveyRun | str | PathLike[str] | Sequence[SurveyRun | str | PathLike[str]],
    positions: str | PathLike[str] | Table | SkyCoord,
    *,
    columns: str | None = None,
    extension: str | None = None,
    client: Client | None = None,
    progress: Reporter | None = None,
    **options: Any,
) -> Table:
    """Measure what is at given positions in one finished run, or in several; nothing is written.

    Each position is fitted by itself: it stays where it is, its counts are free, and so are counts and positions of the
    run's sources around it, which all stay in the model, but for the one that it is: within 1.5 finest scales.

    Parameters
    ----------
    runs : SurveyRun or path-like, or a sequence of them
        Runs or their directories, such as the versions that `reprocess` makes of a survey.
    positions : path-like, Table or SkyCoord
        A table of any format, or ``FILE[TABLE]``, as `cwt-dask match` takes it.
    columns : str, optional
        Its columns with the positions, where it has several: longitude, latitude and, optionally, their frame, with
        commas between.
    extension : str, optional
        Its column with the sigma of each source beyond the point spread function, in degrees unless it has another
        unit; one called extension unless given. Where it is blank or 0 a source is a point.
    client : distributed.Client, optional
        Cluster to run on. By default workers of this machine, if more than one tile has positions.
    progress : cwt_dask.runtime.progress.Reporter, optional
        Receives messages and progress.
    **options
        Fields of `cwt_dask.execution.Execution`.

    Returns
    -------
    astropy.table.Table
        A row a position and run: number and name of the position, columns as those of the catalogue, and the run.
        Positions of which a survey sees less than a hundredth of the source are left out: how many is in
        ``meta["OUTSIDE"]``, by run.

    Raises
    ------
    InputError
        If the positions or an extension cannot be used, none lies in the surveys, a run is not finished or of a release
        that kept no fits, or runs do not have the same columns.
    RunError
        If a tile cannot be measured, or its files are damaged.
    InterruptedRun
        If it was asked to stop by a signal.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.coordinates import SkyCoord
    >>> from cwt_dask import run_survey
    >>> from cwt_dask.inspection.measure import measure
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
    >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
    >>> rows = measure(run, SkyCoord([0.0, 1.5], [0.5, 0.0], unit="deg", frame="galactic"))
    >>> rows["name"].tolist(), bool((rows["npred_ul"] > rows["npred"]).all())
    (['1', '2'], True)
    """
    several = [runs] if isinstance(runs, SurveyRun | str | PathLike) else runs
    opened = [run if isinstance(run, SurveyRun) else SurveyRun.open(run) for run in several]
    progress, execution = progress or Logged(), Options.parse(options).execution
    given = read_external_catalogue(
        Table({"position": positions.reshape(-1)}) if isinstance(positions, SkyCoord) else positions, columns
    )
    widths = _extensions(given, extension)
    called = _called(opened)
    tasks, rows_of = list[_Task](), list[NDArray[np.int64]]()
    for run in opened:
        for task, rows in _tasks(run, given, widths):
            tasks.append(task)
            rows_of.append(rows)
    stop = Stop(lambda: progress.message("stopping: tasks that have started are finished first"))
    connect = None if client or len(tasks) < 2 else prepare_cluster(execution, opened[0].files.path, progress, stop)
    try:
        with store_errors(), ExitStack() as stack:
            stack.enter_context(stop.on_signals())
            client = stack.enter_context(connect()) if connect else client
            executor = stack.enter_context(_executor(tasks, Workers(client, execution), progress, stop))
            with stop.patience():
                found = _carry_out(tasks, executor, progress)
    except InterruptedRun as error:
        raise InterruptedRun("interrupted: nothing was written; give the same command again") from error
    tables, outside = [], {}
    for run, name in zip(opened, called, strict=True):
        own = [k for k, task in enumerate(tasks) if task.files == run.files]
        table = table_of(run, name, given, widths, [(rows_of[k], found[k]) for k in own])
        outside[name] = len(given.names) - len(table)
        tables.append(table)
    if not any(map(len, tables)):
        raise InputError(
            f"{given.label} has no position inside the survey, by {given.place} ({given.place.frame}): if they are in "
            "another frame say so, as by --columns LON,LAT,galactic"
        )
    return joined(opened, tables, given, outside)


def _called(runs: Sequence[SurveyRun]) -> list[str]:
    """What runs are called in the table."""
    if not runs:
        raise InputError("no run is given: give one, or several")
    names = Counter(run.files.path.name for run in runs)
    paths = Counter(str(run.files.path) for run in runs)
    if twice := next((path for path, n in paths.items() if n > 1), None):
        raise InputError(f"{twice} is given twice: give each run once")
    return [path.name if names[path.name] == 1 else str(path) for path in (run.files.path for run in runs)]


def _extensions(given: ExternalCatalogue, column: str | None) -> Floats:
    """Extensions of positions in degrees, 0 of points."""
    name = column or "extension"
    if name not in given.table.colnames or (column is None and given.table[name].dtype.kind not in "fiu"):
        if column:
            raise InputError(f"{given.label} has no column {column}: it has {shown(', '.join(given.table.colnames))}")
        return np.zeros(len(given.names))
    values = given.table[name]
    try:
        numbers = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
        degrees = units.Quantity(numbers, values.unit or units.deg).to_value(units.deg)
    except (ValueError, TypeError) as error:
        raise InputError(f"column {name} of {given.label} has no angles: give degrees, or their unit") from error
    return np.where(np.isfinite(degrees), degrees, 0.0)


def _tasks(run: SurveyRun, given: ExternalCatalogue, widths: Floats) -> Iterator[tuple[_Task, NDArray[np.int64]]]:
    """Tiles of a run that have positions, with the rows of these."""
    # What is not finished has no certificate.
    _ = run.certificate
    plan, run_id = run.stored.plan, run.stored.run_id
    since = _ON_SPHERE_SINCE if isinstance(plan.grid, FacetGrid) else KEPT_SINCE
    if plan.algorithm_version < since or not run_id:
        raise InputError(
            f"{run.files.path} is of a release that kept no such fits: make it again, such as with cwt-dask reprocess"
        )
    statistics = run.survey.statistics
    most = EXTENSIONS[-1] * point_spread_of(run.files, plan, run.survey.header_text).sigma * statistics.pixel_scale_deg
    if (wrong := (widths < 0) | (widths > most)).any():
        k = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"the extension of {given.names[k]} in {given.label} is {widths[k]:g} deg: it must be 0, of a point, to "
            f"{most:.3g}, {EXTENSIONS[-1]:g} times the width of the point spread function"
        )
    pixels = Sampler(run, given.sky).pixels(len(plan.grid.array_shape))
    rows = np.flatnonzero(pixels[0])
    *facet, row, column = (index[rows] for index in pixels[1])
    x, y = (np.asarray(axis, np.float64) for axis in run.wcs.world_to_pixel(given.sky[rows]))
    if isinstance(plan.grid, FacetGrid):
        tiles = facet[0]
        row = row + tiles * plan.grid.side
    else:
        tiles = row // plan.grid.y.core * plan.grid.x.n_tiles + column // plan.grid.x.core
    if plan.grid.ring:
        # In the turn of its pixel.
        x = x - np.rint((x - column) / plan.grid.width) * plan.grid.width
    places = Places(row, column, y, x, widths[rows] / statistics.pixel_scale_deg)
    reach = Reach.of(run.files, plan, run.survey)
    for tile in np.unique(tiles):
        these = tiles == tile
        yield _Task(run.files, run_id, plan, run.survey.path, reach, int(tile), places[these]), rows[these]


def _executor(
    tasks: Sequence[_Task], workers: Workers, progress: Reporter, stop: Stop
) -> AbstractContextManager[Executor]:
    """Where tasks are carried out."""
    if len(tasks) < 2:
        return nullcontext(InProcess(stop))
    plans = [task.plan for task in tasks]
    most = max(plans, key=lambda plan: plan.grid.n_tiles)
    work = _Work(most.grid, max(plan.worker_memory for plan in plans), max(plan.deadline for plan in plans))
    return workers.open(work, progress, stop)


def _carry_out(tasks: Sequence[_Task], executor: Executor, progress: Reporter) -> list[dict[str, NDArray[Any]]]:
    """What each task finds."""
    found: dict[int, dict[str, NDArray[Any]]] = {}
    outcomes = executor.map(partial(_measure, tasks), range(len(tasks)))
    for outcome in progress.track(outcomes, "measure", len(tasks)):
        if outcome.error:
            if isinstance(outcome.error, CwtDaskError):
                raise outcome.error
            task = tasks[outcome.item]
            raise RunError(
                f"tile {task.tile} of {task.files.path} cannot be measured ({type(outcome.error).__name__}: "
                f"{outcome.error}): give the same command again"
            ) from outcome.error
        found[outcome.item] = outcome.value
    executor.stop.check()
    return [found[k] for k in range(len(tasks))]


def _measure(tasks: Sequence[_Task], k: int) -> dict[str, NDArray[Any]]:
    task = tasks[k]
    return measure_given(task.files, task.run_id, task.plan, task.survey, task.reach, task.tile, task.places)
