"""The current Gammapy, in an environment of its own (make test-gammapy): its maps and datasets in, maps out."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import spheres
from astropy import units as u
from gammapy.datasets import MapDataset
from gammapy.maps import HpxNDMap, Map, MapAxis, RegionNDMap, WcsGeom, WcsNDMap
from pages import GAMMAPY, XARRAY, python_blocks
from skies import poisson_sky, write_survey

from cwt_dask import CWTData, run_survey
from cwt_dask.errors import InputError
from cwt_dask.survey import ingest

# A report takes as long as such a run.
OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3, "tile_size": 40, "workers": 0}
OPTIONS |= {"no_report": True}
SHAPE = (70, 90)


def make_dataset(n_bins):
    """A dataset on the sky of `skies.sky_header`, with counts alike in each bin and a mask."""
    energy = MapAxis.from_energy_bounds("0.1 TeV", "10 TeV", nbin=n_bins)
    true = MapAxis.from_energy_bounds("0.1 TeV", "10 TeV", nbin=5, name="energy_true")
    geom = WcsGeom.create(npix=SHAPE[::-1], binsz=0.1, skydir=(10, 0), frame="galactic", proj="CAR", axes=[energy])
    dataset = MapDataset.create(geom, energy_axis_true=true)
    counts, background = poisson_sky(SHAPE, seed=8)
    mask = np.ones(SHAPE, dtype=bool)
    mask[30:40, 50:60] = False
    for each, plane in ((dataset.counts, counts), (dataset.background, background), (dataset.mask_safe, mask)):
        each.data = np.stack([plane] * n_bins)
    dataset.exposure.data += 2e10
    return dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gammapy")


@pytest.fixture(scope="module")
def run(folder):
    return run_survey(make_dataset(1), folder / "run", **OPTIONS)


def test_a_run_on_a_dataset_is_the_run_on_its_fits_file(run, folder):
    dataset = make_dataset(1)
    planes = (each.data[0] for each in (dataset.counts, dataset.background, dataset.mask_safe))
    file = write_survey(folder / "survey.fits", *planes)
    assert run_survey(file, folder / "file", **OPTIONS).certificate["digest_maps"] == run.certificate["digest_maps"]
    assert run.certificate["tiling_exact"]
    assert len(run.catalogue) > 0
    np.testing.assert_allclose(run.survey.exposure, 2e10)  # flat in five true energies


def test_maps_may_come_by_name_with_exposure_interpolated_to_their_pixels(folder):
    dataset = make_dataset(1)
    geom = dataset.counts.geom.to_image()
    exposure = dataset.exposure.sum_over_axes(keepdims=False).interp_to_geom(geom)
    maps = {"counts": dataset.counts, "background": dataset.npred_background(), "exposure": exposure}
    survey = ingest(maps, folder / "survey.zarr")
    np.testing.assert_allclose(survey.exposure, 1e11, rtol=1e-3)
    assert survey.statistics.exposure_unit == "m2 s"
    run = run_survey(folder / "survey.zarr", folder / "exposed", **OPTIONS)
    assert run.to_gammapy(names=["exposure"])["exposure"].unit == "m2 s"


def test_energy_bins_are_summed_when_asked_or_by_gammapy(folder):
    dataset = make_dataset(3)
    message = "HDU COUNTS of the dataset is a cube of 3 planes: choose one, --band I .* --band sum"
    with pytest.raises(InputError, match=message):
        run_survey(dataset, folder / "cube", **OPTIONS)
    summed = ingest(dataset, folder / "summed.zarr", band="sum").statistics
    image = ingest(dataset.to_image(), folder / "image.zarr").statistics
    assert summed.counts_sum == image.counts_sum == (dataset.counts * dataset.mask_safe).data.sum()
    assert summed.n_masked == image.n_masked == 100


def test_one_image_is_taken_from_a_dataset():
    dataset = make_dataset(1)
    data = CWTData.from_dataset(dataset, n_scale=2)
    np.testing.assert_array_equal(data.counts.data, dataset.counts.data[0] * dataset.mask_safe.data[0])
    again = CWTData(dataset.counts, dataset.background, n_scale=2)
    assert again.wcs.wcs.ctype[0] == "GLON-CAR"


def test_a_map_of_a_region_is_refused():
    counts = RegionNDMap.create("icrs;circle(0, 0, 1)")
    with pytest.raises(InputError, match="counts is on a RegionGeom that has no rows and columns of pixels"):
        CWTData.from_dataset({"counts": counts, "background": counts}, n_scale=1)


def test_maps_of_a_run_are_maps_of_gammapy(run, folder):
    maps = run.to_gammapy()
    assert {"counts", "model", "significance", "support"} <= maps.keys()
    geom = make_dataset(1).counts.geom.to_image()
    for name in ("model", "significance"):
        assert isinstance(maps[name], WcsNDMap)
        np.testing.assert_array_equal(maps[name].data, run.map(name).compute())
        assert maps[name].geom == geom
    assert maps["support"].data.dtype == bool
    np.testing.assert_allclose(maps["support"].geom.axes["scale"].center.value, [1.2, 1.8])
    residual = maps["counts"] - (maps["model"] + maps["approx"])
    used = run.map("mask").compute() > 0
    np.testing.assert_allclose(residual.data[used], maps["residual"].data[used], atol=1e-9)
    maps["significance"].write(folder / "significance.fits")
    assert Map.read(folder / "significance.fits").geom == geom


def test_a_rectangle_of_a_run_is_that_of_gammapy(run):
    center = run.wcs.pixel_to_world(40.2, 30.3)
    ours = run.to_gammapy(center, "2 deg", names=["model", "best_scale"])
    theirs = run.to_gammapy()["model"].cutout(center, 2 * u.deg)
    np.testing.assert_array_equal(ours["model"].data, theirs.data)
    assert ours["best_scale"].geom == theirs.geom


def test_one_scale_and_a_history_have_axes_too(folder):
    run = run_survey(make_dataset(1), folder / "one", keep_history=True, **OPTIONS | {"n_scale": 1})
    maps = run.to_gammapy(names=["support", "history_model"])
    assert maps["support"].geom.axes["scale"].center.value == 1.2
    np.testing.assert_array_equal(maps["history_model"].geom.axes["iteration"].center, [1, 2, 3])


def test_maps_of_the_sphere_are_by_healpix_pixel_and_rectangles_of_it_are_planes(folder):
    (folder / "sphere").mkdir()
    run = spheres.small_run(folder / "sphere", no_report=True)
    maps = run.to_gammapy()
    assert {type(each) for each in maps.values()} == {HpxNDMap}
    geom = maps["model"].geom
    assert (geom.nside.item(), geom.nest, geom.frame, geom.npix.item()) == (32, True, "galactic", 12 * 32**2)
    assert maps["counts"].data.sum() == run.survey.statistics.counts_sum
    assert maps["exposure"].unit == "cm2 s"
    assert maps["support"].geom.axes.names == ["scale"]
    for name in ("counts", "sigma"):
        at = run.at(geom.get_coord().skycoord, names=[name])[name].filled(0)
        np.testing.assert_array_equal(maps[name].data, at)
    center = run.wcs.pixel_to_world(30, 30)
    cutout, plane = run.cutout(center, "9 deg"), run.to_gammapy(center, "9 deg")
    assert isinstance(plane["model"], WcsNDMap)
    for name, pixels in plane.items():
        np.testing.assert_array_equal(pixels.data, cutout[name.upper()].data)
    assert plane["model"].geom.center_skydir.separation(center).arcsec < 1e-3


def test_every_block_of_the_documentation_runs_after_the_one_before(tmp_path, monkeypatch):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks("python.md")
    assert sum(block.startswith(GAMMAPY) for block in blocks) == 3
    names = {}
    for block in blocks:
        if not block.startswith(XARRAY):
            exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 - that is the test
    plt.close("all")
    assert names["maps"]["support"].geom.axes.names == ["scale"]
