import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table
from skies import EXPOSURE, poisson_sky, write_survey
from spheres import small_run
from work import flip

from cwt_dask import SurveyRun, run_survey
from cwt_dask.errors import InputError, InterruptedRun, RunError
from cwt_dask.inspection.measure import measure
from cwt_dask.inspection.measured import joined, keep_measured
from cwt_dask.inspection.verify import verify_run
from cwt_dask.report import report_is_current, write_report
from cwt_dask.reprocess import reprocess
from cwt_dask.tiles.given import measure_given

OPTIONS = {"psf": 1.3, "n_scale": 2, "max_iter": 2, "workers": 0, "fits": "no"}
SHAPE = 120, 160
# Columns that a fit at the place of a catalogue's row has as the catalogue has them.
SAME = ("npred", "flux", "sqrt_ts", "exposure", "glon", "glat")


def measured(runs, positions, **options):
    """What is measured in this process."""
    return measure(runs, positions, workers=0, **options)


def faults(run):
    return [check.fault for check in verify_run(SurveyRun.open(run.files.path)) if check.broken]


def run_on(folder, name="run", *, mask=None, ring=False, **options):
    survey = write_survey(
        folder / f"{name}.fits", *poisson_sky(SHAPE, seed=3, n_sources=25), mask, exposure=EXPOSURE, ring=ring
    )
    return run_survey(survey, folder / name, **OPTIONS | options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six tiles on a survey with a hole; to be copied, not changed."""
    mask = np.ones(SHAPE, bool)
    mask[40:60, 60:90] = False
    return run_on(tmp_path_factory.mktemp("measure"), mask=mask, tile_size=60)


@pytest.fixture
def run(finished, tmp_path):
    return SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))


def assert_as_catalogue(run, rows, columns=SAME):
    catalogue = run.catalogue
    assert len(rows) == len(catalogue) > 0
    for name in columns:
        np.testing.assert_allclose(rows[name], catalogue[name], rtol=1e-5, atol=1e-5)
    # Its place has no error any more.
    assert (rows["npred_ul"] <= catalogue["npred_ul"] * (1 + 1e-6)).all()
    assert (rows["npred_ul"] > 0.9 * catalogue["npred_ul"]).all()


def assert_alike(rows, others):
    assert len(rows) == len(others) >= 4
    for name in ("npred", "npred_ul", "npred_errp", "sqrt_ts", "sigma", "counts"):
        np.testing.assert_allclose(rows[name], others[name], rtol=1e-4, atol=1e-4)


def test_at_its_place_a_source_is_what_the_catalogue_says(finished):
    rows = measured(finished, finished.files.catalogue)
    assert_as_catalogue(finished, rows)
    assert rows["name"].tolist() == finished.catalogue["name"].tolist()
    assert rows["source_id"].tolist() == finished.catalogue["source_id"].tolist()
    for name in ("pos_err", "expected_false", "island_id"):
        assert name not in rows.colnames


def test_a_ring_has_no_edge(tmp_path):
    ring = run_on(tmp_path, ring=True, tile_size=60)
    assert ring.stored.plan.grid.ring
    assert_as_catalogue(ring, measured(ring.files.path, ring.files.catalogue))
    # At the edge that is none, in tiles on both sides of it.
    edge = ring.wcs.pixel_to_world([-0.4, 0.3, 158.9, 80], [50, 20, 80, 60])
    alone = run_on(tmp_path, "alone", ring=True, tile_size=160)
    assert_alike(measured(ring, edge), measured(alone, edge))


def test_facets_are_measured_like_flat_maps(tmp_path):
    whole = small_run(tmp_path)
    rows = measured(whole, whole.files.catalogue)
    # The exposure is that of the pixel, which need not be the peak's.
    assert_as_catalogue(whole, rows, ("npred", "sqrt_ts", "glon", "glat"))
    assert rows["facet"].tolist() == whole.catalogue["facet"].tolist()
    # Fits on the sphere were others then.
    before = replace(whole.stored, plan=replace(whole.stored.plan, algorithm_version=7))
    with mock.patch.object(whole, "stored", before), pytest.raises(InputError, match="kept no such fits"):
        measured(whole, whole.files.catalogue)


def test_tiles_do_not_matter(tmp_path, finished):
    rng = np.random.default_rng(4)
    x, y = (rng.uniform(5, length - 6, 12) for length in SHAPE[::-1])
    sky = finished.wcs.pixel_to_world(x, y)
    whole = run_survey(finished.files.path.with_name("run.fits"), tmp_path / "whole", **OPTIONS)
    tiled, one = measured(finished, sky), measured(whole, sky)
    assert whole.stored.plan.grid.n_tiles == 1
    assert_alike(tiled, one)


def test_what_a_survey_does_not_see_is_left_out(finished):
    x, y = [20, 75, 20, 60], [20, 50, -30, 50]
    positions = Table({"position": finished.wcs.pixel_to_world(x, y), "name": ["a", "hole", "outside", "rim"]})
    rows = measured(finished, positions)
    assert rows["name"].tolist() == ["a", "rim"]
    assert rows["source_id"].tolist() == [1, 4]
    assert rows.meta["OUTSIDE"] == {"run": 2}
    assert (rows["flags"] & 2).tolist() == [0, 2]


def test_an_extension_is_that_of_the_fit(finished):
    sky = finished.wcs.pixel_to_world([100], [30])
    rows = measured(finished, Table({"position": [*sky, *sky], "size": [np.nan, 12.0] * u.arcmin}), extension="size")
    assert rows["extension"].tolist() == [0, 0.2]
    assert rows["npred_ul"][1] > rows["npred_ul"][0]
    assert rows["radius"][1] > rows["radius"][0]


def test_a_run_elsewhere_and_one_without_a_time_go_with_the_others(finished, tmp_path):
    counts, background = poisson_sky((60, 80), seed=5)
    far, timed = {"CRVAL1": 100.0}, {"MJD-OBS": 5e4}
    runs = [finished]
    for name, cards in (("far", far), ("timed", timed)):
        survey = write_survey(tmp_path / f"{name}.fits", counts, background, exposure=EXPOSURE, **cards)
        runs.append(run_survey(survey, tmp_path / name, **OPTIONS))
    rows = measured(runs, finished.wcs.pixel_to_world([80, 20], [60, 20]))
    assert rows["run"].tolist() == ["run", "timed", "run"]
    np.testing.assert_array_equal(rows["mjd"], [np.nan, 5e4, np.nan])
    assert rows.meta["OUTSIDE"] == {"run": 0, "far": 2, "timed": 1}


def test_a_flare_shows_in_one_version_of_three(tmp_path):
    counts, background = poisson_sky((60, 80), seed=5, n_sources=3)
    y, x = np.mgrid[:60, :80]
    share = np.exp(-((y - 30) ** 2 + (x - 50) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    flares = [0, 200, 30]
    runs = []
    for k, flare in enumerate(flares):
        rng = np.random.default_rng(k)
        survey = write_survey(
            tmp_path / f"{k}.fits",
            counts + rng.poisson(flare * share),
            background,
            exposure=EXPOSURE,
            **{"MJD-OBS": 5e4 + k},
        )
        if runs:
            runs.append(reprocess(survey, runs[-1].files.path, tmp_path / f"v{k}", workers=0))
        else:
            runs.append(run_survey(survey, tmp_path / f"v{k}", **OPTIONS))
    sky = runs[0].wcs.pixel_to_world([50, 20], [30, 40])
    rows = measured(runs, Table({"position": sky, "name": ["flare", "steady"]}))
    assert rows["run"].tolist() == ["v0", "v1", "v2"] * 2
    assert rows["mjd"].tolist() == [5e4, 50001, 50002] * 2
    flare, steady = rows[:3], rows[3:]
    quiet = flare["npred"][0]
    for row, true in zip(flare, flares, strict=True):
        assert row["npred"] - 3 * row["npred_errn"] <= true + quiet <= row["npred"] + 3 * row["npred_errp"]
        assert row["flux"] == pytest.approx(row["npred"] / EXPOSURE)
    assert np.ptp(steady["npred"]) < 1e-3
    assert flare["npred_ul"][0] < 60


def test_runs_that_cannot_be_measured_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="no run is given"):
        measured([], run.files.catalogue)
    survey = write_survey(tmp_path / "other.fits", *poisson_sky((60, 80), seed=3))
    other = run_survey(survey, tmp_path / "other", **OPTIONS)
    middle = other.wcs.pixel_to_world([40], [30])
    with pytest.raises(InputError, match=r"other has other columns or units than .*run \(exposure, flux"):
        measured([run, other], middle)
    plan = other.stored.plan
    before = replace(other.stored, plan=replace(plan, algorithm_version=6))
    with (
        mock.patch.object(other, "stored", before),
        pytest.raises(InputError, match="of a release that kept no such fits"),
    ):
        measured(other, middle)
    failed = pytest.raises(RunError, match=r"tile 0 of .*other cannot be measured \(MemoryError: no room\)")
    with mock.patch("cwt_dask.inspection.measure.measure_given", side_effect=MemoryError("no room")), failed:
        measured(other, middle)
    flip(next(other.files.islands.glob("*fit*")))
    with pytest.raises(RunError, match="damaged"):
        measured(other, middle)


def test_the_command_writes_a_table_that_the_certificate_covers(run, tmp_path, call):
    Table({"ra": run.catalogue["ra"][:2], "dec": run.catalogue["dec"][:2]}).write(tmp_path / "known.ecsv")
    write_report(run)
    said = call("measure", run.files.path, tmp_path / "known.ecsv", "--workers=0", "--plot", tmp_path / "curves.png")
    assert said.status == 0
    assert f"written        {run.files.measured}" in said.out
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert report_is_current(run)
    assert len(Table.read(run.files.measured)) == 2
    assert not [check for check in verify_run(run) if check.broken]
    flip(run.files.measured)
    assert [check.fault for check in verify_run(run) if check.broken]
    out = tmp_path / "other.ecsv"
    assert call("measure", run.files.path, tmp_path / "known.ecsv", "--workers=0", "--out", out, "--quiet").out == ""
    assert len(Table.read(out)) == 2


def test_what_is_damaged_is_not_certified_by_a_measurement(run):
    found = measured(run, run.files.catalogue)
    flip(run.files.candidates)
    keep_measured(run, found)
    assert faults(run) == [f"{run.files.candidates} differs"]
    flip(run.files.measured)
    assert faults(run) == [f"{run.files.candidates} differs; {run.files.measured} differs"]


@pytest.mark.parametrize("at", ["write_table", "cover"])
def test_one_that_is_killed_leaves_a_sound_run(run, monkeypatch, at):
    found = measured(run, run.files.catalogue)
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(f"cwt_dask.pipeline.merging.{at}", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                keep_measured(run, found[:1])
        assert faults(run) == []
        keep_measured(run, found)
        assert faults(run) == []
        assert run.files.measured.name in run.certificate["digest_products"]


def test_a_run_that_is_lost_to_another_process_is_not_changed(run, monkeypatch):
    @contextmanager
    def lose(_files, lost):
        lost()
        yield

    found = measured(run, run.files.catalogue)
    monkeypatch.setattr("cwt_dask.inspection.measured.backend_of", lambda _: SimpleNamespace(hold=lose))
    with pytest.raises(InterruptedRun, match=r"interrupted: .*measured\.ecsv was not written; give the same command"):
        keep_measured(run, found)
    assert not run.files.measured.exists()


def test_an_interruption_says_that_nothing_was_written(finished):
    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return measure_given(*arguments)

    stopped = pytest.raises(InterruptedRun, match="^interrupted: nothing was written; give the same command again$")
    with mock.patch("cwt_dask.inspection.measure.measure_given", interrupted), stopped:
        measured(finished, finished.files.catalogue)


def test_a_run_is_compared_with_the_first_that_sees_a_position():
    runs = [SimpleNamespace(files=SimpleNamespace(path=name)) for name in ("far", "first", "other")]
    tables = [Table({"npred": []}), Table({"npred": [1.0]}), Table({"flux": [1.0]})]
    with pytest.raises(InputError, match=r"^other has other columns or units than first \(flux, npred\)"):
        joined(runs, tables, None, {})


def test_a_catalogue_that_is_made_again_drops_what_was_measured(finished, tmp_path):
    run = SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))
    keep_measured(run, measured(run, run.files.catalogue))
    assert run.files.measured.exists()
    survey = finished.files.path.with_name("run.fits")
    run_survey(survey, run.files.path, tile_size=60, false_sources=5, **OPTIONS)
    assert not run.files.measured.exists()
