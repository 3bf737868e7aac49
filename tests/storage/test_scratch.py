"""What is put aside in files without names is read back as it was written, or an error names the place."""

import os
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from cwt_dask.errors import MachineError
from cwt_dask.storage import disk
from cwt_dask.storage.drafts import draft_of
from cwt_dask.storage.scratch import Mapped, ScratchFile, Sums


@pytest.mark.parametrize("in_memory", [0, 1000])
def test_pieces_are_read_as_they_were_written_last(tmp_path, in_memory):
    first, last = np.arange(12, dtype=">f4").reshape(3, 4), np.arange(6, dtype=np.uint8)
    with ExitStack() as stack:
        file = ScratchFile(tmp_path, stack, in_memory=in_memory)
        file.write(8, first)
        assert file.read(24, 32) == first[1:].tobytes()
        file.write(8, [last, last])
        assert file.read(8, 12) == 2 * last.tobytes()
        assert file.read(40, 16) == first[2].tobytes()
    assert not list(tmp_path.iterdir())


SAID = r"does not give back what was put aside there \(its checksum does not fit\): look at"


def flip(file, place):
    """Change a byte of a file that is open, behind all buffers."""
    (before,) = os.pread(file.fileno(), 1, place)
    os.pwrite(file.fileno(), bytes([before ^ 1]), place)


@pytest.fixture
def opened(tmp_path):
    with disk.scratch_file(tmp_path, 0) as file, mock.patch.object(disk, "scratch_file", return_value=file):
        yield file


def mapped_bytes():
    """What of mapped files is in memory."""
    status = Path("/proc/self/status").read_text().splitlines()
    # The second where temporary files are in memory.
    return sum(1024 * int(line.split()[1]) for line in status if line.startswith(("RssFile", "RssShmem")))


def test_memory_is_let_go_of_rows_that_were_read(tmp_path):
    with ExitStack() as stack:
        rows = Mapped(tmp_path, stack, np.dtype(np.uint8))
        for _ in range(64):
            rows.write(bytes(2**20))
        before = mapped_bytes()
        for start in range(0, 2**26, 2**22):
            assert not rows.rows(np.array([start, start + 2**22 - 1]))[start : start + 2**22].any()
        assert mapped_bytes() - before < 2**24


@pytest.mark.parametrize("dtype", [np.dtype(">f4"), np.dtype([("a", ">i4"), ("b", ">f8", 200_000)])])
def test_rows_are_read_in_any_order_and_damage_is_noticed_by_the_first_that_is_in_its_piece(tmp_path, opened, dtype):
    rows = np.frombuffer(np.random.default_rng(1).bytes(3_200_008 // dtype.itemsize * dtype.itemsize), dtype)
    with ExitStack() as stack:
        mapped = Mapped(tmp_path, stack, dtype)
        content = rows.tobytes()
        for start in range(0, len(content), 700_000):
            mapped.write(content[start : start + 700_000])
        if dtype.itemsize == 4:
            assert mapped.rows(np.array([0]))[:1].tobytes() == rows[:1].tobytes()
        opened.flush()
        flip(opened, len(content) - 1)
        if dtype.itemsize == 4:
            wanted = np.arange(0, 700_000, 7)
            assert mapped.rows(wanted)[wanted].tobytes() == rows[wanted].tobytes()
        for wanted in (np.array([len(rows) - 1]), None):
            with pytest.raises(MachineError, match=f"^{tmp_path} {SAID}"):
                mapped.rows(wanted)


def test_sums_are_what_was_added_in_any_order_and_damage_in_between_is_noticed(tmp_path, opened):
    rng, wanted = np.random.default_rng(1), np.zeros(1050)
    with ExitStack() as stack:
        sums = Sums(tmp_path, stack, 1050, 100)
        for n in range(20):
            if n == 10:
                # The last bit of a zero, of a number that is added to later, and back again; and one that stays.
                flip(opened, 8 * 1049)
                flip(opened, 8 * 1049)
                flip(opened, 8 * 310 + 6)
            places = rng.permutation(1050)[:300]
            values = rng.integers(1, 9, 300).astype(float)
            sums.add(places, values)
            wanted[places] += values
        for number in (0, 2, 4, 10):
            np.testing.assert_array_equal(sums.read(number), wanted[100 * number : 100 * number + 100])
        with pytest.raises(MachineError, match=f"^{tmp_path} {SAID}"):
            sums.read(3)


@pytest.mark.parametrize("hidden", [False, True])
def test_what_is_read_back_otherwise_is_an_error_of_the_machine(tmp_path, hidden):
    directory = draft_of(tmp_path / "OUT.zarr") if hidden else tmp_path
    directory.mkdir(exist_ok=True)
    opened = disk.scratch_file(directory, 0)
    place = tmp_path / "OUT.zarr" if hidden else tmp_path
    with ExitStack() as stack, mock.patch.object(disk, "scratch_file", return_value=opened):
        file = ScratchFile(directory, stack)
        file.write(0, [np.zeros(4), np.ones(4)])
        opened.seek(40)
        opened.write(b"x")
        assert file.read(0, 32) == bytes(32)
        with pytest.raises(MachineError, match=f"^{place} {SAID}"):
            file.read(0, 64)
