"""The commands: each calls what does its work, and prints what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cwt_dask.cli.assess import assess
from cwt_dask.cli.background import background
from cwt_dask.cli.export import export
from cwt_dask.cli.given import given_options
from cwt_dask.cli.measure import measure
from cwt_dask.cli.options import declared_options
from cwt_dask.cli.output import WorkingCommand, output, reporting, say, say_all
from cwt_dask.cli.simulate import simulate
from cwt_dask.config.events import MapOptions, are_events
from cwt_dask.config.execution import Execution
from cwt_dask.config.options import SourceOptions
from cwt_dask.config.settings import Settings
from cwt_dask.errors import CwtDaskError
from cwt_dask.runtime.clusters.ranks import wait_for_the_first
from cwt_dask.runtime.terminal import visible

if TYPE_CHECKING:
    from cwt_dask.results import SurveyRun
    from cwt_dask.runtime.progress import Reporter

_config = click.option(
    "--config",
    metavar="FILE",
    multiple=True,
    help="TOML file with any of these options; of several files later ones win, and the command line wins over all.",
)


def _refuse_none(context: click.Context, _: click.Parameter, inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a call without inputs: of too few words click gives the last ones to what follows."""
    if not inputs:
        arguments = [each for each in context.command.params if isinstance(each, click.Argument)]
        names = ", then ".join(each.human_readable_name for each in arguments)
        raise click.UsageError(f"an argument is missing: give {names}", context)
    return inputs


_inputs = click.argument("inputs", nargs=-1, metavar="SURVEY|EVENTS...", callback=_refuse_none)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="cwt_dask", prog_name="cwt-dask")
def cli() -> None:
    """Find sources in gamma-ray survey maps of any size by an iterative wavelet transform, tile by tile.

    To try it:

    \b
    cwt-dask simulate survey.fits --shape 1500 3000 --seed 1
    cwt-dask plan survey.fits --n-scale 3 --min-scale 1.2 --step-scale 1.5    what a run takes; runs nothing
    cwt-dask run survey.fits run --n-scale 3 --min-scale 1.2 --step-scale 1.5
    cwt-dask status run                                                       from another terminal, too
    cwt-dask verify run                                                       every promise, from the files

    cwt-dask COMMAND --help says what a command does, with an example.
    """  # noqa: D301 - click's mark of lines that it leaves as they are


cli.command_class = WorkingCommand
cli.add_command(assess)
cli.add_command(background)
cli.add_command(export)
cli.add_command(measure)
cli.add_command(simulate)


@cli.command("run")
@_inputs
@click.argument("run_dir")
@declared_options(SourceOptions, MapOptions, Settings, Execution)
@_config
def _run(inputs: tuple[str, ...], run_dir: str, **_: Any) -> int:
    """Find the sources of SURVEY: maps, catalogue, certificate and report go to RUN_DIR.

    With --center, --size and --pixel event lists are binned onto a map first, as `cwt-dask ingest` does.

    On an existing RUN_DIR of the same survey and settings it resumes that run. Take as finest scale about the
    width (sigma) of the point spread function. Options from --n-scale to --source-prefix decide the result; the
    remaining options do not change the result.

    Example: cwt-dask run survey.fits run --n-scale 3 --min-scale 0.12deg --step-scale 1.5 --workers 4
    """
    given = given_options()
    with reporting(given) as progress:
        from cwt_dask.run import run_survey

        result = run_survey(inputs, run_dir, progress=progress, **given)
    return _conclude(result, progress, given)


@cli.command("reprocess")
@_inputs
@click.argument("old_run")
@click.argument("new_run")
@click.option("--dry-run", is_flag=True, help="Show what would be reused and what computed; nothing is run.")
@click.option("--current", metavar="LINK", help="Symbolic link to point to NEW_RUN, if every promise is kept.")
@declared_options(SourceOptions, MapOptions, Execution)
@_config
def _reprocess(
    inputs: tuple[str, ...], old_run: str, new_run: str, dry_run: bool, current: str | None, **_: Any
) -> int:
    """Run on SURVEY, a new version of what OLD_RUN analysed, under its settings: unchanged tiles are reused.

    The result in NEW_RUN is that of a run from scratch.

    Example: cwt-dask reprocess survey-v2.fits run-v1 run-v2 --current current
    """
    given = given_options()
    from cwt_dask.reprocess import point_to, reprocess, what_would_be_reused
    from cwt_dask.storage.paths import as_path, backend_of

    if dry_run:
        say_all(what_would_be_reused(inputs, old_run, **given))
        return 0
    if current:
        # Not only when all is computed.
        backend_of(link := as_path(current)).refuse_no_link(link)
    with reporting(given) as progress:
        result = reprocess(inputs, old_run, new_run, progress=progress, **given)
    status = _conclude(result, progress, given)
    if current and not status:
        point_to(as_path(current), result)
    return status


