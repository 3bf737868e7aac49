"""The workflow of many fields, on a real SLURM."""

import shutil
import subprocess

from astropy.table import Table
from batch import SECONDS, output_of, wait_for
from elsewhere import PRINTED, ROOT, bash, console, digest_of, tiles_done

# As LONG of elsewhere.py.
SETTINGS = 'n_scale = 2\nmin_scale = 1.5\ntile_size = 128\nstopping = "fixed"\nmax_iter = 75\nfits = "no"\n'


def job_of(environment, field):
    """Number of the job that runs for a field."""
    lines = output_of(environment, "squeue", "--noheader", "--states=RUNNING", "--format=%A %k").splitlines()
    (number,) = [line.split()[0] for line in lines if field in line]
    return number


def test_many_fields_on_slurm_of_which_one_loses_its_job(here, slurm, survey, small_survey, undisturbed):
    snakemake = shutil.which("snakemake", path=str(ROOT / ".venv-workflows" / "bin"))
    assert snakemake, "make .venv-workflows/installed"
    (here / "fields.tsv").write_text(f"field\tsurvey\ncrab\t{survey}\nvela\t{small_survey}\n")
    (here / "settings.toml").write_text(SETTINGS)
    _, command = console("hpc/README.md")
    command = command.replace("snakemake", snakemake, 1)
    with subprocess.Popen(["bash", "-c", command], cwd=here, env=slurm, **PRINTED) as running:
        wait_for(lambda: tiles_done(here / "runs" / "crab") > 2, "some tiles")
        bash(here, f"scancel --signal=KILL {job_of(slurm, 'crab')}", environment=slurm)
        log = running.communicate(timeout=SECONDS)[0]
    assert running.returncode == 0, log
    assert "Trying to restart job" in log
    assert digest_of(here / "runs" / "crab") == undisturbed
    catalogue = Table.read(here / "catalogue.ecsv")
    assert set(catalogue["field"]) == {"crab", "vela"}
    status, log = bash(here, command, environment=slurm)
    assert status == 0, log
    assert "Nothing to be done" in log
