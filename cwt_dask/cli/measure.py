"""The command that measures finished runs at given positions."""

from __future__ import annotations

from typing import Any

import click

from cwt_dask.cli.given import given_options
from cwt_dask.cli.options import declared_options
from cwt_dask.cli.output import WorkingCommand, reporting, say_all
from cwt_dask.config.execution import Execution

_WORKERS = ("workers", "memory_limit", "scheduler", "scheduler_file", "quiet", "log_format")


@click.command("measure", cls=WorkingCommand)
@click.argument("run_dirs", nargs=-1, required=True, metavar="RUN_DIR...")
@click.argument("positions")
@click.option("--out", metavar="FILE", help="Table to write (.ecsv) in place of measured.ecsv of the first run.")
@click.option("--plot", metavar="FILE", help="Light curves, too: a picture (.png, .pdf, .svg), a panel a position.")
@click.option(
    "--columns",
    metavar="LON,LAT[,FRAME]",
    help="Columns of POSITIONS, where it has several; and their frame: icrs, fk5, fk4, galactic.",
)
@click.option(
    "--extension",
    metavar="COLUMN",
    help="Column with the sigma of sources beyond the point spread function (deg), 0 of points.  [default: extension]",
)
@declared_options(Execution, only=_WORKERS)
def measure(run_dirs: tuple[str, ...], positions: str, **words: Any) -> None:
    """Measure the finished run in RUN_DIR at POSITIONS: counts, flux, upper limit, S, TS, into measured.ecsv.

    POSITIONS is a table of any format, or FILE[TABLE], as of `match`. Each position is fitted by itself beside the
    run's sources, which stay in the model, but for the one that it is. Of several runs, such as versions by
    `reprocess`, there is a row a position and run.

    Example: cwt-dask measure run-v1 run-v2 run-v3 blazars.fits --plot light-curves.pdf
    """
    given = given_options()
    with reporting(given) as progress:
        from cwt_dask.inspection.measure import measure as measure_at  # noqa: PLC0415 - not for help
        from cwt_dask.inspection.measured import describe_measured, free_table, keep_measured  # noqa: PLC0415
        from cwt_dask.products.difference import free_picture, write_picture  # noqa: PLC0415
        from cwt_dask.products.files import write_table  # noqa: PLC0415
        from cwt_dask.products.light_curves import plot_light_curves  # noqa: PLC0415
        from cwt_dask.results import SurveyRun  # noqa: PLC0415

        out, plot = words["out"], words["plot"]
        runs = [SurveyRun.open(run_dir) for run_dir in run_dirs]
        table, picture = free_table(out, runs) if out else None, free_picture(plot, runs) if plot else None
        chosen = {name: words[name] for name in ("columns", "extension")}
        found = measure_at(runs, positions, progress=progress, **chosen, **given)
        if table:
            write_table(table, found)
        else:
            keep_measured(runs[0], found)
        if picture:
            write_picture(plot_light_curves(found), picture)
    if given.get("log_format") == "json":
        progress.event("summary", rows=len(found), outside=found.meta["OUTSIDE"])
    elif not given.get("quiet"):
        say_all(describe_measured(found))
        say_all(f"written        {path}" for path in (table or runs[0].files.measured, picture) if path)
    if not table and runs[0].files.report.exists():
        from cwt_dask.report import write_report  # noqa: PLC0415 - not for help

        write_report(runs[0])
