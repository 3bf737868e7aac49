import os
from pathlib import Path

import pytest

from cwt_dask.errors import InputError
from cwt_dask.storage.atomic import write_atomically
from cwt_dask.storage.directory import new_directory


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_are_readable_as_the_users_mask_says(tmp_path):
    write_atomically(tmp_path / "file", b"")
    (tmp_path / "plain").touch()
    assert Path(tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_directory_appears_at_the_end_with_all_its_parents(tmp_path):
    path = tmp_path / "a" / "b"
    with new_directory(path, replaces=path.exists()) as fresh:
        (fresh / "file").touch()
        assert not path.exists()
    assert [entry.name for entry in path.iterdir()] == ["file"]
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "run"
    for name in ("old", "new"):
        with new_directory(path, replaces=path.exists()) as fresh:
            (fresh / name).touch()
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_no_new_parents(tmp_path):
    path = tmp_path / "run"
    with new_directory(path, replaces=path.exists()) as fresh:
        (fresh / "old").touch()
    for target in (path, tmp_path / "x" / "y"):
        with pytest.raises(ZeroDivisionError), new_directory(target, replaces=target.exists()) as fresh:
            (fresh / str(1 / 0)).touch()
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_between_the_two_renames_brings_the_old_one_back(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with new_directory(path, replaces=path.exists()) as fresh:
        (fresh / "old").touch()
    replace = Path.replace

    def fail_for_the_new_one(self, target):
        if target == path and (self / "new").exists():
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_the_new_one)
    with pytest.raises(KeyboardInterrupt), new_directory(path, replaces=path.exists()) as fresh:
        (fresh / "new").touch()
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_has_appeared_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "run"

    def make():
        with new_directory(path) as fresh:
            (fresh / "new").touch()
            path.mkdir()
            (path / "other").touch()

    with pytest.raises(InputError, match="run cannot be made .*: did another run appear there meanwhile"):
        make()
    assert [entry.name for entry in path.iterdir()] == ["other"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_directory_is_taken_over(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    with new_directory(path) as fresh:
        (fresh / "new").touch()
    assert [entry.name for entry in path.iterdir()] == ["new"]


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError), new_directory(tmp_path / "file" / "run"):
        pass
