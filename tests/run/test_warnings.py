"""What is said of a survey is said once, by `plan`, `run`, certificate and report alike; nothing is of honest maps."""

import json
import re

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.wcs import WCS
from skies import poisson_sky, sky_header, write_survey

from cwt_dask.report.text import Row, setting_rows
from cwt_dask.results import SurveyRun
from cwt_dask.run import plan_survey
from cwt_dask.simulate import simulate

KERNELS = ("--n-scale=2", "--min-scale=1.2", "--step-scale=1.5", "--max-iter=1")
OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}
USED = "1200 of 6000: 4800 are masked by HDU MASK"


@pytest.fixture
def inverted(tmp_path):
    """Counts as `CCDData.write` writes them, with bad pixels in a fifth of the columns; options that read them."""
    counts, background = poisson_sky((60, 100), seed=5, level=3)
    bad = np.zeros(counts.shape, bool)
    bad[:, 80:] = True
    path = tmp_path / "ccd.fits"
    CCDData(counts, unit="ct", mask=bad, wcs=WCS(sky_header(counts.shape))).write(path)
    write_survey(tmp_path / "background.fits", counts, background)
    return path, "--counts-hdu=0", f"--background={tmp_path / 'background.fits'}"


@pytest.mark.usefixtures("reported")
def test_what_is_wrong_with_a_survey_is_said_once_at_each_place(call, tmp_path, inverted):
    survey, *options = inverted
    said = call("plan", survey, *options, *KERNELS)
    (warning,) = re.findall("^warning +(.*)$", said.out, re.MULTILINE)
    assert re.match("pixels with [78]\\d% of the counts are masked or NaN: HDU MASK, which nobody asked for", warning)
    assert f"pixels used    {USED}\n" in said.out
    arguments = ("run", survey, tmp_path / "run", "--workers=0", *options, *KERNELS)
    for _ in ("begun", "finished"):
        said = call(*arguments)
        assert (said.out + said.err).count(f"warning: {warning}") == 1
        assert (said.out + said.err).count(f"pixels used: {USED}") == 1
    run = SurveyRun.open(tmp_path / "run")
    assert json.loads(run.files.certificate.read_text())["warnings"] == [warning]
    assert Row("Pixels used", USED) in setting_rows(run)
    page = run.files.report.read_text()
    assert page.count(warning.replace("<", "&lt;")) == 1
    assert USED in page
    whole = call(*arguments[:2], tmp_path / "whole", "--mask-hdu=none", *arguments[3:])
    assert "warning" not in whole.out + whole.err


@pytest.mark.usefixtures("reported")
def test_few_counts_are_warned_about_once(call, tmp_path):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((60, 70), seed=1, level=0.1))
    call("run", survey, tmp_path / "run", "--workers=0", *KERNELS)
    page = SurveyRun.open(tmp_path / "run").files.report.read_text()
    assert len(re.findall("few counts", page, re.IGNORECASE)) == 1


def test_honest_maps_have_no_warning(shared_data, tmp_path):
    simulate(tmp_path / "demo.fits", (150, 300), seed=1)
    for survey in (tmp_path / "demo.fits", shared_data / "fermi_survey.fits.gz"):
        plan = plan_survey(survey, **OPTIONS)
        assert (plan.warnings, plan.used) == ((), "")
    assert plan_survey(shared_data / "fermi_survey.fits.gz").warnings == ()