@cli.command("compare")
@click.argument("run_a")
@click.argument("run_b")
@click.option("--plot", metavar="FILE", help="Draw the differences of model and S, and these sources: png, pdf, svg.")
def _compare(run_a: str, run_b: str, plot: str | None) -> None:
    """Say what differs between two finished runs: sources gained, lost and changed, and the maps.

    Example: cwt-dask compare run-v1 run-v2 --plot difference.png
    """
    from cwt_dask.inspection.compare import compare_runs, describe, draw
    from cwt_dask.products.difference import free_picture
    from cwt_dask.results import SurveyRun

    first, second = SurveyRun.open(run_a), SurveyRun.open(run_b)
    picture = free_picture(plot, (first, second)) if plot else None
    found = compare_runs(first, second)
    if picture:
        draw(first, second, found, picture)
    say_all(describe(found))


@cli.command("match")
@click.argument("run_dir")
@click.argument("catalogue")
@click.option("--radius", default="0.1", show_default=True, metavar="DEG", help="Farthest counterpart; or 6arcmin.")
@click.option(
    "--columns",
    metavar="LON,LAT[,FRAME]",
    help="Columns of CATALOGUE with the positions, where it has several; and their frame: icrs, fk5, fk4, galactic.",
)
def _match(run_dir: str, catalogue: str, radius: str, columns: str | None) -> None:
    """Look for the sources of the finished run in RUN_DIR in CATALOGUE: a table of any format, or FILE[TABLE].

    Associations, nearest within the radius, become columns of the run's catalogue; how many there would be by chance is
    estimated at shifted positions.

    Example: cwt-dask match run gll_psch_v13.fit.gz --radius 0.2
    """
    from cwt_dask.inspection.match import associate, describe_match, match_run
    from cwt_dask.results import SurveyRun

    result = SurveyRun.open(run_dir)
    found = match_run(result, catalogue, radius, columns)
    associate(result, found)
    say_all(describe_match(found))
    say(f"written        {result.files.associations}, and columns assoc_name, assoc_sep of the catalogue")
    if result.files.report.exists():
        from cwt_dask.report import write_report

        write_report(result)


@cli.command("plan")
@_inputs
@declared_options(SourceOptions, MapOptions, Settings, Execution)
@_config
def _plan(inputs: tuple[str, ...], **_: Any) -> None:
    """Say what `run` would do with SURVEY and what it would need; nothing is run or written.

    Example: cwt-dask plan survey.fits --n-scale 3 --min-scale 1.2 --step-scale 1.5
    """
    given = given_options()
    from cwt_dask.products.summary import describe_plan
    from cwt_dask.run import plan_survey

    say(describe_plan(plan_survey(inputs, **given)))


@cli.command("ingest")
@_inputs
@click.argument("out")
@declared_options(SourceOptions, MapOptions)
def _ingest(inputs: tuple[str, ...], out: str, **_: Any) -> None:
    """Make of SURVEY a store OUT (.zarr) that workers read window by window; `run` takes it in place of SURVEY.

    With --center, --size and --pixel event lists are binned onto a map: counts go to OUT if it ends in .fits, and with
    a --background they become a store. EVENTS are files of Fermi (FT1), in GADF's DL3 format, or other tables in FITS
    or ECSV; FILE[TABLE], observation indexes, or directories:

    cwt-dask ingest photons.fits counts.fits --center 184.56,-5.78 --size 20,10 --pixel 0.1 --emin 10GeV

    Example: cwt-dask ingest counts.fits.gz survey.zarr --background model.fits
    """
    given = given_options()
    from cwt_dask.runtime.progress import reporter

    progress = reporter(output(), quiet=False)
    if are_events(len(inputs), given):
        from cwt_dask.events import ingest_events

        made = ingest_events(inputs, out, progress=progress, **given)
        say(f"{out}: {made.describe()}")
        background, warnings = made.background, made.warnings
    else:
        from cwt_dask.background import Means, with_estimate
        from cwt_dask.survey import SurveySource, free_path, ingest

        free_path(out)
        with with_estimate(SurveySource.of(inputs[0], **given), Means.of(Execution(), progress)) as described:
            statistics = ingest(described, out).statistics
        say(f"{out}: {statistics.shape[0]} x {statistics.shape[1]} pixels, {statistics.counts_sum:.0f} counts")
        background, warnings = statistics.background, statistics.warnings
    say_all([background] if background else [])
    say_all(f"warning: {warning}" for warning in warnings)


