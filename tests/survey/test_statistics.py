"""What the pass over a survey measures, and what it warns about."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from cwt_dask.survey import SurveySource, ingest, scan


@pytest.fixture
def statistics_of(write):
    return lambda **planes: scan(SurveySource.of(write(f"{len(planes)}.fits", **planes)))


def poisson(mean=2.0, shape=(100, 120), seed=1):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.int32), np.full(shape, mean)


# Columns of a map of 100 x 120 pixels without data, and all but a disc.
FIELD = np.arange(120) * np.ones((100, 1)) > 58
ROOM = np.hypot(*(np.indices((100, 120)) - 50)) > 30


def test_measures(statistics_of, planes):
    counts, background = planes["counts"].astype(np.float64), planes["background"].copy()
    counts[3, 4], background[5, 6], background[3, 4], background[0, 0] = np.nan, np.nan, np.nan, 99
    mask = planes["mask"]
    mask[3, 4] = mask[5, 6] = mask[0, 0] = 1
    statistics = statistics_of(counts=counts, background=background, mask=mask)
    valid = (mask == 1) & np.isfinite(counts) & np.isfinite(background)
    assert statistics.shape == (40, 60)
    assert statistics.n_valid == np.count_nonzero(valid)
    assert statistics.n_masked == np.count_nonzero(~valid)
    assert statistics.n_nan == 2
    assert statistics.n_off_sky == 0
    assert statistics.brightest == 99
    assert statistics.counts_sum == counts[valid].sum()
    assert statistics.background_sum == pytest.approx(background[valid].sum(dtype=np.float64), rel=1e-14)
    assert statistics.pixel_scale_deg == pytest.approx(1 / 30, 1e-4)
    assert not statistics.wraps
    assert statistics.warnings == ()


def test_surveys_that_differ_have_other_digests(statistics_of, planes, write, wcs_cards):
    planes["mask"][8, 9] = 1
    digests = {statistics_of(**planes).digest}
    for name in planes:
        changed = {**planes, name: planes[name].copy()}
        changed[name][8, 9] = 0 if name == "mask" else 2 * changed[name][8, 9] + 1
        digests.add(scan(SurveySource.of(write(f"{name}.fits", **changed))).digest)
    digests.add(scan(SurveySource.of(write("wcs.fits", wcs=wcs_cards(CRVAL1=1.0), **planes))).digest)
    path = write(**planes)
    for unit in ("cm2 s", "m2 s"):
        fits.setval(path, "BUNIT", value=unit, ext=("EXPOSURE", 1))
        digests.add(scan(SurveySource.of(path)).digest)
    assert len(digests) == 8


def test_what_lies_under_the_mask_does_not_count(statistics_of, write, planes):
    statistics = statistics_of(**planes)
    wild = {name: planes[name].astype(np.float64) for name in ("counts", "background")}
    wild["counts"][planes["mask"] == 0] = np.resize(
        [np.nan, np.inf, -1.5, -np.inf], np.count_nonzero(planes["mask"] == 0)
    )
    wild["background"][planes["mask"] == 0] = -np.inf
    assert scan(SurveySource.of(write("wild.fits", **{**planes, **wild}))) == statistics


@pytest.mark.parametrize(
    ("counts", "background"),
    [
        *(poisson(), poisson(0.01, (300, 400)), (np.ones((20, 40)), np.full((20, 40), 1.01))),
        # Half of the sky without data, and a field of view in a corner of it.
        (np.where(FIELD, np.nan, poisson()[0]), poisson()[1]),
        (np.where(ROOM, 0, poisson()[0]), np.where(ROOM, 0, 2.0)),
        # A source that outshines all else.
        (poisson(0.01)[0] + 10**6 * (np.hypot(*np.indices((100, 120))) < 4), np.full((100, 120), 0.01)),
    ],
    ids=["clean", "sparse", "too few to compare", "half", "field of view", "bright source"],
)
def test_counts_without_fault_raise_no_warning(statistics_of, counts, background):
    assert statistics_of(counts=counts, background=background).warnings == ()


def test_smoothed_counts(statistics_of):
    counts, background = poisson()
    warnings = statistics_of(counts=gaussian_filter(counts.astype(float), 1.5), background=background).warnings
    assert [text.split(":")[0] for text in warnings] == [
        "counts are not whole numbers at 12000 pixels",
        "counts look smoothed",
    ]


def test_repeated_pixels_look_smoothed_too(statistics_of):
    counts, background = poisson(shape=(100, 40))
    (warning,) = statistics_of(
        counts=np.repeat(counts, 3, axis=1), background=np.repeat(background, 3, axis=1)
    ).warnings
    assert warning.startswith("counts look smoothed: the variance between neighbouring pixels is 0.3")


def test_a_map_without_a_count(statistics_of, planes):
    n_used = np.count_nonzero(planes["mask"])
    (warning,) = statistics_of(**planes | {"counts": np.zeros((40, 60))}).warnings
    assert warning == (
        f"counts are 0 on all {n_used} pixels that are used, so nothing can be found: check that this is the counts "
        "map, and that its mask is right"
    )


@pytest.mark.parametrize(("share", "counted"), [(10, True), (40, True), (5, False)])
def test_a_mask_that_loses_the_survey(write, share, counted):
    counts, background = poisson()
    bad = np.arange(120) * np.ones((100, 1)) < 1.2 * share
    if not counted:
        counts[~bad] = 0
    path = write(counts=counts, background=background, mask=bad.astype(int))
    what = f"{100 - share}% of the pixels{' with counts' * counted}"
    unasked = (
        ", which nobody asked for, is taken as nonzero = use (CCDData writes nonzero = bad): correct it, or leave "
    )
    assert scan(SurveySource.of(path)).warnings[0] == (
        f"{what} are masked or NaN: HDU MASK{unasked}it out, --mask-hdu none"
    )
    asked = f"{what} are masked or NaN: HDU MASK is taken as nonzero = use: check it"
    assert scan(SurveySource.of(path, mask_hdu="MASK")).warnings[0] == asked
    without = scan(SurveySource.of(path, mask_hdu="none"))
    assert (without.mask, without.used) == ("", "")
    assert not [text for text in without.warnings if "masked" in text]
    maps = {"counts": np.where(bad, counts, np.nan), "background": background}
    assert (
        scan(SurveySource.of(write("nan.fits", **maps))).used == f"{120 * share} of 12000 (NaN: {12000 - 120 * share})"
    )


def test_a_mask_of_a_hot_pixel_is_no_loss(statistics_of):
    counts, background = poisson()
    counts[3, 4] = 10**6
    statistics = statistics_of(counts=counts, background=background, mask=(counts < 10**6).astype(int))
    assert (statistics.warnings, statistics.used) == ((), "11999 of 12000 (masked by HDU MASK: 1)")


def test_counts_that_are_nan_are_not_said_to_be_masked(statistics_of):
    counts, background = poisson()
    background[:, 5:] = np.nan
    (warning,) = statistics_of(counts=counts, background=background).warnings
    assert warning == "96% of the pixels with counts are masked or NaN: check counts and background"


OFF = "background and counts differ by orders of magnitude: "


@pytest.mark.parametrize(
    ("background", "said"),
    [
        (
            2e6,
            f"{OFF}2.4e+10 are expected, and there are 23898, on 10329 pixels: give the background in expected counts",
        ),
        (2e-30, f"{OFF}2.4e-26 are expected"),
        (1 / 12000, f"{OFF}1 are expected"),
        ("counts", "background equals the counts at every pixel, so nothing can be found: give the counts that are "),
        (0, "background is 0 at every pixel, so every count counts as a source: give the counts that are expected "),
    ],
)
def test_an_implausible_background(statistics_of, background, said):
    counts = poisson()[0]
    plane = counts if background == "counts" else np.full(counts.shape, background, float)
    (warning,) = statistics_of(counts=counts, background=plane).warnings
    assert warning.startswith(said)


@pytest.mark.parametrize("nothing", [0, 1e-12])
def test_counts_without_background_or_exposure(statistics_of, nothing):
    counts, background = poisson()
    exposure = np.ones(counts.shape)
    counts[50, :4], background[50, :4] = (4, 5, 0, 0), nothing
    counts[60, :3], exposure[60, :3] = (1, 0, 0), 0
    # This one has a warning of its own.
    counts[60, 3], exposure[60, 3] = 7, -1
    of_background, of_negative, of_exposure = statistics_of(
        counts=counts, background=background, exposure=exposure
    ).warnings
    assert of_background.startswith(
        "background is 0, or below 1e-09, at 2 pixels with 9 counts, each of which counts as"
    )
    assert of_negative.startswith("exposure is NaN, infinite or negative at 1 used pixel: ")
    assert of_exposure == "exposure is 0 at 1 pixel with 1 count, where none can be: correct it, or mask them"


def test_exposures_that_cannot_be(write, planes, tmp_path):
    exposure = planes["exposure"]
    exposure[2, 3], exposure[2, 4], exposure[2, 5] = np.nan, -1, np.inf
    planes["mask"][2, 3:6] = 1, 1, 0
    survey = ingest(SurveySource.of(write(**planes)), tmp_path / "out.zarr")
    assert survey.statistics.warnings == ("exposure is NaN, infinite or negative at 2 used pixels: taken as 0 there",)
    np.testing.assert_array_equal(survey.exposure[2, 2:7].compute(), np.float32([1e11, 0, 0, 0, 1e11]))


@pytest.mark.parametrize(
    ("given", "known"),
    [
        *(("cm2 s", "cm2 s"), ("cm**2*s", "cm2 s"), (" m2 yr", "m2 yr"), ("", "")),
        *((unit, None) for unit in ("parsecs2 s", "cm2", "counts")),
    ],
)
def test_the_unit_of_the_exposure_is_kept_or_has_a_warning(write, planes, given, known):
    path = write(**planes)
    fits.setval(path, "BUNIT", value=given, ext=("EXPOSURE", 1))
    statistics = scan(SurveySource.of(path))
    assert statistics.exposure_unit == (known or "")
    warning = f"the exposure's unit {given} (BUNIT) is none of area times time: the catalogue gives no photon flux"
    assert statistics.warnings == (() if known is not None else (warning,))
