"""The workflows, run as their pages say."""

import gzip
import json
import re
import shutil
import subprocess

import pytest
from astropy.io import fits
from batch import SECONDS, wait_for
from elsewhere import ENVIRONMENT, PRINTED, WORKFLOWS, bash, console, digest_of

SETTINGS = 'stopping = "fixed"\nn_scale = 2\nmin_scale = 1.5\ntile_size = 128\nmax_iter = 4\nfits = "no"\n'


# --- full sky ---------------------------------------------------------------------------------------------------------


def test_a_full_sky(here):
    simulate, run = console("full_sky/README.md")
    assert "--nside 128 " in simulate
    assert "--sources 300" in simulate
    simulate = simulate.replace("--nside 128 ", "--nside 64 ").replace("--sources 300", "--sources 100")
    status, printed = bash(here, simulate, f"{run} --max-iter 3")
    assert status == 0, printed
    certificate = json.loads((here / "sky" / "run" / "certificate.json").read_text())
    assert certificate["tiling_exact"]
    assert "facets of the sphere" in printed
    again = re.findall(
        r"^ +ok  tile \d+ again, .*: model \S+, approx \S+; support differs in 0 pixels$", printed, re.MULTILINE
    )
    assert len(again) == 3
    # Started again, it does nothing but check.
    status, printed = bash(here, f"{run} --max-iter 3")
    assert status == 0, printed
    assert "nothing to do" in printed


# --- reprocessing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(here, small_survey):
    shutil.copy(small_survey, here / "survey-1.fits")
    with fits.open(small_survey) as hdus:
        hdus["COUNTS"].data[10:12, 10:12] += 40
        hdus.writeto(here / "survey-2.fits")
    return here


NOTIFY = '#!/bin/sh\necho "$1" >> statuses; cp "$2" last.txt\n'
REPROCESS = "workflows/reprocess/reprocess.sh pipeline --workers 2"


def current_of(directory):
    return str((directory / "current").readlink())


def test_a_new_version_is_reprocessed_checked_compared_and_made_current(pipeline):
    typed = console("reprocess/README.md")
    assert typed.count(REPROCESS) == 2
    status, printed = bash(pipeline, *typed)
    assert status == 0, printed
    assert printed.splitlines()[-1] == "runs/survey-2"
    text = (pipeline / "pipeline" / "runs" / "survey-2.txt").read_text()
    assert "gained" in text


def test_nights_that_fail_leave_the_last_good_version_current(pipeline):
    directory = pipeline / "pipeline"
    (directory / "surveys").mkdir(parents=True)
    (directory / "settings.toml").write_text(SETTINGS)
    (directory / "notify").write_text(NOTIFY)
    (directory / "notify").chmod(0o755)
    assert "no survey" in bash(pipeline, REPROCESS)[1]
    shutil.copy(pipeline / "survey-1.fits", directory / "surveys" / "survey-1.fits")
    assert bash(pipeline, REPROCESS)[0] == 0
    assert current_of(directory) == "runs/survey-1"
    assert bash(pipeline, REPROCESS) == (0, "survey-1 is current\n")

    (directory / "surveys" / "survey-2.fits").write_bytes((pipeline / "survey-2.fits").read_bytes()[:50_000])
    status, printed = bash(pipeline, REPROCESS)
    assert status == 2, printed
    assert current_of(directory) == "runs/survey-1"
    assert "survey-2.fits" in (directory / "last.txt").read_text()

    shutil.copy(pipeline / "survey-2.fits", directory / "surveys" / "survey-2.fits")
    assert bash(pipeline, REPROCESS)[0] == 0
    assert current_of(directory) == "runs/survey-2"
    assert (directory / "statuses").read_text().split() == ["0", "2", "0"]
    whole = "cwt-dask run survey-2.fits whole --config pipeline/settings.toml --workers 2"
    assert bash(pipeline, whole)[0] == 0
    assert digest_of(directory / "current") == digest_of(pipeline / "whole")


def test_starts_that_overlap_are_harmless(pipeline):
    directory = pipeline / "pipeline"
    (directory / "surveys").mkdir(parents=True)
    (directory / "settings.toml").write_text(SETTINGS)
    packed = gzip.compress((pipeline / "survey-1.fits").read_bytes())
    (directory / "surveys" / "survey-1.fits.gz").write_bytes(packed)
    status, printed = bash(pipeline, f"{REPROCESS} & first=$!", "sleep 1", REPROCESS, "wait $first")
    assert status == 0, printed
    assert "another start is at work" in printed
    assert current_of(directory) == "runs/survey-1"


@pytest.mark.parametrize(
    "script", ["reprocess/reprocess.sh", "reprocess/reprocess.sh absent", "full_sky/full_sky.sh a"]
)
def test_an_incomplete_call_prints_the_usage(here, script):
    status, printed = bash(here, f"workflows/{script}")
    assert status == 2
    assert printed.startswith("usage: workflows/")


def test_units_are_what_systemd_takes():
    assert shutil.which("systemd-analyze"), "apt-get install systemd"
    units = [str(WORKFLOWS / "reprocess" / f"cwt-dask-reprocess.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], check=False, **PRINTED)
    # All that is wrong with them is that the command of the user's home is not here.
    (complaint,) = [line for line in done.stdout.splitlines() if "cwt-dask-reprocess" in line]
    assert "reprocess.sh is not executable" in complaint, done.stdout


def test_a_night_that_is_terminated_lets_the_run_end_by_itself(pipeline):
    directory = pipeline / "pipeline"
    (directory / "surveys").mkdir(parents=True)
    (directory / "settings.toml").write_text(SETTINGS.replace("max_iter = 4", "max_iter = 3000"))
    shutil.copy(pipeline / "survey-1.fits", directory / "surveys" / "survey-1.fits")
    report = directory / "runs" / "survey-1.txt"
    with subprocess.Popen(REPROCESS.split()[:2], cwd=pipeline, env=ENVIRONMENT, **PRINTED) as night:
        wait_for(lambda: report.exists() and "workers" in report.read_text(), "the run")
        night.terminate()
        assert night.wait(SECONDS) == 75
    assert "interrupted: finished tiles are kept" in report.read_text()
    assert not (directory / "current").is_symlink()
