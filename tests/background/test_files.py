"""Backgrounds of files: by tiles and workers to the bit, what their header says, and who repeats it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from skies import poisson_sky, sky_header, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.background import Means, estimate_background, write_background
from cwt_dask.background.estimate import MOST_ROUNDS, estimate
from cwt_dask.background.files import write_estimate
from cwt_dask.background.layers import COUNTS, EXCLUDED, MASK, InMemory
from cwt_dask.background.passes import Passes
from cwt_dask.background.recipe import Recipe
from cwt_dask.cli.commands import main
from cwt_dask.config.execution import Execution
from cwt_dask.cwt.image import SkyImage
from cwt_dask.errors import InputError, InterruptedRun, MachineError, RunError, SettingsError, SurveyError
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.run import plan_survey
from cwt_dask.runtime.executors import InProcess, Outcome
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.workers import Workers
from cwt_dask.survey import Survey, SurveySource, ingest

SHAPE, SCALE = (60, 90), 5.0
KERNELS = {"n_scale": 1, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 2, "workers": 0}
SAID = "estimated background: smoothed at 5 pixels (0.5 deg)"


@pytest.fixture
def survey(tmp_path):
    """A survey of which the exposure has a slope, with a mask, and no background of its own."""
    counts, _ = poisson_sky(SHAPE, 8, n_sources=6, level=2.0)
    exposure = 1e11 * (1 + np.arange(SHAPE[1]) / 100)
    mask = np.ones(SHAPE)
    mask[:, :7] = 0
    path = write_survey(tmp_path / "survey.fits", counts, counts, mask, exposure=exposure)
    with fits.open(path, mode="update") as hdus:
        del hdus["BACKGROUND"]
    return path


def read(path):
    with fits.open(path) as hdus:
        return {hdu.name: hdu.data for hdu in hdus}, hdus["BACKGROUND"].header.copy()


def test_a_file_holds_what_an_array_gives(survey, tmp_path):
    found = write_background(survey, tmp_path / "b.fits", scale="0.5deg", workers=0)
    images, header = read(tmp_path / "b.fits")
    planes = {name: fits.getdata(survey, name) for name in ("COUNTS", "EXPOSURE", "MASK")}
    whole = estimate_background(
        SkyImage(planes["COUNTS"]), scale=SCALE, acceptance=planes["EXPOSURE"], mask=planes["MASK"]
    )
    np.testing.assert_array_equal(images["BACKGROUND"], whole.background)
    np.testing.assert_array_equal(images["EXCLUDED"], whole.excluded)
    assert 0 < images["EXCLUDED"].mean() < 0.5
    assert found.describe(0.1).startswith(SAID)
    assert header["BKGNOTE"] == found.describe(0.1)
    assert (header["BKGSCALE"], header["BKGSCDEG"], header["BKGACC"]) == (5, 0.5, "EXPOSURE of survey.fits")
    assert (header["BKGROUND"], header["BKGENDED"], header["BKGERR"]) == (found.rounds, True, found.error)
    here, there = (WCS(cards).all_pix2world([[0, 0], [50, 80]], 0) for cards in (header, sky_header(SHAPE)))
    np.testing.assert_array_equal(here, there)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("tile_size", "workers", "ring"), [(31, 0, False), (31, 2, False), (31, 0, True)])
def test_no_bit_depends_on_tiles_or_workers(tmp_path, request, tile_size, workers, ring):
    counts, _ = poisson_sky(SHAPE, 3, n_sources=5, level=1.0)
    path = write_survey(tmp_path / "survey.fits", counts, counts, ring=ring)
    whole = estimate_background(counts, scale=SCALE, wrap=ring)
    source = SurveySource.of(path, background="estimate", background_scale=SCALE)
    workers = Workers(request.getfixturevalue("client") if workers else None, Execution(workers=0))
    means = replace(Means.of(Execution(workers=0)), workers=workers, near=tmp_path, tile_size=tile_size)
    (tmp_path / "scratch").mkdir()
    found = write_estimate(source, "scale", tmp_path / "scratch", tmp_path / "b.fits", means)
    images, _ = read(tmp_path / "b.fits")
    np.testing.assert_array_equal(images["BACKGROUND"], whole.background)
    np.testing.assert_array_equal(images["EXCLUDED"], whole.excluded)
    assert (found.error, found.rounds, found.least) == (
        whole.estimate.error,
        whole.estimate.rounds,
        whole.estimate.least,
    )


@pytest.mark.usefixtures("reported")
def test_all_that_follows_says_that_it_was_estimated(survey, tmp_path, capsys):
    write_background(survey, tmp_path / "b.fits", scale=SCALE, workers=0)
    runs = {
        "given": run_survey(survey, tmp_path / "given", background=tmp_path / "b.fits", **KERNELS),
        "made": run_survey(survey, tmp_path / "made", background="estimate", background_scale="0.5deg", **KERNELS),
    }
    digests = set()
    for name, run in runs.items():
        assert run.certificate["background"].startswith(SAID)
        assert run.stored.plan.background == run.survey.statistics.background == run.certificate["background"]
        assert SAID in (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert Table.read(tmp_path / name / "catalogue.ecsv").meta["BKG"].startswith(SAID)
        assert fits.getheader(tmp_path / name / "catalogue.fits", 1)["BKG"].startswith(SAID)
        digests.add(run.certificate["digest_maps"])
    assert len(digests) == 1
    words = ["--background=estimate", "--background-scale=0.5deg"]
    settings = ["--n-scale=1", "--min-scale=1.2", "--step-scale=1.5", "--max-iter=2", "--workers=0"]
    assert main(["run", str(survey), str(tmp_path / "made"), *words, *settings]) == 0
    assert "all 1 tiles were done" in (printed := capsys.readouterr().out)
    assert SAID in printed
    assert main(["plan", str(survey), *words, *settings]) == 0
    assert f"background     {SAID}" in capsys.readouterr().out
    assert main(["ingest", str(survey), str(tmp_path / "s.zarr"), *words]) == 0
    assert SAID in capsys.readouterr().out
    assert Survey.open(tmp_path / "s.zarr").statistics.background.startswith(SAID)


def test_a_background_of_ones_own_is_not_called_estimated(tmp_path):
    path = write_survey(tmp_path / "survey.fits", *poisson_sky(SHAPE, 8))
    run = run_survey(path, tmp_path / "run", no_report=True, **KERNELS)
    assert "background" not in run.certificate
    assert run.stored.plan.background == ""
    assert "BKG" not in run.catalogue.meta


def test_a_damaged_store_is_read_again_with_its_estimate(survey, tmp_path):
    options = {"background": "estimate", "background_scale": 5, "no_report": True, **KERNELS}
    run = run_survey(survey, tmp_path / "run", **options)
    (tmp_path / "run" / "survey.zarr" / "background" / "c" / "0" / "0").unlink()
    run_survey(survey, tmp_path / "run", **options)
    assert SurveyRun.open(tmp_path / "run").survey.is_that_of(run.stored.plan.survey_digest, "")


def test_the_command_reports_as_it_is_asked_to(survey, tmp_path, capsys):
    def call(name, *words):
        assert main(["background", str(survey), str(tmp_path / name), "--scale=5", "--workers=0", *words]) == 0
        return capsys.readouterr().out

    assert "a.fits: estimated background: smoothed at 5 pixels" in call("a.fits")
    assert call("b.fits", "--quiet") == ""
    *_, last = call("c.fits", "--log-format=json").splitlines()
    assert json.loads(last)["event"] == "summary"
    assert json.loads(last)["ended"] is True


def test_few_counts_and_structure_are_warned_of_downstream(tmp_path):
    rng = np.random.default_rng(1)
    expected = np.full(SHAPE, 0.05)
    expected[20:24] = 60.0
    path = write_survey(tmp_path / "survey.fits", rng.poisson(expected), expected)
    plan = plan_survey(path, background="estimate", background_scale=5, **KERNELS)
    assert any(text.startswith("few counts: within two scales of ") for text in plan.warnings)
    assert any("of the pixels are excluded from the estimated background" in text for text in plan.warnings)


def test_bands_may_be_chosen_by_energy(call, real_data, tmp_path):
    survey, chosen = real_data / "fermi_3fhl_crab_mapdataset.fits", "--emin=30GeV"
    assert call("background", survey, tmp_path / "out.fits", "--scale=1deg", "--workers=0", chosen).status == 0
    assert fits.getheader(tmp_path / "out.fits")["BKGBANDS"] == "2 to 4 of 5"
    given = f"--background={tmp_path / 'out.fits'}"
    assert call("plan", survey, given, chosen).status == 0
    assert "was estimated from bands 2 to 4 of 5 of counts" in call("plan", survey, given, "--emin=10GeV").err


def test_an_estimate_of_some_bands_is_that_of_no_others(survey, tmp_path):
    with fits.open(survey, mode="update") as hdus:
        counts = hdus["COUNTS"].data
        hdus["COUNTS"].data = np.stack([counts, counts // 2, counts // 3])
    out = tmp_path / "b.fits"
    write_background(survey, out, scale=5, band="sum", workers=0)
    assert fits.getheader(out)["BKGBANDS"] == "0 to 2 of 3"
    words = {"band": "sum", **KERNELS}
    given = plan_survey(survey, background=out, **words)
    made = plan_survey(survey, background="estimate", background_scale=5, **words)
    assert given.survey_digest == made.survey_digest
    assert [origin["file"] for origin in made.origins if origin["plane"] == "background"] == [
        "an estimate from the counts"
    ]
    with pytest.raises(SurveyError, match="was estimated from bands 0 to 2 of 3 of counts, and 1 of 3 are taken"):
        plan_survey(survey, background=out, **words | {"band": 1})


# --- what goes wrong --------------------------------------------------------------------------------------------------


def passes(counts):
    layers = InMemory({COUNTS: counts, MASK: np.ones(SHAPE, bool), EXCLUDED: np.zeros(SHAPE, bool)})
    return Passes(layers, TileGrid.plan(SHAPE, (20, 30), 0, 0, lambda length: length), Recipe(SCALE))


class Failing(InProcess):
    """Fails at a tile, so many times."""

    def __init__(self, error, times):
        super().__init__()
        self.error, self.times = error, times

    def map(self, function, items):
        for outcome in super().map(function, items):
            self.times -= outcome.item == 4
            yield outcome if outcome.item != 4 or self.times < 0 else Outcome(4, None, self.error)


def test_errors_of_machines_are_tried_again_and_others_end_it():
    counts, _ = poisson_sky(SHAPE, 8)
    sound = estimate(passes(counts), "flat", InProcess(), Reporter())
    assert estimate(passes(counts), "flat", Failing(OSError("no"), 2), Reporter()) == sound
    with pytest.raises(RunError, match="round 1: tile 4 failed: MachineError: gone"):
        estimate(passes(counts), "flat", Failing(MachineError("gone"), 9), Reporter())
    with pytest.raises(RunError, match="round 1: tile 4 failed: ValueError: bad"):
        estimate(passes(counts), "flat", Failing(ValueError("bad"), 1), Reporter())


def test_a_stop_leaves_nothing(survey, tmp_path):
    class Stopping(Reporter):
        def message(self, text):
            if "round 1" in text:
                Stop.ask(stops[0])

    stops = []
    original = Stop.__init__
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stop, "__init__", lambda self, *rest: (stops.append(self), original(self, *rest))[1])
        with pytest.raises(InterruptedRun, match="b.fits was not written; give the same command again"):
            write_background(survey, tmp_path / "b.fits", scale=5, workers=0, progress=Stopping())
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_it_ends_after_a_number_of_rounds_and_says_so(monkeypatch):
    monkeypatch.setattr("cwt_dask.background.estimate.MOST_ROUNDS", 1)
    counts, _ = poisson_sky(SHAPE, 8, n_sources=6)
    found = estimate(passes(counts), "flat", InProcess(), Reporter())
    assert (found.rounds, found.ended, MOST_ROUNDS) == (1, False, 20)
    assert "1 round, not ended" in found.describe()
    assert found.warnings[0].startswith("sources of the estimated background still grew in round 1, the last")


def test_arrays_that_cannot_be_used_are_refused():
    counts = np.ones(SHAPE)
    for keywords, message in (
        ({"scale": "2deg"}, "scale is 2.0deg: an array has no size on the sky, give pixels"),
        ({"scale": 5, "acceptance": np.ones(3)}, "acceptance is an array of float64 of shape"),
        ({"scale": 5, "acceptance": np.ones((3, 3))}, "give images of one shape"),
        ({"scale": 5, "mask": np.ones((3, 3))}, "give images of one shape"),
        ({"scale": 5, "acceptance": np.full(SHAPE, -1.0)}, "acceptance is negative at 5400 pixels"),
        ({"scale": 5, "acceptance": np.zeros(SHAPE)}, "no pixel that is used has acceptance"),
        ({"scale": 5, "mask": np.zeros(SHAPE)}, "no pixel is used: all are masked, or NaN in counts"),
    ):
        with pytest.raises(InputError, match=message):
            estimate_background(counts, **keywords)


def test_calls_that_cannot_be_are_refused(survey, tmp_path):
    with pytest.raises(SettingsError, match="background is given, and the background is what is estimated"):
        write_background(survey, tmp_path / "b.fits", scale=5, background="x.fits")
    with pytest.raises(SettingsError, match="windows that reach four scales farther than tiles need"):
        write_background(survey, tmp_path / "b.fits", scale=5, memory_limit=1000)
    with pytest.raises(SurveyError, match="the background is to be estimated: make it first"):
        ingest(SurveySource.of(survey, background="estimate", background_scale=5), tmp_path / "s.zarr")
    assert not (tmp_path / "b.fits").exists()
