"""Rectangles of a run by sky position: their pixels, and where these lie on the sky."""

import shutil
import sys
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from skies import sky_header

from cwt_dask import SurveyRun
from cwt_dask.errors import InputError
from cwt_dask.products import cutouts
from cwt_dask.products.files import map_hdu
from cwt_dask.run import plan_survey
from cwt_dask.survey import Region

mpl.use("Agg")

# Pixel (46, 34) of a map of 70 x 90 pixels of 0.1 deg.
CENTER = SkyCoord(11.05, 1.15, unit="deg", frame="galactic")
IMAGES = ("MODEL", "APPROX", "RESIDUAL", "EXCESS_RESIDUAL", "SIGNIFICANCE", "SIGMA", "SUPPORT", "MASK", "TRUST")


def header_text(shape, **cards):
    header = sky_header(shape)
    if any(card.startswith("CD") for card in cards):
        del header["CDELT1"], header["CDELT2"]
    header.update(cards)
    return "\n".join(card.image.rstrip() for card in header.cards)


def whole(run, name):
    return (run.map(name.lower()) if name in IMAGES else getattr(run.survey, name.lower())).compute()


def read(hdus):
    hdus.verify("exception")
    return {hdu.name: (hdu.data, WCS(hdu.header)) for hdu in hdus[1:]}


@pytest.mark.parametrize(
    ("kind", "x", "size", "columns"),
    [("run", 34, "3 deg", range(19, 49)), ("ring", 0, "40 deg", range(-5, 5)), ("ring", 0, "500 deg", range(-45, 45))],
    ids=["in the middle", "over the edge of a ring", "no column of a ring twice"],
)
def test_a_cutout_has_the_pixels_and_their_sky(request, kind, x, size, columns):
    run, columns = request.getfixturevalue(kind), np.array(columns) % 90
    cutout = read(run.cutout(run.wcs.pixel_to_world(x, 30), ["1 deg", size]))
    assert set(cutout) == {"COUNTS", "BACKGROUND", *IMAGES} | ({"EXPOSURE"} if kind == "run" else set())
    there = np.arange(len(columns))
    for name, (pixels, wcs) in cutout.items():
        np.testing.assert_array_equal(pixels, whole(run, name)[..., 25:35, columns])
        sky = run.wcs.pixel_to_world(columns, np.full(len(columns), 27))
        assert (wcs.celestial.pixel_to_world(there, np.full(len(columns), 2)).separation(sky).arcsec < 1e-6).all()
        # Positions come back as the pixels of the cutout.
        np.testing.assert_allclose(wcs.celestial.world_to_pixel(sky)[0], there, atol=1e-6)
    assert cutout["SUPPORT"][1].naxis == 3


def test_the_exposure_has_the_unit_of_the_survey(run):
    assert run.cutout(CENTER, "1 deg")["EXPOSURE"].header["BUNIT"] == "cm2 s"
    assert run.plot("exposure").figure.axes[-1].get_ylabel() == "cm2 s"
    plt.close("all")


def test_any_frame_and_any_kind_of_size_will_do_and_beyond_the_map_there_is_nothing(run):
    first, *others = (
        run.cutout(center, size)["COUNTS"].data
        for center, size in ((CENTER, "1 deg"), (CENTER.icrs, 1 * u.deg), (CENTER.fk5, ["60 arcmin", "3600 arcsec"]))
    )
    assert all(np.array_equal(first, other) for other in others)
    assert run.cutout(None, ["2 deg", "4 deg"])["MODEL"].data.shape == (20, 40)
    np.testing.assert_array_equal(run.cutout(None, None)["MODEL"].data, run.model.compute())
    corner = run.cutout(run.wcs.pixel_to_world(0, 0), "2 deg")["MODEL"]
    np.testing.assert_array_equal(corner.data, run.model[:10, :10].compute())


def test_only_chunks_of_the_cutout_are_read(run, tmp_path):
    copy = SurveyRun.open(shutil.copytree(run.files.path, tmp_path / "run"))
    chunks = [path for path in copy.files.maps.glob("*/c/**/1/*") if path.is_file()]
    assert chunks
    for path in chunks:
        path.write_bytes(b"damaged")
    assert copy.cutout(run.wcs.pixel_to_world(20, 20), "2 deg")["MODEL"].data.shape == (20, 20)


def test_a_cutout_is_a_survey_itself_and_a_file(run, tmp_path):
    path = tmp_path / "cutout.fits"
    hdus = run.cutout(CENTER, "4 deg", path)
    with fits.open(path) as written:
        assert [hdu.name for hdu in written] == [hdu.name for hdu in hdus]
        np.testing.assert_array_equal(written["SUPPORT"].data, hdus["SUPPORT"].data)
    assert plan_survey(path, n_scale=1, min_scale=1.2).grid.map_box.shape == hdus["COUNTS"].data.shape
    with pytest.raises(InputError, match=r"cutout\.fits is not written: .*exists"):
        run.cutout(CENTER, "2 deg", path)
    run.cutout(CENTER, "2 deg", path, overwrite=True)


