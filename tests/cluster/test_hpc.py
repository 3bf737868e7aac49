"""The workflow of many fields, on a real SLURM."""

import shutil

from astropy.table import Table
from elsewhere import ROOT, bash, console, digest_of

SETTINGS = 'n_scale = 2\nmin_scale = 1.5\ntile_size = 128\nmax_iter = 4\nfits = "no"\n'


def test_many_fields_on_slurm(here, slurm, small_survey):
    snakemake = shutil.which("snakemake", path=str(ROOT / ".venv-workflows" / "bin"))
    assert snakemake, "make .venv-workflows/installed"
    (here / "fields.tsv").write_text(f"field\tsurvey\ncrab\t{small_survey}\nvela\t{small_survey}\n")
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
