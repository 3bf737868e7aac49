"""The catalogue's fit: the same rows for all tilings, true counts, neighbours apart, and nothing beside them."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import vstack
from reporters import DiesAt, InterruptedRunError
from scipy.special import ndtr
from skies import write_survey

from cwt_dask import run_survey
from cwt_dask.storage.layout import RunDir
from cwt_dask.tiles import fitting
from cwt_dask.tiles.fitting import Reach
from cwt_dask.trust import SourceFlag

SHAPE, PSF = (150, 220), 1.3
OPTIONS = {"n_scale": 2, "min_scale": 1.3, "step_scale": 1.5, "psf": PSF, "max_iter": 3, "workers": 0, "fits": "no"}
OPTIONS |= {"margin": 60, "false_sources": 0.01}
# Row, column, counts: a pair over the seams of tiles of 60 pixels, one at the edge, one in a corner of four tiles.
PLACES = [
    *((40.2, 58.0, 600), (40.4, 62.3, 200), (75.3, 0.4, 300)),
    *((60.1, 119.7, 150), (120.6, 160.2, 80), (20.0, 180.0, 5e4)),
]


def draw(places, background, sigma=PSF):
    expected = background.copy()
    for y, x, counts in places:
        along_y, along_x = (
            np.diff(ndtr((np.arange(length + 1) - 0.5 - at) / sigma))
            for length, at in zip(background.shape, (y, x), strict=True)
        )
        expected += counts * np.outer(along_y, along_x)
    return expected


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Sources on a background that falls from the middle."""
    profile = 0.05 + 0.6 * np.exp(-np.abs(np.arange(SHAPE[0]) - 75) / 15)
    background = np.repeat(profile[:, np.newaxis], SHAPE[1], axis=1)
    counts = np.random.default_rng(8).poisson(draw(PLACES, background))
    return write_survey(tmp_path_factory.mktemp("sky") / "survey.fits", counts, background, ring=True)


def rows_of(run):
    return vstack([run.catalogue, run.candidates], metadata_conflicts="silent")


@pytest.fixture(scope="module")
def whole(survey):
    return run_survey(survey, survey.with_name("whole"), tile_size=220, wrap="no", **OPTIONS)


def assert_same_rows(found, expected):
    assert len(found) == len(expected) > 20
    for name in expected.colnames:
        if name in ("flags", "island_id"):
            continue
        if expected[name].dtype.kind in "iU":
            assert list(found[name]) == list(expected[name])
        else:
            # The catalogue's digits; relative as promised.
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("tile_size", [60, pytest.param(97, marks=pytest.mark.long)])
def test_rows_do_not_depend_on_the_tiles(survey, whole, tmp_path, tile_size):
    run = run_survey(survey, tmp_path / "run", tile_size=tile_size, wrap="no", **OPTIONS)
    assert run.certificate["sources_exact"]
    assert_same_rows(rows_of(run), rows_of(whole))


@contextmanager
def narrowed():
    """Margins are too small at first, so that tiles are fitted in rounds: which are, as (tile, margin)."""
    fitted, fit = [], fitting._fit

    def count(*arguments):
        fitted.append((arguments[3], arguments[4]))
        return fit(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reach, "of", classmethod(lambda cls, *_: cls(point=8, widest=8, margin=10, most=60)))
        patched.setattr(fitting, "_fit", count)
        yield fitted


@pytest.fixture(scope="module")
def in_rounds(survey):
    with narrowed() as fitted:
        return run_survey(survey, survey.with_name("rounds"), tile_size=60, wrap="no", **OPTIONS), sorted(fitted)


def test_tiles_that_do_not_agree_are_done_again_in_wider_windows(in_rounds, whole):
    run, fitted = in_rounds
    assert {margin for _, margin in fitted} >= {10, 20, 40}
    assert len([tile for tile, margin in fitted if margin == 10]) == run.stored.plan.grid.n_tiles
    assert run.certificate["sources_exact"]
    assert_same_rows(rows_of(run), rows_of(whole))


@pytest.mark.parametrize(
    "at",
    [
        *(("candidates", 3), ("sources, margin 40", 1)),
        *(pytest.param(at, marks=pytest.mark.long) for at in (("sources, margin 10", 5), ("comparing sources", 2))),
    ],
    ids=str,
)
def test_a_run_that_dies_while_sources_are_fitted_goes_on_there(survey, in_rounds, tmp_path, at):
    run, fitted = in_rounds
    copy = RunDir(shutil.copytree(run.files.path, tmp_path / "run"))
    for path in (copy.certificate, *copy.islands.glob("*.npz")):
        path.unlink()
    options = OPTIONS | {"tile_size": 60, "wrap": "no"}
    with narrowed() as fitted_again:
        with pytest.raises(InterruptedRunError):
            run_survey(survey, copy.path, progress=DiesAt(*at), **options)
        again = run_survey(survey, copy.path, **options)
    assert sorted(fitted_again) == fitted
    assert again.certificate["sources_exact"]
    for name in ("catalogue", "candidates"):
        assert getattr(copy, name).read_bytes() == getattr(run.files, name).read_bytes()


