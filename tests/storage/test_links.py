"""Links within a run's directory: those among its folders are refused, those in place of files are replaced."""

import shutil

import pytest

from cwt_dask.errors import InputError
from cwt_dask.storage.directory import hold
from cwt_dask.storage.layout import FOLDERS, RunDir
from cwt_dask.storage.ledger import begin_ledger
from cwt_dask.storage.marks import note_user
from cwt_dask.storage.paths import write_atomically
from cwt_dask.storage.zarr_io import create_array, create_group, open_group

DEEPER = ("maps.zarr/model", "maps.zarr/model/c", "maps.zarr/model/c/0", "maps.zarr/pyramid/model/c/0")
DEEPER += ("seams.zarr/own_model/c/0", "checkpoints/block-00003")


@pytest.fixture
def files(tmp_path):
    """A run as far as its folders go, and another beside it."""
    for name in ("run", "other"):
        for folder in (*FOLDERS, *DEEPER):
            (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
    return RunDir(tmp_path / "run")


def link(files, name):
    """Have a folder of a run be that of the other."""
    path, target = files.path / name, files.path.with_name("other") / name
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(target)
    return path, target


@pytest.mark.parametrize("name", [*sorted(FOLDERS - {"survey.zarr"}), *DEEPER, "lock"])
def test_a_folder_that_is_a_link_is_refused_before_a_run_is_held(files, name):
    path, target = link(files, name)
    expected = f"^{path} is a link to {target}, which would be written to: put what it leads to in its place, or choose"
    with pytest.raises(InputError, match=expected), hold(files):
        pass
    assert not files.driver.exists()


def test_links_to_run_and_survey_are_none_of_these(files):
    link(files, "survey.zarr")
    files.path.with_name("link").symlink_to(files.path)
    with hold(RunDir(files.path.with_name("link"))):
        assert files.driver.exists()


def test_a_chunk_is_not_written_through_a_link_however_deep_it_lies(tmp_path):
    for name in ("store", "other"):
        create_array(create_group(tmp_path / name), "own", (1, 1, 2), (1, 1, 1), "int8", axes=("t", "y", "x"))[:] = 1
    row = tmp_path / "store/own/c/0/0"
    shutil.rmtree(row)
    row.symlink_to(tmp_path / "other/own/c/0/0")
    with pytest.raises(InputError, match=f"^{row} is a link, or below one, which would be written to: "):
        open_group(tmp_path / "store", writable=True)["own"][:] = 2
    assert open_group(tmp_path / "other")["own"][:].tolist() == [[[1, 1]]]


def test_a_link_in_place_of_a_file_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "other").write_bytes(b"theirs")
    (tmp_path / "file").symlink_to(tmp_path / "other")
    write_atomically(tmp_path / "file", b"ours")
    assert [(tmp_path / name).read_bytes() for name in ("file", "other")] == [b"ours", b"theirs"]


def test_no_note_of_a_user_is_written_through_a_link(files, tmp_path):
    begin_ledger(files)
    link(files, "users")
    note_user(RunDir(tmp_path / "reader"), files.survey, "0" * 32)
    assert not list((tmp_path / "other/users").iterdir())
