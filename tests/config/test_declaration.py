"""An option is one field: its check, its option of the command line, its docstring and its entry on the page follow."""

import sys
from pathlib import Path

import click
import pytest

from cwt_dask.cli.commands import cli
from cwt_dask.cli.options import declared_options, flag_of
from cwt_dask.config.declaration import declaration, option, option_names
from cwt_dask.config.execution import Cluster, Execution
from cwt_dask.config.options import OPTION_NAMES
from cwt_dask.config.settings import Settings
from cwt_dask.config.validation import Number
from cwt_dask.errors import SettingsError


@declaration
class More(Settings):
    """Settings, and one more."""

    width: float | None = option(None, Number(above=0), "Widest source; default: as `min_scale`.", metavar="PIXELS")


def test_a_field_is_checked():
    assert More().width is None
    assert More(width=3).width == 3.0
    with pytest.raises(SettingsError, match="^width is 0.0: it must be above 0$"):
        More(width=0)


def test_a_field_is_an_option_of_the_command_line():
    @click.command
    @declared_options(More)
    def command(**_):
        """Take them."""

    with command.make_context("command", ["--width=3", "--min-scale=1deg", "--margin=auto"]) as context:
        assert (context.params["width"], context.params["min_scale"], context.params["margin"]) == (3, "1deg", "auto")
        assert context.params["n_scale"] == 2
        assert "--width PIXELS" in command.get_help(context)
        assert "Widest source; default: as --min-scale." in command.get_help(context)
    with pytest.raises(click.BadParameter, match="wide is not PIXELS|auto"):
        command.make_context("command", ["--margin=wide"])


def test_a_field_is_documented():
    assert "width : float or None\n    Widest source; default: as `min_scale`.\n" in More.__doc__


def test_a_field_is_on_the_page(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2] / "docs" / "_ext")])
    from settings_list import entries

    entry = ["`width`", ": *float or None*; default `None`; `--width`", "", "  Widest source; default: as `min_scale`."]
    assert entries(More)[-5:-1] == entry
    assert ": *bool*; default `False`" in entries(Cluster)


def test_all_options_are_those_of_run():
    flags = [parameter.opts[0] for parameter in cli.commands["run"].params if isinstance(parameter, click.Option)]
    assert sorted(flags) == sorted([*map(flag_of, OPTION_NAMES), "--config"])
    # Its help says which of them are settings.
    assert f"from {flag_of(option_names(Settings)[0])} to {flag_of(option_names(Settings)[-1])} decide" in " ".join(
        cli.commands["run"].help.split()
    )
    assert option_names(Execution)[-3:] == ["overwrite", "quiet", "log_format"]  # as they may be given by position


@pytest.mark.parametrize("kind", [Settings, Execution, Cluster])
def test_no_option_takes_anything(kind):
    thing = object()
    for name in option_names(kind):
        with pytest.raises(SettingsError) as refused:
            kind(**{name: thing})
        assert str(refused.value).startswith(f"{kind.prefix}{name} is {thing}: it must be ")
