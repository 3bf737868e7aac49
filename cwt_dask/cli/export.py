"""The command that writes a run for other tools."""

from __future__ import annotations

import click

from cwt_dask.cli.output import WorkingCommand, say


@click.command("export", cls=WorkingCommand)
@click.argument("run_dir")
@click.argument("out")
@click.option("--format", required=True, metavar="moc|hips", help="moc: coverage maps; hips: for sky viewers.")
def export(run_dir: str, out: str, **words: str) -> None:
    """Write the finished run in RUN_DIR to a new directory OUT in a format of other tools.

    moc: multi-order coverage maps of the survey and of the support, for Aladin, TOPCAT, mocpy. hips: hierarchical
    progressive surveys of counts, sigma and model, which Aladin opens: File, Load local file, OUT/counts.

    Example: cwt-dask export run run-moc --format moc
    """
    from cwt_dask.products.export import export as write
    from cwt_dask.results import SurveyRun

    say(f"written        {write(SurveyRun.open(run_dir), out, words['format'])}")
