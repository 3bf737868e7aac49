"""What the version before has left: its unfinished runs are refused and kept, its finished ones are used.

The version before is taken from the repository's history and runs in processes of its own.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cases import EVERY
from fuzzing import tree
from skies import poisson_sky, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import SettingsError
from cwt_dask.storage.ledger import read_records

# The last commit of version 0.1.0 whose modules lay flat.
PREVIOUS = "c585025ee0dce87649bf9264a540d759cdad457a"
OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 60, "workers": 0, "fits": "no"}
ISLANDS = {"significance_island_threshold": 4.0}
HISTORY = {"keep_history": True}
FINISHED = HISTORY | ISLANDS | {"tol": 0.02}
# Settings, and where a run is interrupted: before the n-th item of a stage is counted.
INTERRUPTED = {
    "look-ahead tiles": ({"tol": 1e-3}, "tiles that go ahead", 0),
    "first block": ({"tol": 0.02}, "tiles, iterations 1", 3),
    "publishing": ({"tol": 0.02}, "publishing tiles", 2),
    "islands": (ISLANDS | {"tol": 0, "max_iter": 4}, "islands over seams", 3),
    "history": (HISTORY | {"stopping": "fixed", "max_iter": 3}, "tiles, 3 iterations", 4),
    "merge": ({"stopping": "fixed", "max_iter": 3}, "sources", 2),
}
if not EVERY:
    # What is refused is the version, wherever the run was.
    INTERRUPTED = {case: INTERRUPTED[case] for case in ("first block", "merge")}
SCRIPT = """
import json, sys
from cwt_dask import run_survey
from cwt_dask.progress import Reporter

class Dies(Exception):
    pass

class DiesAt(Reporter):
    def __init__(self, stage, item):
        self.at = stage, item
    def track(self, outcomes, stage, total):
        for number, outcome in enumerate(outcomes):
            if stage.startswith(self.at[0]) and number == self.at[1]:
                raise Dies
            yield outcome

for run_dir, options, *at in json.load(sys.stdin):
    try:
        run_survey(sys.argv[1], run_dir, **options, progress=DiesAt(*at) if at else None)
    except Dies:
        continue
    assert not at, f"{run_dir} was not interrupted at {at}"
"""


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey") / "survey.fits", *poisson_sky((150, 190), seed=11))


@pytest.fixture(scope="module")
def previous(survey, tmp_path_factory):
    """Folder with the runs of the version before: each case interrupted, and two finished ones."""
    folder, root = tmp_path_factory.mktemp("previous"), Path(__file__).parents[2]
    archive = [shutil.which("git"), "archive", PREVIOUS, "cwt_dask"]
    with tarfile.open(
        fileobj=io.BytesIO(subprocess.run(archive, cwd=root, capture_output=True, check=True).stdout)
    ) as tar:
        tar.extractall(folder, filter="data")
    runs = [("finished", FINISHED), ("plain", {}), *((case, *asked) for case, asked in INTERRUPTED.items())]
    asked = [
        (str(folder / name), OPTIONS | options | {"no_report": name != "finished"}, *at) for name, options, *at in runs
    ]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", SCRIPT, survey]
    subprocess.run(command, input=json.dumps(asked), text=True, cwd=folder, env=environment, check=True)
    return folder


@pytest.mark.parametrize("case", INTERRUPTED)
def test_an_interrupted_run_is_refused_and_kept(case, previous, survey):
    options, before = OPTIONS | INTERRUPTED[case][0], tree(previous / case)
    with pytest.raises(SettingsError, match=r"algorithm_version was 4, is \d+ .* Choose another directory"):
        run_survey(survey, previous / case, **options)
    assert tree(previous / case) == before


@pytest.mark.usefixtures("reported")
def test_a_finished_run_is_opened_verified_reported_matched_and_reprocessed(previous, survey, tmp_path, capsys):
    old = previous / "finished"
    run = SurveyRun.open(old)
    assert len(run.catalogue) > 0
    assert len(run.history) == run.certificate["n_iter"] + 1
    for command in (["status"], ["verify", "--recompute=1"], ["report"]):
        assert main([command[0], str(old), *command[1:]]) == 0, capsys.readouterr()
    assert main(["match", str(old), str(old / "catalogue.fits"), "--radius=1"]) == 0
    assert (old / "associations.ecsv").exists()
    options = [f"--{name.replace('_', '-')}={OPTIONS[name]}" for name in ("workers", "fits")]
    for name in ("finished", "plain"):
        assert main(["reprocess", str(survey), str(previous / name), str(tmp_path / name), "--quiet", *options]) == 0
        new = SurveyRun.open(tmp_path / name)
        assert new.certificate["digest_maps"] == SurveyRun.open(previous / name).certificate["digest_maps"]
        assert not any(record.taken_from for record in read_records(new.files.ledger).values())
        picture = tmp_path / f"{name}.png"
        assert main(["compare", str(previous / name), str(tmp_path / name), "--plot", str(picture)]) == 0
        assert picture.exists()