@pytest.mark.parametrize(
    ("center", "size", "message"),
    [
        ((10, 1), "1 deg", r"center is \(10, 1\): give one position"),
        (SkyCoord([1, 2], [3, 4], unit="deg"), "1 deg", "give one position"),
        (CENTER, None, "size is None: give an angle"),
        (CENTER, "1 parsec", "size is '1 parsec': give an angle"),
        (CENTER, ["1 deg"] * 3, "give an angle, such as '2 deg', or two"),
        (CENTER, "1 arcsec", "size is 1 arcsec, 0 x 0 pixels: give a larger one"),
        (SkyCoord(40, 1, unit="deg", frame="galactic"), "1 deg", "nothing of the map of 70 x 90 pixels .* is in"),
    ],
)
def test_what_is_no_rectangle_of_the_map_is_refused(run, center, size, message):
    with pytest.raises(InputError, match=message):
        run.cutout(center, size)


def test_a_center_nowhere_on_the_projection_is_refused():
    text = header_text((20, 20), CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN")
    with pytest.raises(InputError, match="has no pixel in the map's projection: choose another center"):
        Region.of(text, (20, 20), ring=False, center=SkyCoord(190, 0, unit="deg", frame="galactic"), size="1 deg")


def test_what_is_not_small_is_not_cut_out(run, monkeypatch):
    monkeypatch.setattr(cutouts, "SMALL_MAP_PIXELS", 399)
    with pytest.raises(InputError, match=r"20 x 20 pixels \(y, x\) are more than the 399 that are cut out at once"):
        run.cutout(CENTER, "2 deg")


# --- headers that DS9 and others rely on ------------------------------------------------------------------------------


def test_every_hdu_of_maps_fits_has_a_wcs_that_goes_there_and_back(run):
    with fits.open(run.files.maps_fits) as hdus:
        for name, (pixels, wcs) in read(hdus).items():
            x, y = np.meshgrid([0, 40, 89], [0, 69])
            sky = wcs.celestial.pixel_to_world(x, y)
            assert (sky.separation(run.wcs.pixel_to_world(x, y)).arcsec < 1e-6).all(), name
            np.testing.assert_allclose(wcs.celestial.world_to_pixel(sky), (x, y), atol=1e-6)
            assert wcs.naxis == pixels.ndim
        assert hdus["MODEL"].header["BUNIT"] == "count"
        assert "BUNIT" not in hdus["SIGNIFICANCE"].header


MATRICES = {
    "CDELT": {},
    "PC": {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8},
    "CD": {"CD1_1": -0.08, "CD1_2": 0.06, "CD2_1": 0.06, "CD2_2": 0.08},
    "CD of old": {"CD001001": -0.08, "CD001002": 0.06, "CD002001": 0.06, "CD002002": 0.08},
}


@pytest.mark.parametrize("scales", [[1.5], [6.0, 7.8, 10.14]])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_a_cube_has_an_axis_of_scales_whatever_the_steps_of_the_sky_are_written_as(matrix, scales):
    text = header_text((20, 30), **matrix)
    hdu = map_hdu("support", np.ones((len(scales), 20, 30), dtype=bool), text, scales)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # of old spellings
        wcs, plane = WCS(hdu.header), WCS(fits.Header.fromstring(text, sep="\n"))
    assert wcs.axis_type_names[2] == "scale"
    indices = np.arange(len(scales))
    lon, lat, found = wcs.all_pix2world(np.full(len(scales), 4.0), 5.0, indices, 0)
    np.testing.assert_allclose(found, scales, rtol=1e-12)
    np.testing.assert_allclose(wcs.all_world2pix(lon, lat, found, 0)[2], indices, atol=1e-9)
    np.testing.assert_allclose((lon[0], lat[0]), plane.all_pix2world(4.0, 5.0, 0), atol=1e-12)


def test_a_cube_on_distorted_sky_can_be_read():
    sip = {"CTYPE1": "GLON-TAN-SIP", "CTYPE2": "GLAT-TAN-SIP", "A_ORDER": 2, "A_2_0": 1e-4, "B_ORDER": 2, "B_0_2": 1e-4}
    hdu = map_hdu("support", np.ones((2, 20, 30), dtype=bool), header_text((20, 30), **sip), [1.2, 1.8])
    assert WCS(hdu.header, naxis=2).sip is not None


def test_a_dataset_without_xarray_is_refused(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match="datasets of xarray need it: pip install xarray"):
        run.to_xarray()
