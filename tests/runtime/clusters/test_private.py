"""Directories of certificates next to RUN_DIR: which ones belong to runs that are known to have ended."""

import json
import os
import subprocess
from dataclasses import asdict, replace

import pytest

from cwt_dask.runtime.clusters import private
from cwt_dask.runtime.clusters.private import Maker, private_directory, remove_dead


@pytest.fixture(autouse=True)
def job(monkeypatch, tmp_path):
    """A job of SLURM, and another one of the same user."""
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho 7 RUNNING None; echo 8 PENDING Priority\n")
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


def test_a_directory_is_for_its_user_alone_and_gone_at_the_end(tmp_path, dead):
    left = left_by(tmp_path, replace(Maker.this(), pid=dead))
    with private_directory(tmp_path) as path:
        assert not left.exists()
        assert path.stat().st_mode & 0o777 == 0o700
        assert json.loads((path / "maker.json").read_text()) == asdict(Maker.this())
        remove_dead(path.parent)
        assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "answers", "stays"),
    [
        ({"job": "9"}, True, False),
        ({"job": "9"}, False, True),
        ({"job": "8"}, True, True),
        ({"job": "9", "cluster": "other"}, True, True),
        ({"job": "", "cluster": ""}, True, True),
    ],
)
def test_makers_on_another_machine_are_known_by_their_jobs(tmp_path, dead, job, changes, answers, stays):
    if not answers:
        job.write_text("#!/bin/sh\nexit 1\n")
    path = left_by(tmp_path, replace(Maker.this(), pid=dead, machine="another", **changes))
    remove_dead(tmp_path)
    assert path.exists() == stays


@pytest.mark.parametrize("kind", ["unsigned", "of another user", "link"])
def test_directories_that_others_may_have_made_stay(tmp_path, dead, kind, monkeypatch):
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
