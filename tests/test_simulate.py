"""Simulated surveys: what is asked for, reproducible, in bounded memory, and with the true sources."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from cwt_dask.errors import InputError
from cwt_dask.geometry.healpix import centres_of, lon_lat_of, vectors_of
from cwt_dask.simulate import Sky, simulate, simulate_sphere
from cwt_dask.survey import SurveySource, scan


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder / "survey.fits", (300, 700), seed=4, n_sources=200, truth=folder / "truth.ecsv")
    with fits.open(folder / "survey.fits") as hdus:
        images = {hdu.name: hdu.data.astype(hdu.data.dtype.newbyteorder("=")) for hdu in hdus}
        headers = {hdu.name: hdu.header for hdu in hdus}
    return folder, images, headers


def test_images_and_header(simulated):
    folder, images, headers = simulated
    assert list(images) == ["COUNTS", "BACKGROUND", "EXPOSURE"]
    assert [image.dtype for image in images.values()] == [np.int32, np.float32, np.float32]
    assert {image.shape for image in images.values()} == {(300, 700)}
    assert headers["EXPOSURE"]["BUNIT"] == "cm2 s"
    for header in headers.values():
        centre = WCS(header).pixel_to_world(349.5, 149.5)
        assert centre.separation(SkyCoord(0, 0, unit="deg", frame="galactic")).deg < 1e-9
        assert header["CDELT2"] == -header["CDELT1"] == 0.1
    with fits.open(folder / "survey.fits") as hdus:
        hdus.verify("exception")


def test_it_is_a_good_survey(simulated):
    folder, images, _ = simulated
    statistics = scan(SurveySource.of(folder / "survey.fits"))
    assert statistics.warnings == ()
    assert statistics.counts_sum == images["COUNTS"].sum()


def test_the_sky_is_brighter_towards_plane_and_centre(simulated):
    background = simulated[1]["BACKGROUND"]
    assert background[150, 350] > 1.2 * background[150, 0] > 2 * background[0, 0]
    assert 0.2 < background[0, 0] < 0.6
    assert background[150, 350] > 5 * background[0, 350]


def test_counts_are_poisson_about_background_and_sources(simulated):
    folder, images, _ = simulated
    truth = Table.read(folder / "truth.ecsv")
    expected = Sky((300, 700), 0.1, truth).expected(0, 300)
    pull = (images["COUNTS"] - expected) / np.sqrt(expected)
    assert abs(pull.mean()) < 5 / pull.size**0.5
    assert pull.var() == pytest.approx(1, abs=0.03)
    excess = expected - images["BACKGROUND"]
    assert excess.min() > -1e-6
    inside = np.abs(truth["x"] - 349.5) < 300
    inside &= np.abs(truth["y"] - 149.5) < 100
    assert truth["counts"][inside].sum() < excess.sum() < 1.001 * truth["counts"].sum()


def test_truth(simulated):
    folder, _, headers = simulated
    truth = Table.read(folder / "truth.ecsv")
    assert len(truth) == 200
    assert truth.colnames == ["source_id", "glon", "glat", "ra", "dec", "x", "y", "counts", "sigma", "extended"]
    assert all(truth[name].description for name in truth.colnames)
    assert [truth[name].unit for name in ("glon", "ra", "x", "counts", "sigma")] == [u.deg, u.deg, u.pix, u.ct, u.pix]
    assert list(truth["source_id"]) == list(range(1, 201))
    positions = SkyCoord(truth["ra"], truth["dec"], frame="icrs")
    x, y = WCS(headers["COUNTS"]).world_to_pixel(positions)
    np.testing.assert_allclose(x, truth["x"], atol=1e-6)
    np.testing.assert_allclose(y, truth["y"], atol=1e-6)
    assert SkyCoord(truth["glon"], truth["glat"], frame="galactic").separation(positions).deg.max() < 1e-9
    assert truth["counts"].min() >= 20
    assert truth["counts"].max() <= 2e4
    assert (np.diff(truth["counts"]) <= 0).all()
    assert truth["x"].min() >= -0.5
    assert truth["y"].max() <= 299.5
    extended = truth["extended"]
    assert (truth["sigma"][~extended] == 1.5).all()
    assert ((truth["sigma"][extended] >= 4) & (truth["sigma"][extended] <= 8)).all()


def test_populations(tmp_path):
    truth = simulate(tmp_path / "survey.fits", (180, 360), seed=1, n_sources=4000)
    assert 0.03 < truth["extended"].mean() < 0.07
    # N(> S) ~ S**-1.2
    share = np.mean(truth["counts"] > 200)
    assert share == pytest.approx(10**-1.2, abs=0.015)
    near = np.mean(np.abs(truth["glat"]) < 3)
    assert 0.55 < near < 0.85


def test_a_seed_decides_everything(tmp_path):
    truths = {
        name: simulate(tmp_path / name, (150, 80), seed) for name, seed in [("a.fits", 3), ("b.fits", 3), ("c.fits", 4)]
    }
    one, again, other = ((tmp_path / name).read_bytes() for name in truths)
    assert one == again != other
    assert (truths["a.fits"] == truths["b.fits"]).all()


def test_number_of_sources_follows_the_area(tmp_path):
    assert len(simulate(tmp_path / "a.fits", (400, 500), 1)) == 12
    assert len(simulate(tmp_path / "b.fits", (1, 1), 1, n_sources=1)) == 1


@pytest.mark.parametrize(("shape", "pixel"), [((3600, 4), 0.05), ((3, 7200), 0.05), ((1800, 3600), 0.1)])
def test_the_map_fits_the_sky(tmp_path, shape, pixel):
    simulate(tmp_path / "survey.fits", shape, 1, n_sources=0)
    header = fits.getheader(tmp_path / "survey.fits")
    assert header["CDELT2"] == pytest.approx(pixel)
    corners = WCS(header).all_pix2world([0, shape[1] - 1], [0, shape[0] - 1], 0)
    assert np.isfinite(corners).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (0, 5)}, r"shape is \(0, 5\): it must be two numbers of pixels"),
        ({"seed": -1}, "seed is -1: it must be 0 or more"),
        ({"n_sources": -3}, "n_sources is -3: it must be 0 or more"),
        ({"out": "survey.fits.gz"}, "is no name of a plain FITS file: choose one that ends in .fits"),
        ({"out": "absent/survey.fits"}, "absent is not a directory: create it first"),
        ({"out": "here.fits"}, "here.fits exists: choose another name, or --overwrite"),
        ({"truth": "here.fits"}, "here.fits exists: choose another name, or --overwrite"),
        ({"truth": "out.fits"}, "out.fits is the name of the survey, too: give the table of its sources another"),
    ],
)
def test_impossible_calls_are_refused_and_write_nothing(tmp_path, arguments, message):
    (tmp_path / "here.fits").write_text("keep me")
    paths = {name: tmp_path / arguments[name] for name in ("out", "truth") if name in arguments}
    with pytest.raises(InputError, match=message):
        simulate(**{"out": tmp_path / "out.fits", "shape": (20, 30), "seed": 1, **arguments, **paths})
    assert [path.name for path in tmp_path.iterdir()] == ["here.fits"]
    assert (tmp_path / "here.fits").read_text() == "keep me"


def test_overwrite(tmp_path):
    for name in ("survey.fits", "truth.ecsv"):
        (tmp_path / name).write_text("old")
    simulate(tmp_path / "survey.fits", (20, 30), 1, truth=tmp_path / "truth.ecsv", overwrite=True)
    assert fits.getdata(tmp_path / "survey.fits").shape == (20, 30)
    assert len(Table.read(tmp_path / "truth.ecsv")) == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_left_of_an_interrupted_simulation(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Sky, "exposure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "survey.fits", (20, 30), 1, truth=tmp_path / "truth.ecsv")
    assert not list(tmp_path.iterdir())


# --- the whole sky ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sphere(tmp_path_factory):
    """Counts, background and exposure by NESTED number, and the true sources."""
    path = tmp_path_factory.mktemp("sphere") / "allsky.fits"
    truth = simulate_sphere(path, 64, seed=2, n_sources=40, truth=path.with_name("truth.ecsv"))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        maps = {hdu.name: np.asarray(hdu.data["VALUE"], np.float64) for hdu in hdus[1:]}
    assert (Table.read(path.with_name("truth.ecsv")) == truth).all()
    return path, maps, truth


def test_a_sky_has_the_same_emission_as_a_flat_map(sphere):
    _, maps, _ = sphere
    sky = Sky((1800, 3600), 0.1, None)
    lon, lat = lon_lat_of(centres_of(np.arange(12 * 64**2), 6))
    for y in (0, 450, 890, 1799):
        here = np.argmin(np.abs(lat - (y - 899.5) * 0.1))
        x = round((lon[here] + 180) % 360 / 0.1 - 0.5) % 3600
        assert maps["BACKGROUND"][here] == pytest.approx(sky.diffuse(y, y + 1)[0, x], rel=0.15)
        assert maps["EXPOSURE"][here] == pytest.approx(sky.exposure(y, y + 1)[0, x], rel=0.02)


def test_counts_of_a_sky_are_poisson_and_its_sources_lie_where_the_table_says(sphere):
    path, maps, truth = sphere
    statistics = scan(SurveySource.of(path))
    assert (statistics.warnings, statistics.exposure_unit, statistics.no_flux) == ((), "cm2 s", "")
    excess = maps["COUNTS"] - maps["BACKGROUND"]
    assert abs(excess.sum() - truth["counts"].sum()) < 4 * np.sqrt(maps["COUNTS"].sum())
    centres = centres_of(np.arange(len(excess)), 6)
    pixel = np.sqrt(np.pi / 3) / 64
    for source in truth[~truth["extended"]][:5]:
        place = vectors_of(*np.radians([source["glon"], source["glat"]]))
        inside = centres @ place > np.cos(4 * 1.5 * pixel)
        n = source["counts"]
        assert abs(excess[inside].sum() - n) < 5 * np.sqrt(maps["COUNTS"][inside].sum())
        centroid = (np.maximum(excess, 0)[:, np.newaxis] * centres)[inside].sum(axis=0)
        assert centroid @ place / np.linalg.norm(centroid) > np.cos(pixel)
    quiet = np.ones(len(excess), bool)
    places = vectors_of(np.radians(truth["glon"]), np.radians(truth["glat"]))
    for place, sigma in zip(places, truth["sigma"], strict=True):
        quiet &= centres @ place < np.cos(6 * sigma * pixel)
    assert quiet.sum() > 20_000
    pull = excess[quiet] / np.sqrt(maps["BACKGROUND"][quiet])
    assert abs(pull.mean()) < 5 / pull.size**0.5
    assert pull.var() == pytest.approx(1, abs=0.05)


def test_a_sky_has_sources_at_all_latitudes_and_a_seed_decides_it(tmp_path):
    truth = simulate_sphere(tmp_path / "a.fits", 16, seed=1, n_sources=3000)
    assert np.abs(truth["glat"]).max() > 85
    assert truth["extended"].mean() == pytest.approx(0.05, abs=0.02)
    simulate_sphere(tmp_path / "b.fits", 16, seed=1, n_sources=3000)
    simulate_sphere(tmp_path / "c.fits", 16, seed=2, n_sources=3000)
    one, again, other = ((tmp_path / f"{name}.fits").read_bytes() for name in "abc")
    assert one == again != other
    with pytest.raises(InputError, match="nside is 12: it must be a power of two"):
        simulate_sphere(tmp_path / "d.fits", 12, seed=1)
    assert len(simulate_sphere(tmp_path / "e.fits", np.int64(16), seed=1, n_sources=1)) == 1
