"""One field of one trial: simulated, analysed by a run of its own, and judged; what comes of it is kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cwt_dask.assess.charts import Chart, chart_of
from cwt_dask.assess.fields import Field
from cwt_dask.assess.skies import Ground, Sources, inside
from cwt_dask.config.options import Options
from cwt_dask.cwt.arrays import Floats, numpys_own
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.measure.false_rows import count_levels
from cwt_dask.results import SurveyRun
from cwt_dask.run import execute
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.archives import is_whole, read_sealed_archive, write_sealed_archive
from cwt_dask.storage.drafts import scratch_directory
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import on_disk

# A row is a source's within so many of its widths, and at least so many pixels.
_WIDTHS, _PIXELS = 2.0, 2.0
# Numbers that each field draws with, by what it draws.
_INJECTED, _COUNTS = 1, 2

# Columns of a catalogue that say where and how bright its sources are.
OF_SOURCES = "ra", "dec", "npred", "extension"
# Columns of the rows of fields: where they are, and what is compared.
OF_ROWS = "ra", "dec", "score", "npred", "npred_errn", "npred_errp", "pos_err", "extension"

Found = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Trial:
    """What is simulated of a field."""

    kind: str  # "null" or "injected".
    number: int
    field: Field

    def path(self, files: RunDir) -> Path:
        """Where what comes of it is kept."""
        return files.assessed_field(self.kind, self.number, self.field.number)


@dataclass(frozen=True)
class Assessment:
    """All trials of a run."""

    files: RunDir
    run_id: str
    trials: tuple[Trial, ...]
    seed: int
    of: str  # Digest of what decides the outcome of each of them, but for the trial.
    n_iter: int  # Iterations of the run.
    threads: int

    def found(self, number: int) -> Found | None:
        """What is kept of a trial; None where that is nothing, or of another assessment."""
        path = self.trials[number].path(self.files)
        if is_whole(path, self.run_id):
            found = read_sealed_archive(path, self.run_id)
            if str(found["of"]) == self.of:
                return found
        return None


def keep_sources(files: RunDir, run_id: str, catalogue: Table) -> None:
    """Keep the sources of a catalogue where trials read them; workers do not read the whole of it.

    Parameters
    ----------
    files, run_id
        Of the run.
    catalogue : Table
        Its catalogue.
    """
    columns = {name: np.asarray(catalogue[name], np.float64) for name in OF_SOURCES}
    write_sealed_archive(files.assessed_sources, run_id, columns)


@numpys_own
def carry_out(assessment: Assessment, number: int) -> int:
    """Do a trial, and keep what comes of it, unless that is there.

    Parameters
    ----------
    assessment : Assessment
        All trials.
    number : int
        Which.
    """
    if assessment.found(number) is None:
        trial = assessment.trials[number]
        run = SurveyRun.open(assessment.files.path)
        chart = chart_of(run)
        found = judge(*_analysed(assessment, run, chart, trial)) | {"of": np.array(assessment.of)}
        # Rows have degrees, and shapes pixels.
        found["source_extension"] = found["source_extension"] * run.survey.statistics.pixel_scale_deg
        write_sealed_archive(trial.path(assessment.files), assessment.run_id, found)
    return number


def _analysed(
    assessment: Assessment, run: SurveyRun, chart: Chart, trial: Trial
) -> tuple[Ground, Sources, Sources, Table]:
    """Simulate a field and have it analysed: with the run's sources, others, and rows of catalogue and candidates."""
    key = [assessment.seed, ("null", "injected").index(trial.kind), trial.number, trial.field.number]
    ground = Ground.of(run, chart, trial.field)
    known = injected = Sources(chart.drawn(trial.field.box, 0, np.random.default_rng(0)), np.empty(0), np.empty(0, int))
    if ground.is_empty:
        return ground, known, injected, Table({name: np.empty(0) for name in OF_ROWS})
    if trial.kind == "injected":
        known = _sources_in(assessment, run, ground)
        injected = ground.inject(np.random.default_rng([*key, _INJECTED]))
    counts = ground.draw(known.joined(injected), np.random.default_rng([*key, _COUNTS]))
    planes = {"counts": counts} | ground.planes
    # A disk that holds the run has room for a field of it.
    with scratch_directory(on_disk(run.files.path)) as scratch:
        chart.write(scratch / "field.fits", trial.field.box, planes, run.survey.statistics.exposure_unit)
        done = execute(
            scratch / "field.fits",
            scratch / "run",
            _options(assessment, run, trial.field),
            progress=Reporter(),
            earlier=run.files,
        )
        return ground, known, injected, vstack([done.catalogue, done.candidates], metadata_conflicts="silent")


