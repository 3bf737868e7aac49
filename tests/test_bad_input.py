"""Every row of docs/bad-input.md: a call that makes the mistake gives the message, exit status 2, and writes nothing.

So do other calls that make the same mistake, and the same call from Python.
"""

import re
import shutil
from pathlib import Path

import click
import pytest
from cases import EVERY
from click.core import ParameterSource
from fuzzing import tree
from mistakes import IN_MEMORY, KERNELS, RECIPES, SHAPE
from skies import poisson_sky, write_survey

from cwt_dask.assess import assess
from cwt_dask.background import write_background
from cwt_dask.cli.commands import cli, main
from cwt_dask.cli.given import given_options
from cwt_dask.cli.options import flag_of
from cwt_dask.config.declaration import option_names
from cwt_dask.config.events import are_events
from cwt_dask.config.options import OPTION_NAMES, SourceOptions
from cwt_dask.errors import InputError
from cwt_dask.events import ingest_events
from cwt_dask.inspection.compare import compare_runs, draw
from cwt_dask.inspection.match import associate, match_run
from cwt_dask.inspection.measure import measure
from cwt_dask.inspection.measured import free_table
from cwt_dask.inspection.verify import verify_run
from cwt_dask.products.difference import free_picture
from cwt_dask.products.export import export
from cwt_dask.report import write_report
from cwt_dask.reprocess import reprocess
from cwt_dask.results import SurveyRun
from cwt_dask.run import plan_survey, run_survey
from cwt_dask.simulate import simulate, simulate_sphere
from cwt_dask.survey import SurveySource, ingest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bad-input.md"
# What concerns the workers is none of a plan's business.
OF_THE_CLUSTER = {
    "a cluster of pods without consent",
    "jobs without a number",
    "an address of no known kind",
    "an address without a port",
    "workers that cannot start",
    "a scheduler file that does not exist",
}
SOURCE = tuple(map(flag_of, option_names(SourceOptions)))


def match(run_dir, catalogue, radius=0.1, columns=None):
    run = SurveyRun.open(run_dir)
    associate(run, match_run(run, catalogue, radius, columns))


def compare(run_a, run_b, plot):
    first, second = SurveyRun.open(run_a), SurveyRun.open(run_b)
    draw(first, second, compare_runs(first, second), free_picture(plot, (first, second)))


def measure_runs(run_dirs, positions, *, out=None, plot=None, **options):
    runs = [SurveyRun.open(run_dir) for run_dir in run_dirs]
    for check, path in ((free_table, out), (free_picture, plot)):
        if path:
            check(path, runs)
    measure(runs, positions, **options)


def ingest_any(inputs, out, **options):
    if are_events(len(inputs), options):
        ingest_events(inputs, out, **options)
    else:
        ingest(SurveySource.of(*inputs, **options), out)


def simulate_any(out, *, seed, shape=None, nside=None, sources=None):
    size, make = (shape, simulate) if shape else (nside, simulate_sphere)
    make(out, size, seed, n_sources=sources)


IN_PYTHON = {
    "assess": assess,
    "run": run_survey,
    "plan": plan_survey,
    "ingest": ingest_any,
    "background": write_background,
    "match": match,
    "compare": compare,
    "measure": measure_runs,
    "reprocess": reprocess,
    "export": lambda run, out, **options: export(SurveyRun.open(run), out, **options),
    "simulate": simulate_any,
    "report": lambda run: write_report(SurveyRun.open(run)),
    "status": SurveyRun.open,
    "verify": lambda run, **options: list(verify_run(SurveyRun.open(run), **options)),
}


def rows():
    """The page's rows: section, what is wrong, message, what to do."""
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, *lines = section.splitlines()
        for line in [line for line in lines if line.startswith("| ")][2:]:
            row = (title, *(cell.strip() for cell in line.strip("|").split(" | ")))
            yield pytest.param(*row, id=row[1])


def alike(section, what, arguments):
    """Other calls that make the same mistake."""
    if arguments[0] == "run" and not section.startswith("Run") and what not in OF_THE_CLUSTER:
        _, survey, _, *options = arguments
        yield "plan", survey, *options
        if section == "The survey":
            yield "ingest", survey, "out.zarr", *(word for word in options if word.startswith(SOURCE))


def from_python(command, *words):
    """Make the call of a command line from Python; click may complain before."""
    with cli.commands[command].make_context(command, list(words)) as context:
        options = given_options()
        arguments = [each.name for each in context.command.params if isinstance(each, click.Argument)]
        for name, value in context.params.items():
            typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if typed and name not in (*arguments, *OPTION_NAMES, "config"):
                options[name] = value
    IN_PYTHON[command](*(context.params[name] for name in arguments), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A survey, and a finished run on it; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("bad") / "folder"
    folder.mkdir()
    write_survey(folder / "survey.fits", *poisson_sky(SHAPE, seed=3))
    assert main(["run", str(folder / "survey.fits"), str(folder / "run"), "--workers=0", "--quiet", *KERNELS]) == 0
    return folder


def test_every_row_has_a_recipe_and_every_recipe_a_row():
    assert sorted(row.id for row in rows()) == sorted([*RECIPES, *IN_MEMORY])


@pytest.mark.parametrize(("section", "what", "message", "remedy"), [row for row in rows() if row.id in IN_MEMORY])
def test_maps_in_memory_are_refused_as_the_page_says(tmp_path, section, what, message, remedy):
    assert section == "Maps in memory"
    assert remedy
    for door in (
        plan_survey,
        lambda maps: run_survey(maps, tmp_path / "run"),
        lambda maps: ingest(maps, tmp_path / "s"),
    ):
        with pytest.raises(InputError) as refused:
            door(IN_MEMORY[what])
        assert str(refused.value) == message.strip("`")
    assert not tree(tmp_path)


@pytest.fixture
def given(folder, tmp_path, monkeypatch):
    """A copy of that folder, as the current one."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(folder, tmp_path, dirs_exist_ok=True)


def pattern(message):
    return ".*".join(map(re.escape, message.strip("`").split("...")))


def assert_refused(call, message, words):
    said = call(*words)
    assert re.fullmatch(f"cwt-dask: {pattern(message)}\n", said.err), (words, said.err)
    assert said.status == 2


@pytest.mark.parametrize(("section", "what", "message", "remedy"), [row for row in rows() if row.id in RECIPES])
def test_a_mistake_is_refused_as_the_page_says(call, capsys, given, section, what, message, remedy):
    assert section
    assert remedy
    arguments = RECIPES[what](given)
    before = tree(given)
    capsys.readouterr()
    assert_refused(call, message, arguments)
    with pytest.raises((InputError, click.UsageError)) as refused:
        from_python(*arguments)
    complaint = getattr(refused.value, "format_message", refused.value.__str__)()
    assert re.fullmatch(pattern(message), " ".join(complaint.split()))
    assert tree(given) == before


# CI takes some.
OTHERS = [row.values[:3] for row in rows() if row.id in RECIPES][:: 1 if EVERY else 8]


@pytest.mark.long
@pytest.mark.parametrize(("section", "what", "message"), OTHERS)
def test_other_calls_that_make_the_mistake_are_refused_alike(call, capsys, given, section, what, message):
    arguments = RECIPES[what](given)
    before = tree(given)
    capsys.readouterr()
    for words in alike(section, what, arguments):
        assert_refused(call, message, words)
        assert tree(given) == before
