"""The command that assesses a run."""

from __future__ import annotations

from typing import Any

import click

from cwt_dask.cli.given import given_options
from cwt_dask.cli.options import declared_options
from cwt_dask.cli.output import WorkingCommand, reporting, say, say_all
from cwt_dask.config.execution import Execution

_OF_WORK = (
    *("workers", "threads", "memory_limit", "scheduler", "scheduler_file", "cluster", "stall_timeout"),
    *("quiet", "log_format"),
)


@click.command("assess", cls=WorkingCommand)
@click.argument("run_dir")
@click.option("--nulls", type=int, default=4, show_default=True, metavar="K", help="Skies of noise alone.")
@click.option("--injections", type=int, default=4, show_default=True, metavar="M", help="Skies with injected sources.")
@click.option("--seed", type=int, default=0, show_default=True, help="All that is random follows from it.")
@declared_options(Execution, only=_OF_WORK)
def assess(run_dir: str, **words: Any) -> None:
    """Measure what the catalogue of the finished run in RUN_DIR is worth: false rows, completeness, fluxes, positions.

    Skies are simulated from the run's own background, sources and point spread function, and go through the same
    pipeline; of large surveys a sample of fields, some 10 million pixels a sky. The table goes to assessment.ecsv, a
    summary to certificate and report. What was done before is kept: the same command goes on after an interruption, and
    a larger K or M adds skies.

    Example: cwt-dask assess run --nulls 4 --injections 4
    """
    given = given_options()
    with reporting(given) as progress:
        from cwt_dask.assess import assess as carry_out  # noqa: PLC0415 - not for help
        from cwt_dask.assess.summary import describe  # noqa: PLC0415
        from cwt_dask.results import SurveyRun  # noqa: PLC0415

        asked = {name: words[name] for name in ("nulls", "injections", "seed")}
        table = carry_out(run_dir, progress=progress, **asked, **given)
        run = SurveyRun.open(run_dir)
        if given.get("log_format") == "json":
            progress.event("summary", out=str(run.files.assessment), **run.certificate["assessment"])
        elif not given.get("quiet"):
            say_all(describe(table))
            say(f"written        {run.files.assessment}")
    if run.files.report.exists():
        from cwt_dask.report import write_report  # noqa: PLC0415 - not for help

        write_report(run)
