"""The command that writes a run for other tools."""

from __future__ import annotations

from typing import Any

import click

from cwt_dask.cli.output import WorkingCommand, say

_OF_MODELS = "of models, where the survey does not say it."


@click.command("export", cls=WorkingCommand)
@click.argument("run_dir")
@click.argument("out")
@click.option("--format", required=True, metavar="gammapy|fermipy-xml|ds9|crtf|moc|hips", help="As listed above.")
@click.option("--emin", metavar="E", help=f"Lowest energy of the counts, such as 10GeV, {_OF_MODELS}")
@click.option("--emax", metavar="E", help=f"Highest energy of the counts, {_OF_MODELS}")
@click.option("--index", type=float, help="Photon index of models; else the run's, or 2.")
def export(run_dir: str, out: str, **words: Any) -> None:
    """Write the finished run in RUN_DIR to OUT, a new file or directory, in a format of other tools.

    \b
    gammapy       models of the catalogue's sources, YAML, for Gammapy's Models.read
    fermipy-xml   the same as XML, for Fermi's tools, Fermipy and ctools
    ds9, crtf     regions: points, and circles of the extension
    moc           a directory: coverage of survey and support, for Aladin, TOPCAT, mocpy
    hips          a directory: counts, sigma and model for Aladin (File, Load local file, OUT/counts)

    Example: cwt-dask export run sources.yaml --format gammapy
    """  # noqa: D301 - click's mark of lines that it leaves as they are
    from cwt_dask.products.export import export as write
    from cwt_dask.results import SurveyRun

    given = {name: value for name, value in words.items() if value is not None}
    say(f"written        {write(SurveyRun.open(run_dir), out, **given)}")
