"""The sphere on planes: plots and cutouts anywhere, across facets, and the whole sky."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.visualization.wcsaxes.frame import EllipticalFrame
from astropy.wcs import WCS
from spheres import CORNER

from cwt_dask.errors import InputError
from cwt_dask.geometry.healpix import lon_lat_of
from cwt_dask.products import cutouts, plots
from cwt_dask.products.planes import Plane

mpl.use("Agg")

CENTER = SkyCoord(*lon_lat_of(CORNER), unit="deg", frame="galactic")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


@pytest.mark.parametrize(("size", "projection"), [("16 deg", "TAN"), (["16 deg", "30 deg"], "ZEA")])
def test_a_cutout_across_facets_has_the_values_at_its_pixels_and_says_that_it_is_for_display(sphere, size, projection):
    cutout = sphere.cutout(CENTER.icrs, size)
    wcs = WCS(cutout["MODEL"].header)
    assert list(wcs.wcs.ctype) == [f"GLON-{projection}", f"GLAT-{projection}"]
    assert "Resampled for display" in str(cutout["COUNTS"].header["COMMENT"])
    rows, columns = cutout["MODEL"].shape
    assert wcs.pixel_to_world((columns - 1) / 2, (rows - 1) / 2).separation(CENTER).arcsec < 1e-3
    pixel = sphere.survey.statistics.pixel_scale_deg
    assert rows == round(16 / pixel)
    y, x = np.indices((rows, columns)).reshape(2, -1)
    at = sphere.at(wcs.pixel_to_world(x, y))
    assert len(np.unique(at["facet"].compressed())) == 3
    for name in ("counts", "model", "sigma", "mask"):
        np.testing.assert_array_equal(cutout[name.upper()].data.ravel(), at[name].filled(0))
    assert cutout["SUPPORT"].data.shape == (2, rows, columns)


def test_a_cutout_of_the_whole_sky_is_the_projection_of_mollweide(sphere):
    cutout = sphere.cutout(None, None)
    wcs = WCS(cutout["MODEL"].header)
    assert list(wcs.wcs.ctype) == ["GLON-MOL", "GLAT-MOL"]
    rows, columns = cutout["MODEL"].shape
    assert columns == 2 * rows
    # All of the sky is in it, and the pixels have the size of the survey's.
    assert np.isfinite(wcs.world_to_pixel(SkyCoord([180, 0, 0], [0, 90, -90], unit="deg", frame="galactic"))).all()
    assert abs(wcs.proj_plane_pixel_area().value ** 0.5 / sphere.survey.statistics.pixel_scale_deg - 1) < 0.01
    assert int(cutout["MASK"].data.sum()) == pytest.approx(sphere.survey.statistics.n_valid, rel=0.1)


def test_the_whole_sky_is_labelled_where_no_label_is_cut(sphere):
    ax = sphere.plot("significance")
    ax.figure.canvas.draw()
    written = {text.get_text() for text in ax.texts}
    assert written == {"90°", "\N{MINUS SIGN}90°", "Galactic longitude"}
    # All that is written lies on the figure, and on the map, of longitudes, within its ends.
    renderer, figure = ax.figure.canvas.get_renderer(), ax.figure.bbox
    for text in ax.texts:
        box = text.get_window_extent(renderer)
        assert figure.contains(box.x0, box.y0)
        assert figure.contains(box.x1, box.y1)
    longitude, latitude = (axis._ticklabels for axis in ax.coords)
    assert {text for texts in longitude.text.values() for text in texts} == {f"{n}°" for n in (0, 60, 120, 240, 300)}
    (scale,) = [axes for axes in ax.figure.axes if axes is not ax]
    assert max(box.x1 for box in latitude._all_bboxes) < scale.bbox.x0


def test_what_is_not_small_is_not_cut_out(sphere, monkeypatch):
    monkeypatch.setattr(cutouts, "SMALL_MAP_PIXELS", 80)
    # Positions of a plane that is too large are not asked for.
    monkeypatch.setattr(Plane, "sky", property(lambda _: pytest.fail("it is looked at")))
    with pytest.raises(InputError, match=r"9 x 9 pixels \(y, x\) are more than the 80 that are cut out at once"):
        sphere.cutout(CENTER, "16 deg")


def test_a_plane_ends_where_the_sphere_does(sphere):
    ax = sphere.plot("counts", center=SkyCoord(0, -90, unit="deg", frame="galactic"), size="999 deg")
    assert drawn(ax).shape == (126, 126)
    assert np.isfinite(drawn(ax)).sum() == pytest.approx(sphere.survey.statistics.n_valid, rel=0.1)


def test_a_plot_is_blank_beyond_the_survey_and_marks_sources(sphere):
    ax = sphere.plot("significance", sources=True)
    assert isinstance(ax.coords.frame, EllipticalFrame)
    used = sphere.cutout(None, None)["MASK"].data > 0
    np.testing.assert_array_equal(np.isfinite(drawn(ax)), used)
    near = sphere.plot("support", index=0, center=CENTER, size="30 deg", sources=sphere.catalogue[:1], colorbar=False)
    (place,) = near.collections[0].get_offsets()
    row = sphere.catalogue[0]
    apart = near.wcs.pixel_to_world(*place).separation(SkyCoord(row["ra"], row["dec"], unit="deg"))
    assert apart.deg < sphere.survey.statistics.pixel_scale_deg
    assert not np.isfinite(drawn(near)[0, 0])
    with pytest.raises(InputError, match="with x_peak and y_peak and facet"):
        sphere.plot("model", sources={"x_peak": [1], "y_peak": [2]})


def test_the_residual_without_the_background_is_drawn_from_both(sphere):
    images = {name: drawn(sphere.plot(name, center=CENTER, size="10 deg")) for name in ("residual", "background")}
    found = drawn(sphere.plot("excess_residual", center=CENTER, size="10 deg"))
    np.testing.assert_array_equal(found, images["residual"] - images["background"])
    assert np.isfinite(found).any()


@pytest.mark.parametrize("name", ["significance", "counts"])
def test_where_pixels_of_a_plot_are_larger_they_show_the_largest_or_mean_of_many(sphere, monkeypatch, name):
    fine = drawn(sphere.plot(name, center=CENTER, size="30 deg"))
    monkeypatch.setattr(plots, "MOST_DRAWN", 6)
    ax = sphere.plot(name, center=CENTER, size="30 deg")
    coarse = drawn(ax)
    assert coarse.shape == (6, 6)
    if name == "significance":
        assert np.nanmax(coarse) == np.nanmax(sphere.significance.compute())
    else:
        # Blocks of about 8 pixels: their means have nearly the mean of all.
        assert np.nanmean(coarse) == pytest.approx(np.nanmean(fine), rel=0.3)
        used = sphere.survey.mask.compute() > 0
        y, x = np.nonzero(used)
        there = np.rint(ax.wcs.world_to_pixel(sphere.survey.wcs.pixel_to_world(x, y))).astype(int)
        values = sphere.survey.counts.compute()[used]
        middle = (there == 3).all(axis=0)
        assert coarse[3, 3] == pytest.approx(values[middle].mean())