@cli.command("status")
@click.argument("run_dir")
def _status(run_dir: str) -> None:
    """Say how far the run in RUN_DIR is.

    Example: cwt-dask status run
    """
    from cwt_dask.products.summary import RESUME, describe_left, describe_run
    from cwt_dask.results import SurveyRun
    from cwt_dask.storage.driver import read_driver
    from cwt_dask.storage.progress import read_progress

    result = SurveyRun.open(run_dir)
    total, progress = result.stored.plan.grid.n_tiles, read_progress(result.files, result.stored.run_id)
    iterations = ", ".join(map(str, progress.iterations))
    say(f"{run_dir}: {progress.n_done} of {total} tiles done" + (f", iterations {iterations}" if iterations else ""))
    if block := progress.block:
        say(f"on the way: {block[1]} of {total} tiles have made {block[0]} iterations")
    driver = read_driver(result.files)
    if driver:
        say(f"{'left unfinished by' if driver.is_gone else 'in the hands of'} {driver}")
    lacking = [name for name in ("certificate", "report") if not getattr(result.files, name).exists()]
    finished = "certificate" not in lacking
    for tile, failure in ({} if finished else progress.failed).items():
        say(f"tile {tile} failed, attempt {failure.attempt}, {failure.stage}: {failure.error}: {failure.message}")
    if finished:
        say(describe_run(result))
        say_all(f"report         none: cwt-dask report {run_dir} writes it" for _ in lacking)
    else:
        by_itself = driver and not driver.is_gone
        say(f"not finished: no {' and no '.join(lacking)} yet{'' if by_itself else f'; {RESUME}'}")
        say(f"left to do: {describe_left(result, progress)}")


@cli.command("verify")
@click.argument("run_dir")
@click.option("--recompute", type=int, metavar="K", help="Make K tiles again, with wider margins, and compare.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which tiles are made again.")
@click.option("--against-whole", is_flag=True, help="Analyse the whole map at once, where memory allows, and compare.")
def _verify(run_dir: str, recompute: int | None, seed: int, against_whole: bool) -> int:
    """Check every promise of the finished run in RUN_DIR again, from its files and, if asked to, by computing.

    It finds harm done by tiling, losses and changes. It cannot tell whether the mathematics or the background is right.

    Example: cwt-dask verify run --recompute 5
    """
    from cwt_dask.inspection.verify import scope, verify_run
    from cwt_dask.results import SurveyRun

    broken, result = False, SurveyRun.open(run_dir)
    for check in verify_run(result, recompute=recompute, seed=seed, against_whole=against_whole):
        verdict = "BROKEN" if check.broken else "note" if check.fault else "ok"
        say(f"{verdict:>6}  {check.promise}{': ' if check.fault else ''}{check.fault}")
        broken |= check.broken
    say_all(scope(result, recompute=recompute, against_whole=against_whole))
    return 1 if broken else 0


@cli.command("report")
@click.argument("run_dir")
def _report(run_dir: str) -> None:
    """Write the report of the finished run in RUN_DIR again: one page, report.html, that needs no network.

    Example: cwt-dask report run
    """
    from cwt_dask.report import write_report
    from cwt_dask.results import SurveyRun

    say(f"report         {write_report(SurveyRun.open(run_dir))}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status; errors are one line on standard error."""
    try:
        return cli.main(arguments, standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError:
        return _complain("no command is given: cwt-dask --help lists them", 2)
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except CwtDaskError as error:
        return _complain(str(error), error.exit_status)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted: give the same command again; a run goes on where it stopped", 75)


def _conclude(result: SurveyRun, progress: Reporter, given: dict[str, Any]) -> int:
    """Print the result of a run, and give its exit status."""
    if given.get("log_format") == "json":
        progress.event("summary", n_sources=len(result.catalogue), **result.certificate)
    elif not given.get("quiet"):
        from cwt_dask.products.summary import describe_run

        say(describe_run(result))
    if not result.promises_kept:
        return _complain(f"a promise is broken: see {result.files.certificate}", 1)
    return 0


def _complain(message: str, exit_status: int) -> int:
    wait_for_the_first()
    click.echo(visible(f"cwt-dask: {' '.join(message.split())}"), err=True)
    return exit_status
