"""The command that simulates a survey."""

from __future__ import annotations

from typing import Any

import click

from cwt_dask.cli.output import WorkingCommand, say


def _one_size(context: click.Context, _: click.Parameter, nside: int | None) -> int | None:
    if (nside is None) == (context.params["shape"] is None):
        raise click.UsageError("give one of --shape NY NX, for a flat map, and --nside N, for the whole sky", context)
    return nside


@click.command("simulate", cls=WorkingCommand)
@click.argument("out")
@click.option("--shape", type=int, nargs=2, metavar="NY NX", is_eager=True, help="Pixels of a flat map.")
@click.option(
    "--nside", type=int, metavar="N", callback=_one_size, help="In place of --shape: HEALPix maps of the whole sky."
)
@click.option("--seed", type=int, required=True, help="The same seed gives the same survey.")
@click.option("--sources", type=int, metavar="N", help="Number of sources; default: by the area.")
@click.option("--truth", metavar="T.ecsv", help="Write the true sources to this table.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def simulate(out: str, **words: Any) -> None:
    """Simulate a survey: counts, their background and exposure go to OUT (.fits).

    Example: cwt-dask simulate survey.fits --shape 1500 3000 --seed 1 --truth truth.ecsv
    """
    from cwt_dask.simulate import simulate as of_a_map
    from cwt_dask.simulate import simulate_sphere

    given = {name: words[name] for name in ("seed", "truth", "overwrite")} | {"n_sources": words["sources"]}
    if shape := words["shape"]:
        of_a_map(out, shape, **given)
        say(f"{out}: {shape[0]} x {shape[1]} pixels")
    else:
        simulate_sphere(out, nside := words["nside"], **given)
        say(f"{out}: 12 x {nside} x {nside} pixels")
