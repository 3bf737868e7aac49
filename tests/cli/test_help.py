"""What `--help` teaches: examples that work as they stand."""

import gzip
import inspect
import shlex
from pathlib import Path

import click
import pytest

from cwt_dask.cli.commands import cli, main

COMMANDS = sorted(cli.commands)
# On this machine, and small.
INSTEAD = {"--shape 1500 3000": "--shape 50 60", "--workers 4": "--workers 0", "--recompute 5": "--recompute 1"}


def help_of(command):
    return inspect.cleandoc(command.help).splitlines()


def example_of(name):
    # A long one may go on in the next line.
    text = " ".join(cli.commands[name].help.partition("Example: ")[2].split())
    return shlex.split(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example_that_it_understands(name, capsys):
    assert main([name, "--help"]) == 0
    assert f" {name} [OPTIONS] " in capsys.readouterr().out
    words = example_of(name)
    assert words[:2] == ["cwt-dask", name]
    with cli.commands[name].make_context(name, words[2:]) as context:
        assert all(parameter.name in context.params for parameter in cli.commands[name].params)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name):
    options = [option for option in cli.commands[name].params if isinstance(option, click.Option)]
    assert all(option.help for option in options)


def test_examples_work_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(text):
        for theirs, ours in INSTEAD.items():
            text = text.replace(theirs, ours)
        if text.startswith(("cwt-dask run", "cwt-dask reprocess")) and "--workers" not in text:
            text += " --workers 0"
        assert main(shlex.split(text)[1:]) == 0, capsys.readouterr().err

    # What is said beside a command stands three spaces away.
    to_try = [line.strip().partition("   ")[0] for line in help_of(cli) if line.startswith("cwt-dask ")][:-1]
    assert [shlex.split(text)[1] for text in to_try] == ["simulate", "plan", "run", "status", "verify"]
    for text in to_try:
        call(text)
    for name, seed in (("survey-v2.fits", 2), ("counts.fits", 3), ("model.fits", 3)):
        call(f"cwt-dask simulate {name} --shape 50 60 --seed {seed}")
    Path("counts.fits.gz").write_bytes(gzip.compress(Path("counts.fits").read_bytes()))
    Path("run").rename("run-v1")
    call(shlex.join(example_of("run")))
    for name in ("plan", "ingest", "status", "verify", "reprocess", "compare"):
        call(shlex.join(example_of(name)))
