"""Archives of arrays: what is read of them is what was written, or they are damaged."""

import errno
from contextlib import suppress

import numpy as np
import pytest

from cwt_dask.errors import DamageError
from cwt_dask.storage.archives import damage_named, open_archive, write_archive

ARRAYS = {"values": np.arange(7.0), "marks": np.array([True, False])}


@pytest.fixture
def path(tmp_path):
    write_archive(tmp_path / "tile.npz", "r", ARRAYS)
    return tmp_path / "tile.npz"


def read(path, run_id="r"):
    with open_archive(path, run_id) as found:
        assert len(found) == len(ARRAYS)
        return {name: found[name].tolist() for name in found}


def refused(path):
    with pytest.raises(DamageError, match=rf"^{path} is damaged: the run's own command does the tile again"):
        read(path)


def test_no_bit_of_an_archive_can_change_what_is_read(path):
    content, sound = path.read_bytes(), read(path)
    for bit in range(0, len(content) * 8, 37):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with suppress(DamageError):
            assert read(path) == sound


def test_a_type_of_fewer_bytes_and_a_place_before_the_file_are_damage(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"<f8", b"<f4"))
    refused(path)
    path.write_bytes(content[:-6] + bytes([content[-6] ^ 16]) + content[-5:])
    refused(path)


def test_an_archive_of_another_place_is_none_of_this(path):
    refused(path.rename(path.with_name("other.npz")))


def test_an_archive_of_another_run_is_none_of_this(path):
    with pytest.raises(DamageError, match=f"^{path} is damaged: "):
        read(path, run_id="s")


def test_what_else_goes_wrong_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError), open_archive(tmp_path / "absent.npz", "r"):
        pass
    with pytest.raises(OSError, match="no disk"), damage_named(tmp_path):
        raise OSError(errno.EIO, "no disk")


def test_what_goes_wrong_where_an_archive_is_used_is_no_damage(path):
    with pytest.raises(RuntimeError, match="can't start new thread"), open_archive(path, "r"):
        raise RuntimeError("can't start new thread")
