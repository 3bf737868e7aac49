"""The workflows, run as their pages say."""

import json
import re
import shutil
import subprocess

import pytest
from astropy.io import fits
from astropy.table import Table
from elsewhere import ENVIRONMENT, ROOT, SAID, digest_of

WORKFLOWS = ROOT / "workflows"
SECONDS = 280
SETTINGS = 'stopping = "fixed"\nn_scale = 2\nmin_scale = 1.5\ntile_size = 128\nmax_iter = 4\nfits = "no"\n'


def console(page):
    """The commands of a page."""
    return re.findall(r"^\$ (.*?)(?:  +#.*)?$", (WORKFLOWS / page).read_text(encoding="utf-8"), re.MULTILINE)


def bash(directory, *lines, environment=ENVIRONMENT):
    """Type lines into a shell that ends at the first error; its status and all that was said."""
    words = ["bash", "-c", "\n".join(["set -euo pipefail", *lines])]
    done = subprocess.run(words, cwd=directory, env=environment, timeout=SECONDS, check=False, **SAID)
    return done.returncode, done.stdout


@pytest.fixture
def here(tmp_path):
    """A directory from which the workflows are seen as from the project."""
    for name in ("workflows", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


# --- full sky ---------------------------------------------------------------------------------------------------------


def test_a_full_sky(here):
    simulate, run = console("full_sky/README.md")
    status, said = bash(here, simulate, f"{run} --tile-size 450 --max-iter 3")
    assert status == 0, said
    certificate = json.loads((here / "sky" / "run" / "certificate.json").read_text())
    assert certificate["tiling_exact"]
    assert "ring" in said
    assert re.search(r"^  kept  .*recompute", said, re.MULTILINE) or "again" in said
    # Started again, it does nothing but check.
    status, said = bash(here, f"{run} --tile-size 450 --max-iter 3")
    assert status == 0, said
    assert "nothing to do" in said


# --- many fields ------------------------------------------------------------------------------------------------------


def test_many_fields_on_slurm(here, slurm, survey):
    snakemake = shutil.which("snakemake", path=str(ROOT / ".venv-workflows" / "bin"))
    assert snakemake, "make .venv-workflows/installed"
    (here / "fields.tsv").write_text(f"field\tsurvey\ncrab\t{survey}\nvela\t{survey}\n")
    (here / "settings.toml").write_text(SETTINGS)
    _, command = console("hpc/README.md")
    status, said = bash(here, command.replace("snakemake", snakemake, 1), environment=slurm)
    assert status == 0, said
    assert digest_of(here / "runs" / "crab") == digest_of(here / "runs" / "vela")
    catalogue = Table.read(here / "catalogue.ecsv")
    assert set(catalogue["field"]) == {"crab", "vela"}
    status, said = bash(here, command.replace("snakemake", snakemake, 1), environment=slurm)
    assert status == 0, said
    assert "Nothing to be done" in said


# --- reprocessing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(here, survey):
    shutil.copy(survey, here / "survey-1.fits")
    with fits.open(survey) as hdus:
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
    status, said = bash(pipeline, *typed)
    assert status == 0, said
    assert said.splitlines()[-1] == "runs/survey-2"
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
    status, said = bash(pipeline, REPROCESS)
    assert status == 2, said
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
    shutil.copy(pipeline / "survey-1.fits", directory / "surveys" / "survey-1.fits")
    status, said = bash(pipeline, f"{REPROCESS} & first=$!", "sleep 1", REPROCESS, "wait $first")
    assert status == 0, said
    assert "another start is at work" in said
    assert current_of(directory) == "runs/survey-1"


def test_units_are_what_systemd_takes():
    assert shutil.which("systemd-analyze"), "apt-get install systemd"
    units = [str(WORKFLOWS / "reprocess" / f"cwt-dask-reprocess.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], check=False, **SAID)
    complaints = [line for line in done.stdout.splitlines() if "cwt-dask-reprocess" in line]
    # The service names a command of the user's home, which is not there.
    assert all("is not executable" in line for line in complaints), done.stdout
