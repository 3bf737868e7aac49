"""Directories of certificates next to RUN_DIR: which ones belong to runs that are known to have ended."""

import json
import re
import subprocess
from dataclasses import asdict, replace

import pytest

from cwt_dask.runtime.clusters import private
from cwt_dask.runtime.clusters.private import Maker, private_directory, remove_dead

ANOTHER = f"{'a' * 18}-1-1"


@pytest.fixture(autouse=True)
def job(monkeypatch, played):
    """A job of SLURM, and another one of the same user."""
    played(squeue="echo 7 RUNNING None; echo 8 PENDING Priority")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    monkeypatch.setenv("SLURM_JOB_ID", "7")


@pytest.fixture
def dead():
    """A process of this machine that has ended."""
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    return re.sub(r"-\d+-", f"-{process.pid}-", Maker.this().process)


def left_by(shared, maker):
    path = shared / ".cwt-dask-left"
    path.mkdir(mode=0o700)
    (path / "maker.json").write_text(json.dumps(asdict(maker)))
    return path


def test_a_directory_is_for_its_user_alone_and_gone_at_the_end(tmp_path, dead):
    left = left_by(tmp_path, replace(Maker.this(), process=dead))
    with private_directory(tmp_path) as path:
        assert not left.exists()
        assert path.stat().st_mode & 0o777 == 0o700
        assert json.loads((path / "maker.json").read_text()) == asdict(Maker.this())
        remove_dead(path.parent)
        assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "squeue", "stays"),
    [
        ({"job": "9"}, "", False),
        ({"job": "9"}, "exit 1", True),
        ({"job": "9"}, "exec sleep 5", True),
        ({"job": "8"}, "", True),
        ({"job": "9", "cluster": "other"}, "", True),
        ({"job": "", "cluster": ""}, "", True),
    ],
)
def test_makers_on_another_machine_are_known_by_their_jobs(tmp_path, played, monkeypatch, changes, squeue, stays):
    assert private.LOOKUP_SECONDS == 20
    if squeue:
        played(squeue=squeue)
        monkeypatch.setattr(private, "LOOKUP_SECONDS", 0.5)
    path = left_by(tmp_path, replace(Maker.this(), process=ANOTHER, **changes))
    remove_dead(tmp_path)
    assert path.exists() == stays


@pytest.mark.parametrize("kind", ["unsigned", "of another user", "link"])
def test_directories_that_others_may_have_made_stay(tmp_path, dead, kind, monkeypatch):
    path = left_by(tmp_path, replace(Maker.this(), process=dead))
    if kind == "unsigned":
        (path / "maker.json").write_text("[")
    elif kind == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(private.os, "geteuid", lambda: 12345)
    remove_dead(tmp_path)
    assert (path / "maker.json").exists()
