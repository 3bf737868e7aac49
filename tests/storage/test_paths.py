"""Paths and URLs: what can be used, and what cannot."""

import re
from pathlib import Path

import pytest

from cwt_dask import run_survey
from cwt_dask.errors import InputError
from cwt_dask.storage import paths
from cwt_dask.storage.paths import as_path, lies_in, relative_path


def refused(survey, name, message, **options):
    """Before the survey is looked at, which is not there."""
    with pytest.raises(InputError, match=message):
        run_survey(survey, name, min_scale=1.2, **options)


def test_names_that_cannot_be_used(bucket, monkeypatch):
    survey = Path("survey.fits")
    refused(survey, "gs://x/y", r"gs://x/y cannot be used: give a path, or a URL like s3://bucket/key")
    refused(survey, "s3://not-at-all/run", r"there is no bucket s3://not-at-all, or you may not see it")
    # Names that a run uses, too, are not a run's because of that.
    mine = [bucket / name for name in ("run/notes.txt", "mine/catalogue.fits", "mine/ledger/2019.txt", "mine/.git/it")]
    for path in mine:
        path.write_text("mine")
    for name in ("run", "mine"):
        refused(survey, f"{bucket}/{name}", "is not a run directory")
    assert [path.read_text() for path in mine] == ["mine"] * 4
    whole = f"s3://{bucket.path.partition('/')[0]}"
    refused(survey, whole, "is a whole bucket: give a name in it, such as s3://.*/run", overwrite=True)
    monkeypatch.setattr(paths, "find_spec", lambda _: None)
    refused(survey, f"{bucket}/run", r"needs packages for object stores: pip install 'cwt_dask\[s3\]'")


@pytest.mark.parametrize("name", [None, 5, b"survey.fits", ["survey.fits"]])
def test_what_is_no_path_is_refused(tmp_path, name):
    message = re.escape(f"{name} is not the name of a file or directory: give a path, or a URL like s3://bucket/key")
    # A list is one of files: event lists are a survey together.
    if not isinstance(name, list):
        refused(name, tmp_path / "run", message)
    refused("survey.fits", name, message)
    assert not (tmp_path / "run").exists()


def test_a_name_with_a_nul_is_none(tmp_path):
    refused("survey.fits", "run\0", "cannot be used, it has a NUL in it: give another path")
    refused("survey\0.fits", tmp_path / "run", "cannot be used, it has a NUL in it: give another path")


def test_paths_of_disks_and_buckets_are_distinguished():
    assert lies_in(as_path("s3://b/run/survey.zarr"), as_path("s3://b/run"))
    assert not lies_in(as_path("s3://b/run-2"), as_path("s3://b/run"))
    assert not lies_in(Path("/run"), as_path("s3://b/run"))
    assert lies_in(as_path("s3://b/survey.zarr"), as_path("s3://b"))
    assert as_path("survey.fits") == Path("survey.fits")
    assert str(as_path("s3://b//run/")) == "s3://b/run"


@pytest.mark.parametrize(
    ("path", "directory", "way"),
    [
        ("s3://bucket/deep/survey.zarr", "s3://bucket/deep/run", "../survey.zarr"),
        ("s3://other/survey.zarr", "s3://bucket/run", ""),
        ("s3://bucket/survey.zarr", "/data/run", ""),
        ("/data/survey.zarr", "s3://bucket/run", ""),
        ("/data/survey.zarr", "/data/deep/run", "../../survey.zarr"),
    ],
)
def test_the_way_from_a_directory_to_a_path(path, directory, way):
    path, directory = as_path(path), as_path(directory)
    assert relative_path(path, directory) == way
    if way:
        assert (directory / way).resolve() == path
