"""Errors of libraries, as the command tells them."""

import importlib
import os
import subprocess
import sys

import pytest
import zarr
from zarr.storage import MemoryStore

from cwt_dask.results import SurveyRun


@pytest.fixture
def status(call, monkeypatch):
    """`cwt-dask status` on what can be opened in a way of one's own."""

    def status_of(open_run):
        monkeypatch.setattr(SurveyRun, "open", lambda _: open_run())
        return call("status", "run")

    return status_of


def raising(error):
    def open_run():
        raise error

    return open_run


def test_an_error_of_the_system_ends_with_1_and_a_line(status):
    # Click itself would end at a pipe that is broken, without a word.
    said = status(raising(BrokenPipeError(32, "Broken pipe")))
    assert said == (1, "", "cwt-dask: [Errno 32] Broken pipe: mend that, and give the same command again\n")


def test_a_library_that_refuses_its_configuration_is_named(status, tmp_path, monkeypatch):
    (tmp_path / "library_of_others").mkdir()
    (tmp_path / "library_of_others" / "__init__.py").write_text("import library_of_others.main")
    (tmp_path / "library_of_others" / "main.py").write_text("raise ValueError('a file is malformed')")
    monkeypatch.syspath_prepend(tmp_path)
    said = status(lambda: importlib.import_module("library_of_others"))
    assert said[::2] == (
        2,
        "cwt-dask: library_of_others cannot be used (a file is malformed): mend its configuration\n",
    )


def test_so_it_is_where_zarr_finds_only_later_what_is_wrong(status):
    with zarr.config.set({"codec_pipeline.path": "nowhere"}):
        said = status(lambda: zarr.create_array(MemoryStore(), shape=1, dtype=int))
    assert said.status == 2
    assert said.err.startswith("cwt-dask: zarr cannot be used (Pipeline class 'nowhere' not found")


def test_an_error_of_ours_is_no_library_s(status):
    with pytest.raises(ValueError, match="^ours$"):
        status(raising(ValueError("ours")))


def test_a_configuration_that_dask_refuses_makes_one_line(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [1,")
    command = [sys.executable, "-m", "cwt_dask", "run", "absent.fits", "run", "--scheduler=tcp://127.0.0.1:1"]
    environment = os.environ | {"DASK_CONFIG": "a.yaml"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("cwt-dask: dask cannot be used (A dask config file at 'a.yaml' is malformed")
