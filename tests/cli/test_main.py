"""Signals are heard from the first moment of the command, before the libraries are loaded."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cwt_dask.cli.commands import cli
from cwt_dask.cli.main import INTERRUPTED, _hear, main
from cwt_dask.runtime.signals import SIGNALS

STARTS = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "{module}":
            os.kill(os.getpid(), signal.{signal})

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.{signal}):
        kill(pid, number)

sys.meta_path.insert(0, Finder())
# It goes when Python takes its modules down, and has given up all that listens to signals.
sys.late = Late()
from cwt_dask.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize(("module", "number"), [("click", SIGNALS[0]), *(("dask", number) for number in SIGNALS)])
def test_signals_are_heard_while_libraries_are_loaded(module, number):
    # From the first of them on; and a copy that comes at the very end changes nothing.
    command = [sys.executable, "-c", STARTS.format(module=module, signal=number.name), "status", "absent"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 75
    # After the ^C that a terminal shows.
    assert done.stderr.removeprefix("\n") == INTERRUPTED


# What takes its time.
LIBRARIES = {"astropy", "bokeh", "dask", "distributed", "jinja2", "numba", "numpy", "rich", "scipy", "zarr"}
LOADED = """
import sys
from cwt_dask.cli.commands import cli, main
for words in {calls}:
    main(words)
print("loaded", *{{name.partition(".")[0] for name in sys.modules}})
"""


def loaded_by(*calls, folder=None):
    """Libraries that are loaded after some calls."""
    command = [sys.executable, "-c", LOADED.format(calls=[[str(word) for word in words] for words in calls])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded ")[2].split()) & LIBRARIES


def test_help_and_wrong_calls_load_no_libraries():
    helps = [[name, "--help"] for name in cli.commands]
    wrong = [[], ["find"], ["run"], ["run", "a", "b", "--tol=x"], ["run", "a", "b", "--tol=-1"]]
    assert loaded_by(["--help"], ["--version"], *helps, *wrong, ["plan", "a", "--config=absent.toml"]) == set()


@pytest.mark.parametrize("module", ["cwt_dask", "cwt_dask.cli"])
def test_the_package_is_the_command_too(module):
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cwt-dask, version 0.")


def test_the_command_starts_where_signals_are_heard():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["cwt-dask"] == f"{main.__module__}:{main.__name__}"


def test_what_a_run_does_not_hear_ends_the_command_as_ctrl_c(monkeypatch):
    monkeypatch.setattr("cwt_dask.runtime.signals._heard", {})
    with pytest.raises(KeyboardInterrupt):
        _hear(signal.SIGTERM, None)
    # The same once more.
    _hear(signal.SIGTERM, None)
