import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table
from skies import poisson_sky, sky_header, write_survey

from cwt_dask.cli import commands as cli
from cwt_dask.cli.commands import main
from cwt_dask.results import SurveyRun
from cwt_dask.runtime import progress
from cwt_dask.storage.schema import map_names

CWT_DASK = str(Path(sys.executable).with_name("cwt-dask"))
KERNELS = ("--n-scale", "2", "--min-scale", "1.2", "--step-scale", "1.5", "--max-iter", "3")
HERE = ("--workers", "0", "--fits", "no")
TILES = ("--tile-size", "60")


@dataclass
class Said:
    status: int
    out: str
    err: str


@pytest.fixture
def call(capsys):
    """Run a command line in this process."""

    def run_main(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return run_main


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("cli") / "survey.fits", *poisson_sky((90, 130), seed=3))


@pytest.fixture(scope="module")
def finished(survey):
    """A store, and a run on it that is done; to be copied, not changed."""
    store, run_dir = survey.with_name("store.zarr"), survey.with_name("finished")
    assert main(["ingest", str(survey), str(store)]) == 0
    assert main(["run", str(store), str(run_dir), "--quiet", *KERNELS, *HERE, *TILES]) == 0
    return store, run_dir


@pytest.fixture
def run_dir(finished, tmp_path):
    return Path(shutil.copytree(finished[1], tmp_path / "run"))


