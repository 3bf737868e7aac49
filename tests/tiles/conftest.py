import pytest
from skies import poisson_sky, write_survey

from cwt_dask import run_survey

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "stopping": "fixed"}
OPTIONS |= {"no_report": True, "tile_size": 45}


@pytest.fixture(scope="session")
def options():
    return OPTIONS


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run of 2 x 3 tiles, whose tiles may be done again."""
    survey = write_survey(tmp_path_factory.mktemp("tiles") / "survey.fits", *poisson_sky((90, 130), seed=3))
    return run_survey(survey, survey.with_name("run"), **OPTIONS)
