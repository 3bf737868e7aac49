"""Runs go on wherever they and their survey's store are moved; those in buckets are with the other object stores."""

import shutil
from pathlib import Path

import pytest
from buckets import copy, move
from skies import poisson_sky, write_survey
from work import change_run

from cwt_dask.planning.runfile import read_run
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import SurveySource, ingest

SETTINGS = ("--workers=0", "--n-scale=1", "--min-scale=1.2", "--max-iter=1", "--fits=no")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of two surveys, to be copied."""
    folder = tmp_path_factory.mktemp("stores")
    for seed in (3, 4):
        fits = write_survey(folder / f"{seed}.fits", *poisson_sky((24, 30), seed=seed))
        ingest(SurveySource.of(fits), folder / f"{seed}.zarr")
    return folder


@pytest.fixture
def begin(stores, call):
    """Put a store somewhere, and make a run on it by the names given."""

    def make(store, run):
        copy(stores / "3.zarr", store)
        assert call("run", store, run, *SETTINGS).status == 0

    return make


def goes_on(call, run, *others):
    for command in (("verify", run), *others):
        said = call(*command)
        assert said.status == 0, (command, said)


def together_with_a_link_to_the_run():
    Path("p").rename("deep")
    Path("link").symlink_to("deep/run")
    return "link"


def the_store_behind_its_link():
    Path("p/s.zarr").rename("elsewhere/s.zarr")
    Path("p/s.zarr").symlink_to("../elsewhere/s.zarr")
    return "p/run"


@pytest.mark.parametrize("moved", [together_with_a_link_to_the_run, the_store_behind_its_link])
def test_a_run_finds_its_survey(begin, call, tmp_path, monkeypatch, moved):
    monkeypatch.chdir(tmp_path)
    Path("elsewhere").mkdir()
    begin("p/s.zarr", "p/run")
    run = Path(moved()).absolute()
    monkeypatch.chdir("/")
    goes_on(call, run)


def test_all_commands_go_on_where_both_are_moved_and_another_survey_has_their_place(
    stores, begin, call, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    begin("p/s.zarr", "p/run")
    Path("p").rename("q")
    shutil.copytree(stores / "4.zarr", "p/s.zarr")
    goes_on(
        call,
        "q/run",
        ("status", "q/run"),
        ("report", "q/run"),
        ("compare", "q/run", "q/run"),
        ("match", "q/run", "q/run/catalogue.ecsv"),
        ("reprocess", "q/s.zarr", "q/run", "q/new", "--workers=0", "--fits=no"),
    )
    assert "nothing to do" in call("run", "q/s.zarr", "q/run", *SETTINGS).out
    assert read_run(RunDir(Path("q/run"))).places == (tmp_path / "q/s.zarr", tmp_path / "p/s.zarr")


def test_a_run_s_own_store_that_is_lost_is_made_again_by_its_command(stores, call, tmp_path):
    command = ("run", stores / "3.fits", tmp_path / "run", *SETTINGS)
    assert call(*command).status == 0
    shutil.rmtree(tmp_path / "run" / "survey.zarr")
    assert call("compare", command[2], command[2]).err.endswith(
        "survey.zarr): give the run's own command again, which reads the survey again\n"
    )
    assert call(*command).status == 0


@pytest.mark.parametrize("of_store", ["disk", pytest.param("bucket", marks=pytest.mark.long)])
def test_a_store_that_is_moved_alone_is_told_once(begin, call, tmp_path, bucket, of_store):
    folder, run = {"disk": tmp_path, "bucket": bucket}[of_store], tmp_path / "run"
    begin(folder / "s.zarr", run)
    move(folder / "s.zarr", folder / "new.zarr")
    said = call("compare", run, run)
    assert said.status == 2
    assert f"the survey of {run} cannot be found (there is no store {folder / 's.zarr'}" in said.err
    (folder / "s.zarr/counts").mkdir(parents=True)
    (folder / "s.zarr/counts/zarr.json").write_text("{}")
    assert f"cannot be found ({folder / 's.zarr'} has no zarr.json" in call("compare", run, run).err
    assert "nothing to do" in call("run", folder / "new.zarr", run, *SETTINGS).out
    goes_on(call, run)


def test_a_store_of_another_survey_is_not_taken_and_any_of_the_same_is(stores, begin, call, tmp_path):
    store, run = tmp_path / "s.zarr", tmp_path / "run"
    begin(store, run)
    shutil.rmtree(store)
    copy(stores / "4.zarr", store)
    assert f"{store} is not the survey that it began with" in call("verify", run).out
    assert f"by cwt-dask run STORE {run}" in call("run", stores / "3.fits", run, *SETTINGS).err
    for given in (stores / "3.zarr", shutil.copytree(stores / "3.zarr", tmp_path / "copy.zarr")):
        assert call("run", given, run, *SETTINGS).status == 0
        assert read_run(RunDir(run)).survey.path == given


def test_runs_that_know_no_more_than_an_absolute_place_are_read(begin, call, tmp_path):
    begin(tmp_path / "s.zarr", tmp_path / "run")
    change_run(tmp_path / "run" / "run.toml", 'relative = "../s.zarr"\n', "")
    assert read_run(RunDir(tmp_path / "run")).places == (tmp_path / "s.zarr",)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    goes_on(call, tmp_path / "elsewhere")