def test_tiles_that_cannot_agree_are_named(survey, tmp_path, monkeypatch):
    monkeypatch.setattr(Reach, "of", classmethod(lambda cls, *_: cls(point=8, widest=8, margin=2, most=2)))
    run = run_survey(survey, tmp_path / "run", tile_size=60, wrap="no", **OPTIONS)
    certificate = run.certificate
    assert not certificate["sources_exact"]
    assert certificate["sources_not_exact_because"][0].startswith("tile 0 finds sources at its border otherwise than 1")
    assert certificate["tiling_exact"]


def test_a_ring_has_the_rows_of_a_turned_one(survey, tmp_path):
    with fits.open(survey) as hdus:
        for hdu in hdus[1:]:
            hdu.data = np.roll(hdu.data, 70, axis=1)
        hdus.writeto(tmp_path / "turned.fits")
    paths = survey, tmp_path / "turned.fits"
    runs = [run_survey(path, tmp_path / f"run-{path.stem}", tile_size=73, **OPTIONS) for path in paths]
    assert all(run.certificate["sources_exact"] and run.certificate["wrap"] for run in runs)
    rows, turned = map(rows_of, runs)
    rows["x_peak"] = (rows["x_peak"] + 70) % 220
    for table in (rows, turned):
        # Of equal scores the first in row-major order comes first.
        table.sort(["y_peak", "x_peak"])
    assert rows["x_peak"].tolist() == turned["x_peak"].tolist()
    for name in ("score", "npred", "npred_ul", "sqrt_ts"):
        np.testing.assert_allclose(turned[name], rows[name], rtol=1e-6, atol=2e-6, err_msg=name)


def test_sources_are_found_with_their_counts_and_nothing_else(whole):
    rows = whole.catalogue
    assert len(rows) == len(PLACES)
    assert rows["source_id"].tolist() == list(range(1, len(rows) + 1))
    for y, x, counts in PLACES:
        apart = np.hypot(rows["y_centroid"] - y, rows["x_centroid"] - x)
        row = rows[int(np.argmin(apart))]
        assert apart.min() < 5 * PSF / np.sqrt(counts) + 0.02
        # The pair's fluxes correlate.
        error = row["npred_errp"] if row["npred"] < counts else row["npred_errn"]
        assert abs(row["npred"] - counts) < 4 * error
        assert row["npred_ul"] > row["npred"] + row["npred_errp"]
        assert row["extension"] == 0
        assert row["score"] == min(row["sigma"], row["sqrt_ts"])
    assert not (rows["flags"] & SourceFlag.LATE).any()


def test_without_a_point_spread_function_the_finest_scale_is_its_width(survey, tmp_path):
    # What is left beside a source is what the shape lacks then, and no source.
    options = {name: value for name, value in OPTIONS.items() if name != "psf"}
    rows = rows_of(run_survey(survey, tmp_path / "run", tile_size=97, wrap="no", **options))
    assert not (rows["flags"] & SourceFlag.BESIDE).any()
    brightest = rows[int(np.argmax(rows["npred"]))]
    assert brightest["npred"] == pytest.approx(5e4, rel=0.02)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """One extended source."""
    background = np.full((120, 130), 0.3)
    expected = draw([(60.3, 64.8, 2500)], background, np.hypot(6.0, PSF))
    path = tmp_path_factory.mktemp("wide") / "survey.fits"
    return write_survey(path, np.random.default_rng(4).poisson(expected), background)


def test_a_row_says_that_its_fit_would_go_farther_than_it_may(wide, tmp_path):
    # Points cannot make an extended source, whatever they do.
    options = {name: OPTIONS[name] for name in ("psf", "max_iter", "workers", "fits")}
    rows = run_survey(wide, tmp_path / "run", tile_size=64, **options).catalogue
    off = np.max([np.abs(rows[f"{axis}_centroid"] - rows[f"{axis}_peak"]) for axis in "xy"], axis=0)
    at_end = off > 1.5 * PSF - 0.001
    assert 0 < at_end.sum() < len(rows)
    assert ((rows["flags"] & SourceFlag.NOT_SETTLED) > 0).tolist() == at_end.tolist()
    assert not (rows["flags"] & SourceFlag.NO_CENTROID).any()
    # Nothing tells where such a source is, within what its disc holds.
    np.testing.assert_allclose(rows["pos_err"][at_end], 0.1 * rows["radius"][at_end], atol=1e-7)
    assert (rows["pos_err"] < 0.05 * rows["radius"])[~at_end].all()


def test_an_extended_source_is_one_row_with_its_extension(wide, tmp_path):
    options = {name: OPTIONS[name] for name in ("psf", "max_iter", "workers", "fits")}
    rows = run_survey(wide, tmp_path / "run", tile_size=64, extended=True, max_extent=8, **options).catalogue
    assert len(rows) == 1
    assert rows["extension"][0] == pytest.approx(0.1 * 6.0, rel=0.1)
    assert rows["sqrt_ts_ext"][0] > 20
    assert abs(rows["npred"][0] - 2500) < 4 * rows["npred_errp"][0]
