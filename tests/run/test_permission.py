"""What may not be read counts as no damage: it is named, and nothing is done again or thrown away."""

from contextlib import suppress

import pytest
from flips import files_of
from forbidden import forbidden
from reporters import DiesAt, InterruptedRunError
from skies import poisson_sky, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import AccessError, RunError
from cwt_dask.inspection.verify import verify_run
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.marks import note_user, remedy_of
from cwt_dask.storage.paths import exists

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 1, "min_scale": 1.2, "tile_size": 24, "margin": 6, "max_iter": 3}
OPTIONS |= {"tol": 0, "significance_island_threshold": 4.0}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("sky") / "survey.fits", *poisson_sky((24, 48), seed=3))


@pytest.fixture(scope="module")
def finished(survey):
    """A run of two tiles; it stays as it is."""
    return run_survey(survey, survey.with_name("run"), **OPTIONS)


@pytest.fixture(scope="module")
def interrupted(survey):
    """A run between two blocks of iterations; it stays as it is."""
    with suppress(InterruptedRunError):
        run_survey(survey, survey.with_name("died"), progress=DiesAt("tiles, iterations 3", 1), **OPTIONS)
    return SurveyRun.open(survey.with_name("died"))


def contents(run):
    """Of all files but records of failures."""
    return {path: path.read_bytes() for path in files_of(run.files.path) if ".failed-" not in path.name}


def left_alone(run, path, call):
    """A call names a path that may not be read, and changes nothing."""
    before = contents(run)
    said = rf"{path}(/\S+)? may not be read \(Permission denied\): give permission to read it"
    with forbidden(path), pytest.raises((AccessError, RunError), match=said):
        call()
    assert contents(run) == before


OF_ANY = ("run.toml", "ledger/run-id", "islands/open-block-00002.json", "survey.zarr/zarr.json", "maps.zarr/zarr.json")
OF_ANY += ("survey.zarr/counts/c/0/0", "ledger", "islands", "maps.zarr", "survey.zarr")
OF_FINISHED = ("certificate.json", "catalogue.ecsv", "ledger/tile-0000001.json", "islands/tile-0000000.npy")
OF_FINISHED += ("maps.zarr/model/c/0/1", "seams.zarr/own_model/c/0/0/0", "seams.zarr")
OF_INTERRUPTED = ("checkpoints/block-00002/tile-0000001.round-00000.npz", "checkpoints/block-00002")
OF_INTERRUPTED += ("ledger/tile-0000000.block-00002.round-00000.json",)


@pytest.mark.parametrize("name", [*OF_ANY, *OF_FINISHED])
def test_of_a_finished_run_it_is_named(survey, finished, name):
    path = finished.files.path / name
    left_alone(finished, path, lambda: run_survey(survey, finished.files.path, **OPTIONS))
    left_alone(finished, path, lambda: list(verify_run(SurveyRun.open(finished.files.path))))


@pytest.mark.parametrize("name", [*OF_ANY, *OF_INTERRUPTED])
def test_of_an_unfinished_run_it_is_named(survey, interrupted, name):
    path = interrupted.files.path
    left_alone(interrupted, path / name, lambda: run_survey(survey, path, **OPTIONS))


@pytest.mark.parametrize("name", ["ledger", "users", "maps.zarr/model"])
def test_a_run_is_not_overwritten(survey, finished, capsys, name):
    before = contents(finished)
    (finished.files.path / "users").mkdir(exist_ok=True)
    words = [f"--{option.replace('_', '-')}={value}" for option, value in OPTIONS.items()]
    with forbidden(finished.files.path / name):
        assert main(["run", str(survey), str(finished.files.path), "--overwrite", *words]) == 2
    assert f"{finished.files.path / name}" in (said := capsys.readouterr().err)
    assert "may not be read (Permission denied): give permission to read it" in said
    assert contents(finished) == before


def test_a_survey_that_lies_in_a_run_of_which_nothing_may_be_read_is_one_like_others(finished, tmp_path):
    store = finished.files.survey
    assert "the run's own command" in remedy_of(store)
    with forbidden(finished.files.settings):
        assert remedy_of(store) == "ingest the survey again"
        note_user(RunDir(tmp_path), store, "0" * 32)
    assert not exists(finished.files.users / f"{'0' * 32}.json")
