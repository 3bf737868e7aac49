"""The command that makes a background of counts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from cwt_dask.cli.given import given_options
from cwt_dask.cli.options import declared_options
from cwt_dask.cli.output import WorkingCommand, reporting, say
from cwt_dask.config.execution import Execution
from cwt_dask.config.options import SourceOptions

# What a background that is estimated from the counts has to do with: where they are, and workers.
_OF_COUNTS = (
    *("counts_hdu", "exposure_hdu", "mask_hdu", "exposure", "mask", "band", "emin", "emax", "index"),
    *("workers", "memory_limit", "scheduler", "scheduler_file", "quiet", "log_format"),
)


@click.command("background", cls=WorkingCommand)
@click.argument("counts")
@click.argument("out")
@click.option("--scale", required=True, metavar="PIXELS|DEG", help="Scale of the smoothing.")
@declared_options(SourceOptions, Execution, only=_OF_COUNTS)
def background(counts: str, out: str, **words: Any) -> None:
    """Estimate a background from COUNTS outside of sources, at a scale: it goes to OUT (.fits).

    For `run ... --background OUT`, where there is no model. The background is taken to be proportional to the exposure
    within the scale; sources are found by iteration and left out. The larger the scale, the smaller its error, and the
    more structure it does not follow: docs/howto/background.md says when not to use it.

    Example: cwt-dask background counts.fits background.fits --scale 2deg --exposure exposure.fits
    """
    given = given_options()
    with reporting(given) as progress:
        from cwt_dask.background import write_background  # noqa: PLC0415 - not for help

        found = write_background(counts, out, scale=words["scale"], progress=progress, **given)
    if given.get("log_format") == "json":
        progress.event("summary", out=out, **asdict(found))
    elif not given.get("quiet"):
        say(f"{out}: {found.describe()}")
