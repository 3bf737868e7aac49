"""Paths and URLs: what can be used, what cannot, and what an object store that misbehaves looks like."""

import re
from pathlib import Path

import pytest
from skies import poisson_sky, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.storage import object_store, paths
from cwt_dask.storage.ledger import read_record, write_record
from cwt_dask.storage.object_store import refuse_no_link, remove_tree, replace, version_of
from cwt_dask.storage.paths import as_path, lies_in
from cwt_dask.survey import SurveySource, ingest

FAST = {"workers": 0, "fits": "no", "n_scale": 1, "min_scale": 1.2, "max_iter": 2, "tile_size": 45, "stopping": "fixed"}


@pytest.fixture
def survey(tmp_path):
    return write_survey(tmp_path / "survey.fits", *poisson_sky((45, 90), seed=3))


def test_a_store_that_is_gone_is_a_fault_of_the_machine(bucket, server, capsys):
    server.fault = lambda *_: "half"
    assert main(["status", f"{bucket}/run"]) == 1
    assert "the object store did not answer as it should" in capsys.readouterr().err


def test_of_two_that_write_one_record_at_once_one_is_refused(bucket, survey, monkeypatch):
    run = run_survey(survey, f"{bucket}/run", **FAST)
    record = read_record(run.files.record(1))
    seen = version_of(run.files.record(1))
    replace(run.files.record(1), b"of another", seen)
    monkeypatch.setattr(object_store, "version_of", lambda _: seen)
    with pytest.raises(FileExistsError, match="another process has written it meanwhile"):
        write_record(run.files, record)
    assert run.files.record(1).read_bytes() == b"of another"
    with pytest.raises(FileExistsError):
        replace(run.files.record(1), b"new", None)


