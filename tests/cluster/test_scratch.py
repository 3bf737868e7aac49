"""Modules that another user of the machine has put where Dask has its scratch space are imported by nobody."""

import sys

import pytest
from elsewhere import ENVIRONMENT, OPTIONS, bash
from strangers import CAUGHT, intrusions, shared_space

DASK = """
import distributed
if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0"):
        import _wmi
"""


@pytest.fixture
def trap():
    with shared_space() as shared:
        yield shared


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
    assert (trap / CAUGHT).exists()


def test_intrusions_are_seen_where_there_are_any(trap):
    """So would be what another user can do: here all of it."""
    scratch = trap / "dask-scratch-space"
    found = {word.partition(" ")[0] for word in intrusions(scratch)}
    assert found == {"list", "read", "write", "plant", "move"}
