"""Lists of islands that were left open: whole without a gap, or named."""

import hashlib
import json

import numpy as np
import pytest

from cwt_dask.errors import DamageError
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.merge.open_islands import listed_until, read_open_islands, read_open_pixels, write_open_islands
from cwt_dask.storage.layout import RunDir

ISLANDS = [OpenIsland(2, 0, 4, 0, 36, 6.0), OpenIsland(3, 1, 5, 1, 7, 6.5)]


@pytest.fixture
def files(tmp_path):
    """Lists of two blocks, the second with the pixels of one tile."""
    files = RunDir(tmp_path)
    files.islands.mkdir()
    assert read_open_islands(files, "r") == []
    np.save(files.open_pixels(4, 7), np.eye(3, dtype=bool))
    digest = hashlib.sha256(files.open_pixels(4, 7).read_bytes()).hexdigest()
    write_open_islands(files, "r", 0, 2, ISLANDS[:1], {})
    write_open_islands(files, "r", 2, 4, ISLANDS[1:], {7: digest})
    return files


def test_what_blocks_have_left_open_is_read_back(files):
    first, second = read_open_islands(files, "r")
    assert [*first.islands, *second.islands] == ISLANDS
    np.testing.assert_array_equal(read_open_pixels(*second.pixels[7]), np.eye(3))
    assert listed_until(files, "r") == 4


@pytest.mark.parametrize("content", ["{", "[5]", "[]", '[{"iteration": 1}]', "\xff", None])
def test_a_damaged_list_is_named(files, content):
    path = files.open_islands(2)
    path.write_text(path.read_text().replace("36", "37") if content is None else content, encoding="latin-1")
    with pytest.raises(DamageError, match=rf"^{path} is damaged .*: the run's own command makes it again"):
        read_open_islands(files, "r")
    assert listed_until(files, "r") == 0


def test_lists_of_other_runs_or_blocks_are_none_of_this(files):
    for path, run_id in ((files.open_islands(4), "other"), (files.open_islands(9), "r")):
        path.write_bytes(files.open_islands(2).read_bytes())
        with pytest.raises(DamageError, match=r"is damaged \(it is not as it was written\)"):
            read_open_islands(files, run_id)
        path.unlink()
    # Those of releases without seals say no more than this.
    files.open_islands(2).write_text(json.dumps([island._asdict() for island in ISLANDS]))
    assert [found.islands for found in read_open_islands(files, "")] == [tuple(ISLANDS)]


def test_lost_lists_and_damaged_pixels_are_gaps(files):
    path = files.open_pixels(4, 7)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamageError, match=rf"^{path} is damaged or lost: the run's own command makes it again"):
        read_open_pixels(*read_open_islands(files, "r")[1].pixels[7])
    assert listed_until(files, "r") == 2
    files.open_islands(2).unlink()
    assert listed_until(files, "r") == 0