def test_places_that_cannot_be_used(bucket, survey, monkeypatch):
    with pytest.raises(InputError, match=r"gs://x/y cannot be used: give a path, or a URL like s3://bucket/key"):
        run_survey(survey, "gs://x/y", **FAST)
    with pytest.raises(InputError, match=r"there is no bucket s3://nowhere-at-all, or you may not see it"):
        run_survey(survey, "s3://nowhere-at-all/run", **FAST)
    (bucket / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a run directory"):
        run_survey(survey, f"{bucket}/run", **FAST)
    assert (bucket / "run" / "notes.txt").read_text() == "mine"
    # Names that a run uses, too, are not a run's because of that.
    mine = [bucket / "mine" / name for name in ("catalogue.fits", "ledger/2019.txt", ".git/config")]
    for path in mine:
        path.write_text("mine")
    with pytest.raises(InputError, match="is not a run directory"):
        run_survey(survey, f"{bucket}/mine", **FAST)
    assert [path.read_text() for path in mine] == ["mine"] * 3
    with pytest.raises(InputError, match="is a whole bucket: give a name in it, such as s3://.*/run"):
        run_survey(survey, f"s3://{bucket.path.partition('/')[0]}", **FAST | {"overwrite": True})
    monkeypatch.setattr(paths, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs packages for object stores: pip install 'cwt_dask\[s3\]'"):
        run_survey(survey, f"{bucket}/run", **FAST)


@pytest.mark.parametrize("name", [None, 5, b"survey.fits", ["survey.fits"]])
def test_what_is_no_path_is_refused(survey, tmp_path, name):
    message = re.escape(f"{name} is not the name of a file or directory: give a path, or a URL like s3://bucket/key")
    with pytest.raises(InputError, match=message):
        run_survey(name, tmp_path / "run", **FAST)
    with pytest.raises(InputError, match=message):
        run_survey(survey, name, **FAST)
    assert not (tmp_path / "run").exists()


def test_paths_of_disks_and_buckets_are_told_apart():
    assert lies_in(as_path("s3://b/run/survey.zarr"), as_path("s3://b/run"))
    assert not lies_in(as_path("s3://b/run-2"), as_path("s3://b/run"))
    assert not lies_in(Path("/run"), as_path("s3://b/run"))
    assert lies_in(as_path("s3://b/survey.zarr"), as_path("s3://b"))
    assert as_path("survey.fits") == Path("survey.fits")
    assert str(as_path("s3://b//run/")) == "s3://b/run"


def test_nothing_is_left_of_a_survey_that_is_refused(bucket, tmp_path):
    counts, background = poisson_sky((30, 40), seed=3)
    counts[20, 20] = -1
    bad = write_survey(tmp_path / "bad.fits", counts, background)
    with pytest.raises(SurveyError, match="negative"):
        ingest(SurveySource.of(bad), f"{bucket}/survey.zarr")
    with pytest.raises(SurveyError, match="negative"):
        run_survey(bad, f"{bucket}/run", **FAST)
    assert not bucket.exists()


def test_a_pointer_in_a_bucket_holds_a_url_and_nothing_else_is_replaced(bucket):
    refuse_no_link(as_path(f"{bucket}/current"))
    (bucket / "current").write_text("s3://somewhere/run")
    refuse_no_link(as_path(f"{bucket}/current"))
    (bucket / "current").write_text("notes of mine")
    with pytest.raises(InputError, match="current holds something else than a URL: it is not replaced, choose another"):
        refuse_no_link(as_path(f"{bucket}/current"))


def test_what_cannot_be_removed_is_not_taken_for_removed(bucket, server):
    (bucket / "run" / "object").write_text("there")
    server.fault = lambda method, _: "denied" if method == "POST" else None
    with pytest.raises(PermissionError, match="1 objects below .* could not be removed: see to your keys"):
        remove_tree(bucket / "run")


def test_other_errors_than_conflicts_stay_what_they_are(bucket, server):
    server.fault = lambda method, _: "throttled" if method == "PUT" else None
    with pytest.raises(OSError, match="reduce your request rate"):
        replace(bucket / "object", b"", None)


def test_a_store_that_is_throttled_while_a_run_is_opened_is_no_wrong_directory(bucket, server, survey, capsys):
    run_survey(survey, f"{bucket}/run", **FAST)
    for name in ("run.toml", "run-id"):
        server.fault = lambda method, path, name=name: "throttled" if method == "GET" and path.endswith(name) else None
        options = ["--workers", "0", "--n-scale", "1", "--min-scale", "1.2", "--tile-size", "45", "--max-iter", "2"]
        assert main(["run", str(survey), f"{bucket}/run", "--fits", "no", "--stopping", "fixed", *options]) == 1
        said = capsys.readouterr().err
        assert "reduce your request rate" in said
        assert "overwrite" not in said


def test_of_two_that_ingest_to_one_place_the_first_stays(bucket, survey):
    (bucket / "survey.zarr" / "unfinished").write_text("of another")
    with pytest.raises(SurveyError, match="survey.zarr exists"):
        ingest(SurveySource.of(survey), f"{bucket}/survey.zarr")
    with pytest.raises(InputError, match="there is no bucket"):
        ingest(SurveySource.of(survey), "s3://nowhere-at-all/survey.zarr")


def test_what_is_damaged_in_a_bucket_is_found_and_made_again(bucket, survey, capsys):
    command = ["run", str(survey), f"{bucket}/run", "--workers=0", "--n-scale=1", "--min-scale=1.2", "--max-iter=2"]
    assert main(command) == 0
    files = SurveyRun.open(f"{bucket}/run").files
    content = files.maps_fits.read_bytes()
    damaged = [files.certificate, files.catalogue_fits, files.maps_fits, files.maps / "model" / "zarr.json"]
    for path in damaged:
        path.write_bytes(path.read_bytes().replace(b"e", b"f", 1).replace(b"S", b"T", 1))
    assert main(["verify", f"{bucket}/run"]) == 1
    said = capsys.readouterr().out
    broken = "\n".join(line for line in said.splitlines() if line.startswith("BROKEN"))
    assert all(str(path) in broken for path in damaged[1:])
    assert main(command) == 0
    assert "model/zarr.json was damaged (" in capsys.readouterr().out
    assert files.maps_fits.read_bytes() == content
    assert main(["verify", f"{bucket}/run"]) == 0
    assert main(command) == 0
    assert "checked, nothing to do" in capsys.readouterr().out
