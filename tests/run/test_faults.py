"""Every write fails once: what is half there is never taken for whole, and in the end all is there."""

import errno
import os
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import zarr
from cases import EVERY
from skies import poisson_sky, write_survey
from work import digests

from cwt_dask import run_survey
from cwt_dask.errors import RunError
from cwt_dask.inspection.verify import verify_run
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import last_failures
from cwt_dask.storage.zarr_io import DurableStore
from cwt_dask.survey import SurveySource, ingest

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 45}
KINDS = {
    "in blocks": {"tol": 3e-2, "max_iter": 4},
    "in one go": {"stopping": "fixed", "max_iter": 3},
    "with islands": {"significance_island_threshold": 5.0, "max_iter": 2},
}


class FailsOnce:
    """In place of the system's flush: at the first time of each file it fails.

    Half of the file is there then: under its temporary name, as when a write fails, or under its own, `torn`, as no
    write leaves it but a crash of the machine may.
    """

    def __init__(self, *, torn):
        self.torn = torn
        self.flush = os.fsync
        self.failed = set()

    def __call__(self, descriptor):
        # Files and directories that are being made have hidden names that end with their maker.
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.flush(descriptor)
            return
        name = Path(re.sub(r"/\.([^/]+)\.cwt-[0-9a-f]{18}-\d+-\d+-[0-9a-f]{8}", r"/\1", str(path)))
        # Failures are recorded by the driver, not by a tile.
        if name in self.failed or ".failed-" in name.name:
            self.flush(descriptor)
            return
        self.failed.add(name)
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        if self.torn:
            path.rename(path.with_name(name.name))
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    path = write_survey(folder / "survey.fits", *poisson_sky((90, 90), seed=3))
    return ingest(SurveySource.of(path), folder / "survey.zarr").path


# Each kind by turns, torn or not.
FAULTS = [(torn, kind) for torn in (False, True) for kind in KINDS][:: 1 if EVERY else 2]


@pytest.mark.parametrize(("torn", "kind"), FAULTS)
def test_every_write_of_a_tile_fails_once(store, tmp_path, monkeypatch, torn, kind):
    options = OPTIONS | KINDS[kind]
    expected = digests(run_survey(store, tmp_path / "undisturbed", **options))
    fails = FailsOnce(torn=torn)
    monkeypatch.setattr(os, "fsync", fails)
    for _ in range(100):
        try:
            run = run_survey(store, tmp_path / "run", **options)
        except (OSError, RunError):
            continue
        break
    assert digests(run) == expected
    assert not [check for check in verify_run(run) if check.fault]
    assert not list(run.files.path.rglob(".*"))
    names = {path.relative_to(run.files.path).parts[0] for path in fails.failed if run.files.path in path.parents}
    assert {"maps.zarr", "seams.zarr", "islands", "ledger", "certificate.json"} <= names
    assert ("checkpoints" in names) == (kind != "in one go")
    assert set(last_failures(run.files)) == {0, 1, 2, 3}


class FillsUp(Reporter):
    """The disk is full as soon as tiles begin."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def track(self, items, stage, total):  # noqa: ARG002 - as the reporter's
        def no_room(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        self.monkeypatch.setattr(os, "fsync", no_room)
        return items


def test_a_full_disk_ends_the_run_at_once_and_the_same_command_ends_it(store, tmp_path, monkeypatch):
    run_dir, options = tmp_path / "run", OPTIONS | {"max_iter": 4}
    expected = digests(run_survey(store, tmp_path / "undisturbed", **options))
    with monkeypatch.context() as patched, pytest.raises(RunError, match="No space left on device.*: make room, and"):
        run_survey(store, run_dir, progress=FillsUp(patched), **options)
    assert not RunDir(run_dir).certificate.exists()
    assert digests(run_survey(store, run_dir, **options)) == expected


def test_chunks_that_are_flushed_behind_are_there_in_the_end_or_raise(tmp_path, monkeypatch):
    store = DurableStore(tmp_path)
    array = zarr.create_array(store, shape=(4, 2), chunks=(1, 2), dtype="int16")
    flush = Mock()
    monkeypatch.setattr(os, "fsync", flush)
    with store.flushing_behind():
        array[:3] = 7
    # Those of the chunks, and of the directories above them, once each.
    assert flush.call_count == 3 + len([".", "c", "c/0", "c/1", "c/2"])
    assert all((tmp_path / "c" / str(row) / "0").exists() for row in range(3))
    monkeypatch.setattr(os, "fsync", FailsOnce(torn=False))
    with pytest.raises(OSError, match="Input/output error"), store.flushing_behind():
        array[3] = 7
    assert not (tmp_path / "c" / "3" / "0").exists()
    # It can be written to as before.
    array[3] = 7
    assert (array[:] == 7).all()
