import shutil

import numpy as np
import pytest
import spheres
from reports import Here, Parsed, page_of
from skies import poisson_sky, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.report import data, write_report
from cwt_dask.report.pyramid import ensure_pyramid
from cwt_dask.report.residual import smooth_levels

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3}
# All candidates are sources.
OPTIONS |= {"false_sources": 1e9}


@pytest.fixture(scope="package")
def options():
    """Settings of the runs, but for `tile_size`."""
    return OPTIONS


@pytest.fixture(scope="package")
def mask():
    mask = np.ones((90, 130), bool)
    mask[:, 40:47] = False
    mask[10:20, 100:120] = False
    return mask


@pytest.fixture(scope="package")
def survey(tmp_path_factory, mask):
    return write_survey(tmp_path_factory.mktemp("sky") / "survey.fits", *poisson_sky(mask.shape, seed=3), mask=mask)


@pytest.fixture(scope="package")
def finished(survey):
    """A run with seams, masked pixels and a report; to be copied, not changed."""
    run = run_survey(survey, survey.with_name("run"), tile_size=45, **OPTIONS)
    write_report(run)
    return run


@pytest.fixture(scope="package")
def sphere(tmp_path_factory):
    """A run on a part of the sphere, with its report; not to be changed."""
    run = spheres.small_run(tmp_path_factory.mktemp("sphere"))
    write_report(run)
    return run


@pytest.fixture(scope="package")
def numbers(finished):
    pyramid = ensure_pyramid(finished, Here())
    return data.gather(finished, pyramid, smooth_levels(finished, pyramid), Here())


@pytest.fixture(scope="package")
def page(finished):
    return Parsed(page_of(finished))


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it; its report names the directory where it was made."""
    return SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))
