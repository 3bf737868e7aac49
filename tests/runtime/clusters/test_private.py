"""Certificates beside RUN_DIR: whose run is known to be dead, and whose is not."""

import json
import os
import subprocess
from dataclasses import asdict, replace

import pytest

from cwt_dask.runtime.clusters import private
from cwt_dask.runtime.clusters.private import Maker, private_directory, remove_dead


@pytest.fixture(autouse=True)
def job(monkeypatch, tmp_path):
    """A job of SLURM beside another one of the same user."""
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho 7; echo 8\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)
    return squeue


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    return process.pid


def left_by(shared, maker):
    path = shared / ".cwt-dask-left"
    path.mkdir(mode=0o700)
    (path / "maker.json").write_text(json.dumps(asdict(maker)))
    return path


def test_a_directory_is_its_users_alone_and_gone_at_the_end(tmp_path):
    with private_directory(tmp_path / "new") as path:
        assert path.stat().st_mode & 0o777 == 0o700
        assert json.loads((path / "maker.json").read_text()) == asdict(Maker.this())
        remove_dead(path.parent)
        assert path.exists()
    assert not path.exists()


def test_what_a_killed_process_of_this_machine_left_is_removed(tmp_path, dead):
    path = left_by(tmp_path, replace(Maker.this(), pid=dead))
    with private_directory(tmp_path):
        assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({"job": "9"}, False),
        ({"job": "8"}, True),
        ({"job": "9", "cluster": "other"}, True),
        ({"job": "", "cluster": ""}, True),
    ],
)
def test_of_another_machine_its_jobs_tell(tmp_path, dead, changes, stays):
    path = left_by(tmp_path, replace(Maker.this(), pid=dead, machine="another", **changes))
    remove_dead(tmp_path)
    assert path.exists() == stays


def test_where_slurm_does_not_answer_nothing_is_removed(tmp_path, dead, job):
    job.write_text("#!/bin/sh\nexit 1\n")
    path = left_by(tmp_path, replace(Maker.this(), pid=dead, machine="another", job="9"))
    remove_dead(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("kind", ["unsigned", "of another user", "link"])
def test_what_may_be_somebody_else_s_stays(tmp_path, dead, kind, monkeypatch):
    path = left_by(tmp_path, replace(Maker.this(), pid=dead))
    if kind == "unsigned":
        (path / "maker.json").write_text("[")
    elif kind == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(private.os, "geteuid", lambda: 12345)
    remove_dead(tmp_path)
    assert (path / "maker.json").exists()
