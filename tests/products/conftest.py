import numpy as np
import pytest
import spheres
from skies import poisson_sky, write_survey

from cwt_dask import run_survey

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3, "tile_size": 40, "workers": 0}
# All candidates are sources.
OPTIONS |= {"false_sources": 1e9}


@pytest.fixture(scope="package")
def options():
    """Settings of the runs, but for `fits`."""
    return OPTIONS


@pytest.fixture(scope="package")
def sky():
    """Counts, background and mask of 70 x 90 pixels of 0.1 deg."""
    counts, background = poisson_sky((70, 90), seed=8)
    mask = np.ones(counts.shape, dtype=bool)
    mask[30:40, 45:60] = False
    return counts, background, mask


@pytest.fixture(scope="package")
def run(sky, tmp_path_factory):
    """A finished run with all files on a survey with an exposure, which differs at each pixel; not to be changed."""
    exposure = np.arange(sky[0].size).reshape(sky[0].shape)
    survey = write_survey(tmp_path_factory.mktemp("map") / "survey.fits", *sky, exposure=exposure)
    return run_survey(survey, survey.with_name("run"), fits="yes", **OPTIONS)


@pytest.fixture(scope="package")
def ring(sky, tmp_path_factory):
    """A finished run on a ring without an exposure; not to be changed."""
    survey = write_survey(tmp_path_factory.mktemp("ring") / "survey.fits", *sky, ring=True)
    return run_survey(survey, survey.with_name("run"), fits="no", **OPTIONS)


@pytest.fixture(scope="package")
def sphere(tmp_path_factory):
    """A finished run on a part of the sphere; not to be changed."""
    return spheres.small_run(tmp_path_factory.mktemp("sphere"))
