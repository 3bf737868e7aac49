"""Lists of islands that were left open: whole without a gap, or named; each has a copy."""

import hashlib
import json
import shutil
from unittest.mock import Mock

import numpy as np
import pytest

from cwt_dask.errors import AccessError, DamageError
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.merge.open_islands import (
    faults_of_lists,
    listed_until,
    mend_lists,
    read_open_islands,
    read_open_pixels,
    write_open_islands,
)
from cwt_dask.storage.layout import RunDir

ISLANDS = [OpenIsland(2, 0, 4, 0, 36, 6.0), OpenIsland(3, 1, 5, 1, 7, 6.5)]


@pytest.fixture
def files(tmp_path):
    """Lists of two blocks, the second with the pixels of one tile."""
    files = RunDir(tmp_path)
    files.islands.mkdir()
    files.ledger.mkdir()
    assert read_open_islands(files, "r") == []
    for path in files.copies(files.open_pixels(4, 7)):
        np.save(path, np.eye(3, dtype=bool))
    digest = hashlib.sha256(files.open_pixels(4, 7).read_bytes()).hexdigest()
    write_open_islands(files, "r", 0, 2, ISLANDS[:1], {})
    write_open_islands(files, "r", 2, 4, ISLANDS[1:], {7: digest})
    return files


def both(files, path, content):
    """Write both copies of a file."""
    for copy in files.copies(path):
        copy.write_bytes(content)


def test_what_blocks_have_left_open_is_read_back(files):
    first, second = read_open_islands(files, "r")
    assert [*first.islands, *second.islands] == ISLANDS
    np.testing.assert_array_equal(read_open_pixels(files, second, 7), np.eye(3))
    assert listed_until(files, "r") == 4
    assert faults_of_lists(files, "r") == mend_lists(files, "r") == []


@pytest.mark.parametrize("content", ["{", "[5]", "[]", '[{"iteration": 1}]', "\xff", None])
def test_a_list_of_which_both_copies_are_damaged_is_named(files, content):
    path = files.open_islands(2)
    both(files, path, (path.read_text().replace("36", "37") if content is None else content).encode("latin-1"))
    with pytest.raises(DamageError, match=rf"^{path} is damaged or lost .*: the run's own command makes it again"):
        read_open_islands(files, "r")
    assert listed_until(files, "r") == 0
    assert mend_lists(files, "r") == []


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.unlink()])
def test_what_is_damaged_in_one_copy_is_read_and_mended_from_the_other(files, which, damage):
    sound = read_open_islands(files, "r")
    paths = [files.copies(path)[which] for path in (files.open_islands(2), files.open_pixels(4, 7))]
    contents = [path.read_bytes() for path in paths]
    for path in paths:
        damage(path)
    assert read_open_islands(files, "r") == sound
    np.testing.assert_array_equal(read_open_pixels(files, sound[1], 7), np.eye(3))
    assert listed_until(files, "r") == 4
    assert all(str(path) in fault for path, fault in zip(paths, faults_of_lists(files, "r"), strict=True))
    assert len(mend_lists(files, "r")) == 2
    assert [path.read_bytes() for path in paths] == contents


def test_what_may_not_be_read_is_not_damaged(files, monkeypatch):
    monkeypatch.setattr("cwt_dask.storage.copies.read_file", Mock(side_effect=AccessError("no permission")))
    with pytest.raises(AccessError):
        mend_lists(files, "r")


def test_lists_of_other_runs_or_blocks_are_none_of_this(files):
    for path, run_id in ((files.open_islands(4), "other"), (files.open_islands(9), "r")):
        both(files, path, files.open_islands(2).read_bytes())
        with pytest.raises(DamageError, match=r"is damaged or lost \(it is not as it was written\)"):
            read_open_islands(files, run_id)
        path.unlink()
        files.copies(path)[1].unlink()
    # Those of releases without seals say no more than this, and have no copies.
    shutil.rmtree(files.ledger)
    files.open_islands(2).write_text(json.dumps([island._asdict() for island in ISLANDS]))
    assert [found.islands for found in read_open_islands(files, "")] == [tuple(ISLANDS)]
    assert faults_of_lists(files, "") == []


def test_lost_lists_and_damaged_pixels_are_gaps(files):
    path = files.open_pixels(4, 7)
    both(files, path, path.read_bytes()[:-1])
    with pytest.raises(DamageError, match=rf"^{path} is damaged or lost .*: the run's own command makes it again"):
        read_open_pixels(files, read_open_islands(files, "r")[1], 7)
    assert listed_until(files, "r") == 2
    for copy in files.copies(files.open_islands(2)):
        copy.unlink()
    assert listed_until(files, "r") == 0
