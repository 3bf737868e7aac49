"""What others set, for a whole process or the account of a user, decides neither what comes out nor what is printed."""

import numpy as np
from astropy import units as u
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.inspection.compare import compare_runs
from cwt_dask.inspection.match import match_run
from cwt_dask.inspection.verify import verify_run
from cwt_dask.report import write_report
from cwt_dask.reprocess import reprocess, what_would_be_reused
from cwt_dask.run import plan_survey
from cwt_dask.simulate import simulate
from cwt_dask.survey import ingest


def test_numpys_error_state_is_our_own_whatever_is_called(tmp_path):
    # Numbers whose squares vanish.
    survey = write_survey(tmp_path / "survey.fits", *(1e-200 * plane for plane in poisson_sky((40, 60), seed=3)))
    (tmp_path / "known.csv").write_text("ra,dec\n266,-29\n")
    with np.errstate(all="raise"):
        plan_survey(survey, n_scale=1, min_scale=1.2)
        store = ingest(survey, tmp_path / "survey.zarr").path
        run = run_survey(store, tmp_path / "run", n_scale=1, min_scale=1.2, max_iter=2, tile_size=40, workers=0)
        write_report(run)
        assert not [check for check in verify_run(run, recompute=1, against_whole=True) if check.broken]
        assert compare_runs(run, run).same_maps
        match_run(run, tmp_path / "known.csv", 0.2)
        run.cutout(None, 1 * u.deg)
        what_would_be_reused(survey, run.files.path)
        reprocess(survey, run.files.path, tmp_path / "new", workers=0)
        simulate(tmp_path / "simulated.fits", (40, 60), seed=1)
        assert np.geterr()["under"] == "raise"
