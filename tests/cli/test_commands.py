import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table
from fuzzing import tree
from reporters import DiesAt, InterruptedRunError
from skies import poisson_sky, write_survey
from work import change_run, flip

from cwt_dask.cli.commands import main
from cwt_dask.errors import InputError
from cwt_dask.products.summary import RESUME
from cwt_dask.results import SurveyRun
from cwt_dask.run import run_survey
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import record_failure
from cwt_dask.storage.schema import map_names
from cwt_dask.storage.sealed import sealed

CWT_DASK = str(Path(sys.executable).with_name("cwt-dask"))
KERNELS = ("--n-scale", "2", "--min-scale", "1.2", "--step-scale", "1.5", "--max-iter", "3")
HERE = ("--workers", "0", "--fits", "no")
TILES = ("--tile-size", "60")


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


def test_ingest_says_what_it_took_and_what_is_odd_about_it(call, tmp_path):
    counts, background = poisson_sky((30, 40), seed=3)
    write_survey(tmp_path / "survey.fits", counts * 0.5, background)
    said = call("ingest", tmp_path / "survey.fits", tmp_path / "store.zarr")
    assert said.status == 0
    assert "30 x 40 pixels" in said.out
    assert "warning: counts are not whole numbers" in said.out


def test_the_console_script_runs_on_workers_of_its_own_to_the_same_result_as_on_a_store(survey, finished, tmp_path):
    store, from_store = finished
    # What libraries print in a worker process is none of the command's output.
    (tmp_path / "sitecustomize.py").write_text("import sys\nif 'spawn_main' in str(sys.orig_argv): print('noise')\n")
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    arguments = ("run", str(survey), "run", *KERNELS, *TILES, "--workers", "2", "--fits", "no")
    streams = {"capture_output": True, "text": True, "env": os.environ | {"PYTHONPATH": path}}
    done = subprocess.run([CWT_DASK, *arguments], cwd=tmp_path, check=False, **streams)
    assert done.returncode == 0, done.stderr
    assert "noise" in done.stderr
    assert "noise" not in done.stdout
    assert "2 workers, dashboard at http" in done.stdout
    assert "\x1b" not in done.stdout
    for digest in ("digest_maps", "input_digest"):
        assert certificate_of(tmp_path / "run")[digest] == certificate_of(from_store)[digest]
    assert (tmp_path / "run" / "catalogue.ecsv").read_bytes() == (from_store / "catalogue.ecsv").read_bytes()
    assert zarr.open_group(store, mode="r")["counts"].chunks == (1024, 1024)
    assert not (from_store / "survey.zarr").exists()


def test_the_version_is_said(call):
    assert call("--version").out == f"cwt-dask, version {version('cwt_dask')}\n"


