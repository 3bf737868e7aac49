import subprocess

import pytest
from batch import missing
from batch import slurm as started_slurm
from elsewhere import ENVIRONMENT, LONG, digest_of


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Where the survey is, and runs go."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def survey(place):
    command = ["cwt-dask", "simulate", "survey.fits", "--shape", "500", "700", "--seed", "3"]
    subprocess.run(command, cwd=place, env=ENVIRONMENT, check=True, capture_output=True)
    return place / "survey.fits"


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
