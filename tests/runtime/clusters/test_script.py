"""Processes that can start no workers: one line says so, and nothing is left. Whole scripts: tests/cluster."""

import multiprocessing
import os
import resource
import sys
from types import SimpleNamespace

import dask
import pytest

from cwt_dask.errors import InputError
from cwt_dask.pipeline import create
from cwt_dask.run import run_survey
from cwt_dask.runtime.clusters.environment import allow_open_files
from cwt_dask.runtime.clusters.local import local_client

OPTIONS = ("--n-scale=1", "--min-scale=1.2", "--max-iter=1", "--workers=1", "--quiet")
GUARD = 'make the call below `if __name__ == "__main__":` in a script, or give workers=0'


@pytest.fixture
def script(tmp_path, monkeypatch):
    """What this process takes for its main script from now on: it ends where others load it."""
    path = tmp_path / "script.py"
    path.write_text("raise SystemExit(1)")
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=None, __file__=str(path)))
    return path


@pytest.fixture
def refused(call, survey, tmp_path):
    """Refuse a run, with a message, and no more."""

    def refuse(message):
        said = call("run", survey, tmp_path / "run", "--tile-size=45", *OPTIONS)
        assert said == (2, "", f"cwt-dask: {message}\n")
        assert not list(tmp_path.glob("*run*"))

    return refuse


def test_a_worker_of_another_cannot_start_workers(refused, monkeypatch, call, survey, tmp_path):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    refused(
        "this process is itself a worker, of multiprocessing or Dask, and cannot start others: give workers=0, or make "
        "the call elsewhere"
    )
    # One tile needs none.
    assert call("run", survey, tmp_path / "one", *OPTIONS) == (0, "", "")


@pytest.mark.parametrize("kind", ["gone", "pipe"])
def test_workers_must_be_able_to_read_the_script(refused, script, kind):
    script.unlink()
    if kind == "pipe":
        os.mkfifo(script)
    refused(f"workers cannot read the script that starts them, {script}: it must be in a file; {GUARD}")


@pytest.mark.usefixtures("script")
def test_workers_must_come_to_the_end_of_the_script(refused):
    refused(f"workers end as they start: {GUARD}")


@pytest.mark.usefixtures("script")
def test_a_script_without_a_guard_is_told_before_a_cluster_starts(monkeypatch):
    monkeypatch.setattr("distributed.LocalCluster", None)
    with pytest.raises(InputError, match="^workers end as they start: "), local_client(1, 2**30):
        pass


@pytest.mark.usefixtures("script")
def test_a_large_survey_is_not_read_in_vain(survey, tmp_path, monkeypatch):
    monkeypatch.setattr(create, "BYTES_PER_PIXEL", 2**40)
    monkeypatch.setattr("cwt_dask.survey.strips.OpenSurvey.strips", None)
    with pytest.raises(InputError, match="^workers end as they start: make the call below"):
        run_survey(survey, tmp_path / "run", min_scale=1.2)
    assert not (tmp_path / "run").exists()


def test_a_script_without_a_guard_ends_in_silence_in_its_workers(monkeypatch):
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    monkeypatch.setattr(process, "_name", "Dask Worker process (from Nanny)")
    with pytest.raises(SystemExit) as ended:
        run_survey("absent.fits", "absent", min_scale=1.2)
    assert ended.value.code == 1


def test_workers_may_have_as_many_open_files_as_the_system_allows():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    try:
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


SCRATCH = "^processes of Dask cannot have scratch space here .*/proc/none.*: make room there, or name another place by"


@pytest.mark.parametrize(
    ("options", "settings", "refused"),
    [
        (
            {"host": "192.0.2.1"},
            {},
            r"workers cannot start here \(OSError: .* Cannot assign requested address\): mend that, or give workers=0$",
        ),
        ({}, {"temporary-directory": "/proc/none"}, SCRATCH),
        ({"local_directory": "/proc/none"}, {}, SCRATCH),
    ],
)
def test_what_the_machine_does_not_have_is_said_in_one_line(capfd, options, settings, refused):
    with pytest.raises(InputError, match=refused) as one, dask.config.set(settings), local_client(1, 2**30, **options):
        pass
    assert one.value.__suppress_context__
    assert capfd.readouterr() == ("", "")
