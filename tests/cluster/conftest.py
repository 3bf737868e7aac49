import subprocess

import pytest
from batch import missing
from batch import slurm as started_slurm
from elsewhere import ENVIRONMENT, LONG, ROOT, digest_of


def simulated(out, ny, nx):
    command = ["cwt-dask", "simulate", out, "--shape", str(ny), str(nx), "--seed", "3"]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    return out


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Directory of the survey and of runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def survey(place):
    return simulated(place / "survey.fits", 500, 700)


@pytest.fixture(scope="session")
def small_survey(place):
    """Where nothing is to happen during the run."""
    return simulated(place / "small.fits", 200, 300)


@pytest.fixture(scope="session")
def undisturbed(survey, place):
    """Digest of the maps of a longer run on this machine, to which nothing happens."""
    subprocess.run(
        ["cwt-dask", "run", survey, place / "local", *LONG], env=ENVIRONMENT, check=True, capture_output=True
    )
    return digest_of(place / "local")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The environment in which this machine's own SLURM is found."""
    assert not (lacking := missing()), f"{lacking}: apt-get install slurm-wlm munge, as root"
    with started_slurm(tmp_path_factory.mktemp("slurm")) as variables:
        yield ENVIRONMENT | variables


@pytest.fixture
def here(tmp_path):
    """A directory from which the workflows are seen as from the project."""
    for name in ("workflows", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path
