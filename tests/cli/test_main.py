"""Signals are heard from the first moment of the command, before the libraries are loaded."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cwt_dask.cli.main import INTERRUPTED, main
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


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_heard_while_libraries_are_loaded(number):
    # From the first of them on; and a copy that comes at the very end changes nothing.
    command = [sys.executable, "-c", STARTS.format(module="numpy", signal=number.name), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 75
    assert done.stderr == INTERRUPTED


def test_the_command_starts_where_signals_are_heard():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["cwt-dask"] == f"{main.__module__}:{main.__name__}"


def test_what_a_run_does_not_hear_ends_the_command_as_ctrl_c(monkeypatch):
    heard = {}
    monkeypatch.setattr(signal, "signal", heard.__setitem__)
    monkeypatch.setattr(sys, "argv", ["cwt-dask"])
    assert main() == 2
    assert heard.keys() == set(SIGNALS)
    monkeypatch.setattr("cwt_dask.runtime.signals._heard", {})
    with pytest.raises(KeyboardInterrupt):
        heard[signal.SIGTERM](signal.SIGTERM, None)
    # The same once more.
    heard[signal.SIGTERM](signal.SIGTERM, None)
