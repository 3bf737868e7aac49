"""Scripts of deploy/ and workflows/ with simulated commands. Whole ones: tests/cluster."""

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path):
    """Runs a script with commands that are shell scripts; its status and output."""
    (tmp_path / "bin").mkdir()

    def run(name, *arguments, environment=None, **commands):
        for command, does in commands.items():
            path = tmp_path / "bin" / command.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{does}\n")
            path.chmod(0o755)
        env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"} | (environment or {})
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(["/bin/bash", ROOT / name, *arguments], cwd=tmp_path, env=env, check=False, **both)
        return done.returncode, done.stdout

    return run


# --- an array job of many surveys -------------------------------------------------------------------------------------


@pytest.fixture
def field(script, tmp_path):
    """What the job of a field runs, of a file of fields."""

    def run(content, number):
        (tmp_path / "fields.txt").write_text(content)
        job = {"SLURM_ARRAY_TASK_ID": number, "SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_PER_TASK": "2"}
        return script("deploy/slurm/array.sh", "fields.txt", "--fits=no", environment=job, srun='echo "$@"')

    return run


# Without the end of the last line, and with blank lines.
@pytest.mark.parametrize("content", ["a.fits run-a\nb.fits run-b", "\na.fits run-a\n \t\n\nb.fits run-b\n\n"])
def test_each_line_that_is_not_blank_is_a_field(field, content):
    for number, name in (("1", "a"), ("2", "b")):
        status, printed = field(content, number)
        assert status == 0, printed
        assert f"cwt-dask run {name}.fits run-{name} --fits=no --workers 2 --memory-limit 750MiB" in printed


@pytest.mark.parametrize("content", ["a.fits run-a\n", "a.fits run-a\nb.fits\n"])
def test_a_field_that_is_not_there_is_named(field, content):
    status, printed = field(content, "2")
    assert (status, printed) == (2, "fields.txt has no line SURVEY RUN_DIR of number 2 (blank lines do not count)\n")


# --- many fields by Snakemake -----------------------------------------------------------------------------------------


RIGHT = "field\tsurvey\na\ta.fits\n"


@pytest.mark.parametrize("content", [RIGHT, "field,survey\na,a.fits\n", "field\tsurvey\na\n", "field\tsurvey\n"])
def test_fields_that_are_not_separated_by_tabs_are_named(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fields.tsv").write_text(content)
    head = (ROOT / "workflows" / "hpc" / "Snakefile").read_text(encoding="utf-8").partition("\nrule all:")[0]
    names = {}
    refused = pytest.raises(SystemExit, match="must have columns field and survey, separated")
    with nullcontext() if content == RIGHT else refused:
        exec(compile(head, "Snakefile", "exec"), names)  # noqa: S102 - what Snakemake does with it
    assert content != RIGHT or names["FIELDS"] == {"a": "a.fits"}


# --- a night of a scheduled pipeline ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 75])
def test_a_message_that_fails_leaves_the_status_of_the_night(script, tmp_path, status):
    (tmp_path / "surveys").mkdir()
    (tmp_path / "surveys" / "survey-1.fits").touch()
    (tmp_path / "notify").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "notify").chmod(0o755)
    found = script("workflows/reprocess/reprocess.sh", ".", cwt_dask=f"exit {status}")
    assert found == (status, "notify has failed (status 3)\n")
    assert (tmp_path / "current").is_symlink() is (status == 0)


# --- a full sky -------------------------------------------------------------------------------------------------------


def test_a_survey_that_was_replaced_is_not_taken_for_the_one_that_was_ingested(script, tmp_path):
    def start():
        ingests = 'echo "$1"; if [ "$1" = ingest ]; then mkdir "$3"; fi'
        return script("workflows/full_sky/full_sky.sh", "sky.fits", "sky", cwt_dask=ingests)

    survey, store = tmp_path / "sky.fits", tmp_path / "sky" / "sky.fits.zarr"
    survey.write_text("one")
    assert start() == (0, "ingest\nplan\nrun\nverify\n")
    assert start() == (0, "plan\nrun\nverify\n")
    # Another file, and an older one: a copy keeps the time of what it is a copy of.
    survey.write_text("another")
    os.utime(survey, (10**9, 10**9))
    status, printed = start()
    assert status == 2
    assert "sky.fits is not the file any more that sky/sky.fits.zarr was made of: give another WORK_DIR" in printed
    # Whoever needs the room may remove what is ingested.
    survey.unlink()
    assert start() == (0, "plan\nrun\nverify\n")
    survey.write_text("another")
    store.rmdir()
    assert start() == (0, "ingest\nplan\nrun\nverify\n")
