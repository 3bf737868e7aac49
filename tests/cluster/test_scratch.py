"""Modules that another user of the machine has put where Dask has its scratch space are imported by nobody."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from elsewhere import ENVIRONMENT, OPTIONS, bash

NOBODY = 65534
# Modules that are imported late: of this project, of Dask, of libraries, and one that does not exist.
PLANTED = ("cwt_dask", "numba", "tornado", "scipy", "uvloop", "_wmi")
TRAP = "open({!r} + '/caught', 'w').close()"
DASK = """
import distributed
if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0"):
        import _wmi
"""


@pytest.fixture
def trap():
    """A directory for temporary files that all users share; the other one was there first."""
    shared = Path(tempfile.mkdtemp())
    shared.chmod(0o1777)
    child = os.fork()
    if not child:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        scratch = shared / "dask-scratch-space"
        scratch.mkdir()
        for name in PLANTED:
            (scratch / f"{name}.py").write_text(TRAP.format(str(shared)))
        scratch.chmod(0o777)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    yield shared
    shutil.rmtree(shared)


@pytest.mark.parametrize(
    "started",
    [
        "cwt-dask run {} run --workers 2",
        "mpirun --allow-run-as-root --oversubscribe -n 4 cwt-dask run {} run --cluster mpi",
    ],
)
def test_nothing_that_is_planted_is_run(trap, small_survey, tmp_path, started):
    shared = ENVIRONMENT | {"TMPDIR": str(trap)}
    command = f"{started.format(small_survey)} {' '.join(OPTIONS)} --no-report"
    status, printed = bash(tmp_path, command, environment=shared)
    assert status == 0, printed
    assert sorted(path.name for path in trap.iterdir()) == ["dask-scratch-space"]


def test_dask_alone_runs_it(trap, tmp_path):
    """What is planted would be seen."""
    (tmp_path / "alone").write_text(DASK)
    bash(tmp_path, f"{sys.executable} alone", environment=ENVIRONMENT | {"TMPDIR": str(trap)})
    assert (trap / "caught").exists()
