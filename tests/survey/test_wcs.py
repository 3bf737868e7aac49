"""Sky coordinates survive to the last bit, or are refused by name."""

import re
from contextlib import nullcontext
from itertools import islice

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import wcs_to_celestial_frame
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cwt_dask.cwt.image import SkyImage
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.survey import SurveySource, ingest, pixel_scale, scan, wcs_from_text
from cwt_dask.survey.wcs import celestial_header, closes_circle, remarks, repeats_edge_column

SHAPE = (40, 60)
ICRS = ("RA", "DEC")
SIP = {"A_ORDER": 2, "A_2_0": 1.2345678901234567e-5, "A_1_1": -3e-6, "B_ORDER": 2, "B_0_2": 2e-6, "AP_ORDER": 1,
       "AP_1_0": 1e-6, "BP_ORDER": 1, "BP_0_1": 1e-6}  # fmt: skip
ROTATED = {"CD1_1": -0.0314159265358979, "CD1_2": 0.001234567890123, "CD2_1": 0.0023456789012345, "CD2_2": 0.03}

HEADERS = {
    **{name: {"projection": name} for name in ("CAR", "AIT", "MOL", "TAN", "SIN", "ZEA", "CEA", "ARC", "HPX")},
    "oblique CAR": {"CRVAL2": 33.3},
    "native pole": {"projection": "TAN", "LONPOLE": 170.123456789, "LATPOLE": 30.0},
    "ICRS": {"projection": "TAN", "frame": ICRS, "RADESYS": "ICRS"},
    "FK5": {"projection": "TAN", "frame": ICRS, "RADESYS": "FK5", "EQUINOX": 1975.5},
    "FK4": {"projection": "TAN", "frame": ICRS, "RADECSYS": "FK4", "EPOCH": 1950.0},
    "ITRS": {"projection": "CAR", "frame": ("TLON", "TLAT"), "DATE-OBS": "2020-02-03T04:05:06.7"},
    "swapped": {"projection": "TAN", "frame": ("GLAT", "GLON"), "CRVAL1": 22.0, "CRVAL2": 83.6},
    "CD": {"projection": "TAN", **ROTATED},
    "PC": {"projection": "TAN", "PC1_1": 0.9876543210987654, "PC1_2": -0.15, "PC2_1": 0.15, "PC2_2": 0.98},
    "CROTA": {"projection": "TAN", "CROTA2": 12.345678901234567},
    "old PC": {"projection": "TAN", "PC001001": 0.98, "PC001002": -0.15, "PC002001": 0.15, "PC002002": 0.98},
    "SIP": {"projection": "TAN-SIP", "frame": ICRS, **SIP},
    "TPV": {"projection": "TPV", "frame": ICRS, "PV1_1": 1.0012345678901234, "PV2_1": 0.999, "PV2_4": 1e-4},
    "ZPN": {"projection": "ZPN", "frame": ICRS, "PV2_1": 1.0, "PV2_3": 0.044},
    "slant SIN": {"projection": "SIN", "PV2_1": 0.1, "PV2_2": -0.02},
    "CYP": {"projection": "CYP", "CRVAL2": 0.0, "PV2_1": 1.0, "PV2_2": 0.7071067811865476},
    "arcmin": {"projection": "TAN", "CUNIT1": "arcmin", "CUNIT2": "arcmin", "CDELT1": -2.1, "CDELT2": 2.1},
}


def header_of(cards):
    return fits.Header({"NAXIS": 2, "NAXIS1": SHAPE[1], "NAXIS2": SHAPE[0], **cards})


def check_identical(one, other, x, y):
    for a, b in zip(one.all_pix2world(x, y, 0), other.all_pix2world(x, y, 0), strict=True):
        np.testing.assert_array_equal(a, b)


