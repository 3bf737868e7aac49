import itertools
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, NDData, NDDataRef
from astropy.utils.exceptions import AstropyUserWarning
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS

from cwt_dask.cwt.image import SkyImage
from cwt_dask.errors import InputError

mpl.use("Agg")


def galactic(nx=40, ny=30, pixel=0.1):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-CAR", "GLAT-CAR"]
    wcs.wcs.crpix = [(nx + 1) / 2, (ny + 1) / 2]
    wcs.wcs.cdelt = [-pixel, pixel]
    wcs.wcs.crval = [0, 0]
    return wcs


@pytest.fixture
def image():
    return SkyImage(np.arange(30.0 * 40).reshape(30, 40), galactic(), "counts")


def degrees(x, y):
    return SkyCoord(x, y, unit="deg", frame="galactic")


PIXELS = np.arange(12).reshape(3, 4)
HEADER = galactic(4, 3).to_header()


@pytest.mark.parametrize(
    "source",
    [
        SkyImage(PIXELS, galactic(4, 3)),
        NDData(PIXELS, wcs=galactic(4, 3)),
        CCDData(PIXELS, unit="ct", wcs=galactic(4, 3)),
        fits.ImageHDU(PIXELS, HEADER),
        fits.PrimaryHDU(PIXELS.astype(">i4"), HEADER),
        SimpleNamespace(data=PIXELS, wcs=galactic(4, 3)),
        SimpleNamespace(data=PIXELS[np.newaxis], geom=SimpleNamespace(wcs=galactic(4, 3))),
    ],
    ids=["SkyImage", "NDData", "CCDData", "ImageHDU", "big-endian", "wcs", "geom"],
)
def test_an_image_of_anything_with_a_wcs(source):
    image = SkyImage.of(source, "counts")
    np.testing.assert_array_equal(image.data, PIXELS)
    assert image.data.dtype.isnative
    assert image.name == "counts"
    assert image.center.separation(degrees(0, 0)).deg < 1e-12


@pytest.mark.parametrize(
    "source",
    [
        *(PIXELS, PIXELS.tolist(), PIXELS * u.ct, PIXELS[np.newaxis, np.newaxis], PIXELS.astype(">f4")),
        np.ma.array(PIXELS),
        # Its WCS has no sky.
        fits.ImageHDU(PIXELS),
    ],
)
def test_an_image_of_what_has_no_place_on_the_sky(source):
    image = SkyImage.of(source)
    np.testing.assert_array_equal(image.data, PIXELS)
    assert image.wcs is None


@pytest.mark.parametrize(
    "source",
    [NDData(PIXELS, mask=PIXELS == 5), np.ma.masked_equal(PIXELS, 5), NDData(PIXELS[np.newaxis], mask=[PIXELS == 5])],
)
def test_masked_pixels_are_nan(source):
    image = SkyImage.of(source)
    assert np.argwhere(np.isnan(image.data)).tolist() == [[1, 1]]
    np.testing.assert_array_equal(image.data[PIXELS != 5], PIXELS[PIXELS != 5])


def test_the_celestial_axes_of_a_cube_are_kept():
    header = fits.Header(HEADER, copy=True)
    header.update(WCSAXES=3, CTYPE3="ENERGY", CRPIX3=1, CRVAL3=10, CDELT3=1)
    image = SkyImage.of(fits.ImageHDU(PIXELS[np.newaxis], header))
    assert image.wcs.naxis == 2
    assert image.center.separation(degrees(0, 0)).deg < 1e-12


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (np.zeros((2, 3, 4)), r"counts has shape \(2, 3, 4\): give an image \(y, x\), such as one of the cube"),
        (np.zeros(5), r"counts has shape \(5,\)"),
        (np.zeros((0, 5)), r"counts has shape \(0, 5\)"),
        (5, r"counts has shape \(\)"),
        ("map.fits", "counts holds <U8 values: give real numbers"),
        (PIXELS.astype(complex), "counts holds complex128 values"),
        (fits.PrimaryHDU(), "counts holds object values"),
        (NDDataRef(PIXELS, wcs=galactic(4, 3))[:2], "the WCS of counts is a HighLevelWCSWrapper: give an astropy"),
    ],
)
def test_what_is_not_an_image_is_refused(source, complaint):
    with pytest.raises(InputError, match=complaint):
        SkyImage.of(source, "counts")


@pytest.mark.parametrize("wcs", ["GLON-CAR", WCS(naxis=2), WCS(naxis=3)])
def test_a_wcs_of_another_kind_is_refused(wcs):
    with pytest.raises(InputError, match=r"the WCS of the image is a \w+: give an astropy.* of two celestial axes"):
        SkyImage(PIXELS, wcs)


def test_read(tmp_path, image):
    path = tmp_path / "map.fits.gz"
    fits.HDUList([fits.PrimaryHDU(), image.to_hdu()]).writeto(path)
    for hdu in (1, "counts", "COUNTS"):
        found = SkyImage.read(path, hdu)
        np.testing.assert_array_equal(found.data, image.data)
        assert found.name == "counts"
        assert found.center.separation(image.center).deg < 1e-12


def test_read_of_what_is_not_there_or_no_image(tmp_path, image):
    table = fits.BinTableHDU(np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]))
    fits.HDUList([fits.PrimaryHDU(image.data), table]).writeto(tmp_path / "map.fits")
    (tmp_path / "text.fits").write_text("no FITS")
    for name, hdu in [("absent.fits", 0), ("text.fits", 0), ("map.fits", "EXPOSURE"), ("map.fits", 7)]:
        with pytest.raises(InputError, match=f"HDU {hdu!r} of .*{name} cannot be read"):
            SkyImage.read(tmp_path / name, hdu)
    with pytest.raises(InputError, match=r"HDU 1 of .*map\.fits cannot be read: .* give real numbers"):
        SkyImage.read(tmp_path / "map.fits", 1)


