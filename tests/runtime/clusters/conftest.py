import os

import pytest


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Commands of SLURM as shell scripts, outside of its jobs; the directory of the scripts."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "bin").mkdir()

    def play(**commands):
        for name, does in commands.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        return tmp_path / "bin"

    return play
