"""The wheel with each of its extras, each in a fresh environment: what asks for it runs there, and only there."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In which no extra is installed.
BARE = ".venv-package"
LOAD = "from cwt_dask.runtime.clusters.extras import load; load('{1}', '{0}')"
# By extra: what is called there, as a command or in Python.
CALLS = {
    "plot": [["cwt-dask", "compare", "run", "run", "--plot", "difference.png"]],
    "export": [["cwt-dask", "export", "run", kind, "--format", kind] for kind in ("moc", "hips")],
    "s3": [["python", "-c", "from cwt_dask.storage.paths import as_path; as_path('s3://bucket/run')"]],
    "slurm": [["python", "-c", LOAD.format("slurm", "dask_jobqueue")]],
    "mpi": [["python", "-c", LOAD.format("mpi", module)] for module in ("dask_mpi", "mpi4py.MPI")],
    "kubernetes": [["python", "-c", LOAD.format("kubernetes", "dask_kubernetes.operator")]],
    "gammapy": [["python", "-c", "from cwt_dask import SurveyRun; SurveyRun.open('run').to_gammapy()"]],
}


def test_all_extras_that_users_may_want_are_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert CALLS.keys() == project["optional-dependencies"].keys() - {"dev", "docs"}


def call(folder, command, place):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # To compile what was installed anew takes minutes.
    environment["NUMBA_DISABLE_JIT"] = "1"
    command = [ROOT / place / "bin" / command[0], *command[1:]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with a finished run."""
    made = tmp_path_factory.mktemp("extras")
    for command in (
        ["cwt-dask", "simulate", "survey.fits", "--shape", "60", "90", "--seed", "1"],
        ["cwt-dask", "run", "survey.fits", "run", "--n-scale=2", "--max-iter=2", "--workers=0", "--no-report"],
    ):
        done = call(made, command, BARE)
        assert done.returncode == 0, done.stderr
    return made


@pytest.mark.parametrize(
    ("extra", "command"), [(extra, command) for extra, calls in CALLS.items() for command in calls]
)
def test_what_an_extra_is_for_runs_with_it_and_asks_for_it_without(folder, extra, command):
    without = call(folder, command, BARE)
    assert without.returncode != 0
    assert f"'cwt_dask[{extra}]'" in without.stderr
    done = call(folder, command, f".venv-extras/{extra}")
    assert done.returncode == 0, done.stderr
