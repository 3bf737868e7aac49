"""What simulations of a run say of its catalogue."""

import json

import numpy as np
import pytest
from reporters import Messages
from skies import write_survey
from spheres import table, write

from cwt_dask import SurveyRun, run_survey
from cwt_dask import assess as package
from cwt_dask.assess import assess, skies, trial
from cwt_dask.assess.trial import carry_out
from cwt_dask.errors import InputError, RunError
from cwt_dask.inspection.verify import verify_run
from cwt_dask.measure.false_rows import FalseRows
from cwt_dask.pipeline.merging import write_certificate
from cwt_dask.report import write_report

SHAPE = (60, 120)
SETTINGS = {"psf": 1.3, "n_scale": 2, "min_scale": 1.3, "max_iter": 2, "false_sources": 0.5}
WORK = {"workers": 0, "fits": "no", "no_report": True}


def flat_run(folder, **settings):
    """A run in two tiles on noise and a few sources; the last columns are masked."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    background = 0.4 * (1 + y / SHAPE[0])
    expected = background.copy()
    for y0, x0 in ((20.3, 31.2), (40.6, 90.0)):
        expected += 150 * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    mask = np.ones(SHAPE, np.uint8)
    mask[:, 110:] = 0
    exposure = np.full(SHAPE, 2.0**35)
    survey = write_survey(folder / "survey.fits", rng.poisson(expected), background, mask, exposure=exposure)
    return run_survey(survey, folder / "run", **{"tile_size": 60} | SETTINGS | settings, **WORK)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return flat_run(tmp_path_factory.mktemp("flat"))


def rows(table, quantity, **values):
    chosen = np.asarray(table["quantity"] == quantity)
    for name, value in values.items():
        chosen &= np.asarray(table[name] == value)
    return table[chosen]


def test_a_run_is_assessed_and_goes_on_where_it_stopped(finished, monkeypatch):
    files = finished.files
    done = []
    monkeypatch.setattr(package, "carry_out", lambda *args: done.append(args[1]) or carry_out(*args))

    real, left = trial.judge, [2]

    def failing(*args):
        left[0] -= 1
        if left[0] == 0:
            raise ValueError("no luck")
        return real(*args)

    monkeypatch.setattr(trial, "judge", failing)
    with pytest.raises(RunError, match=r"1 of 4 fields could not be simulated; field 1 of null sky 0: ValueError"):
        assess(files.path, nulls=1, injections=1, **WORK)
    assert not files.assessment.exists()
    said = Messages()
    first = assess(files.path, nulls=1, injections=1, progress=said, **WORK)
    assert "3 of 4 fields are done" in said.text
    assert len(done) == 4 + 1
    # All is there: nothing is done, and nothing changes.
    again = assess(files.path, nulls=1, injections=1, **WORK)
    assert len(done) == 4 + 1
    assert first.pformat() == again.pformat()
    more = assess(files.path, nulls=2, injections=1, **WORK)
    assert len(done) == 4 + 1 + 2
    assert rows(more, "completeness").pformat() == rows(first, "completeness").pformat()
    # Those that are lost are made again, on workers to the same bits.
    for kind in ("null", "injected"):
        files.assessed_field(kind, 0, 1).unlink()
    assert assess(files.path, nulls=1, injections=1, **WORK | {"workers": 2}).pformat() == first.pformat()

    summary = SurveyRun.open(files.path).certificate["assessment"]
    assert summary["nulls"] == summary["inject"] == 1
    assert [row["asked"] for row in summary["false_rows"]] == [0.5]
    # Fields that count are the survey, once.
    assert summary["false_rows"][0]["expected"] == pytest.approx(0.5, rel=0.02)
    assert not [check for check in verify_run(finished) if check.fault]
    # It covers the catalogue, and goes with it.
    assert files.assessment.name in json.loads(files.certificate.read_text())["digest_products"]


def test_a_null_field_is_the_run_of_its_noise(tmp_path):
    # A map of one tile is one field: the same as a run on noise that is drawn with the same numbers.
    run = flat_run(tmp_path, tile_size=120)
    assess(run.files.path, nulls=1, injections=0, seed=7, **WORK)
    found = np.load(run.files.assessed_field("null", 0, 0))
    counts = np.random.default_rng([7, 0, 0, 0, 2]).poisson(np.where(run.survey.mask, run.survey.background, 0))
    mask = np.asarray(run.survey.mask)
    survey = write_survey(tmp_path / "noise.fits", counts, np.asarray(run.survey.background), mask)
    settings = SETTINGS | {"stopping": "fixed", "max_iter": run.certificate["n_iter"], "tile_size": 120}
    alone = run_survey(survey, tmp_path / "alone", **settings, **WORK)
    scores = np.concatenate([alone.catalogue["score"], alone.candidates["score"]])
    assert len(scores) > 5
    np.testing.assert_array_equal(np.sort(found["row_score"]), np.sort(scores))
    assert found["n_used"] == mask.sum()


def test_injected_sources_are_found_as_they_were_put_there(finished):
    found = assess(finished.files.path, nulls=0, injections=6, seed=3, **WORK)
    bright = rows(found, "completeness", of="counts", region="all")
    bright = bright[bright["low"] > 50]
    assert bright["n"].sum() > 3
    assert np.all(bright["value"] == 1)
    ratio = rows(found, "counts over true, point sources", low=0)
    assert abs(ratio["value"][0] - 1) < 4 * (ratio["value_high"][0] - ratio["value"][0])
    faint = rows(found, "completeness", of="flux (1 / (s cm2))", region="all")
    assert faint["value"][0] < 1
    sure = rows(found, "reliability", low=8)
    assert sure["value"][0] == 1


def test_extensions_are_compared_in_degrees(tmp_path, monkeypatch):
    monkeypatch.setattr(skies, "_EXTENDED", 1.0)
    monkeypatch.setattr(skies, "_APART", 20.0)
    run = flat_run(tmp_path, extended=True, tile_size=120)
    found = assess(run.files.path, nulls=0, injections=2, **WORK)
    kept = [np.load(path) for path in sorted(run.files.assessed.glob("injected-*"))]
    wide = np.concatenate([of["source_extension"] for of in kept])
    fitted = np.concatenate([of["source_extension_found"] for of in kept])
    both = (wide > 0) & (fitted > 0)
    assert both.sum() > 2
    assert 0.5 < np.median(fitted[both] / wide[both]) < 2
    # Means of few are left out.
    means = np.array([str(name).startswith("counts over") for name in found["quantity"]])
    assert means.any()
    assert (found["n"][means] >= 10).all()


def test_fields_without_sky_and_surveys_of_few_pixels_are_no_fault(tmp_path):
    # As beyond an exposure: nothing is expected in the last tiles.
    background = np.where(np.arange(SHAPE[1]) < 40, 0.5, 0.0)[np.newaxis] * np.ones(SHAPE)
    counts = np.random.default_rng(1).poisson(background)
    survey = write_survey(tmp_path / "half.fits", counts, background)
    half = run_survey(survey, tmp_path / "half", **{"tile_size": 40, "margin": 5} | SETTINGS, **WORK)
    found = assess(half.files.path, nulls=1, injections=1, **WORK)
    assert len(list(half.files.assessed.glob("null-*"))) == half.stored.plan.grid.n_tiles
    assert found.meta["SHARE"] == 1
    # There are fewer trials than false rows that one may ask for.
    assert FalseRows(np.array([3.0, 4.0]), np.array([50.0, 50.0])).score_of(100) == 0


def test_cells_of_the_sphere_are_fields(tmp_path):
    # Eight cells of order 2, whose sky is noise.
    nside, cells = 64, np.arange(8 * 16**2)
    background = np.full(12 * nside**2, 0.5)
    counts = np.random.default_rng(1).poisson(background).astype(float)
    maps = {"COUNTS": counts, "BACKGROUND": background}
    hdus = [table(name, values, nside, pixels=cells) for name, values in maps.items()]
    survey = write(tmp_path / "sky.fits", *hdus)
    run = run_survey(
        survey,
        tmp_path / "run",
        **SETTINGS | {"n_scale": 1, "psf": 1.5, "min_scale": 1.5, "false_sources": 0.05},
        **WORK,
    )
    found = assess(run.files.path, nulls=1, injections=1, **WORK)
    noise = rows(found, "false rows", low=0.05)
    assert noise["expected"][0] == pytest.approx(0.05, rel=0.2)
    bright = rows(found, "completeness", of="counts", region="all")[-1]
    assert bright["value"] > 0.5


def test_what_cannot_be_is_refused(finished, tmp_path, monkeypatch):
    path = finished.files.path
    for options, message in (
        ({"nulls": -1}, "nulls is -1: it must be 0 or more"),
        ({"nulls": 0, "injections": 0}, "nulls and injections are both 0: ask for one of them at least"),
    ):
        with pytest.raises(InputError, match=message):
            assess(path, **options)
    # Of the release before that.
    other = flat_run(tmp_path)
    write_certificate(other.files, other.certificate | {"expected_false": None})
    with pytest.raises(InputError, match="made by an earlier release, which expected no false rows: run it again"):
        assess(other.files.path)
    survey = write_survey(tmp_path / "small.fits", np.ones((16, 16)), np.full((16, 16), 2.0), ring=True)
    small = run_survey(survey, tmp_path / "small", **SETTINGS, **WORK)
    with pytest.raises(InputError, match=r"no pixel of the survey is farther than .* from its edges.* too small"):
        assess(small.files.path)
    assert not small.files.assessed.exists()
    monkeypatch.setattr(package, "carry_out", lambda *_: None)
    with pytest.raises(RunError, match=r"null-00000-0000000\.npz is lost or damaged: the same command makes it again"):
        assess(path, nulls=1, injections=0, seed=9, **WORK)


def test_command_and_report_say_what_was_measured(finished, call):
    page = finished.files.report
    finished.files.assessment.unlink(missing_ok=True)
    assert "Not measured yet: <code>cwt-dask assess" in write_report(finished).read_text()
    said = call("assess", finished.files.path, "--nulls=1", "--injections=1", "--seed=2", "--workers=0")
    assert said.status == 0
    # The page is made again.
    assert '<div id="figure-worth"' in page.read_text()
    assert "False rows where 0.5 are expected in the survey" in page.read_text()
    assert f"written        {finished.files.assessment}" in said.out
    assert "were expected (0.5 in the survey)" in said.out
    assert "within pos_err, point sources: " in said.out
    said = call("assess", finished.files.path, "--nulls=1", "--injections=1", "--seed=2", "--log-format=json")
    assert json.loads(said.out.splitlines()[-1])["false_rows"][0]["asked"] == 0.5
