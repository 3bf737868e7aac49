"""What is asked of the system: in which order, and errors that name the file."""

import errno
import os
import re
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import zarr

from cwt_dask.storage import disk
from cwt_dask.storage.directory import drafted_file, make_directory, new_directory, remove
from cwt_dask.storage.disk import open_file
from cwt_dask.storage.paths import write_atomically
from cwt_dask.storage.zarr_io import DurableStore, flushing_behind

MOVES = ("sync", "sync_names", "rename", "remove")


@pytest.fixture
def asked(monkeypatch):
    """What is asked of the disk that makes something last, with the name that it is about."""
    found = []

    def ask(move, original, *about):
        found.append((move, "" if move == "sync" else about[-1].name))
        original(*about)

    for move in MOVES:
        monkeypatch.setattr(disk, move, partial(ask, move, getattr(disk, move)))
    return found


def test_a_file_is_on_the_disk_before_its_name_and_that_in_the_end(tmp_path, asked):
    folder = [("sync_names", tmp_path.name)]
    write_atomically(tmp_path / "one", b"content")
    with drafted_file(tmp_path / "two") as draft:
        draft.write_bytes(b"content")
    assert asked == [("sync", ""), ("rename", "one"), *folder, ("sync", ""), ("rename", "two"), *folder]
    asked.clear()
    # A directory once, however many there are in it.
    for _ in range(2):
        remove(tmp_path / "one", tmp_path / "two")
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    removed = [("remove", "one"), ("remove", "two")]
    assert asked == [*removed, *folder, *removed, ("sync_names", "a"), *folder]


def test_a_directory_is_on_the_disk_before_its_name_and_that_before_what_it_replaces_goes(tmp_path, asked):
    with new_directory(tmp_path / "run") as new:
        (new / "file").touch()
    assert [move for move, _ in asked] == ["sync_names", "rename", "sync_names"]
    asked.clear()
    with (
        mock.patch("shutil.rmtree", lambda path, **_: asked.append(("rmtree", [file.name for file in path.iterdir()]))),
        new_directory(tmp_path / "run", replaces=True),
    ):
        pass
    assert [move for move, _ in asked] == ["sync_names", "rename", "rename", "sync_names", "rename", "rmtree"]
    assert asked[-1][1] == ["file"]


def test_the_names_of_chunks_are_on_the_disk_once_a_directory_after_all_chunks(tmp_path, asked):
    group = zarr.create_group(DurableStore(tmp_path))
    array = group.create_array("maps", shape=(4, 2), chunks=(1, 1), dtype="int16")
    asked.clear()
    with flushing_behind(group):
        array[:2] = 7
    moves = [move for move, _ in asked]
    assert moves[:8].count("sync") == moves[:8].count("rename") == 4
    assert [name for _, name in asked[8:]] in (
        [first, second, "c", "maps", tmp_path.name] for first, second in (("0", "1"), ("1", "0"))
    )
    assert set(moves[8:]) == {"sync_names"}


def test_chunks_that_are_written_at_once_do_not_meet(tmp_path):
    # Zarr writes chunks in threads.
    group = zarr.create_group(DurableStore(tmp_path))
    array = group.create_array("maps", shape=(32, 32), chunks=(4, 4), dtype="int16")
    for value in range(4):
        array[:] = value
        assert (array[:] == value).all()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_syncs_no_directories_is_used_as_it_is(tmp_path, monkeypatch, number):
    def fsync(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("cwt_dask.storage.disk.os.fsync", fsync)
    if number == errno.EIO:
        with pytest.raises(OSError, match=re.escape(f"{os.strerror(number)}: '{tmp_path}'")):
            disk.sync_names(tmp_path)
    else:
        disk.sync_names(tmp_path)


def test_an_error_of_reading_names_the_file():
    # The system gives an error for what is at the start of a process's memory: nothing.
    for read in (lambda file: file.read(1), lambda file: file.read()):
        with (
            open_file(Path("/proc/self/mem")) as file,
            pytest.raises(OSError, match="Input/output error: '/proc/self/mem'"),
        ):
            read(file)
