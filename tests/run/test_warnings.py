"""What is said of a survey is said once, by `plan`, `run` and certificate alike; nothing is of honest maps."""

import re

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.wcs import WCS
from skies import poisson_sky, sky_header, write_survey

from cwt_dask.report.text import Row, setting_rows
from cwt_dask.results import SurveyRun
from cwt_dask.run import plan_survey, run_survey
from cwt_dask.simulate import simulate

KERNELS = ("--n-scale=1", "--min-scale=1.2", "--max-iter=1")
USED = "1200 of 6000 (masked by HDU MASK: 4800)"


@pytest.fixture
def inverted(tmp_path):
    """Few counts as `CCDData.write` writes them, with bad pixels in a fifth of the columns; options that read them."""
    counts, background = poisson_sky((60, 100), seed=5, level=0.1)
    bad = np.zeros(counts.shape, bool)
    bad[:, 80:] = True
    path = tmp_path / "ccd.fits"
    CCDData(counts, unit="ct", mask=bad, wcs=WCS(sky_header(counts.shape))).write(path)
    write_survey(tmp_path / "background.fits", counts, background)
    return path, "--counts-hdu=0", f"--background={tmp_path / 'background.fits'}", *KERNELS


def test_what_is_wrong_with_a_survey_is_said_once_at_each_place(call, tmp_path, inverted):
    survey, *options = inverted
    said = call("plan", survey, *options)
    warnings = re.findall("^warning +(.*)$", said.out, re.MULTILINE)
    assert [warning.partition(": ")[0] for warning in warnings] == [
        "79% of the pixels with counts are masked or NaN",
        "few counts",
    ]
    assert f"pixels used    {USED}\n" in said.out
    for _ in ("begun", "finished"):
        said = call("run", survey, tmp_path / "run", "--workers=0", *options)
        for text in (f"pixels used: {USED}", *(f"warning: {warning}" for warning in warnings)):
            assert (said.out + said.err).count(text) == 1
    run = SurveyRun.open(tmp_path / "run")
    assert run.certificate["warnings"] == warnings
    assert Row("Pixels used", USED) in setting_rows(run)


def test_without_a_reporter_warnings_go_to_python_s_log(caplog, tmp_path):
    counts, background = poisson_sky((60, 100), seed=5)
    survey = write_survey(tmp_path / "survey.fits", counts, 1e6 * background)
    run = run_survey(survey, tmp_path / "run", workers=0, n_scale=1, min_scale=1.2, max_iter=1)
    assert caplog.messages == run.certificate["warnings"] != []


def test_honest_maps_have_no_warning(shared_data, tmp_path):
    simulate(tmp_path / "demo.fits", (150, 300), seed=1)
    fermi = shared_data / "fermi_survey.fits.gz"
    # The report's kernels, and the published ones, which are wider than half of the map is high.
    for survey, options in ((tmp_path / "demo.fits", {}), (fermi, {}), (fermi, {"min_scale": 6.0, "step_scale": 1.3})):
        plan = plan_survey(survey, **{"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 1} | options)
        assert (plan.warnings, plan.used) == ((), "")
