"""Signals are heard from the first moment of the command, before the libraries are loaded."""

import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from skies import poisson_sky, write_survey

from cwt_dask.cli.commands import cli
from cwt_dask.cli.main import INTERRUPTED, _hear, main
from cwt_dask.runtime.signals import SIGNALS

STARTS = """
import atexit, os, signal, sys, time, weakref

def send(*_, kill=os.kill, pid=os.getpid(), number=signal.{signal}):
    kill(pid, number)

def send_in_a_callback():
    something = type("Something", (), {{}})()
    watch = weakref.ref(something, send)
    del something
    time.sleep(60)

class Finder:
    def find_spec(self, name, *_):
        if name == "{module}":
            {send}()

class Late:
    def __del__(self, send=send):
        send()

sys.meta_path.insert(0, Finder())
# It goes when Python takes its modules down, and has given up all that listens to signals.
sys.late = Late()
atexit.register(send)
from cwt_dask.cli.main import main
sys.exit(main())
"""


def signalled(module, number, send, *words):
    """Status and standard error of a call that gets a signal as a module is imported, and several as Python ends."""
    command = [sys.executable, "-c", STARTS.format(module=module, signal=number.name, send=send), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("module", "number"), [("click", SIGNALS[0]), *(("numpy", number) for number in SIGNALS)])
def test_signals_are_heard_while_libraries_are_loaded(module, number):
    status, said = signalled(module, number, "send", "status", "absent")
    # After the ^C that a terminal shows.
    assert (status, said.removeprefix("\n")) == (75, INTERRUPTED)


def test_a_signal_in_a_callback_is_heard_after_it():
    assert signalled("click", signal.SIGUSR1, "send_in_a_callback", "--version") == (75, INTERRUPTED)


def test_signals_as_python_ends_change_nothing():
    assert signalled("nothing", signal.SIGINT, "send", "--version") == (0, "")


# What takes its time.
LIBRARIES = {
    "astropy", "bokeh", "dask", "distributed", "jinja2", "matplotlib", "numba", "numpy", "rich", "scipy", "zarr"
}  # fmt: skip
LOADED = """
import sys
from cwt_dask.cli.commands import cli, main
for words in {calls}:
    status = main(words)
    print("loaded", status, *{{name.partition(".")[0] for name in sys.modules}})
"""


def loaded_by(*calls, folder=None):
    """Status of some calls of one process, and which libraries are loaded after each of them."""
    command = [sys.executable, "-c", LOADED.format(calls=calls)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded ")]
    return [(int(status), set(names) & LIBRARIES) for status, *names in lines]


def test_help_and_wrong_calls_load_no_libraries():
    helps = [["--help"], ["--version"], *([name, "--help"] for name in cli.commands)]
    assert loaded_by(*helps) == [(0, set())] * len(helps)
    wrong = [
        [],
        ["find"],
        ["run"],
        ["run", "a", "b", "--tol=x"],
        ["plan", "a", "--tol=-1"],
        ["plan", "a", "--config=b"],
    ]
    assert loaded_by(*wrong) == [(2, set())] * len(wrong)


def test_a_run_of_one_tile_loads_what_computes_and_its_report_what_draws(tmp_path):
    write_survey(tmp_path / "survey.fits", *poisson_sky((45, 50), seed=3))
    run = ["run", "survey.fits", "run", "--n-scale=1", "--min-scale=1.2", "--max-iter=1", "--no-report"]
    computes = {"astropy", "numba", "numpy", "scipy", "zarr"}
    calls = loaded_by(run, ["report", "run"], folder=tmp_path)
    assert calls == [(0, computes), (0, computes | {"bokeh", "jinja2"})]


@pytest.mark.parametrize("module", ["cwt_dask", "cwt_dask.cli"])
def test_the_package_is_the_command_too(module):
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"cwt-dask, version {version('cwt_dask')}\n"


def test_the_command_starts_where_signals_are_heard():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["cwt-dask"] == f"{main.__module__}:{main.__name__}"


def test_what_a_run_does_not_hear_ends_the_command_as_ctrl_c(monkeypatch):
    monkeypatch.setattr("cwt_dask.runtime.signals._heard", {})
    with pytest.raises(KeyboardInterrupt):
        _hear(signal.SIGTERM, None)
    # The same once more.
    _hear(signal.SIGTERM, None)
