"""The table of what was measured at given positions, and where it is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.table import Table, vstack
from numpy.typing import NDArray

from cwt_dask.config.validation import counted, shown
from cwt_dask.cwt.arrays import Floats
from cwt_dask.errors import InputError, InterruptedRun
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.inspection.external import ExternalCatalogue
from cwt_dask.merge.columns import columns_of
from cwt_dask.pipeline.merging import add_table
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.signals import Stop
from cwt_dask.storage.paths import backend_of, refuse_inside
from cwt_dask.survey import free_path
from cwt_dask.survey.sphere import is_on_sphere

# Share of a source that the survey must see: of less no limit says anything.
LEAST_SEEN = 0.01
# What columns hold of a position that is given, where that is not what they hold of a row of the catalogue.
_TEXTS = {
    "source_id": "Number of the row in the table of positions, from 1",
    "name": "Name there; this number where it has none",
    "ra": "Right ascension (ICRS), as given",
    "dec": "Declination (ICRS), as given",
    "x_peak": "Column of the pixel that holds it, 0-based",
    "y_peak": "Row of the pixel that holds it, 0-based",
    "significance": "Largest T/E of that pixel over scales and iterations; not a number of sigmas where counts are few",
    "score": "The lesser of sigma and sqrt_ts",
    "scale": "Scale nearest to the width of the source",
    "radius": "Radius of the disc around that pixel in which counts are summed: sqrt(2) * scale * step_scale",
    "sqrt_ts_disc": "Square root of Cash's TS of the disc, background known",
    "extension": "Sigma of the source beyond the point spread function, as given, 0: a point source",
    "exposure": "Exposure of that pixel",
}
# What a given position does not have, or is not asked for: nobody has searched for it.
_NOT_OF_POSITIONS = ("pos_err", "expected_false", "island_id", "n_pixels", "sqrt_ts_ext")


def table_of(
    run: SurveyRun,
    called: str,
    given: ExternalCatalogue,
    widths: Floats,
    found: Sequence[tuple[NDArray[np.int64], dict[str, NDArray[Any]]]],
) -> Table:
    """Make the rows of a run, in the order of the positions.

    Parameters
    ----------
    run : SurveyRun
        The run.
    called : str
        Its name in the table.
    given : ExternalCatalogue
        The positions.
    widths : ndarray
        Their extensions in degrees.
    found : sequence of tuple
        By tile, rows of the positions, and what `cwt_dask.tiles.given.measure_given` found.
    """
    plan, statistics, wcs = run.stored.plan, run.survey.statistics, run.wcs
    spread, sphere = run.psf, is_on_sphere(wcs)
    columns = columns_of(statistics.exposure_unit, psf=spread is not None, sphere=sphere)
    columns = [column for column in columns if column.name not in _NOT_OF_POSITIONS]
    if not found:
        return Table({column.name: np.zeros(0, column.dtype) for column in columns})
    index = np.concatenate([rows for rows, _ in found])
    names = found[0][1]
    rows = Table({name: np.concatenate([values[name] for _, values in found]) for name in names})
    order = np.argsort(index)
    rows, index = rows[order], index[order]
    there = rows["seen"] >= LEAST_SEEN
    rows, index = rows[there], index[there]
    sky = given.sky[index]
    rows["source_id"], rows["name"] = given.numbers[index], given.names[index]
    rows["ra"], rows["dec"] = sky.ra.deg, sky.dec.deg
    rows["glon"], rows["glat"] = sky.galactic.l.deg, sky.galactic.b.deg
    rows["extension"], rows["scale_deg"] = widths[index], rows["scale"] * statistics.pixel_scale_deg
    rows["score"] = np.minimum(rows["sigma"], np.sqrt(rows["ts"]))
    if spread:
        rows["containment"] = spread.containment(rows["radius"], rows["x"], rows["y"])
    rows["x_centroid"], rows["y_centroid"] = rows["x_fit"], rows["y_fit"]
    if isinstance(plan.grid, FacetGrid):
        # From now on rows are of images.
        rows["facet"] = np.asarray(rows["y"]) // plan.grid.side
        for name in ("y", "y_centroid"):
            rows[name] = rows[name] - rows["facet"] * plan.grid.side
    described = [replace(column, text=_TEXTS.get(column.name, column.text)) for column in columns]
    own = {"source_id": rows["source_id"]}
    table = Table(
        {column.name: own.get(column.name, column.of(rows)) for column in described},
        units={column.name: column.unit for column in described if column.unit},
        descriptions={column.name: column.text for column in described},
    )
    table["run"] = np.full(len(table), called)
    table["run"].description = "Run"
    table["mjd"] = np.full(len(table), math.nan if sphere else float(wcs.wcs.mjdobs))
    table["mjd"].unit, table["mjd"].description = units.day, "Time of the observation as the survey's header has it"
    return table


def joined(
    runs: Sequence[SurveyRun], tables: Sequence[Table], given: ExternalCatalogue, outside: dict[str, int]
) -> Table:
    """Join the rows of runs: those of a position one below the other, in the order of the runs.

    Raises InputError if runs do not have the same columns and units.

    Parameters
    ----------
    runs, tables : sequence
        Runs, and the rows of each; some run has one.
    given : ExternalCatalogue
        The positions.
    outside : dict
        Number of positions that each run does not see.
    """
    kinds = [{name: str(table[name].unit) for name in table.colnames} for table in tables if len(table)]
    there = [run for run, table in zip(runs, tables, strict=True) if len(table)]
    for run, kind in zip(there, kinds, strict=True):
        differ = sorted({name for name, _ in kind.items() ^ kinds[0].items()})
        if differ:
            raise InputError(
                f"{run.files.path} has other columns or units than {there[0].files.path} ({', '.join(differ)}): "
                "measure it by itself"
            )
    joined = vstack([table for table in tables if len(table)], metadata_conflicts="silent")
    joined = joined[np.argsort(joined["source_id"], kind="stable")]
    if not np.isfinite(joined["mjd"]).any():
        joined.remove_column("mjd")
    first = runs[0].stored.plan
    joined.meta = {
        "CREATOR": f"cwt_dask {version('cwt_dask')}",
        "POSITIONS": f"{given.label}, {given.place} ({given.place.frame})",
        "INPUT": [run.stored.plan.survey_digest for run in runs],
        "SETTINGS": [run.stored.plan.settings_digest for run in runs],
        "FRAME": "ICRS (ra, dec) and Galactic (glon, glat)",
        "PIXELS": "0-based, centre of the first pixel at 0",
        "OUTSIDE": outside,
        **({"BKG": first.background} if first.background else {}),
    }
    return joined


def keep_measured(run: SurveyRun, measured: Table) -> None:
    """Write what was measured into the directory of a run, in place of what was before, and seal its certificate again.

    Raises InputError if another process holds the run, InterruptedRun if one has taken hold of it since.
    """
    files, stop = run.files, Stop()
    with backend_of(files.path).hold(files, stop.ask):
        certificate = run.certificate
        if stop.notice():
            raise InterruptedRun(f"interrupted: {files.measured} was not written; give the same command again")
        add_table(files, certificate, files.measured, measured)


def free_table(out: str | PathLike[str], runs: Iterable[SurveyRun]) -> Path:
    """Where a table can be written beside runs.

    Raises InputError if something is there, it lies in a run, or its name is that of no ECSV file.
    """
    path, _ = free_path(out)
    refuse_inside(path, (run.files.path for run in runs))
    if path.suffix != ".ecsv":
        raise InputError(f"out is {shown(str(out))}: give a file that ends in .ecsv")
    return path


def describe_measured(measured: Table) -> list[str]:
    """Summarize what was measured in lines of text."""
    n_sure = int((measured["sqrt_ts"] >= 5).sum())
    lines = [
        f"positions      {measured.meta['POSITIONS']}",
        f"measured       {counted(len(measured), 'row')}, {n_sure} with sqrt_ts of 5 and more",
    ]
    for run, n in measured.meta["OUTSIDE"].items():
        if n:
            lines.append(f"left out       {counted(n, 'position')} that {run} does not see")
    return lines
