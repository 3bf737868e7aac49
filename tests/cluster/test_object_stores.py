"""Runs and surveys in buckets: the same bits as on a disk, also where the store misbehaves."""

import re

import numpy as np
import pytest
from buckets import Once, move
from cases import EVERY
from skies import poisson_sky, write_survey
from work import digests, flip, starts

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import InputError, MachineError, RunError, SurveyError
from cwt_dask.inspection.compare import compare_runs
from cwt_dask.inspection.match import associate, match_run
from cwt_dask.inspection.verify import verify_run
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import last_failures, read_records
from cwt_dask.storage.paths import as_path
from cwt_dask.survey import Survey, SurveySource, ingest

OPTIONS = {"workers": 0, "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 45, "max_iter": 4}
KINDS = {
    "in one go": {"stopping": "fixed", "max_iter": 3, "fits": "yes"},
    "in blocks": {"tol": 3e-2, "keep_history": True},
    "with islands": {"significance_island_threshold": 5.0, "max_iter": 2},
}
FAST = OPTIONS | KINDS["in one go"] | {"fits": "no"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("sky") / "survey.fits", *poisson_sky((45, 90), seed=3))


@pytest.fixture(scope="module")
def on_disk(survey):
    return run_survey(survey, survey.with_name("run"), **FAST)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_a_bucket_is_that_on_a_disk(bucket, survey, tmp_path, kind):
    options = OPTIONS | KINDS[kind]
    expected = run_survey(survey, tmp_path / "run", **options)
    run = run_survey(survey, f"{bucket}/runs/first", **options)
    assert digests(run) == digests(expected)
    assert not [check for check in verify_run(run) if check.fault]
    again = SurveyRun.open(f"{bucket}/runs/first")
    assert np.array_equal(again.model.compute(scheduler="synchronous"), expected.model.compute(scheduler="synchronous"))
    assert list(again.catalogue["name"]) == list(expected.catalogue["name"])
    assert {path.name for path in again.files.path.iterdir()} == {
        path.name for path in expected.files.path.iterdir() if path.name != "lock"
    }
    if kind == "in one go":
        assert again.files.maps_fits.read_bytes()[:6] == b"SIMPLE"
        associate(again, match_run(again, expected.files.catalogue, 0.1))
        assert "assoc_name" in SurveyRun.open(again.files.path).catalogue.colnames
    if kind == "in blocks":
        assert np.array_equal(
            again.history[1].model.compute(scheduler="synchronous"),
            expected.history[1].model.compute(scheduler="synchronous"),
        )
    differences = compare_runs(expected, again)
    assert not [*differences.gained, *differences.lost, *differences.changed]


def test_the_same_command_does_nothing_more_than_is_needed(bucket, survey, capsys):
    command = ["run", str(survey), f"{bucket}/run", "--n-scale", "2", "--min-scale", "1.2", "--workers", "0"]
    assert main([*command, "--tile-size", "45", "--max-iter", "2"]) == 0
    assert main([*command, "--tile-size", "45", "--max-iter", "2"]) == 0
    assert "checked, nothing to do" in capsys.readouterr().out
    assert main(["status", f"{bucket}/run"]) == 0
    assert "2 of 2 tiles done" in capsys.readouterr().out
    assert main(["verify", f"{bucket}/run", "--recompute", "2"]) == 0
    # Damaged objects are found and made again.
    files = RunDir(as_path(f"{bucket}/run"))
    content = files.maps_fits.read_bytes()
    damaged = [files.certificate, files.catalogue_fits, files.maps_fits, files.maps / "model" / "zarr.json"]
    for path in damaged:
        path.write_bytes(path.read_bytes().replace(b"e", b"f", 1).replace(b"S", b"T", 1))
    capsys.readouterr()
    assert main(["verify", f"{bucket}/run"]) == 1
    broken = re.findall("^BROKEN.*", capsys.readouterr().out, re.MULTILINE)
    assert all(str(path) in "".join(broken) for path in damaged[1:])
    assert main([*command, "--tile-size", "45", "--max-iter", "2"]) == 0
    assert "model/zarr.json was damaged (" in capsys.readouterr().out
    assert files.maps_fits.read_bytes() == content
    assert main(["verify", f"{bucket}/run"]) == 0
    # Other settings are another run.
    assert main([*command, "--tile-size", "45", "--max-iter", "3"]) == 2
    assert "max_iter was 2, is 3" in capsys.readouterr().err
    assert main([*command, "--tile-size", "45", "--max-iter", "3", "--overwrite"]) == 0
    assert SurveyRun.open(f"{bucket}/run").certificate["n_iter"] == 3


def test_surveys_in_buckets(bucket, survey, on_disk, tmp_path):
    (bucket / "survey.fits").write_bytes(survey.read_bytes())
    store = ingest(SurveySource.of(f"{bucket}/survey.fits"), f"{bucket}/survey.zarr")
    assert store.statistics == Survey.open(f"{bucket}/survey.zarr").statistics
    assert digests(run_survey(store.path, tmp_path / "run", **FAST)) == digests(on_disk)
    assert digests(run_survey(f"{bucket}/survey.fits", f"{bucket}/run", **FAST)) == digests(on_disk)
    (store.path / "counts" / "c" / "0" / "0").unlink()
    with pytest.raises(RunError, match="survey.zarr/counts/c/0/0 is lost: ingest the survey again"):
        run_survey(store.path, tmp_path / "lost", **FAST)
    with pytest.raises(SurveyError, match=r"survey.zarr exists: remove it or choose another name"):
        ingest(SurveySource.of(survey), f"{bucket}/survey.zarr")


@pytest.mark.usefixtures("reported")
def test_a_report_is_written_to_a_bucket_and_again_where_it_is_lost(bucket, survey, capsys):
    command = ["run", str(survey), f"{bucket}/run", "--n-scale", "2", "--min-scale", "1.2", "--workers", "0"]
    assert main([*command, "--tile-size", "45", "--max-iter", "2"]) == 0
    files = RunDir(as_path(f"{bucket}/run"))
    page = files.report.read_bytes()
    assert b"The tiles did no harm" in page
    assert f"report         {bucket}/run/report.html" in capsys.readouterr().out
    assert main([*command, "--tile-size", "45", "--max-iter", "2"]) == 0
    assert "checked, nothing to do" in capsys.readouterr().out
    files.report.unlink()
    (files.pyramid / "1" / "counts" / "c" / "0" / "0").unlink()
    assert main([*command, "--tile-size", "45", "--max-iter", "2"]) == 0
    assert files.report.read_bytes() == page
    assert main(["report", f"{bucket}/run"]) == 0
    assert files.report.read_bytes() == page


def test_workers_write_to_buckets(bucket, survey, on_disk):
    run = run_survey(survey, f"{bucket}/run", **FAST | {"workers": 2})
    assert digests(run) == digests(on_disk)


def test_a_run_that_broke_off_goes_on(bucket, server, survey, on_disk):
    server.fault = lambda method, path: "half" if method == "PUT" and path.endswith("approx/c/0/1") else None
    with pytest.raises(RunError, match=r"1 of 2 tiles failed \(1\); tile 1: .*; tracebacks are in the ledger"):
        run_survey(survey, f"{bucket}/run", **FAST)
    files = RunDir(as_path(f"{bucket}/run"))
    assert set(read_records(files.ledger)) == {0}
    before = files.record(0).read_text()
    server.fault = lambda *_: None
    assert digests(run_survey(survey, files.path, **FAST)) == digests(on_disk)
    assert files.record(0).read_text() == before


def test_a_damaged_object_costs_its_tile_only(bucket, survey, on_disk):
    run = run_survey(survey, f"{bucket}/run", **FAST)
    flip(run.files.maps / "approx" / "c" / "0" / "1")
    (run.files.maps / "model" / "c" / "0" / "1").unlink()
    before = starts(run)
    assert digests(run_survey(survey, run.files.path, **FAST)) == digests(on_disk)
    assert [tile for tile, when in starts(run).items() if when == before[tile]] == [0]


@pytest.mark.parametrize("fault", ["throttled", "half", "answer lost"][:: 1 if EVERY else 2])
def test_every_third_request_fails_once(bucket, server, survey, on_disk, fault):
    server.fault = Once(fault, "PUT", "GET", "POST", every=3)
    run = run_survey(survey, f"{bucket}/run", **FAST)
    assert len(server.fault.met) > 20
    assert digests(run) == digests(on_disk)
    assert not [check for check in verify_run(run) if check.fault]


def test_a_store_that_does_not_answer_in_time_is_asked_again(bucket, server, survey, on_disk):
    once = Once("timed out", "PUT")
    server.fault = lambda method, path: once(method, path) if path.endswith("tile-0000001.json") else None
    assert digests(run_survey(survey, f"{bucket}/run", **FAST)) == digests(on_disk)
    assert len(once.met) == 1


def test_what_the_client_gives_up_is_tried_again_as_a_tile(bucket, server, survey, on_disk):
    left = iter(range(15))
    server.fault = lambda method, path: (
        "half" if method == "PUT" and "model/c/0/0" in path and next(left, None) is not None else None
    )
    run = run_survey(survey, f"{bucket}/run", **FAST)
    assert digests(run) == digests(on_disk)
    assert set(last_failures(run.files)) == {0}


def test_reprocessing_and_the_pointer_to_the_current_run(bucket, survey, tmp_path):
    old = run_survey(survey, f"{bucket}/v1", **FAST)
    counts, background = poisson_sky((45, 90), seed=3)
    counts[5, 5] += 9
    changed = write_survey(tmp_path / "changed.fits", counts, background)
    command = ["reprocess", str(changed), f"{bucket}/v1", f"{bucket}/v2", "--workers", "0", "--fits", "no"]
    assert main([*command, "--current", f"{bucket}/current"]) == 0
    assert (bucket / "current").read_text() == f"{bucket}/v2"
    expected = run_survey(changed, tmp_path / "scratch", **FAST)
    new = SurveyRun.open((bucket / "current").read_text())
    assert digests(new) == digests(expected)
    assert digests(old) != digests(new)
    (bucket / "current").write_text("something else")
    assert main([*command, "--current", f"{bucket}/current"]) == 2


def test_what_was_not_made_to_the_end_is_made_anew(bucket, server, survey, on_disk):
    server.fault = lambda method, path: "half" if method == "PUT" and path.endswith("run.toml") else None
    with pytest.raises(MachineError, match="the object store did not answer as it should"):
        run_survey(survey, f"{bucket}/run", **FAST)
    server.fault = lambda *_: None
    assert not (bucket / "run").exists()
    # As after a driver that was killed there.
    ingest(SurveySource.of(survey), f"{bucket}/run/survey.zarr")
    (bucket / "run" / "unfinished").touch()
    assert digests(run_survey(survey, f"{bucket}/run", **FAST)) == digests(on_disk)


def test_no_survey_in_the_run_directory_is_overwritten(bucket, survey):
    files = run_survey(survey, f"{bucket}/run", **FAST).files
    with pytest.raises(InputError, match="which would be overwritten"):
        run_survey(files.survey, files.path, **FAST | {"overwrite": True})
    assert Survey.open(files.survey).statistics
    assert files.certificate.exists()


def test_runs_that_are_moved_find_their_survey(bucket, survey, on_disk, tmp_path):
    """In one bucket both are moved; a store on a disk is moved without its run."""
    store = ingest(SurveySource.of(survey), f"{bucket}/p/survey.zarr").path
    run_survey(store, f"{bucket}/p/run", **FAST)
    move(f"{bucket}/p", f"{bucket}/deep/q")
    moved = SurveyRun.open(f"{bucket}/deep/q/run")
    assert str(moved.survey.path) == f"{bucket}/deep/q/survey.zarr"
    assert not [check for check in verify_run(moved) if check.fault]
    run_survey(moved.survey.path, moved.files.path, **FAST)

    local = ingest(SurveySource.of(survey), tmp_path / "survey.zarr").path
    run_survey(local, f"{bucket}/run", **FAST)
    elsewhere = local.rename(tmp_path / "elsewhere.zarr")
    with pytest.raises(SurveyError, match="run cannot be found .there is no store .*survey.zarr.: say once where it"):
        _ = SurveyRun.open(f"{bucket}/run").survey
    assert digests(run_survey(elsewhere, f"{bucket}/run", **FAST)) == digests(on_disk)
    assert not [check for check in verify_run(SurveyRun.open(f"{bucket}/run")) if check.fault]
