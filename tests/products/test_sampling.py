"""Values at positions: on flat maps and on the sphere those of the pixels that hold them."""

import shutil

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from cwt_dask import SurveyRun
from cwt_dask.errors import InputError
from cwt_dask.geometry.healpix import centres_of, lon_lat_of, numbers_in
from cwt_dask.products.sampling import Sampler


@pytest.fixture(params=["run", "ring"])
def either(request):
    return request.getfixturevalue(request.param)


def test_of_a_flat_map_they_are_those_of_the_nearest_pixels(either):
    rng = np.random.default_rng(3)
    y, x = rng.uniform(-0.49, 69.49, 50), rng.uniform(-0.49, 89.49, 50)
    found = either.at(either.wcs.pixel_to_world(x, y).icrs)
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    np.testing.assert_array_equal(np.transpose([found["y"], found["x"]]), np.transpose([rows, columns]))
    for name in ("model", "significance", "mask", "best_scale"):
        np.testing.assert_array_equal(found[name], either.map(name).compute()[rows, columns])
    np.testing.assert_array_equal(found["counts"], either.survey.counts.compute()[rows, columns])
    np.testing.assert_array_equal(found["support"].T, either.support.compute()[:, rows, columns])
    assert found["support"].shape == (50, 2)
    assert found["model"].unit == "ct"
    assert ("exposure" in found.colnames) == (either.survey.exposure is not None)


def test_longitudes_and_latitudes_are_of_the_frame_of_the_map_and_what_is_beyond_is_masked(run):
    found = run.at([10.0, 50.0, 190.0], 1.0, names=["model", "support_2d", "exposure"])
    assert found.colnames == ["lon", "lat", "y", "x", "model", "support_2d", "exposure"]
    assert found.meta["frame"] == "galactic"
    np.testing.assert_allclose(found["lon"], [10, 50, 190])
    for name in found.colnames[2:]:
        assert np.ma.getmaskarray(found[name]).tolist() == [False, True, True]
    assert run.at(SkyCoord(10, 1, unit="deg", frame="galactic"))["model"][0] == found["model"][0]
    assert found["exposure"].unit == "cm2 s"
    assert len(run.at([], [])) == 0


def test_of_the_sphere_they_are_those_of_the_facet_that_owns_a_position(sphere):
    grid = sphere.stored.plan.grid
    assert grid.n_tiles == 3
    facet, y, x = np.nonzero(np.stack([grid.core_of(facet) for facet in range(grid.n_tiles)]))
    found = sphere.at(sphere.wcs.pixel_to_world(x, facet * grid.side + y).icrs)
    for name, index in {"facet": facet, "y": y, "x": x}.items():
        np.testing.assert_array_equal(found[name], index)
    for name in ("model", "sigma", "mask"):
        np.testing.assert_array_equal(found[name], sphere.map(name).compute()[facet, y, x])
    np.testing.assert_array_equal(found["support"].T, sphere.support.compute()[:, facet, y, x])
    # The pole is in none of the facets.
    beyond = sphere.at(0.0, 90.0)
    assert all(beyond[name].mask.all() for name in beyond.colnames[2:])


def test_the_residual_without_the_background_is_that_of_each_position_on_the_sphere_too(sphere, either):
    for run in (sphere, either):
        places = run.catalogue["ra"], run.catalogue["dec"]
        found = run.at(SkyCoord(*places), names=["excess_residual", "residual", "background"])
        np.testing.assert_array_equal(found["excess_residual"], found["residual"] - found["background"])
        assert (found["background"] > 0).any()
    with pytest.raises(InputError, match="excess_residual of the sphere is no array: at, plot, cutout and to_gammapy"):
        sphere.map("excess_residual")


def test_what_is_no_position_is_masked_on_maps_and_sphere(sphere, either):
    for run in (sphere, either):
        source = run.catalogue[0]
        found = run.at(SkyCoord([np.nan, source["ra"]], [0.0, source["dec"]], unit="deg"))
        assert all(found[name].mask[0].all() for name in found.colnames[2:])
        assert not found["counts"].mask[1]


def test_the_survey_of_a_sphere_is_read_from_its_own_pixels_and_no_pixel_of_it_is_without_a_map(sphere):
    used = sphere.survey.mask.compute() > 0
    numbers = numbers_in(*np.nonzero(used), 32)
    sky = SkyCoord(*lon_lat_of(centres_of(numbers, 5)), unit="deg", frame="galactic")
    found = sphere.at(sky)
    for name in ("counts", "background", "exposure"):
        np.testing.assert_array_equal(found[name], getattr(sphere.survey, name).compute()[used])
    # Next to borders the facet's nearest pixel may have its centre beyond, where its maps are 0.
    assert (found["mask"] == 1).all()
    assert (found["approx"] != 0).all()


def test_only_chunks_with_some_of_the_positions_are_read(sphere, tmp_path):
    copy = SurveyRun.open(shutil.copytree(sphere.files.path, tmp_path / "run"))
    row = sphere.catalogue[0]
    for path in copy.files.maps.glob("*/c/**/*"):
        numbers = path.relative_to(copy.files.maps).parts[2:]
        facet = numbers[1] if len(numbers) == 4 else numbers[0]
        if path.is_file() and int(facet) != row["facet"]:
            path.write_bytes(b"damaged")
    assert copy.at(SkyCoord(row["ra"], row["dec"], unit="deg"))["significance"][0] > 5


def test_many_positions_are_looked_up_piece_by_piece(sphere, monkeypatch):
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-15, 15, 300), rng.uniform(30, 54, 300)
    at_once = sphere.at(lon, lat)
    monkeypatch.setattr("cwt_dask.products.sampling._AT_ONCE", 7)
    asked = []
    monkeypatch.setattr(Sampler, "values", lambda *a, to=Sampler.values: asked.append(to(*a)) or asked[-1])
    again = sphere.at(lon, lat)
    assert 0 < np.ma.count(again["model"]) < 300
    for name in at_once.colnames:
        np.testing.assert_array_equal(np.ma.filled(at_once[name], 0), np.ma.filled(again[name], 0))


@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        (10.0, None, "lat is None: give a SkyCoord, or longitudes and latitudes in degrees"),
        ("first", 1.0, "lon is first, lat is 1.0: give a SkyCoord"),
        (1.0, 91.0, "lat is 91.0: give a SkyCoord"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "give a SkyCoord"),
        (np.nan, 1.0, "lon is nan, lat is 1.0: give positions that are finite"),
    ],
)
def test_what_are_no_positions_is_refused(sphere, lon, lat, message):
    with pytest.raises(InputError, match=message):
        sphere.at(lon, lat)


def test_an_unknown_map_is_refused(sphere):
    with pytest.raises(InputError, match="the run has no map modle"):
        sphere.at(0, 0, names=["modle"])
