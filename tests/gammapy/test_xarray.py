"""`maps.zarr` as xarray opens it (make test-gammapy): axes and units by name, lazily."""

import dask.array
import numpy as np
import pytest
import spheres
import xarray
from pages import XARRAY, python_blocks
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.storage.schema import map_names
from cwt_dask.storage.zarr_io import open_group

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3, "tile_size": 40, "workers": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    survey = write_survey(tmp_path_factory.mktemp("xarray") / "survey.fits", *poisson_sky((70, 90), seed=8))
    return run_survey(survey, survey.with_name("run"), fits="no", keep_history=True, **OPTIONS)


@pytest.fixture
def maps(run):
    with xarray.open_zarr(run.files.maps, consolidated=False) as maps:
        yield maps


def test_it_opens_without_being_told_of_metadata(run, maps):
    with pytest.warns(RuntimeWarning, match="consolidated"), xarray.open_zarr(run.files.maps) as plain:
        xarray.testing.assert_identical(plain.isel(x=slice(3)), maps.isel(x=slice(3)))


def test_every_map_is_there_lazily_with_its_values(run, maps):
    names = map_names(open_group(run.files.maps))
    assert {"model", "support", "history_model"} <= set(names)
    # What the report has beside the maps is in a group of its own.
    assert "pyramid" in open_group(run.files.maps)
    assert sorted(maps.data_vars) == names
    for name in names:
        assert isinstance(maps[name].data, dask.array.Array)
        assert maps[name].dims[-2:] == ("y", "x")
        assert maps[name].dtype == run.map(name).dtype
        np.testing.assert_array_equal(maps[name], run.map(name).compute())
        assert maps[name].attrs["long_name"]
    assert maps["model"].attrs["units"] == "count"
    assert maps.attrs["wcs_header"].startswith("CRPIX1")


def test_axes_have_coordinates(maps):
    assert dict(maps.sizes) == {"iteration": 3, "scale": 2, "y": 70, "x": 90}
    assert set(maps.coords) == {"y", "x", "scale"}
    for name, values in {"y": range(70), "x": range(90), "scale": [1.2, 1.8]}.items():
        np.testing.assert_allclose(maps[name], values)
    assert {maps[name].attrs["units"] for name in maps.coords} == {"pixel"}


def test_maps_are_chosen_by_their_axes(run, maps):
    chosen = maps["support"].sel(scale=1.8, method="nearest").sel(y=slice(10, 20), x=[3, 5])
    np.testing.assert_array_equal(chosen, run.support[1, 10:21, [3, 5]].compute())


def test_maps_of_the_sphere_have_an_axis_of_facets(tmp_path):
    run = spheres.small_run(tmp_path, keep_history=True)
    with xarray.open_zarr(run.files.maps, consolidated=False) as maps:
        assert maps["support"].dims == ("scale", "facet", "y", "x")
        assert maps["history_model"].dims == ("iteration", "facet", "y", "x")
        facet = maps["model"].sel(facet=1)
        np.testing.assert_array_equal(facet, run.model[1].compute())
    np.testing.assert_array_equal(run.history[-1].model.compute(), run.model.compute())


@pytest.mark.parametrize("kind", ["flat", "sphere"])
def test_a_dataset_has_longitude_and_latitude_lazily(run, tmp_path, kind):
    run = run if kind == "flat" else spheres.small_run(tmp_path)
    maps, grid = run.to_xarray(), run.stored.plan.grid
    for name in ("lon", "lat"):
        assert isinstance(maps[name].data, dask.array.Array)
        assert maps[name].data.chunks == run.model.chunks
        assert maps[name].attrs == {
            "long_name": {"lon": "Galactic longitude", "lat": "Galactic latitude"}[name],
            "units": "deg",
        }
        assert maps[name].dims == maps["model"].dims
    *facet, y, x = np.indices(run.model.shape)
    sky = run.wcs.pixel_to_world(x.ravel(), (y + facet[0] * grid.side if facet else y).ravel()).spherical
    for name in ("lon", "lat"):
        np.testing.assert_allclose(maps[name].values.ravel(), getattr(sky, name).deg, equal_nan=True)
    with xarray.open_zarr(run.files.maps, consolidated=False) as stored:
        assert set(stored.data_vars) == set(maps.data_vars) - {"counts", "background"}
        for name in stored.data_vars:
            xarray.testing.assert_equal(stored[name], maps[name].drop_vars(["lon", "lat"]))
    if kind == "flat":
        np.testing.assert_array_equal(maps["residual"] - maps["background"], run.map("excess_residual").compute())


def test_the_block_of_the_documentation_runs(run, tmp_path, monkeypatch):
    (tmp_path / "run").symlink_to(run.files.path)
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in python_blocks("python.md") if block.startswith(XARRAY)]
    names = {"run": run}
    exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 - that is the test
    assert names["strongest"].shape == (90,)
    latitudes = 0.1 * (np.arange(70) - 34.5)
    assert names["near_plane"] == pytest.approx(run.model[np.abs(latitudes) < 1].sum().compute())
    assert 0 < names["largest_scale"] < 1