def test_quiet_says_nothing(call, survey, tmp_path):
    said = call("run", survey, tmp_path / "run", "--quiet", *KERNELS, *HERE)
    assert (said.status, said.out, said.err) == (0, "", "")
    # The same run, if it is given its own survey.
    said = call("run", tmp_path / "run" / "survey.zarr", tmp_path / "run", "--quiet", *KERNELS, *HERE)
    assert (said.status, said.out) == (0, "")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_configuration_files_are_merged_later_ones_win_and_the_command_line_over_all(call, tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text(
        'n_scale = 3\nmin_scale = 1.5\nmax_iter = 9\n[cluster]\nkind = "slurm"\noptions = { a = 1, b = 2 }\n'
    )
    # As editors of Windows write it, with a byte order mark.
    text = "min_scale = 2.0\n[cluster]\nminimum = 1\noptions = { b = 3 }\n"
    (tmp_path / "b.toml").write_text(text, encoding="utf-8-sig")
    seen = {}
    monkeypatch.setattr("cwt_dask.run.plan_survey", lambda _, **given: seen.update(given))
    monkeypatch.setattr("cwt_dask.products.summary.describe_plan", lambda _: "")
    call("plan", "any.fits", "--config", tmp_path / "a.toml", "--config", tmp_path / "b.toml", "--max-iter", 3)
    cluster = {"kind": "slurm", "minimum": 1, "options": {"a": 1, "b": 3}}
    assert seen == {"n_scale": 3, "min_scale": 2.0, "max_iter": 3, "cluster": cluster}


def test_an_hdu_may_be_a_number_in_a_configuration_file(call, survey, tmp_path):
    (tmp_path / "config.toml").write_text("counts_hdu = 1\nbackground_hdu = 2\n")
    assert call("plan", survey, "--config", tmp_path / "config.toml", *KERNELS).status == 0


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


# --- an existing run --------------------------------------------------------------------------------------------------


def test_the_same_command_again_does_nothing_and_says_so(call, finished, run_dir):
    before = tree(run_dir)
    said = call("run", finished[0], run_dir, *KERNELS, *HERE, *TILES)
    assert said.status == 0
    assert f"{run_dir}: all 6 tiles were done; checked, nothing to do" in said.out
    assert tree(run_dir) == before


def test_overwrite_starts_anew(call, survey, run_dir):
    said = call("run", survey, run_dir, "--overwrite", *KERNELS, *HERE, "--tile-size", 50)
    assert said.status == 0
    assert certificate_of(run_dir)["n_tiles"] == 6
    assert sorted(path.name for path in run_dir.parent.iterdir()) == ["run"]


HOSTILE = "x\x1b]0;y\x07\x9b2J\u202e"


def test_nothing_of_others_steers_the_terminal(call, run_dir, tmp_path):
    """Names of directories, files, options and hosts, failures, and what the certificate has to say."""
    run = run_dir.rename(tmp_path / f"run{HOSTILE}")
    driver = sealed({"pid": 1, "host": HOSTILE, "user": HOSTILE, "since": HOSTILE}, "seal")
    (run / "driver.json").write_text(json.dumps(driver))
    record_failure(RunDir(run), 2, HOSTILE, ValueError(HOSTILE))
    certificate = sealed(certificate_of(run) | {"warnings": [HOSTILE], "tiling_exact": False})
    (run / "certificate.json").write_text(json.dumps(certificate))
    (tmp_path / "keys.toml").write_text(
        f'"{HOSTILE.encode("unicode_escape").decode().replace(chr(92) + "x", chr(92) + "u00")}" = 1'
    )
    (tmp_path / f"{HOSTILE}.fits").write_text("no FITS")
    said = [
        call("status", run),
        call("verify", run),
        call("run", "absent", run, "--config", tmp_path / "keys.toml"),
        call("run", tmp_path / f"{HOSTILE}.fits", "out", *KERNELS),
        call("match", run, tmp_path / f"{HOSTILE}.fits"),
        call(HOSTILE),
        call("run", "--config", tmp_path / HOSTILE, run, run),
    ]
    printed = [each.out + each.err for each in said]
    assert ["x\\x1b" in text for text in printed] == [True] * 7
    assert not {*"\x1b\x07\x9b\u202e"} & {*"".join(printed)}


def test_an_overwrite_that_fails_leaves_the_old_run(call, run_dir, tmp_path):
    before = tree(tmp_path)
    said = call("run", tmp_path / "absent.fits", run_dir, "--overwrite", *KERNELS, *HERE)
    assert said.status == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("name", "overwrite"), [("thesis", ()), ("thesis/chapter.tex", ("--overwrite",))])