def tree(folder):
    """Every path below a folder, with the content of files."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def certificate_of(run_dir):
    return json.loads((run_dir / "certificate.json").read_text())


# --- what works -------------------------------------------------------------------------------------------------------


def test_simulate_plan_run_status_and_verify(call, tmp_path):
    survey, truth, run_dir = tmp_path / "survey.fits", tmp_path / "truth.ecsv", tmp_path / "run"
    said = call("simulate", survey, "--shape", 80, 120, "--seed", 4, "--sources", 5, "--truth", truth)
    assert (said.status, said.err) == (0, "")
    assert "80 x 120 pixels" in said.out
    assert len(Table.read(truth)) == 5

    before = tree(tmp_path)
    said = call("plan", survey, *KERNELS, *TILES)
    assert (said.status, said.err) == (0, "")
    for fragment in ("tiles          4", "cores of 60 x 60", "margin", "MiB a worker", "disk", "on one core"):
        assert fragment in said.out
    assert tree(tmp_path) == before

    said = call("run", survey, run_dir, *KERNELS, *HERE, *TILES)
    assert (said.status, said.err) == (0, "")
    assert "tiles, iterations 3 to 3: 4 of 4" in said.out
    assert "the tiles did no harm" in said.out
    assert "\x1b" not in said.out
    assert f"sources        {len(Table.read(run_dir / 'catalogue.ecsv'))}, " in said.out

    said = call("status", run_dir)
    assert said.status == 0
    assert "4 of 4 tiles done, iterations 3\n" in said.out
    assert str(run_dir / "catalogue.ecsv") in said.out

    said = call("verify", run_dir)
    assert said.status == 0
    assert said.out.count("    ok  ") > 5
    assert "BROKEN" not in said.out


def test_a_survey_and_its_store_give_the_same_result(survey, finished, tmp_path):
    store, from_store = finished
    assert zarr.open_group(store, mode="r")["counts"].chunks == (1024, 1024)
    assert main(["run", str(survey), str(tmp_path / "run"), "--quiet", *KERNELS, *HERE, *TILES]) == 0
    assert certificate_of(tmp_path / "run")["digest_maps"] == certificate_of(from_store)["digest_maps"]
    assert certificate_of(tmp_path / "run")["input_digest"] == certificate_of(from_store)["input_digest"]
    assert (tmp_path / "run" / "catalogue.ecsv").read_bytes() == (from_store / "catalogue.ecsv").read_bytes()
    assert not (from_store / "survey.zarr").exists()


def test_ingest_says_what_it_took_and_what_is_odd_about_it(call, tmp_path):
    counts, background = poisson_sky((30, 40), seed=3)
    write_survey(tmp_path / "survey.fits", counts * 0.5, background)
    said = call("ingest", tmp_path / "survey.fits", tmp_path / "store.zarr")
    assert said.status == 0
    assert "30 x 40 pixels" in said.out
    assert "warning: counts are not whole numbers" in said.out


def test_the_console_script_runs_on_workers_of_its_own(survey, finished, tmp_path):
    arguments = ("run", str(survey), "run", *KERNELS, *TILES, "--workers", "2", "--fits", "no")
    done = subprocess.run([CWT_DASK, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 workers, dashboard at http" in done.stdout
    assert "\x1b" not in done.stdout
    assert certificate_of(tmp_path / "run")["digest_maps"] == certificate_of(finished[1])["digest_maps"]


def test_the_console_script_refuses_in_one_line(tmp_path):
    done = subprocess.run([CWT_DASK, "run", "absent.fits", "run"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == b"cwt-dask: absent.fits cannot be read (No such file or directory): check the path\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["", "run", "plan", "ingest", "simulate", "status", "verify"])
def test_every_command_explains_itself(call, command):
    said = call(*([command] if command else []), "--help")
    assert (said.status, said.err) == (0, "")
    assert "Usage:" in said.out
    assert "xample: cwt-dask" in said.out or not command


def test_the_version_is_said(call):
    assert call("--version").out.startswith("cwt-dask, version 0.")


def test_quiet_says_nothing(call, survey, tmp_path):
    said = call("run", survey, tmp_path / "run", "--quiet", *KERNELS, *HERE)
    assert (said.status, said.out, said.err) == (0, "", "")
    assert call("run", survey, tmp_path / "run", "--quiet", *KERNELS, *HERE).out == ""


def test_a_terminal_gets_a_bar(call, survey, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cli, "reporter", lambda *, quiet, log_format: progress.Bar() if (quiet, log_format) == (False, "text") else None
    )
    said = call("run", survey, tmp_path / "run", *KERNELS, *HERE)
    assert said.status == 0
    assert "tiles, 3 iterations" in said.out


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_configuration_file_has_the_options_and_the_command_line_wins(call, survey, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        "n_scale = 3\nmin_scale = 1.2\nstep_scale = 1.5\nmax_iter = 9\ntile_size = 60\nquiet = true\nfits = 'no'\n"
    )
    said = call("run", survey, tmp_path / "run", "--config", config, "--n-scale", 2, "--max-iter", 3, "--workers", 0)
    assert (said.status, said.out) == (0, "")
    # The same settings as on the command line: it is the same run.
    said = call("run", survey, tmp_path / "run", *KERNELS, *HERE, *TILES)
    assert "nothing to do" in said.out


def test_of_several_files_later_ones_win_and_tables_are_merged(call, tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text(
        'n_scale = 3\nmin_scale = 1.5\n[cluster]\nkind = "slurm"\noptions = { a = 1, b = 2 }\n'
    )
    (tmp_path / "b.toml").write_text("min_scale = 2.0\n[cluster]\nminimum = 1\noptions = { b = 3 }\n")
    seen = {}
    monkeypatch.setattr("cwt_dask.cli.commands.plan_survey", lambda _, **given: seen.update(given))
    monkeypatch.setattr("cwt_dask.cli.commands.describe_plan", lambda _: "")
    call("plan", "any.fits", "--config", tmp_path / "a.toml", "--config", tmp_path / "b.toml", "--step-scale", 1.4)
    assert seen["cluster"] == {"kind": "slurm", "minimum": 1, "options": {"a": 1, "b": 3}}
    assert (seen["n_scale"], seen["min_scale"], seen["step_scale"]) == (3, 2.0, 1.4)


def test_an_hdu_may_be_a_number_in_a_configuration_file(call, survey, tmp_path):
    (tmp_path / "config.toml").write_text("counts_hdu = 1\nbackground_hdu = 2\n")
    assert call("plan", survey, "--config", tmp_path / "config.toml", *KERNELS).status == 0


def test_a_minimal_scale_may_be_an_angle(call, survey):
    said = call("plan", survey, "--n-scale", 1, "--min-scale", "0.3deg", "--step-scale", 1.5)
    assert "scales 3 pixels" in said.out


def test_the_plan_says_which_columns_are_neighbours(call, survey, tmp_path):
    ring = write_survey(tmp_path / "ring.fits", *poisson_sky((90, 130), seed=3), ring=True)
    said = call("plan", ring, *KERNELS, *TILES)
    assert "map            90 x 130 pixels, ring, columns 0 and 129 are neighbours\n" in said.out
    assert "warning" not in said.out
    said = call("plan", ring, *KERNELS, *TILES, "--wrap", "no")
    assert "map            90 x 130 pixels\n" in said.out
    assert "its first and last column are borders" in said.out
    said = call("plan", survey, *KERNELS, *TILES, "--wrap", "yes")
    assert "columns 0 and 129 are neighbours" in said.out
    assert "it is assumed that its columns show the whole circle" in said.out


def test_planes_may_come_from_files_of_their_own(call, survey, tmp_path):
    with fits.open(survey) as hdus:
        for name in ("COUNTS", "BACKGROUND"):
            fits.PrimaryHDU(hdus[name].data, hdus[name].header).writeto(tmp_path / f"{name}.fits")
    background = tmp_path / "BACKGROUND.fits"
    said = call("plan", tmp_path / "COUNTS.fits", "--counts-hdu", 0, "--background", f"{background}[0]", *KERNELS)
    assert said.status == 0


# --- an existing run --------------------------------------------------------------------------------------------------


def test_the_same_command_again_does_nothing_and_says_so(call, finished, run_dir):
    before = tree(run_dir)
    said = call("run", finished[0], run_dir, *KERNELS, *HERE, *TILES)
    assert said.status == 0
    assert f"{run_dir}: all 6 tiles were done; checked, nothing to do" in said.out
    assert tree(run_dir) == before


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((*KERNELS[:-1], "4", *TILES), "max_iter was 3, is 4."),
        ((*KERNELS, *TILES, "--significance-threshold", "4"), "significance_threshold was 3.0, is 4.0."),
        (
            (*KERNELS, *TILES, "--significance-island-threshold", "4"),
            "significance_island_threshold was None, is 4.0.",
        ),
        ((*KERNELS, *TILES, "--keep-isolated", "--stopping", "fixed"), "keep_isolated was False, is True; stopping"),
        ((*KERNELS, "--tile-size", "61"), "tile_size was 60, is 61"),
    ],
)
def test_other_settings_are_refused_and_named(call, finished, run_dir, arguments, fragment):
    before = tree(run_dir)
    said = call("run", finished[0], run_dir, *HERE, *arguments)
    assert said.status == 2
    assert said.err.startswith(f"cwt-dask: {run_dir} holds a run that differs: ")
    assert said.err.endswith("Choose another directory, or --overwrite\n")
    assert fragment in said.err
    assert tree(run_dir) == before


def test_another_survey_is_refused(call, run_dir, tmp_path):
    counts, background = poisson_sky((90, 130), seed=3)
    counts[5, 5] += 1
    other = write_survey(tmp_path / "other.fits", counts, background)
    said = call("run", other, run_dir, *KERNELS, *HERE, *TILES)
    assert said.status == 2
    assert "the survey's content is another" in said.err


def test_how_it_is_run_may_change(call, finished, run_dir):
    said = call("run", finished[0], run_dir, *KERNELS, *TILES, "--workers", 0, "--threads", 2, "--memory-limit", "1GiB")
    assert said.status == 0


def test_overwrite_starts_anew(call, survey, run_dir):
    (run_dir / "ledger" / "note").write_text("of the run before")
    said = call("run", survey, run_dir, "--overwrite", *KERNELS, *HERE, "--tile-size", 50)
    assert said.status == 0
    assert certificate_of(run_dir)["n_tiles"] == 6
    assert not (run_dir / "ledger" / "note").exists()
    assert sorted(path.name for path in run_dir.parent.iterdir()) == ["run"]


def test_an_overwrite_that_fails_leaves_the_old_run(call, run_dir, tmp_path):
    before = tree(tmp_path)
    said = call("run", tmp_path / "absent.fits", run_dir, "--overwrite", *KERNELS, *HERE)
    assert said.status == 2
    assert tree(tmp_path) == before


def test_an_empty_directory_may_be_overwritten(call, survey, tmp_path):
    (tmp_path / "run").mkdir()
    assert call("run", survey, tmp_path / "run", "--quiet", "--overwrite", *KERNELS, *HERE).status == 0


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("what", ["directory with files", "file"])
def test_what_is_no_run_is_never_overwritten(call, survey, tmp_path, what, overwrite):
    place = tmp_path / "thesis"
    if what == "file":
        place.write_text("years of work")
    else:
        place.mkdir()
        (place / "chapter.tex").write_text("years of work")
    before = tree(tmp_path)
    said = call("run", survey, place, *KERNELS, *HERE, *overwrite)
    assert said.status == 2
    assert said.err.startswith(f"cwt-dask: {place} is not a run directory: ")
    assert tree(tmp_path) == before


def test_a_run_is_not_overwritten_by_a_run_on_its_own_survey(call, survey, tmp_path):
    assert call("run", survey, tmp_path / "run", "--quiet", *KERNELS, *HERE).status == 0
    before = tree(tmp_path)
    said = call("run", tmp_path / "run" / "survey.zarr", tmp_path / "run", "--overwrite", *KERNELS, *HERE)
    assert said.status == 2
    assert "which would be overwritten: move it" in said.err
    assert tree(tmp_path) == before
    # Without --overwrite it is simply the same run.
    said = call("run", tmp_path / "run" / "survey.zarr", tmp_path / "run", *KERNELS, *HERE)
    assert "nothing to do" in said.out


def test_a_run_can_be_followed_by_machines(call, survey, tmp_path):
    said = call("run", survey, tmp_path / "run", "--log-format", "json", *KERNELS, *HERE)
    assert said.status == 0
    events = [json.loads(line) for line in said.out.splitlines()]
    tiles = [event for event in events if event["event"] == "done" and event["stage"].startswith("tiles")]
    assert [(event["tile"], event["attempt"]) for event in tiles] == [(0, 1)]
    assert events[-1]["event"] == "summary"
    assert events[-1]["digest_maps"] == SurveyRun.open(tmp_path / "run").certificate["digest_maps"]


def test_an_interrupted_run_ends_with_75_and_the_same_command_ends_it(call, survey, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cwt_dask.pipeline.blocks.run_tile", interrupt)
        said = call("run", survey, tmp_path / "run", *KERNELS, *HERE)
    assert said.status == 75
    # After the ^C that a terminal shows.
    assert said.err == "\ncwt-dask: interrupted: give the same command again; a run goes on where it stopped\n"
    said = call("status", tmp_path / "run")
    assert said.out.endswith("0 of 1 tiles done\nnot finished\n")
    assert call("verify", tmp_path / "run").status == 2
    assert call("run", survey, tmp_path / "run", *KERNELS, *HERE).status == 0


def test_tiles_that_fail_are_named_with_their_reason(call, survey, tmp_path, monkeypatch):
    def fail(_, tile):
        raise ValueError(f"no number in tile {tile}")

    monkeypatch.setattr("cwt_dask.pipeline.blocks.run_tile", fail)
    said = call("run", survey, tmp_path / "run", *KERNELS, *HERE, *TILES)
    assert said.status == 1
    assert "6 of 6 tiles failed (0, 1, 2, 3, 4, 5); tile 0: ValueError: no number in tile 0" in said.err


def test_a_broken_promise_ends_with_1(call, survey, tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.merge.certificate.TOLERANCE", -1.0)
    said = call("run", survey, tmp_path / "run", *KERNELS, *HERE, *TILES)
    assert said.status == 1
    assert said.err == f"cwt-dask: a promise is broken: see {tmp_path / 'run' / 'certificate.json'}\n"
    assert "NOT shown to equal the whole map" in said.out


def test_a_margin_that_promises_nothing_is_warned_about_and_breaks_no_promise(call, survey, tmp_path):
    said = call("run", survey, tmp_path / "run", *KERNELS, *HERE, *TILES, "--margin", 0)
    assert said.status == 0
    assert re.search(
        "^warning: the margin of 0 pixels is below the contract's .*: no bound exists", said.out, re.MULTILINE
    )
    assert certificate_of(tmp_path / "run")["tiling_exact"] is False
    assert certificate_of(tmp_path / "run")["seam_model_error"] is None


# --- verify -----------------------------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def edit_certificate(run_dir, **changes):
    path = run_dir / "certificate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (
            lambda run: flip(run / "maps.zarr/model/c/1/1"),
            "maps and seams are as the tiles wrote them: other pixels in tiles 4",
        ),
        (
            lambda run: (run / "maps.zarr/trust/c/0/2").unlink(),
            "maps and seams are as the tiles wrote them: .* tiles 2",
        ),
        (lambda run: (run / "maps.zarr/approx/c/0/0").write_bytes(b"abc"), "maps and seams are as .* tiles 0"),
        (lambda run: shutil.rmtree(run / "maps.zarr/support"), "maps and seams are as .* tiles 0, 1, 2, 3, 4, 5"),
        (lambda run: (run / "ledger/tile-0000001.json").unlink(), "every tile is done: no record of tiles 1"),
        (lambda run: (run / "ledger/tile-0000001.json").unlink(), "the certificate .* coverage is 0.6.*, not 1.0"),
        (lambda run: (run / "seams.zarr/own_model/c/1/0/0").unlink(), "the tiles did no harm: tiling_exact is false"),
        (lambda run: (run / "seams.zarr/own_model/c/1/0/0").write_bytes(b"abc"), "seams .* unreadable files of tiles"),
        (lambda run: edit_certificate(run, coverage=0.5), "the certificate follows .* coverage is 1.0, not 0.5"),
        (lambda run: edit_certificate(run, digest_maps="0"), "the certificate follows .* digest_maps is .*, not 0"),
        (lambda run: edit_certificate(run, tiling_exact=False), "the certificate .* tiling_exact is True, not False"),
        (lambda run: (run / "certificate.json").write_text("{}"), "the certificate .* n_tiles is 6, not None"),
    ],
)
def test_verify_finds_what_was_damaged(call, run_dir, damage, broken):
    damage(run_dir)
    before = tree(run_dir)
    said = call("verify", run_dir)
    assert said.status == 1
    assert re.search(f"^BROKEN  .*{broken}", said.out, re.MULTILINE)
    assert tree(run_dir) == before


@pytest.mark.parametrize(
    "change", [lambda counts: flip(counts / "c/0/0"), lambda counts: (counts / "c/0/0").unlink()], ids=["flip", "lose"]
)
def test_verify_finds_that_the_survey_was_changed(call, finished, run_dir, tmp_path, change):
    store = Path(shutil.copytree(finished[0], tmp_path / "store.zarr"))
    toml = run_dir / "run.toml"
    toml.write_text(toml.read_text().replace(str(finished[0]), str(store)))
    assert call("verify", run_dir).status == 0
    change(store / "counts")
    said = call("verify", run_dir)
    assert said.status == 1
    assert "BROKEN  the survey is as the tiles read it: other pixels in the window of tiles 0, 1, 2" in said.out


def test_verify_finds_tiles_of_other_settings(call, run_dir):
    path = run_dir / "ledger" / "tile-0000003.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings_digest": "0"}))
    said = call("verify", run_dir)
    assert said.status == 1
    assert "BROKEN  every tile was done under the run's settings: other settings in tiles 3" in said.out


def test_verify_names_a_certificate_that_is_no_json(call, run_dir):
    (run_dir / "certificate.json").write_text("{")
    said = call("verify", run_dir)
    assert said.status == 1
    assert said.err.startswith(f"cwt-dask: {run_dir / 'certificate.json'} is damaged")
    assert "delete it" in said.err


def test_verify_finds_that_a_damaged_record_is_none(call, run_dir):
    (run_dir / "ledger" / "tile-0000001.json").write_text("{")
    said = call("verify", run_dir)
    assert said.status == 1
    assert "BROKEN  every tile is done: no record of tiles 1" in said.out


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "record"])
def test_a_damaged_tile_is_done_again(call, finished, run_dir, damage):
    chunk = run_dir / "maps.zarr" / "model" / "c" / "1" / "1"
    if damage == "flip":
        flip(chunk)
    elif damage == "cut":
        chunk.write_bytes(b"abc")
    elif damage == "delete":
        chunk.unlink()
    else:
        (run_dir / "ledger" / "tile-0000004.json").unlink()
    said = call("run", finished[0], run_dir, *KERNELS, *HERE, *TILES)
    assert said.status == 0
    assert "tiles, 3 iterations: 1 of 1" in said.out
    assert call("verify", run_dir).status == 0
    assert certificate_of(run_dir)["digest_maps"] == certificate_of(finished[1])["digest_maps"]


@pytest.mark.parametrize("command", ["status", "verify"])
def test_what_is_no_run_has_no_status(call, tmp_path, command):
    said = call(command, tmp_path)
    assert said.status == 2
    assert said.err.startswith(f"cwt-dask: {tmp_path} is not a run directory: it has no readable run.toml; choose")


# --- NaN --------------------------------------------------------------------------------------------------------------


def test_nan_pixels_are_masked_and_counted_and_none_comes_out(call, tmp_path):
    counts, background = poisson_sky((90, 130), seed=3)
    counts = counts.astype(float)
    counts[10:20, 30:50] = np.nan
    background[50, 60:65] = np.nan
    counts[50, 60] = np.nan
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    said = call("run", survey, tmp_path / "run", *KERNELS, *TILES, "--workers", 0)
    assert said.status == 0
    assert certificate_of(tmp_path / "run")["masked_pixels"] == 205
    maps = zarr.open_group(tmp_path / "run" / "maps.zarr", mode="r")
    masked = maps["mask"][:] == 0
    assert masked.sum() == 205
    for name in map_names(maps):
        array = maps[name]
        assert np.isfinite(array[:]).all(), name
        if name not in ("best_scale", "support"):
            assert not array[:][..., masked].any(), name
    with fits.open(tmp_path / "run" / "maps.fits") as hdus:
        for hdu in hdus[1:]:
            assert np.isfinite(hdu.data).all(), hdu.name
    for name in ("ra", "counts", "background", "excess_errn", "significance"):
        assert np.isfinite(Table.read(tmp_path / "run" / "catalogue.ecsv")[name]).all()


# --- bad input --------------------------------------------------------------------------------------------------------


def planes():
    counts, background = poisson_sky((50, 60), seed=2)
    return {"COUNTS": counts.astype(float), "BACKGROUND": background}


def write_planes(path, planes):
    header = sky_header((50, 60))
    hdus = [fits.ImageHDU(plane, header, name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def plain(folder):
    return write_planes(folder / "survey.fits", planes())


def with_pixel(plane, value):
    def make(folder):
        changed = planes()
        changed[plane][7, 20] = value
        return write_planes(folder / "survey.fits", changed)

    return make


def without(plane):
    def make(folder):
        return write_planes(folder / "survey.fits", {name: p for name, p in planes().items() if name != plane})

    return make


def truncated(folder):
    path = plain(folder)
    os.truncate(path, path.stat().st_size // 2)
    return path


def truncated_gzip(share):
    """A file that breaks off in counts, background, or in a mask that nothing would miss."""

    def make(folder):
        path = write_planes(folder / "survey.fits", planes() | {"MASK": planes()["BACKGROUND"]})
        whole = gzip.compress(path.read_bytes())
        path.unlink()
        path = folder / "survey.fits.gz"
        path.write_bytes(whole[: int(share * len(whole))])
        return path

    return make


def not_fits(folder):
    path = folder / "survey.fits"
    path.write_text("counts,background\n1,2\n")
    return path


def other_shape(folder):
    return write_planes(folder / "survey.fits", planes() | {"BACKGROUND": planes()["BACKGROUND"][:-1]})


def cube(folder):
    return write_planes(folder / "survey.fits", {name: np.stack([plane] * 3) for name, plane in planes().items()})


def all_nan(folder):
    return write_planes(folder / "survey.fits", planes() | {"COUNTS": np.full((50, 60), np.nan)})


def without_sky(folder):
    hdus = [fits.ImageHDU(plane, name=name) for name, plane in planes().items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "survey.fits")
    return folder / "survey.fits"


def no_store(folder):
    zarr.create_group(folder / "survey.zarr")
    return folder / "survey.zarr"


BAD_SURVEYS = [
    pytest.param(lambda folder: folder / "survey.fits", "survey.fits cannot be read (No such file", id="missing"),
    pytest.param(lambda folder: folder, "cannot be read (Is a directory): check the path", id="directory"),
    pytest.param(truncated, "survey.fits is truncated", id="truncated"),
    *(pytest.param(truncated_gzip(k), "survey.fits.gz is truncated", id=f"gzip cut at {k}") for k in (0.1, 0.5, 0.95)),
    pytest.param(not_fits, "survey.fits is not a FITS file", id="not FITS"),
    pytest.param(without("COUNTS"), "has no HDU COUNTS; it has 0 PRIMARY, 1 BACKGROUND: name the", id="no counts"),
    pytest.param(without("BACKGROUND"), "has no HDU BACKGROUND; it has 0 PRIMARY, 1 COUNTS", id="no background"),
    pytest.param(other_shape, "is 49 x 60 pixels (y, x), but HDU COUNTS of", id="shapes differ"),
    pytest.param(cube, "is a cube of 3 planes: choose one with band", id="cube"),
    pytest.param(with_pixel("COUNTS", -3.0), "1 negative value, the first one -3 at x = 20, y = 7", id="negative"),
    pytest.param(with_pixel("BACKGROUND", -0.1), "HDU BACKGROUND of", id="negative background"),
    pytest.param(with_pixel("COUNTS", np.inf), "1 infinite value, the first one inf at x = 20, y = 7", id="infinite"),
    pytest.param(all_nan, "no pixel can be used: 0 lie off the sky, 3000 are NaN in counts", id="all NaN"),
    pytest.param(without_sky, "has no celestial WCS", id="no WCS"),
]


def refuse(call, folder, fragment, *arguments):
    """Call, and check that it ends as a wrong call must."""
    before = tree(folder)
    said = call(*arguments)
    assert said.status == 2
    assert said.err.startswith("cwt-dask: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert fragment in said.err
    assert tree(folder) == before


@pytest.mark.parametrize(("make", "fragment"), BAD_SURVEYS)
@pytest.mark.parametrize("command", ["run", "run below", "plan", "ingest"])
def test_a_survey_that_cannot_be_analysed_is_refused_and_nothing_is_written(call, tmp_path, command, make, fragment):
    survey = make(tmp_path)
    arguments = {
        "run": ("run", survey, tmp_path / "out", *KERNELS, *HERE),
        "run below": ("run", survey, tmp_path / "a" / "b" / "out", *KERNELS, *HERE),
        "plan": ("plan", survey, *KERNELS),
        "ingest": ("ingest", survey, tmp_path / "out.zarr"),
    }
    refuse(call, tmp_path, fragment, *arguments[command])


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_group_that_is_no_survey_is_refused(call, tmp_path, command):
    out = [tmp_path / "out"] if command == "run" else []
    refuse(call, tmp_path, "is a Zarr group, but not a survey store", command, no_store(tmp_path), *out, *KERNELS)


BAD_OPTIONS = [
    (("--n-scale", "0"), "n_scale is 0: it must be a whole number of at least 1"),
    (("--n-scale", "two"), "Invalid value for '--n-scale': 'two' is not a valid integer"),
    (("--n-scale", "1000"), "min_scale 1.2 times step_scale 1.5 to the power n_scale 1000 is above 1000 pixels"),
    (("--min-scale", "0"), "min_scale is 0.0: it must be above 0"),
    (("--min-scale", "large"), 'min_scale is "large": it must be pixels (6.0) or an angle ("0.6deg")'),
    (("--min-scale", "1e6"), "above 1000 pixels: lower one of them"),
    (("--min-scale", "200deg"), "above 1000 pixels: lower one of them"),
    (("--step-scale", "1"), "step_scale is 1.0: it must be above 1"),
    (("--max-iter", "0"), "max_iter is 0: it must be a whole number of at least 1"),
    (("--tol", "nan"), "tol is nan: it must be a finite number"),
    (("--significance-threshold", "inf"), "significance_threshold is inf: it must be a finite number"),
    (("--margin", "-1"), "margin is -1: it must be a whole number of at least 0, or auto"),
    (("--margin", "wide"), "wide is not PIXELS|auto"),
    (("--tile-size", "0"), "tile_size is 0: it must be a whole number of at least 1, or auto"),
    (("--n-scale", "3", "--min-scale", "0.6", "--step-scale", "1.3"), "their summed gain is "),
    (("--min-scale", "0.1"), "the iteration diverges with these kernels"),
    (("--stopping", "never"), "Invalid value for '--stopping'"),
    (
        ("--memory-limit", "1MiB"),
        "take a smaller tile_size, memory_target or margin, fewer scales, or a larger memory_limit",
    ),
    (("--memory-limit", "lots"), "memory_limit is lots: it must be a size such as 4GiB"),
    (("--memory-limit", "1e400"), "memory_limit is 1e400: it must be a size such as 4GiB"),
    (("--memory-limit", "0"), "memory_limit is 0: it must be a whole number of at least 1"),
    (("--workers", "-1"), "workers is -1: it must be a whole number of at least 0"),
    (("--scheduler", "tcp://a:1", "--scheduler-file", "b"), "scheduler and scheduler_file are both given"),
    (("--band", "first"), "give the number of a plane, from 0 on"),
    (("--mask", "absent.fits"), "absent.fits cannot be read (No such file or directory): check the path"),
    (("--scales", "3"), "No such option '--scales'"),
    (("--config", "absent.toml"), "cannot read absent.toml: No such file or directory"),
]


@pytest.mark.parametrize(("options", "fragment"), BAD_OPTIONS)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_impossible_options_are_refused_and_nothing_is_written(call, tmp_path, command, options, fragment):
    out = [tmp_path / "a" / "out"] if command == "run" else []
    refuse(call, tmp_path, fragment, command, plain(tmp_path), *out, *KERNELS, *options)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("significance_treshold = 3", "unknown option significance_treshold: did you mean significance_threshold?"),
        ("n-scale = 3", "unknown option n-scale: did you mean n_scale?"),
        ("n_scale = [3]", "n_scale is [3]: it must be a whole number"),
        ("old_kernels = 'no'", "old_kernels is no: it must be true or false"),
        ("memory_limit = [4]", "memory_limit is [4]: it must be a size such as 4GiB"),
        ("background = 5", "5 cannot be read (No such file or directory)"),
        ("counts_hdu = 7", "has no HDU 7; it has 0 PRIMARY, 1 COUNTS, 2 BACKGROUND"),
        ("n_scale =", "config.toml is not TOML"),
    ],
)
def test_an_impossible_configuration_file_is_refused(call, tmp_path, content, fragment):
    config = tmp_path / "config.toml"
    config.write_text(content)
    options = ("--config", config, "--min-scale", "1.2", "--step-scale", "1.5")
    refuse(call, tmp_path, fragment, "run", plain(tmp_path), tmp_path / "out", *options)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((), "no command is given: cwt-dask --help lists them"),
        (("find",), "No such command 'find'"),
        (("run",), "Missing argument 'SURVEY'"),
        (("run", "survey.fits"), "Missing argument 'RUN_DIR'"),
        (("plan",), "Missing argument 'SURVEY'"),
        (("ingest", "survey.fits"), "Missing argument 'OUT'"),
        (("simulate", "survey.fits"), "Missing option '--shape'"),
        (("simulate", "survey.fits", "--shape", "0", "5", "--seed", "1"), "shape is (0, 5): it must be"),
        (("simulate", "survey.fits", "--shape", "5", "5", "--seed", "-1"), "seed is -1: it must be 0 or more"),
        (("simulate", "survey.fits", "--shape", "5", "5", "--seed", "1", "--sources", "-1"), "n_sources is -1"),
        (("simulate", "survey.txt", "--shape", "5", "5", "--seed", "1"), "choose one that ends in .fits"),
        (("simulate", "a/b.fits", "--shape", "5", "5", "--seed", "1"), "a is not a directory: create it first"),
        (("status", "absent"), "absent is not a run directory"),
        (("verify", "absent"), "absent is not a run directory"),
    ],
)
def test_wrong_calls_are_refused(call, tmp_path, monkeypatch, arguments, fragment):
    monkeypatch.chdir(tmp_path)
    refuse(call, tmp_path, fragment, *arguments)


def test_a_scheduler_that_cannot_be_reached_is_refused(call, tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.runtime.clusters.address.CONNECT_SECONDS", 1)
    arguments = ("run", plain(tmp_path), tmp_path / "out", *KERNELS, "--scheduler", "tcp://127.0.0.1:9")
    refuse(call, tmp_path, "cannot reach scheduler tcp://127.0.0.1:9 ", *arguments)
    absent = ("--scheduler-file", tmp_path / "absent.json")
    refuse(call, tmp_path, "absent.json: there is no such file", *arguments[:-2], *absent)


# A name that is too long for a file system is refused to everyone, root included.
LONG = "x" * 249


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("run", "survey.fits", "file/run", *KERNELS), "file (Not a directory): choose another directory"),
        (("run", "survey.fits", "file/a/run", *KERNELS), "file/a (Not a directory): choose another directory"),
        (("run", "survey.fits", f"a/b/{LONG}", *KERNELS), "(File name too long): choose another directory"),
        (("run", "survey.fits", "file", *KERNELS), "file is not a run directory"),
        (("run", "survey.fits", "file", "--overwrite", *KERNELS), "file is not a run directory"),
        (("ingest", "survey.fits", "file/store.zarr"), "file is not a directory: create it first"),
        (("ingest", "survey.fits", "file"), "file exists: remove it or choose another name"),
        (("ingest", "survey.fits", LONG), "cannot be written (File name too long): choose another place"),
        (("simulate", "file/a.fits", "--shape", "5", "5", "--seed", "1"), "file is not a directory"),
        (("simulate", "survey.fits", "--shape", "5", "5", "--seed", "1"), "survey.fits exists: choose another name"),
        (
            ("simulate", f"{LONG}.fits", "--shape", "5", "5", "--seed", "1"),
            "cannot be written (File name too long): choose another place",
        ),
    ],
)
def test_places_that_cannot_be_written_are_refused(call, tmp_path, monkeypatch, arguments, fragment):
    monkeypatch.chdir(tmp_path)
    plain(tmp_path)
    (tmp_path / "file").write_text("mine")
    refuse(call, tmp_path, fragment, *arguments)