def test_read_of_a_truncated_file(tmp_path, image):
    path = tmp_path / "map.fits"
    image.to_hdu().writeto(path)
    path.write_bytes(path.read_bytes()[:6000])
    with (
        pytest.warns(AstropyUserWarning, match="truncated"),
        pytest.raises(InputError, match=r"HDU 1 of .*map\.fits cannot be read"),
    ):
        SkyImage.read(path, 1)


@pytest.mark.parametrize("ny", [29, 30])
@pytest.mark.parametrize("nx", [40, 41])
def test_cutout_around_the_centre_starts_where_it_should_for_all_parities(nx, ny):
    data = np.arange(nx * ny).reshape(ny, nx)
    image = SkyImage(data, galactic(nx, ny))
    y, x = ny // 2 - 5, nx // 2 - 10
    np.testing.assert_array_equal(image.cutout(image.center, [1, 2] * u.deg).data, data[y : y + 10, x : x + 20])


@pytest.mark.parametrize(
    ("position", "size", "rows", "columns"),
    [
        # Between pixels 14 and 15 in x, 10 and 11 in y.
        (degrees(0.45, -0.35), Angle([0.6, 1.0], "deg"), slice(8, 14), slice(10, 20)),
        # In another frame.
        (degrees(1.05, 0.55).icrs, 30 * u.arcmin, slice(18, 23), slice(7, 12)),
        # At the corner.
        (degrees(1.95, -1.45), 0.5 * u.deg, slice(0, 3), slice(0, 3)),
    ],
)
def test_cutout_of_a_cube_by_position_and_size(image, position, size, rows, columns):
    cube = SkyImage(np.stack([image.data, -image.data]), image.wcs, "counts")
    cut = cube.cutout(position, size)
    np.testing.assert_array_equal(cut.data, cube.data[:, rows, columns])
    assert cut.name == "counts"
    start = image.wcs.pixel_to_world(columns.start, rows.start)
    assert cut.wcs.pixel_to_world(0, 0).separation(start).deg < 1e-9


@pytest.mark.parametrize(
    ("position", "size", "complaint"),
    [
        (degrees(30, 0), 1 * u.deg, "no cutout of 1.0 deg around 30 0 from counts with its centre at .*overlap"),
        (degrees(0, 0), 1 * u.s, "no cutout of 1.0 s around 0 0 from counts"),
        (degrees(0, 0), -1 * u.deg, "no cutout of -1.0 deg around 0 0 from counts"),
        (degrees([0, 1], [0, 1]), 1 * u.deg, "is not one position on the projection of counts"),
    ],
)
def test_impossible_cutouts_are_refused(image, position, size, complaint):
    with pytest.raises(InputError, match=complaint):
        image.cutout(position, size)


def test_behind_the_projection_and_without_a_wcs_there_is_no_sky():
    wcs = galactic()
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    with pytest.raises(InputError, match="180 0 is not one position on the projection of the image"):
        SkyImage(np.zeros((30, 40)), wcs).cutout(degrees(180, 0), 1 * u.deg)
    with pytest.raises(InputError, match="counts has no celestial WCS: make it with one"):
        _ = SkyImage(PIXELS, name="counts").center


@pytest.fixture
def pyplot():
    yield plt
    plt.close("all")


def test_plot_on_sky_axes(image, pyplot):
    axes = image.plot(vmin=1, vmax=10, cmap="gray")
    assert isinstance(axes, WCSAxes)
    assert axes.figure is pyplot.gcf()
    assert axes.get_title() == "counts"
    (picture,) = axes.images
    np.testing.assert_array_equal(picture.get_array(), image.data)
    assert picture.origin == "lower"
    assert picture.get_clim() == (1, 10)
    assert picture.get_cmap().name == "gray"


def test_plot_on_the_axes_or_figure_given(image, pyplot):
    figure = pyplot.figure()
    axes = figure.add_subplot(1, 2, 1)
    plain = SkyImage(PIXELS > 5)
    assert plain.plot(ax=axes, fig=figure) is axes
    np.testing.assert_array_equal(axes.images[0].get_array(), PIXELS > 5)
    assert image.plot(fig=figure).figure is figure
    assert not isinstance(plain.plot(fig=figure), WCSAxes)
    assert len(figure.axes) == 3


@pytest.mark.parametrize("shape", [(20, 600), (600, 20)])
def test_ticks_of_a_short_side_are_not_written_over_each_other(shape, pyplot):
    axes = SkyImage(np.zeros(shape), galactic()).plot(fig=pyplot.figure())
    axes.figure.canvas.draw()
    for axis in axes.coords:
        boxes = [box for boxes in axis._ticklabels._axis_bboxes.values() for box in boxes]
        assert boxes
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_cube_is_not_plotted():
    with pytest.raises(InputError, match="support is a cube: plot one image of it"):
        SkyImage(np.zeros((2, 3, 4)), name="support").plot()


def test_plotting_without_matplotlib_says_what_to_install(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(InputError, match=r"pip install 'cwt_dask\[plot\]'"):
        image.plot()


def test_broken_settings_of_matplotlib_are_named(image, monkeypatch):
    monkeypatch.setattr("builtins.__import__", Mock(side_effect=ValueError("Key backend: 'nonsense' is not valid")))
    with pytest.raises(InputError, match=r"cannot be loaded \(Key backend: .*\): look at MPLBACKEND and matplotlibrc"):
        image.plot()
