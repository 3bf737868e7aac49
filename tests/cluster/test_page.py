"""The commands of docs/clusters.md, as they stand there: each comes to the bits of a run on this machine."""

import os
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from signal import SIGTERM

import pytest
from batch import SECONDS
from elsewhere import ENVIRONMENT, ROOT, digest_of
from strangers import CAUGHT, intrusions, shared_space

PAGE = ROOT / "docs" / "clusters.md"
ADDRESS = "A scheduler that runs already"
RUNS = {
    ADDRESS: ["run-address"],
    "SLURM, one allocation": ["run-tasks"],
    "SLURM, a job a worker": ["run-jobs"],
    "SLURM, many surveys": ["run-field-1", "run-field-2"],
    "MPI": ["run-mpi"],
}
# Only root needs these, which is not meant to run such commands.
OF_ROOT = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe")


def section(heading):
    return PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def commands(heading):
    """What a user types, line by line."""
    return re.findall(r"^\$ (.*)$", section(heading), re.MULTILINE)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, small_survey):
    """What the page takes to be there."""
    directory = tmp_path_factory.mktemp("page")
    shutil.copy(small_survey, directory / "survey.fits")
    (directory / "deploy").symlink_to(ROOT / "deploy")
    settings = re.search(r"^```toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]
    (directory / "settings.toml").write_text(settings)
    return directory


@contextmanager
def typed(directory, environment, heading):
    """The commands of a section, typed into a shell; what it leaves in the background ends with it."""
    log = directory / f"{heading}.log"
    script = "\n".join(["set -euo pipefail", *commands(heading)])
    with log.open("w") as file:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=directory,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield partial(ended, shell, log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, SIGTERM)
        shell.wait(SECONDS)


def ended(shell, log):
    assert shell.wait(SECONDS) == 0, log.read_text()


@pytest.fixture(scope="module")
def here(directory):
    """The digest of the page's run on this machine."""
    with typed(directory, ENVIRONMENT, "This machine") as end:
        end()
    return digest_of(directory / "run-local")


@pytest.fixture(scope="module")
def trap():
    with shared_space() as shared:
        yield shared


@pytest.fixture(scope="module")
def ends(directory, slurm, trap):
    """All sections at a time: most of it is waiting. Temporary files are where another user was before."""
    environment = slurm | dict.fromkeys(OF_ROOT, "1") | {"TMPDIR": str(trap)}
    with ExitStack() as stack:
        yield {heading: stack.enter_context(typed(directory, environment, heading)) for heading in RUNS}


@pytest.mark.parametrize("heading", RUNS)
def test_the_commands_of_a_section_come_to_the_bits_of_this_machine(heading, directory, here, ends):
    ends[heading]()
    for run_dir in RUNS[heading]:
        assert digest_of(directory / run_dir) == here


def test_scratch_of_what_runs_already_is_closed_to_other_users(ends, trap):
    """Scheduler and workers stay after the run, as the page says, and with them their files."""
    ends[ADDRESS]()
    (scratch,) = trap.glob("tmp.*")
    assert list(scratch.glob("dask-scratch-space/worker-*"))
    assert intrusions(scratch) == []


def test_nothing_that_is_planted_is_run(ends, trap):
    for end in ends.values():
        end()
    assert not (trap / CAUGHT).exists()


def test_no_certificate_is_left(directory, ends):
    for end in ends.values():
        end()
    assert not [path.name for path in directory.iterdir() if path.name.startswith(".")]