PIXELS = np.meshgrid(np.arange(60), np.arange(40))


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("name", HEADERS)
def test_positions_survive_bit_for_bit(name, wcs_cards):
    header = header_of({"OBSERVER": "somebody", **wcs_cards(**HEADERS[name])})
    original = WCS(header)
    text = celestial_header(header, SHAPE, "COUNTS")
    rebuilt = wcs_from_text(text)
    check_identical(original, rebuilt, *np.meshgrid(np.arange(-5, 70, 2.5), np.arange(-5, 50, 2.5)))
    assert wcs_to_celestial_frame(rebuilt).is_equivalent_frame(wcs_to_celestial_frame(original))
    assert "OBSERVER" not in text
    assert "\n".join(line.rstrip() for line in text.splitlines()) == text


@given(
    crval=st.floats(0, 360, width=64),
    crpix=st.floats(-1e4, 1e4),
    cdelt=st.floats(1e-4, 1),
    angle=st.floats(0, 360),
    projection=st.sampled_from(["CAR", "AIT", "TAN", "ZEA"]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_digits_survive(wcs_cards, crval, crpix, cdelt, angle, projection):
    # Where a column of CAR is farther from the reference, the reference moves (test_off_sky.py).
    assume(projection != "CAR" or abs(crpix) + SHAPE[1] < 180 / cdelt)
    header = header_of(wcs_cards(projection, CRVAL1=crval, CRPIX1=crpix, CDELT1=-cdelt, CROTA2=angle))
    check_identical(WCS(header), wcs_from_text(celestial_header(header, SHAPE, "COUNTS")), 7, 9)


def test_positions_survive_files_and_stores(write, two, wcs_cards, tmp_path):
    path = write(wcs=wcs_cards("TAN", DATE_OBS="x", **ROTATED), **two)
    survey = ingest(SurveySource.of(path), tmp_path / "out.zarr")
    check_identical(WCS(fits.getheader(path)), survey.wcs, *PIXELS)


def test_axes_that_are_dropped_leave_the_sky_alone(write, two, wcs_cards):
    energy = {"WCSAXES": 3, "CTYPE3": "ENERGY", "CRVAL3": 10.0, "CRPIX3": 1.0, "CDELT3": 0.5, "CUNIT3": "GeV"}
    flat = scan(SurveySource.of(write("flat.fits", **two)))
    cube = write(wcs={**energy, **wcs_cards()}, **{name: plane[np.newaxis] for name, plane in two.items()})
    assert scan(SurveySource.of(cube)).digest == flat.digest


REFUSED = {
    "lookup table": ({"CPDIS1": "LOOKUP"}, r"HDU COUNTS of .* has CPDIS1: distortions by lookup table .* resample"),
    "detector table": ({"D2IMDIS1": "LOOKUP"}, "has D2IMDIS1"),
    "polynomial record": ({"DP1": "NAXES: 2"}, "has DP1"),
    "table axis": ({"CTYPE1": "GLON-TAB"}, "has CTYPE1 = GLON-TAB, .* table of coordinates"),
    "one axis of the sky": ({"CTYPE2": "ENERGY"}, "the WCS of .* cannot be used"),
    "unknown sky": ({"CTYPE1": "XXLN-CAR", "CTYPE2": "XXLT-CAR"}, "the WCS of .* cannot be used .*celestial frame"),
    "coupled to a dropped axis": (
        {"WCSAXES": 3, "CTYPE3": "ENERGY", "CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": 1.0, "PC1_3": 0.5},
        "the WCS of .* cannot be used .*[Nn]on-zero off-diagonal",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_survive_is_refused_by_name(name, write, two, wcs_cards):
    more, message = REFUSED[name]
    cards = {**{key: more[key] for key in more if key == "WCSAXES"}, **wcs_cards(**more)}
    cube = {name: plane[np.newaxis] for name, plane in two.items()}
    with pytest.raises(SurveyError, match=message):
        scan(SurveySource.of(write(wcs=cards, **cube)))


def spelled(cards, keyword, value):
    """A header in which the value of a card is spelled so."""
    cards = {name: content for name, content in cards.items() if name != keyword}
    text = header_of(cards).tostring(sep="\n", endcard=False, padding=False)
    return fits.Header.fromstring(f"{text}\n{keyword:8}= {value}", sep="\n")


NUMBERS = ("CRPIX2", "CRVAL1", "CDELT2", "CROTA2", "CD1_2", "CD002001", "PC1_1", "PC001002", "PV2_1", "PV1_3",
           "A_2_0", "LONPOLE", "LATPOLE", "EQUINOX", "EPOCH")  # fmt: skip
NO_NUMBERS = ("'oops'", "'184.5'", "184.5e", "1,5", "", "T", "(1.0, 2.0)")
BOUNDED = ("CRPIX1", "CRVAL1", "CDELT1", "CROTA2", "LONPOLE", "LATPOLE", "PV1_1", "PV1_3")


@pytest.mark.parametrize(
    ("keyword", "value", "fault"),
    [
        *((name, "NaN", "not a number") for name in NUMBERS),
        *(("CRVAL1", value, "not a number") for value in NO_NUMBERS),
        *((name, "1e400", "not finite") for name in NUMBERS),
        *((name, "-3000000000", "-3e+09, beyond 2e+09") for name in BOUNDED),
    ],
)
def test_what_is_no_number_does_not_become_a_default(wcs_cards, keyword, value, fault):
    message = re.escape(f"the WCS of COUNTS cannot be used ({keyword} is {fault}): correct its header")
    with pytest.raises(SurveyError, match=message):
        celestial_header(spelled(wcs_cards("TAN", ICRS), keyword, value), SHAPE, "COUNTS")


@pytest.mark.parametrize("value", ["150", "150.", "1.5D2", "1.5d+02", "1.5E2", "15.0D1 / in D", "+150 / Degrees", "510",
                                   "-1650.0D0", "1000000230"])  # fmt: skip
@pytest.mark.parametrize("projection", ["CAR", "TAN"])
def test_all_spellings_of_a_number_are_one_sky(wcs_cards, projection, value):
    cards = wcs_cards(projection)
    text = celestial_header(spelled(cards, "CRVAL1", value), SHAPE, "COUNTS")
    plain = celestial_header(header_of({**cards, "CRVAL1": 150.0}), SHAPE, "COUNTS")
    found, expected = (wcs_from_text(cards).all_pix2world(*PIXELS, 0) for cards in (text, plain))
    # Of CRVAL that lie far from the circle wcslib brings back not all positions to it.
    np.testing.assert_allclose((found[0] - expected[0] + 180) % 360 - 180, 0, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(wcs_from_text(text).all_world2pix(*expected, 0), PIXELS, rtol=0, atol=1e-4)


@pytest.mark.parametrize("keyword", ["CRPIX1", "CDELT2", "CROTA2", "PC1_1", "LONPOLE", "PV2_1"])
def test_not_a_digit_is_lost_of_numbers_with_a_d(wcs_cards, keyword):
    cards = {"CROTA2": 0.5, "LONPOLE": 179.5, "PV2_1": 0.1, "PC1_1": 1.1, **wcs_cards("SIN")}
    cards.pop("CROTA2" if keyword == "PC1_1" else "PC1_1")
    cards[keyword] = cards[keyword] * (1 + 2**-52)
    text = celestial_header(spelled(cards, keyword, f"{cards[keyword]:.16e}".replace("e", "D")), SHAPE, "COUNTS")
    plain = celestial_header(header_of(cards), SHAPE, "COUNTS")
    check_identical(wcs_from_text(text), wcs_from_text(plain), *PIXELS)


def positions_by_all_doors(cards):
    """Of pixel (7, 9), in ICRS: from a survey's file, an HDU, and, if that is no matter of spelling, a WCS."""
    header = header_of(cards)
    hdu = fits.ImageHDU(np.ones(SHAPE), header)
    yield wcs_from_text(celestial_header(header, SHAPE, "COUNTS")).pixel_to_world(7, 9).icrs
    yield SkyImage.of(hdu)._sky().pixel_to_world(7, 9).icrs
    wcs = WCS(header)
    yield SkyImage.of(NDData(hdu.data, wcs=wcs))._sky().pixel_to_world(7, 9).icrs
    yield SkyImage(hdu.data, wcs)._sky().pixel_to_world(7, 9).icrs


FK5, FK4 = {"RADESYS": "FK5"}, {"RADESYS": "FK4"}


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        *(({"RADESYS": text}, FK5) for text in ("fk5", "FK5 ", "J2000", "J2000.0", "FK5 (J2000)", "'FK5'")),
        *(({"RADESYS": text}, {"RADESYS": "ICRS"}) for text in ("icrs", "ICRS ", "ICRF2")),
        *(({"RADESYS": text}, FK4) for text in ("fk4", "B1950")),
        ({"RADECSYS": "fk4"}, FK4),
        ({"CTYPE1": "ra---tan", "CTYPE2": " DEC--TAN"}, {}),
    ],
)
def test_names_in_any_spelling_are_one_sky_by_all_doors(wcs_cards, spelled, meant):
    cards = wcs_cards("TAN", ICRS)
    expected = WCS(header_of({**cards, **meant})).pixel_to_world(7, 9).icrs
    # Of an unknown CTYPE there is no WCS.
    for position in islice(positions_by_all_doors({**cards, **spelled}), 2 if "CTYPE1" in spelled else None):
        assert position.separation(expected).arcsec < 1e-9


@pytest.mark.parametrize("keyword", ["EQUINOX", "EPOCH"])
@pytest.mark.parametrize(("text", "year"), [("J2000", 2000.0), ("2000.", 2000.0), ("b1950.0", 1950.0), ("1950", 1950)])
def test_an_equinox_may_be_a_text(wcs_cards, keyword, text, year):
    cards = wcs_cards("TAN", ICRS)
    expected = next(positions_by_all_doors({**cards, keyword: year}))
    for position in islice(positions_by_all_doors({**cards, keyword: text}), 2):
        assert position.separation(expected).arcsec < 1e-9


def test_what_is_not_equatorial_has_no_reference_system(wcs_cards):
    expected = WCS(header_of(wcs_cards("TAN"))).pixel_to_world(7, 9)
    cards = wcs_cards("TAN", RADESYS="fk5")
    for position in positions_by_all_doors(cards):
        assert position.separation(expected).arcsec < 1e-9
    wcs = WCS(header_of(wcs_cards("TAN")))
    wcs.wcs.radesys = "FK5"
    assert wcs_to_celestial_frame(wcs).name == "fk5"
    for image in (SkyImage(np.ones(SHAPE), wcs), SkyImage.of(NDData(np.ones(SHAPE), wcs=wcs))):
        assert image.center.frame.name == "galactic"


@pytest.mark.parametrize(
    ("kinds", "axes"),
    [
        (("GLON-CAR", "ENERGY", "GLAT-CAR"), "1 and 3"),
        (("STOKES", "RA---TAN", "DEC--TAN"), "2 and 3"),
        (("FREQ", "STOKES", "DEC--SIN", "RA---SIN"), "3 and 4"),
    ],
)
def test_a_sky_on_other_axes_is_named_whatever_their_lengths(write, wcs_cards, kinds, axes):
    cards = wcs_cards() | {f"CTYPE{axis}": kind for axis, kind in enumerate(kinds, 1)}
    cube = np.ones((5, *[1] * (len(kinds) - 2), 5))
    with pytest.raises(SurveyError, match=f"COUNTS of .* has the sky on its axes {axes} "):
        scan(SurveySource.of(write(wcs=cards, counts=cube, background=cube)))


def test_ecliptic_coordinates_do_not_pass_for_equatorial_ones(wcs_cards):
    header = header_of(wcs_cards("TAN", ("ELON", "ELAT")))
    assert wcs_to_celestial_frame(WCS(header)).name == "icrs"
    with pytest.raises(InputError, match="map is in ecliptic coordinates, .* project it to Galactic or equatorial"):
        assert SkyImage.of(fits.ImageHDU(np.ones(SHAPE), header), "map").center


def test_an_image_in_memory_has_numbers_read_as_those_of_a_file(wcs_cards):
    header = spelled(wcs_cards("TAN"), "CRVAL1", "1.5D2")
    file = wcs_from_text(celestial_header(header, SHAPE, "COUNTS"))
    check_identical(SkyImage.of(fits.ImageHDU(np.ones(SHAPE), header)).wcs, file, *PIXELS)
    header = spelled(wcs_cards("TAN"), "CRVAL1", "NaN")
    with pytest.raises(InputError, match=r"the WCS of the image cannot be used \(CRVAL1 is not a number\): correct"):
        SkyImage.of(fits.ImageHDU(np.ones(SHAPE), header))


TPV = {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV2_1": 1.0}
SCAMP = {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 1e-4}


# SIP of the first order is none to astropy.
FIRST_ORDER = {"A_ORDER": 1, "B_ORDER": 1}


@pytest.mark.parametrize(
    ("more", "warned"), [({}, 1), ({"CTYPE1": "RA---TAN-SIP"}, 1), (TPV, 0), (SCAMP, 0), (FIRST_ORDER, 0)]
)
def test_distortions_that_ctype_does_not_announce(write, two, wcs_cards, capsys, more, warned):
    cards = {**wcs_cards("TAN", ICRS), **SIP, **more}
    with pytest.warns(FITSFixedWarning) if "PV1_1" in more else nullcontext():
        expected = WCS(header_of(cards))
    capsys.readouterr()
    statistics = scan(SurveySource.of(write(wcs=cards, **two)))
    text = celestial_header(header_of(cards), SHAPE, "COUNTS")
    check_identical(wcs_from_text(text), expected, *PIXELS)
    image = SkyImage.of(fits.ImageHDU(np.ones(SHAPE), header_of(cards)))
    check_identical(image.wcs, expected, *PIXELS)
    image.to_hdu()
    assert capsys.readouterr() == ("", "")
    assert [warning for warning in statistics.warnings if "SIP" in warning] == [*remarks(header_of(cards))]
    assert len(remarks(header_of(cards))) == warned


def test_a_wcs_in_memory_announces_its_distortion(wcs_cards, capsys):
    wcs = WCS(header_of({**wcs_cards("TAN", ICRS), **SIP}))
    capsys.readouterr()
    image = SkyImage.of(NDData(np.ones(SHAPE), wcs=wcs))
    assert image.to_hdu().header["CTYPE1"] == "RA---TAN-SIP"
    assert capsys.readouterr() == ("", "")
    check_identical(image.wcs, wcs, *PIXELS)


def test_coordinates_that_would_change_are_refused(wcs_cards, monkeypatch):
    monkeypatch.setattr("cwt_dask.survey.wcs._KEPT", re.compile("CTYPE[12]|CRVAL[12]|CDELT[12]"))
    with pytest.raises(SurveyError, match=r"the WCS of COUNTS \(CTYPE1 = GLON-CAR, .*\) does not survive"):
        celestial_header(header_of(wcs_cards()), SHAPE, "COUNTS")


@pytest.fixture
def pair(write, planes):
    """Counts, and a background of its own with another WCS."""

    def source(counts_wcs, background_wcs):
        counts = write("counts.fits", wcs=counts_wcs, counts=planes["counts"])
        return SurveySource.of(counts, background=write("b.fits", wcs=background_wcs, background=planes["background"]))

    return source


WHOLE = {"CRPIX1": 30.5, "CDELT1": -6.0, "CDELT2": 4.5, "CRVAL1": 0.0, "CRVAL2": 0.0}


@pytest.mark.parametrize(
    ("counts", "background"),
    [
        ({}, {"CRPIX1": 30.123456789012345 + 2e-3}),
        ({}, {"CDELT1": 1 / 30}),
        ({}, {"frame": ICRS}),
        ({}, {"projection": "ZEA"}),
        # One is off the sky where the other is not.
        ({"projection": "AIT", **WHOLE}, {"projection": "CAR", **WHOLE}),
    ],
)
def test_maps_of_different_sky_are_refused(pair, wcs_cards, counts, background):
    counts, background = (wcs_cards(**{"projection": "TAN", **cards}) for cards in (counts, background))
    with pytest.raises(SurveyError, match=r"BACKGROUND of .*b.fits and HDU COUNTS of .* cover different sky"):
        scan(pair(counts, background))


@pytest.mark.parametrize(
    "other", [{"CRPIX1": 30.123456789012345 + 5e-4}, {"CUNIT1": "degree", "CUNIT2": "degree"}, None]
)
def test_maps_may_say_the_same_sky_differently_or_not_at_all(pair, wcs_cards, other):
    background = {} if other is None else wcs_cards("TAN", **other)
    assert scan(pair(wcs_cards("TAN"), background)).n_valid == 2400


def make_wcs(wcs_cards, projection="CAR", **more):
    return wcs_from_text("\n".join(str(card).rstrip() for card in header_of(wcs_cards(projection, **more)).cards))


def test_pixel_scale_is_that_of_the_centre(wcs_cards):
    def scale_of(projection, **more):
        cards = {"CRPIX1": 30.5, "CRVAL1": 0.0, "CRVAL2": 0.0, "CDELT1": -0.1, "CDELT2": 0.1, **more}
        return pixel_scale(make_wcs(wcs_cards, projection, **cards), SHAPE)

    assert scale_of("CAR") == 0.1
    # At latitude 60 a pixel of CAR is half as wide.
    assert scale_of("CAR", CRPIX2=20.5 - 600) == pytest.approx(0.1 / 2**0.5, 1e-5)
    assert scale_of("ZEA", CRPIX2=20.5 - 600) == pytest.approx(0.1, 1e-5)
    off_sky = {"CRPIX1": 3000.0, "CRPIX2": 3000.0, "CDELT2": 0.2}
    assert scale_of("AIT", **off_sky) == pytest.approx(0.1 * 2**0.5, 1e-5)


@pytest.mark.parametrize(
    ("columns", "more", "closes", "repeats"),
    [
        (3600, {}, True, False),
        (3601, {}, False, True),
        (3599, {}, False, False),
        (10800, {"CDELT1": -0.0333333}, True, False),
        (3600, {"projection": "CEA"}, True, False),
        (3600, {"projection": "MER"}, True, False),
        *((3600, {"projection": "CYP", "PV2_2": r, "CDELT1": -0.1 * r}, True, False) for r in (2**-0.5, 1.5)),
        (3600, {"projection": "CYP", "PV2_1": 2.0}, True, False),
        (1801, {"projection": "CYP", "PV2_2": 0.5}, False, True),
        (3600, {"projection": "CYP", "PV2_2": 0.5}, False, False),
        (3600, {"CDELT1": 0.1}, True, False),
        (3600, {"CRVAL2": 20.0}, True, False),
        (3600, {"projection": "AIT"}, False, False),
        (3600, {"CROTA2": 1.0}, False, False),
        (3600, {"frame": ("GLAT", "GLON")}, False, False),
    ],
)
def test_circles_of_columns(wcs_cards, columns, more, closes, repeats):
    wcs = make_wcs(wcs_cards, **{"CDELT1": -0.1, "CDELT2": 0.1, "CRVAL2": 0.0, **more})
    assert closes_circle(wcs, (10, columns)) is closes
    assert repeats_edge_column(wcs, (10, columns)) is repeats
    if closes or repeats:
        # By astropy: the step along the row of the reference.
        first, second = (wcs.pixel_to_world(x, wcs.wcs.crpix[1] - 1) for x in (20, 21))
        # A step of a thirtieth, cut to seven digits, is off by one in a million itself.
        assert 360 / first.separation(second).deg == pytest.approx(
            columns - repeats, 2e-6 if columns == 10800 else 1e-6
        )


def test_a_repeated_column_has_a_warning(write, wcs_cards):
    ones = np.ones((40, 61), np.int16)
    wcs = wcs_cards(CRPIX1=31, CDELT1=-6.0, CDELT2=4.5)
    statistics = scan(SurveySource.of(write(wcs=wcs, counts=ones, background=ones)))
    assert not statistics.wraps
    assert statistics.warnings[-1].startswith("the last column shows the same sky as the first")