def test_what_is_no_run_is_never_overwritten(call, survey, tmp_path, name, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("years of work")
    before = tree(tmp_path)
    said = call("run", survey, tmp_path / name, *KERNELS, *HERE, *overwrite)
    assert said.status == 2
    assert said.err.startswith(f"cwt-dask: {tmp_path / name} is not a run directory: ")
    assert tree(tmp_path) == before


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
    assert said.out.endswith(
        f"0 of 1 tiles done\nnot finished: no certificate and no report yet; {RESUME}\n"
        "left to do: 1 tile (to at most 3 iterations), then sources, catalogue, certificate and report\n"
    )
    assert call("verify", tmp_path / "run").status == 2
    assert call("run", survey, tmp_path / "run", *KERNELS, *HERE).status == 0


def test_what_a_run_that_died_has_left_to_do_is_said(call, survey, tmp_path):
    run_dir = tmp_path / "run"
    options = {"n_scale": 1, "min_scale": 1.2, "max_iter": 2, "tile_size": 75, "workers": 0, "fits": "no"}
    rest = "catalogue, certificate and report"
    for stage, left in (
        ("tiles", f"3 tiles (to at most 2 iterations), then sources, {rest}"),
        ("candidates", f"sources of 4 of 4 tiles, then {rest}"),
        ("sources, margin", f"sources of 3 of 4 tiles, then {rest}"),
        ("comparing sources", f"neighbours' sources to compare, {rest}"),
    ):
        with pytest.raises(InterruptedRunError, match=stage):
            run_survey(survey, run_dir, progress=DiesAt(stage, 0), **options)
        assert call("status", run_dir).out.splitlines()[-1] == f"left to do: {left}"
    shutil.rmtree(run_dir / "islands")
    assert call("status", run_dir).out.splitlines()[-1] == f"left to do: sources of 4 of 4 tiles, then {rest}"


def test_a_broken_promise_ends_with_1(call, survey, tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.merge.certificate.TOLERANCE", -1.0)
    said = call("run", survey, tmp_path / "run", *KERNELS, *HERE, *TILES)
    assert said.status == 1
    assert said.err == f"cwt-dask: a promise is broken: see {tmp_path / 'run' / 'certificate.json'}\n"
    assert "NOT shown to equal the whole map" in said.out


def test_a_margin_that_promises_nothing_is_warned_about_and_breaks_no_promise(call, survey, tmp_path):
    said = call("run", survey, tmp_path / "run", *KERNELS, *HERE, *TILES, "--margin", 0)
    assert said.status == 0
    assert re.search("^warning: the margin of 0 pixels is below .*: no bound exists", said.out, re.MULTILINE)
    certificate = certificate_of(tmp_path / "run")
    assert certificate["margin"] == certificate["margin_effective"] == 0
    assert (certificate["tiling_exact"], certificate["seam_model_error"]) == (False, None)


# --- verify -----------------------------------------------------------------------------------------------------------


def edit(path, *, seal=False, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(sealed(content) if seal else content))


# Damage to a finished run, and what is then said to be broken.
# fmt: off
DAMAGES = [
    (lambda run: flip(run / "maps.zarr/model/c/1/1"),
     ["maps .* are as the tiles wrote them: other pixels in tile 4 .*model/c/1/1 is damaged.$"]),
    (lambda run: (run / "maps.zarr/trust/c/0/2").unlink(),
     ["maps and seams are as the tiles wrote them: .* tile 2 .*trust/c/0/2 is lost.$"]),
    (lambda run: (run / "maps.zarr/approx/c/0/0").write_bytes(b"abc"), ["maps and seams are as .* tile 0"]),
    (lambda run: shutil.rmtree(run / "maps.zarr/support"),
     ["maps and seams are as .* tile 0 .*support/c/0/0/0 is lost.; .* tile 5 "]),
    (lambda run: (run / "ledger/tile-0000001.json").write_text("{"),
     ["the ledger is as the run wrote it: .*tile-0000001.json is not a ledger record"]),
    (lambda run: (run / "ledger/tile-0000001.json").unlink(), ["every tile is done: no record of tile 1$"]),
    (lambda run: edit(run / "ledger/tile-0000003.json", settings_digest="0"),
     ["the ledger is as the run wrote it: .*tile-0000003.json is not a"]),
    (lambda run: edit(run / "ledger/tile-0000003.json", seal=True, settings_digest="0"),
     ["every tile was done under the run's settings: other settings in tile 3"]),
    (lambda run: (run / "seams.zarr/own_model/c/1/0/0").unlink(), ["the tiles did no harm: tiling_exact is false"]),
    (lambda run: (run / "seams.zarr/own_model/c/1/0/0").write_bytes(b"abc"), ["seams .* unreadable files of tiles"]),
    (lambda run: edit(run / "certificate.json", coverage=0.5, digest_maps="0", tiling_exact=False),
     ["the certificate .* coverage is 1.0, not 0.5", "digest_maps is .*, not 0", "tiling_exact is True, not False"]),
    (lambda run: (run / "certificate.json").write_text("{}"), ["the certificate .* n_tiles is 6, not None"]),
]
# fmt: on


@pytest.mark.parametrize(("damage", "broken"), DAMAGES)
def test_verify_finds_what_was_damaged(call, run_dir, damage, broken):
    damage(run_dir)
    before = tree(run_dir)
    said = call("verify", run_dir)
    assert said.status == 1
    for fragment in broken:
        assert re.search(f"^BROKEN  .*{fragment}", said.out, re.MULTILINE)
    assert tree(run_dir) == before


@pytest.mark.parametrize(
    "change", [lambda counts: flip(counts / "c/0/0"), lambda counts: (counts / "c/0/0").unlink()], ids=["flip", "lose"]
)
def test_verify_finds_that_the_survey_was_changed(call, finished, run_dir, tmp_path, change):
    store = Path(shutil.copytree(finished[0], tmp_path / "store.zarr"))
    change_run(run_dir / "run.toml", str(finished[0]), str(store))
    assert call("verify", run_dir).status == 0
    change(store / "counts")
    said = call("verify", run_dir)
    assert said.status == 1
    assert "BROKEN  the survey is as the tiles read it: other pixels in the window of tiles 0, 1, 2" in said.out


def test_verify_names_a_certificate_that_is_no_json(call, run_dir):
    (run_dir / "certificate.json").write_text("{")
    said = call("verify", run_dir)
    assert said.status == 1
    assert said.err.startswith(f"cwt-dask: {run_dir / 'certificate.json'} is damaged")
    assert "delete it" in said.err


def test_damaged_tiles_are_done_again(call, finished, run_dir):
    flip(run_dir / "maps.zarr/model/c/1/1")
    (run_dir / "maps.zarr/model/c/0/1").write_bytes(b"abc")
    (run_dir / "maps.zarr/model/c/0/2").unlink()
    said = call("run", finished[0], run_dir, *KERNELS, *HERE, *TILES)
    assert said.status == 0
    assert "tiles, 3 iterations: 3 of 3" in said.out
    assert f"\ntile 4 is computed again: {run_dir}/maps.zarr/model/c/1/1 is damaged\n" in said.out
    assert f"\ntile 2 is computed again: {run_dir}/maps.zarr/model/c/0/2 is lost\n" in said.out
    assert call("verify", run_dir).status == 0
    assert certificate_of(run_dir)["digest_maps"] == certificate_of(finished[1])["digest_maps"]


# --- NaN --------------------------------------------------------------------------------------------------------------


def test_nan_pixels_are_masked_and_counted_and_none_comes_out(call, tmp_path):
    counts, background = poisson_sky((90, 130), seed=3)
    counts = counts.astype(float)
    counts[10:20, 30:50] = np.nan
    background[50, 60:65] = np.nan
    counts[50, 60] = np.nan
    mask = np.ones(counts.shape, dtype=bool)
    mask[:, 100:104] = False
    survey = write_survey(tmp_path / "survey.fits", counts, background, mask)
    said = call("run", survey, tmp_path / "run", *KERNELS, *TILES, "--workers", 0)
    assert said.status == 0
    masked = ~mask | np.isnan(counts) | np.isnan(background)
    assert certificate_of(tmp_path / "run")["masked_pixels"] == masked.sum() == 205 + 90 * 4
    maps = zarr.open_group(tmp_path / "run" / "maps.zarr", mode="r")
    for name in map_names(maps):
        array = maps[name][:]
        assert np.isfinite(array).all(), name
        assert (array[..., masked] == (-1 if name == "best_scale" else 0)).all(), name
    np.testing.assert_array_equal(maps["mask"][:] == 0, masked)
    with fits.open(tmp_path / "run" / "maps.fits") as hdus:
        for hdu in hdus[1:]:
            assert np.isfinite(hdu.data).all(), hdu.name
    for name in ("ra", "counts", "background", "excess_errn", "significance"):
        assert np.isfinite(Table.read(tmp_path / "run" / "catalogue.ecsv")[name]).all()


# --- wrong calls; others are in tests/test_bad_input.py ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((), "no command is given: cwt-dask --help lists them"),
        (("find",), "No such command 'find'"),
        (("run", "survey.fits"), r"an argument is missing: give SURVEY|EVENTS..., then RUN_DIR"),
        (("simulate", "survey.fits"), "give one of --shape NY NX, for a flat map, and --nside N"),
        (("plan", "survey.fits", "--stopping", "never"), "Invalid value for '--stopping'"),
    ],
)
def test_wrong_calls_are_refused(call, arguments, fragment):
    said = call(*arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("cwt-dask: ")
    assert said.err.count("\n") == 1
    assert fragment in said.err


@pytest.mark.parametrize(("option", "heard"), [("--log-format=json", ["noise"]), ("--quiet", [])])
def test_what_libraries_write_is_in_the_log_of_programs_and_nowhere_in_a_quiet_run(call, monkeypatch, option, heard):
    def run(*_, **__):
        os.write(2, b"noise\n")
        raise InputError("the survey is wrong")

    monkeypatch.setattr("cwt_dask.run.run_survey", run)
    said = call("run", "survey.fits", "run", option)
    assert (said.status, said.err) == (2, "cwt-dask: the survey is wrong\n")
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [(event["event"], event["text"]) for event in events] == [("log", text) for text in heard]
