"""Where there is no room for a file, the error names it, and the limit."""

import errno
import resource
from contextlib import contextmanager

import numpy as np
import pytest

from cwt_dask.storage.paths import atomic_file, drafted_file, write_atomically
from cwt_dask.storage.room import naming
from cwt_dask.survey import ingest

TOO_LARGE = "File too large, the limit is 8.00 kiB (ulimit -f)"


@contextmanager
def limit_of_files():
    """No file of this process may be larger than 8 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def in_one_piece(path):
    write_atomically(path, bytes(2**14))


def by_numpy(path):
    with drafted_file(path) as draft, draft.open("wb") as file:
        np.zeros(2**11).tofile(file)


@pytest.mark.parametrize("write", [in_one_piece, by_numpy])
def test_a_file_that_is_too_large_is_named_with_the_limit(tmp_path, write):
    path = tmp_path / "file"
    with limit_of_files(), pytest.raises(OSError, match="limit") as refused:
        write(path)
    assert str(refused.value) == f"[Errno 27] {TOO_LARGE}: {str(path)!r}"
    assert not list(tmp_path.iterdir())


def test_so_it_is_with_the_files_without_a_name_of_a_survey_that_is_read(survey, tmp_path):
    with limit_of_files(), pytest.raises(OSError, match="limit") as refused:
        ingest(survey, tmp_path / "store.zarr")
    assert (refused.value.strerror, refused.value.filename) == (TOO_LARGE, str(tmp_path / "store.zarr"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device: '{}'"),
        (OSError("5400 requested and 1120 written"), "[Errno 28] No space left on device: '{}'"),
        # As large as the file system can have any.
        (OSError(errno.EFBIG, "File too large"), "[Errno 27] File too large: '{}'"),
        # What is read names itself.
        (OSError(errno.EIO, "Input/output error"), "[Errno 5] Input/output error: '{}'"),
        (OSError(errno.ENOSPC, "No space left on device", "other"), "[Errno 28] No space left on device: 'other'"),
    ],
)
def test_errors_of_writing_are_named_by_the_file_and_other_errors_are_left_as_they_are(tmp_path, error, named):
    with pytest.raises(OSError, match="Errno") as refused, atomic_file(tmp_path / "file"):
        raise error
    assert str(refused.value) == named.format(tmp_path / "file")


def test_an_error_that_names_no_file_is_one_of_the_file(tmp_path):
    with pytest.raises(OSError, match="no number"), naming(tmp_path):
        raise OSError("no number")
    with pytest.raises(PermissionError, match=f"not allowed: '{tmp_path}'"), naming(tmp_path):
        raise OSError(errno.EACCES, "not allowed")
