"""What is put aside in files without names is read back as it was written, or an error names the place."""

from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest

from cwt_dask.errors import MachineError
from cwt_dask.storage import disk
from cwt_dask.storage.drafts import draft_of
from cwt_dask.storage.scratch import ScratchFile


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


@pytest.mark.parametrize("hidden", [False, True])
def test_what_is_read_back_otherwise_is_an_error_of_the_machine(tmp_path, hidden):
    directory = draft_of(tmp_path / "OUT.zarr") if hidden else tmp_path
    directory.mkdir(exist_ok=True)
    opened = disk.scratch_file(directory, 0)
    place = tmp_path / "OUT.zarr" if hidden else tmp_path
    said = rf"^{place} does not give back what was put aside there \(its checksum does not fit\): look at"
    with ExitStack() as stack, mock.patch.object(disk, "scratch_file", return_value=opened):
        file = ScratchFile(directory, stack)
        file.write(0, [np.zeros(4), np.ones(4)])
        opened.seek(40)
        opened.write(b"x")
        assert file.read(0, 32) == bytes(32)
        with pytest.raises(MachineError, match=said):
            file.read(0, 64)
