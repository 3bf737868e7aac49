"""The report: when it is written, and when it is refused."""

import re
import shutil
from pathlib import Path

import pytest
from reporters import DiesAt, Messages
from reports import page_of
from work import starts

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.inspection.verify import verify_run
from cwt_dask.report import write_report
from cwt_dask.report.page import MARK
from cwt_dask.storage.directory import hold


@pytest.fixture
def again(run, survey, options):
    """Run it again, and give the messages."""

    def again(**more):
        listener = Messages()
        run_survey(survey, run.files.path, tile_size=45, **{"progress": listener} | options | more)
        return listener.text

    return again


def test_the_same_run_gives_the_same_page_also_from_maps_alone(run, capsys):
    write_report(run)
    before = run.files.report.read_bytes()
    # As a run of before there was a report.
    shutil.rmtree(run.files.pyramid)
    run.files.report.unlink()
    assert main(["report", str(run.files.path)]) == 0
    assert f"report         {run.files.report}" in capsys.readouterr().out
    assert run.files.report.read_bytes() == before


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("<html>of another run")])
@pytest.mark.usefixtures("reported")
def test_a_report_that_is_missing_or_of_another_certificate_is_made_again(run, again, damage):
    before, certificate = starts(run), run.files.certificate.read_bytes()
    damage(run.files.report)
    assert "nothing to do" not in again()
    assert "The tiles did no harm" in page_of(run)
    assert (starts(run), run.files.certificate.read_bytes()) == (before, certificate)
    written = run.files.report.stat().st_mtime_ns
    assert "nothing to do" in again()
    assert run.files.report.stat().st_mtime_ns == written


def test_a_survey_that_is_damaged_since_is_named_and_the_page_stays(run, capsys):
    write_report(run)
    before, chunk = run.files.report.read_bytes(), run.survey.path / "counts" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    assert main(["report", str(run.files.path)]) == 2
    assert f"{chunk} is damaged" in capsys.readouterr().err
    assert run.files.report.read_bytes() == before


@pytest.mark.usefixtures("reported")
def test_what_is_certified_again_is_reported_again(run, again):
    run.files.record(2).unlink()
    again(no_report=True)
    assert f'<meta name="{MARK}" content="{run.certificate["digest_certificate"]}">' in page_of(run)[:1024]


@pytest.mark.usefixtures("reported")
def test_a_run_that_was_killed_in_its_report_goes_on(run, again):
    run.files.report.unlink()
    shutil.rmtree(run.files.pyramid)
    before = starts(run)
    with pytest.raises(KeyboardInterrupt):
        again(progress=DiesAt("maps reduced", 0, KeyboardInterrupt))
    assert not run.files.report.exists()
    assert run.certificate["tiling_exact"]
    again()
    assert "The tiles did no harm" in page_of(run)
    assert starts(run) == before


@pytest.mark.usefixtures("reported")
def test_no_report_leaves_it_out_and_one_that_fails_spoils_nothing(survey, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    command = ["run", str(survey), str(folder), "--workers", "0", "--fits", "no", "--max-iter", "2"]
    for expected in ("", "nothing to do"):
        assert main([*command, "--no-report"]) == 0
        assert expected in (out := capsys.readouterr().out)
        assert "report " not in out
        assert not (folder / "report.html").exists()
    assert main(["status", str(folder)]) == 0
    assert f"report         none: cwt-dask report {folder} writes it" in capsys.readouterr().out
    with monkeypatch.context() as broken:
        broken.setattr("cwt_dask.report.page.read_sources", lambda _: 1 / 0)
        assert main(command) == 0
    out = capsys.readouterr().out
    assert "warning: the report could not be written (ZeroDivisionError: division by zero); all else is done" in out
    assert f"cwt-dask report {folder} tries again" in out
    assert not [check for check in verify_run(SurveyRun.open(folder)) if check.fault]
    assert main(command) == 0
    assert f"report         {folder / 'report.html'}" in capsys.readouterr().out


def test_a_report_of_what_is_not_finished_or_held_is_refused(run, tmp_path, capsys):
    before = run.files.report.read_bytes()
    with hold(run.files):
        assert main(["report", str(run.files.path)]) == 2
    assert "in use by process" in capsys.readouterr().err
    assert run.files.report.read_bytes() == before
    run.files.certificate.unlink()
    assert main(["report", str(run.files.path)]) == 2
    assert "has no certificate yet: the run is not finished" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2


def test_no_report_is_made_of_maps_that_are_lost(run, capsys):
    before = run.files.report.read_bytes()
    shutil.rmtree(run.files.pyramid)
    shutil.rmtree(run.files.maps / "model" / "c")
    assert main(["report", str(run.files.path)]) == 1
    err = capsys.readouterr().err
    assert re.search(r"maps\.zarr/model/c/\d/\d is lost: cwt-dask verify says what else", err)
    assert run.files.report.read_bytes() == before
