"""Maps of a run on sky axes, and how large ones are drawn small."""

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from astropy.visualization.wcsaxes import WCSAxes
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask import CWTData
from cwt_dask.errors import InputError
from cwt_dask.geometry.tiling import Box
from cwt_dask.geometry.windows import read_box
from cwt_dask.products import plots
from cwt_dask.products.layers import Layer

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(params=["run", "ring"])
def either(request):
    return request.getfixturevalue(request.param)


def drawn(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


@pytest.mark.parametrize(
    "name", ["counts", "background", "significance", "support_2d", "model_plus_approx", "excess_residual", "mask"]
)
def test_a_whole_map_is_drawn_with_its_masked_pixels_blank(run, sky, name):
    ax = run.plot(name)
    assert isinstance(ax, WCSAxes)
    assert ax.get_title() == name
    made = {"support_2d": run.support.any(axis=0), "model_plus_approx": run.model + run.approx, "mask": sky[2]}
    made["excess_residual"] = run.residual - run.survey.background
    made |= {"counts": run.survey.counts, "background": run.survey.background, "significance": run.significance}
    expected = np.array(made[name], dtype=float)
    if name != "mask":
        expected[~sky[2]] = np.nan
    np.testing.assert_array_equal(drawn(ax), expected)
    assert ax.get_xlim() == (-0.5, 89.5)
    assert ax.get_ylim() == (-0.5, 69.5)
    if name == "counts":
        ax.figure.canvas.draw()
    assert [axis.get_axislabel() for axis in ax.coords] == ["Galactic longitude", "Galactic latitude"]


def test_a_rectangle_is_that_of_the_cutout(either):
    center = either.wcs.pixel_to_world(45, 20)
    cutout = either.cutout(center, ["2 deg", "8 deg"])
    ax = either.plot("model", center=center, size=["2 deg", "8 deg"], colorbar=False, cmap="gray")
    np.testing.assert_array_equal(drawn(ax), cutout["MODEL"].data)
    assert len(ax.figure.axes) == 1
    assert ax.images[0].get_cmap().name == "gray"
    rows, columns = drawn(ax).shape
    corner = either.wcs.pixel_to_world(45 - columns // 2, 20 - rows // 2)
    assert ax.wcs.pixel_to_world(0, 0).separation(corner).deg < 1e-6


def test_sources_are_marked_where_their_peaks_are(either):
    catalogue = either.catalogue
    assert len(catalogue) > 3
    ax = either.plot("significance", sources=True)
    found = ax.collections[0].get_offsets()
    np.testing.assert_array_equal(found, np.transpose([catalogue["x_peak"], catalogue["y_peak"]]))
    some = either.plot("significance", sources=catalogue[1:3]).collections[0].get_offsets()
    np.testing.assert_array_equal(some, found[1:3])
    one = catalogue[0]
    there = either.wcs.pixel_to_world(one["x_peak"], one["y_peak"])
    ax = either.plot("significance", center=there, size=["1 deg", "4 deg"], sources=one)
    (place,) = ax.collections[0].get_offsets()
    assert ax.wcs.pixel_to_world(*place).separation(there).deg < 1e-6


def test_one_image_of_a_cube_is_drawn_over_the_edge_of_a_ring(either):
    ax = either.plot(
        "support", index=1, center=either.wcs.pixel_to_world(0, 60), size=["1 deg", "16 deg"], aspect="equal"
    )
    assert ax.get_title() == "support[1]"
    columns = np.arange(-2, 2) if either.survey.statistics.wraps else np.arange(80)
    np.testing.assert_array_equal(drawn(ax), either.support[1, 55:65].compute()[:, columns % 90])


def test_axes_and_figures_given_are_drawn_on(run):
    left, right = plt.figure().subfigures(1, 2)
    assert run.plot("model", fig=left).figure is left
    ax = right.add_subplot(projection=run.wcs)
    assert run.plot("model", ax=ax) is ax
    plain = plt.figure().add_subplot()
    assert run.plot("model", ax=plain, norm=mpl.colors.LogNorm(1e-3, 1)) is plain


def test_the_colour_scale_leaves_out_the_brightest_pixels_unless_told_otherwise(run):
    counts = drawn(ax := run.plot("counts"))
    assert ax.images[0].get_clim() == (np.nanmin(counts), np.nanpercentile(counts, 99.8))
    assert run.plot("counts", vmin=1, vmax=5).images[0].get_clim() == (1, 5)
    assert run.plot("trust").images[0].get_clim()[1] == run.map("trust").max().compute()


def test_a_map_of_one_value_is_drawn(run, monkeypatch):
    monkeypatch.setattr(Layer, "read", lambda _, box, **__: np.ones(box.shape))
    assert run.plot("counts").images[0].get_clim()[1] >= 1


@pytest.mark.parametrize(
    ("name", "index", "message"),
    [
        ("modle", None, "the run has no map modle: there are approx, best_.*, trust, counts, background, exposure, m"),
        (None, None, "name is None: it must be the name of a map"),
        ("exposure", None, "the survey has no exposure"),
        ("support", None, "support is a cube: choose one image of it with index, 0 to 1"),
        ("support", 2, "support has no image 2: its images are 0 to 1"),
        ("support", -1, "support has no image -1: its images are 0 to 1"),
        ("support", "first", "support has no image first: its images are 0 to 1"),
        ("model", 0, "model has no image 0: it is one image"),
    ],
)
def test_what_is_no_image_is_refused(ring, name, index, message):
    with pytest.raises(InputError, match=message):
        ring.plot(name, index=index)


@pytest.mark.parametrize(
    "sources", [3, None, "all", np.arange(3), {"x_peak": ["a"], "y_peak": ["b"]}, Table({"name": ["a"]})["name"]]
)
def test_what_are_no_sources_is_refused(run, sources):
    with pytest.raises(InputError, match="(?s)sources is .*: it must be True, False, or rows of a catalogue, with x_p"):
        run.plot("model", sources=sources)


# --- large maps -------------------------------------------------------------------------------------------------------


def test_of_a_large_map_several_pixels_are_drawn_as_one(run, sky, monkeypatch):
    monkeypatch.setattr(plots, "MOST_DRAWN", 20)
    ax = run.plot("significance", sources=True)
    assert ax.get_title() == "significance, 5 x 5 pixels as one"
    pixels = drawn(ax)
    assert pixels.shape == (14, 18)
    largest = run.significance.compute().reshape(14, 5, 18, 5).max(axis=(1, 3))
    used = sky[2].reshape(14, 5, 18, 5).all(axis=(1, 3))
    np.testing.assert_array_equal(pixels, np.where(used, largest, np.nan))
    joined = drawn(run.plot("joined", index=1))
    np.testing.assert_array_equal(joined[used], run.map("joined")[1].compute().reshape(14, 5, 18, 5).max((1, 3))[used])
    # The axes count the pixels of the map.
    assert ax.get_xlim() == (-0.5, 89.5)
    assert ax.images[0].get_extent() == [-0.5, 89.5, -0.5, 69.5]


class Watched:
    """An array that keeps how much of it was asked for at once."""

    def __init__(self, array, chunks):
        self.array, self.chunks, self.asked = array, chunks, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        found = self.array[key]
        self.asked.append(found.size)
        return found


@given(
    st.sampled_from(["counts", "significance", "mask"]),
    st.tuples(st.integers(0, 20), st.integers(1, 23), st.integers(-40, 30), st.integers(1, 31)),
    st.tuples(st.integers(3, 12), st.integers(3, 40)),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from([0.0, 0.4, 0.97]),
)
def test_blocks_are_those_of_the_used_pixels_of_the_box_read_whole(name, corner, chunks, factor, ring, masked):
    y0, height, x0, width = corner
    box = Box(y0, min(y0 + height, 23), x0, x0 + width)
    if not ring:
        box = box.intersection(Box(0, 23, 0, 31))
    if not box.area:
        return
    rng = np.random.default_rng(1)
    pixels, used = rng.random((23, 31)), rng.random((23, 31)) >= masked
    # Masked pixels may hold anything.
    pixels[~used] = np.nan
    array, mask = Watched(pixels, chunks), Layer("mask", (Watched(used, (6, 31)),))
    found = Layer(name, (array,)).read_reduced(box, factor, ring=ring, mask=mask if masked else None)
    assert max(array.asked) <= chunks[0] * chunks[1]
    assert sum(array.asked) == box.area
    whole = read_box(pixels, box, ring=ring)
    how = {"counts": np.nanmean, "significance": np.nanmax, "mask": np.nanmin}[name]
    starts = itertools.product(*(range(0, length, factor) for length in box.shape))
    blocks = [whole[y : y + factor, x : x + factor] for y, x in starts]
    expected = [how(block) if np.isfinite(block).any() else np.nan for block in blocks]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-12)


# --- one image in memory ----------------------------------------------------------------------------------------------


def test_all_images_of_an_analysis_are_drawn_in_a_grid_on_sky_axes_in_a_figure_given(run):
    cutout, figure = run.cutout(run.wcs.pixel_to_world(20, 20), ["2 deg", "8 deg"]), plt.figure()
    data = CWTData(cutout["COUNTS"], cutout["BACKGROUND"], n_scale=2)
    images, axes = data.images(), data.plot(columns=5, fig=figure, vmax=5)
    assert [ax.get_title() for ax in axes] == list(images)
    for ax, image in zip(axes, images.values(), strict=True):
        assert isinstance(ax, WCSAxes)
        assert (ax.figure, ax.images[0].get_clim()[1]) == (figure, 5)
        np.testing.assert_array_equal(ax.images[0].get_array(), image.data)
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 5)


def test_maps_of_either_sign_diverge_from_zero(run):
    low, high = run.plot("excess_residual").images[0].get_clim()
    values = np.abs(np.array(run.residual - run.survey.background))
    assert high == -low
    assert 0 < high <= values.max()
    image = run.plot("excess_residual").images[0]
    (red, _, blue, _), (less_red, _, more_blue, _) = image.cmap(image.norm([high, low]))
    assert red > blue
    assert more_blue > less_red
    assert run.plot("excess_residual", vmin=0, vmax=2).images[0].get_clim() == (0, 2)
    assert run.plot("counts").images[0].get_clim()[0] == 0


def test_a_long_map_fills_its_axes_and_says_so(run):
    center = run.wcs.pixel_to_world(45, 35)
    ax = run.plot("model", center=center, size=["0.5 deg", "8 deg"])
    assert (ax.get_aspect(), ax.get_title()) == ("auto", "model, pixels not square")
    ax.figure.canvas.draw()
    frame = ax.get_window_extent()
    assert 2 < frame.width / frame.height < 5
    assert run.plot("model", center=center, size=["0.5 deg", "8 deg"], aspect="equal").get_aspect() == 1