def _sources_in(assessment: Assessment, run: SurveyRun, ground: Ground) -> Sources:
    """Sources of the run that reach into a field."""
    kept = read_sealed_archive(assessment.files.assessed_sources, assessment.run_id)
    places = ground.chart.of_sky(SkyCoord(kept["ra"], kept["dec"], unit="deg"))
    extension = kept["extension"] / run.survey.statistics.pixel_scale_deg
    width = np.abs(extension[:, np.newaxis] - ground.shapes.extensions).argmin(axis=1)
    rows, columns = ground.chart.pixels(places)
    near = inside(ground.field.box.grown(ground.shapes.reach), rows, columns) & (kept["npred"] > 0)
    return Sources(places, kept["npred"], width).of(near)


def _options(assessment: Assessment, run: SurveyRun, field: Field) -> Options:
    plan = run.stored.plan
    settings = {name: value for name, value in asdict(plan.settings).items() if value is not None}
    # What is left is noise where the run stopped: a sky of noise alone would stop by itself earlier, and show less.
    settings |= {"stopping": "fixed", "max_iter": assessment.n_iter}
    if isinstance(plan.grid, TileGrid):
        settings |= {"tile_size": max(*field.box.shape), "margin": "auto", "wrap": "no"}
    execution = {"workers": 0, "threads": assessment.threads, "fits": "no", "no_report": True}
    return Options.parse(settings | execution)


def judge(ground: Ground, known: Sources, injected: Sources, rows: Table) -> dict[str, NDArray[Any]]:
    """Compare the rows of a field with what was put there.

    Parameters
    ----------
    ground : Ground
        The field.
    known, injected : Sources
        Those of the run, and those that are looked for.
    rows : Table
        Of the field's catalogue and candidates.

    Returns
    -------
    dict
        Columns of rows (``row_...``) and of injected sources (``source_...``) in the part of the field that counts, its
        pixels by background, and how many are used.
    """
    chart, counted, box = ground.chart, ground.field.counted, ground.field.box
    sources = known.joined(injected)
    at = SkyCoord(rows["ra"], rows["dec"], unit="deg")
    places = chart.of_sky(at)
    width = ground.sigma(sources.places, sources.width)
    apart, nearest = _nearest(chart.in_pixels(places), chart.in_pixels(sources.places))
    is_true = apart <= np.maximum(_WIDTHS * np.append(width, 0.0)[nearest], _PIXELS)
    here = inside(counted, *chart.pixels(places))
    # The row of a source is the best of those to which it is the nearest.
    row_of = np.full(len(sources) + 1, -1)
    order = np.argsort(np.asarray(rows["score"]), kind="stable")
    row_of[nearest[order][is_true[order]]] = order[is_true[order]]
    mine = np.arange(len(known), len(sources))
    mine = mine[inside(counted, *chart.pixels(injected.places))]
    of, row = sources.of(mine), row_of[mine]
    seen = row >= 0

    def column(name: str) -> Floats:
        return np.where(seen, np.append(np.asarray(rows[name], np.float64), np.nan)[row], np.nan)

    unit = ground.shapes.extensions
    used = ground.planes["mask"][counted.within(box)] > 0
    background = np.asarray(ground.planes["background"][counted.within(box)], np.float64)
    found = {
        "row_score": np.asarray(rows["score"], np.float64)[here],
        "row_is_true": is_true[here],
        "source_counts": of.counts,
        "source_exposure": ground.at("exposure", of.places),
        "source_background": ground.at("background", of.places),
        "source_extension": unit[of.width],
        "source_off_found": _separations(chart.on_sky(of.places), at, row),
        "levels": count_levels(background, used),
        "n_used": np.array(used.sum()),
    }
    return found | {f"source_{name}_found": column(name) for name in OF_ROWS[2:]}


def _nearest(of: Floats, others: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """How far the nearest other is, and which; the number of others where there is none."""
    if not (len(of) and len(others)):
        return np.full(len(of), np.inf), np.full(len(of), len(others))
    apart, nearest = cKDTree(others).query(of)
    return np.asarray(apart), np.asarray(nearest, np.int64)


def _separations(sky: SkyCoord, rows: SkyCoord, row: NDArray[np.int64]) -> Floats:
    """Degrees from positions to their rows; NaN where there is none."""
    found = np.full(len(row), np.nan)
    seen = row >= 0
    found[seen] = sky[seen].separation(rows[row[seen]]).deg
    return found
