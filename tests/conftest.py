import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import hypothesis
import pytest

# Fixtures import what takes long to import: a process that hands tests to others needs none of it.

# The same examples on every machine, however slow it is.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("repeatable")

# Of a site whose workers end soon.
ELSEWHERE = {
    "DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION": "9s",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.01",
}
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def unflushed():
    """Nothing that this process writes waits for the disk: the machine does not crash under tests."""
    with mock.patch("os.fsync"):
        yield


@pytest.fixture(scope="session", autouse=True)
def unreported():
    """Runs write no report, which takes as long as a small run: `reported` has them do so."""
    with (
        mock.patch("cwt_dask.run.write_report"),
        mock.patch("cwt_dask.run.report_is_current", return_value=True),
    ):
        yield


@pytest.fixture
def dead():
    """Gives the name under which a process that was killed has made a file or directory."""
    from cwt_dask.storage.drafts import draft_of

    return lambda path: path.with_name(draft_of(path).name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))


@pytest.fixture
def reported():
    """Runs write their report, as they do for users."""
    from cwt_dask.report import report_is_current, write_report

    with (
        mock.patch("cwt_dask.run.write_report", write_report),
        mock.patch("cwt_dask.run.report_is_current", report_is_current),
    ):
        yield


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the reference data; tests that need it are skipped where it is absent, unless CI demands it."""
    return _reference(SHARED)


@pytest.fixture(scope="session")
def real_data():
    """The files in it that observatories have written; the same holds."""
    return _reference(SHARED / "real")


def _reference(folder):
    if not folder.is_dir():
        if os.environ.get("CWT_DASK_REQUIRE_SHARED"):
            pytest.fail(f"the reference data is missing: {folder}")
        pytest.skip(f"the reference data (../shared/{folder.relative_to(SHARED.parent)}) is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """What runs have compiled is compiled here: workers of a cluster would do so each by itself, at the same time."""
    from skies import poisson_sky, write_survey

    from cwt_dask import run_survey

    folder = tmp_path_factory.mktemp("compiled")
    survey = write_survey(folder / "survey.fits", *poisson_sky((40, 60), seed=1))
    run_survey(survey, folder / "run", n_scale=1, min_scale=1.2, max_iter=2, workers=0)


@pytest.fixture(scope="session")
def client(compiled):  # noqa: ARG001 - a warm cache
    """A real cluster of two worker processes, one for all tests, started where Dask is configured for another one."""
    from cwt_dask.runtime.clusters.local import local_client

    with ExitStack() as stack:
        with mock.patch.dict(os.environ, ELSEWHERE):
            client = stack.enter_context(local_client(2, 2 * 2**30))
        yield client


@pytest.fixture(scope="session")
def one_worker_client(compiled):  # noqa: ARG001 - a warm cache
    from cwt_dask.runtime.clusters.local import local_client

    with local_client(1, 2 * 2**30) as client:
        yield client


@pytest.fixture(scope="session")
def server():
    """An object store on the loopback interface."""
    from buckets import serving

    with serving() as server:
        yield server


@pytest.fixture
def bucket(server, request):
    """An empty directory in a bucket of that store, which behaves before and after."""
    from buckets import make_bucket

    server.fault = lambda *_: None
    yield make_bucket(request.node.name)
    server.fault = lambda *_: None


@pytest.fixture(scope="session")
def write_small_survey():
    """Write a survey of 90 x 130 pixels."""
    from skies import poisson_sky, write_survey

    return lambda folder: write_survey(folder / "survey.fits", *poisson_sky((90, 130), seed=3))


@pytest.fixture(scope="module")
def survey(write_small_survey, tmp_path_factory):
    """A survey of 90 x 130 pixels, for a module; not to be changed."""
    return write_small_survey(tmp_path_factory.mktemp("sky"))


class Said(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def call(capsys):
    """Run a command line in this process."""
    from cwt_dask.cli.commands import main

    def run_main(*arguments):
        status = main([str(argument) for argument in arguments])
        return Said(status, *capsys.readouterr())

    return run_main


@pytest.fixture
def small_survey(write_small_survey, tmp_path):
    """A survey of 90 x 130 pixels."""
    return write_small_survey(tmp_path)


@pytest.fixture
def ffts(monkeypatch):
    """Counts the FFTs of images; those of kernels are done once a process."""
    from cwt_dask.cwt.spectra import KernelSpectra

    counted = Counter()

    def counting(name, original):
        def count(spectra, *half_spectra, **arguments):
            counted[name] += len(half_spectra)
            return original(spectra, *half_spectra, **arguments)

        return count

    for name in ("forward", "backward"):
        monkeypatch.setattr(KernelSpectra, name, counting(name, getattr(KernelSpectra, name)))
    return counted
