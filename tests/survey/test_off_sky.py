"""Pixels without a sky position in the projection take no part; all others do, and have coordinates."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from cwt_dask.survey import Survey, SurveySource, ingest, scan, strips, wcs_from_text
from cwt_dask.survey.wcs import celestial_header, on_sky

SHAPE = (50, 90)
WHOLE = {"CRPIX1": 45.5, "CRPIX2": 25.5, "CDELT1": -4.0, "CDELT2": 4.0, "CRVAL1": 0.0, "CRVAL2": 0.0}


@pytest.fixture
def full_sky(wcs_cards):
    """Cards of a full-sky map of 50 x 90 pixels."""
    return lambda projection, **more: wcs_cards(projection, **{**WHOLE, **more})


def off_sky(cards):
    y, x = np.indices(SHAPE)
    return np.isnan(WCS(fits.Header(cards)).all_pix2world(x, y, 0)[0])


def filled():
    rng = np.random.default_rng(6)
    return {
        "counts": rng.poisson(3.0, SHAPE).astype(np.float32),
        "background": np.full(SHAPE, 3.0, np.float32),
        "exposure": np.full(SHAPE, 1e11, np.float32),
    }


def test_corners_take_no_part_whatever_they_hold(write, full_sky, tmp_path):
    cards, planes = full_sky("AIT"), filled()
    off = off_sky(cards)
    assert 0.2 < off.mean() < 0.5
    wild = {name: plane.copy() for name, plane in planes.items()}
    wild["counts"][0, :4] = np.nan, -np.inf, -7, 0
    wild["background"][0, :4] = -1, np.inf, np.nan, 1e30
    wild["exposure"][off] = np.nan
    held = wild["counts"][off & (wild["counts"] > 0)]
    source = SurveySource.of(write(wcs=cards, **wild))
    survey = ingest(source, tmp_path / "out.zarr")
    statistics = survey.statistics
    assert statistics == scan(source) == Survey.open(survey.path).statistics
    assert (statistics.n_off_sky, statistics.n_masked, statistics.n_nan) == (off.sum(), off.sum(), 0)
    assert statistics.n_valid == off.size - off.sum()
    assert statistics.counts_sum == planes["counts"][~off].sum()
    assert statistics.background_sum == 3.0 * statistics.n_valid
    assert statistics.brightest == planes["counts"][~off].max()
    text = f"{held.sum():g} counts on {held.size} pixels without a sky position in this projection: not used"
    assert statistics.warnings == (text,)
    np.testing.assert_array_equal(survey.mask.compute(), ~off)
    for name in ("counts", "background"):
        np.testing.assert_array_equal(getattr(survey, name).compute(), np.where(off, 0, planes[name]))
    assert np.isfinite(survey.exposure.compute()).all()
    assert np.isfinite(statistics.pixel_scale_deg)


def test_empty_corners_need_no_warning(write, full_sky):
    cards, planes = full_sky("MOL"), filled()
    off = off_sky(cards)
    surveys = {
        "zero": {name: np.where(off, 0, plane) for name, plane in planes.items()},
        "nan": {**planes, "counts": np.where(off, np.nan, planes["counts"])},
        "masked": {**planes, "mask": (~off).astype(np.uint8)},
    }
    for name, these in surveys.items():
        statistics = scan(SurveySource.of(write(f"{name}.fits", wcs=cards, **these)))
        assert statistics.warnings == ()
        assert (statistics.n_off_sky, statistics.n_masked, statistics.n_nan) == (off.sum(), off.sum(), 0)


@pytest.mark.parametrize("projection", ["AIT", "CAR"])
def test_the_height_of_strips_does_not_matter(write, full_sky, monkeypatch, projection):
    mask = (np.random.default_rng(5).random(SHAPE) > 0.1).astype(np.uint8)
    source = SurveySource.of(write(wcs=full_sky(projection), mask=mask, **filled()))
    statistics = scan(source)
    assert statistics.n_off_sky > 0
    assert len(statistics.warnings) == 1
    for rows in (1, 7, 50):
        monkeypatch.setattr(strips, "MOST_ROWS", rows)
        assert scan(source) == statistics


def test_rows_beyond_the_poles(write, full_sky, tmp_path):
    survey = ingest(SurveySource.of(write(wcs=full_sky("CAR", CRPIX1=1.0), **filled())), tmp_path / "out.zarr")
    # Rows lie at latitudes of -98, -94, -90, ... degrees.
    beyond = np.abs(4.0 * (np.arange(50) - 24.5)) > 90
    assert beyond.sum() == 4
    np.testing.assert_array_equal(survey.mask.compute(), np.repeat(~beyond[:, np.newaxis], 90, axis=1))
    assert survey.statistics.n_off_sky == 360
    assert survey.statistics.wraps
    assert survey.wcs.pixel_to_world(80, 30).b.deg == pytest.approx(22)


CYLINDRICAL = {
    "CAR": {},
    "CEA": {},
    "MER": {},
    "CYP": {"PV2_1": 1.0, "PV2_2": 0.5, "CDELT1": -2.0},
    "from west to east": {"CDELT1": 4.0},
    "turned by the pole": {"LONPOLE": 180.0},
    "upside down": {"LATPOLE": -90.0},
    "another native reference": {"PV1_1": 20.0, "PV1_2": 0.0},
    "oblique CAR": {"CRVAL2": 33.3},
    "oblique CEA": {"CRVAL2": -20.0, "LONPOLE": 170.0, "CDELT1": 4.0},
    "oblique by PV": {"CRVAL2": 40.0, "PV1_1": 20.0, "PV1_2": 10.0, "PV1_3": 30.0},
    "arcmin": {"CUNIT1": "arcmin", "CUNIT2": "arcmin", "CDELT1": -240.0, "CDELT2": 240.0, "CRVAL1": 600.0},
    "degrees by another name": {"CUNIT1": "degree", "CUNIT2": "degree"},
}


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("crpix1", [1.0, 90.0, -30.3, 200.0])
@pytest.mark.parametrize("name", CYLINDRICAL)
def test_columns_far_from_the_reference_have_coordinates(wcs_cards, name, crpix1):
    projection = name[-3:] if name[-3:] in ("CAR", "CEA", "MER", "CYP") else "CAR"
    cards = {"CRVAL1": 83.6, "CRVAL2": 0.0, "CDELT1": -4.0, "CDELT2": 3.0, "CRPIX2": 10.5, **CYLINDRICAL[name]}
    header = fits.Header(wcs_cards(projection, **{**cards, "CRPIX1": crpix1}))
    original = WCS(header)
    wcs = wcs_from_text(celestial_header(header, (20, 90), "COUNTS"))
    y, x = np.mgrid[:20, :90].astype(float)
    assert np.isnan(original.all_pix2world(x, y, 0)[0]).any()
    unpickled = pickle.loads(pickle.dumps(wcs))  # noqa: S301
    # A circle of columns further on the sky is the same.
    turned = crpix1 - 1 + (x - crpix1 + 1 + 45) % 90 - 45
    expected = original.pixel_to_world(turned, y)
    for copy in (wcs, deepcopy(wcs), unpickled):
        assert np.max(copy.pixel_to_world(x, y).separation(expected).deg) < 1e-9
    np.testing.assert_allclose(wcs.world_to_pixel(expected), (x, y), atol=1e-6)
    assert on_sky(wcs, range(20), 90).all()


def test_cards_near_the_reference_are_left_alone(wcs_cards):
    for cards in (wcs_cards(), wcs_cards(CDELT1=-6.0, CRPIX1=30.5), wcs_cards("AIT", CDELT1=-6.0, CRPIX1=1.0)):
        header = fits.Header(cards)
        assert celestial_header(header, (40, 60), "COUNTS") == "\n".join(str(c).rstrip() for c in header.cards)


def test_columns_of_a_second_turn_take_no_part(write, full_sky):
    ones = np.ones((20, 100), np.int16)
    cards = full_sky("CAR", CRPIX1=1.0, CRPIX2=10.5, CRVAL1=30.0)
    statistics = scan(SurveySource.of(write(wcs=cards, counts=ones, background=ones)))
    assert statistics.n_off_sky == 10 * 20
    assert statistics.warnings[0] == "200 counts on 200 pixels without a sky position in this projection: not used"


PARAMETERS = {"slant SIN": {"PV2_1": 0.5, "PV2_2": -0.3}, "CYP": {"PV2_1": 1.0, "PV2_2": 0.7}, "COE": {"PV2_1": 45.0}}


@pytest.mark.parametrize("oblique", [{}, {"CRVAL1": 83.6, "CRVAL2": 33.3}, {"CROTA2": 30.0}])
@pytest.mark.parametrize(
    "name",
    ["AIT", "MOL", "PAR", "SFL", "ZEA", "SIN", "slant SIN", "ARC", "TAN", "STG", "CAR", "CEA", "MER", "CYP", "COE"],
)
def test_what_is_on_the_sky_transforms_back(full_sky, name, oblique):
    wcs = WCS(fits.Header(full_sky(name[-3:], **PARAMETERS.get(name, {}), CDELT1=-5.0, CDELT2=5.0, **oblique)))
    y, x = np.indices(SHAPE)
    used = on_sky(wcs, range(SHAPE[0]), SHAPE[1])
    longitude, latitude = wcs.all_pix2world(x[used], y[used], 0)
    assert np.abs(latitude).max() <= 90
    back = wcs.all_world2pix(longitude, latitude, 0)
    np.testing.assert_allclose(back, (x[used], y[used]), atol=0.1)
