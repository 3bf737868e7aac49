import shutil

import pytest
from skies import EXPOSURE, poisson_sky, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.tiles.fitting import fit_tile
from cwt_dask.tiles.sources import measure_tile


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run of one tile, on a survey with an exposure beside it; to be copied, not changed."""
    survey = write_survey(
        tmp_path_factory.mktemp("exposed") / "survey.fits", *poisson_sky((90, 130), seed=3), exposure=EXPOSURE
    )
    options = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 4, "tile_size": 130, "fits": "no"}
    # All candidates are sources.
    options |= {"false_sources": 1e9}
    return run_survey(survey, survey.with_name("run"), workers=0, **options)


@pytest.fixture(scope="session")
def measured(run, tmp_path_factory):
    """A copy with what its tile has measured: of a finished run, that is in the catalogue only."""
    copy = SurveyRun.open(shutil.copytree(run.files.path, tmp_path_factory.mktemp("measured") / "run"))
    known = copy.files, run.stored.run_id, run.stored.plan, run.survey.path
    measure_tile(*known, 0)
    fit_tile(*known, 60, 0)
    return copy
