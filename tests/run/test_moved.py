"""A run on an image of the sky that is taken to the sphere: its poles are ordinary places."""

import numpy as np
import pytest
import spheres
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import vstack
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from cwt_dask.geometry.facets import pixel_of
from cwt_dask.geometry.healpix import lon_lat_of, vectors_of
from cwt_dask.reprocess import what_would_be_reused
from cwt_dask.run import run_survey

NSIDE = 64
OPTIONS = {"n_scale": 2, "min_scale": 1.5, "step_scale": 1.5, "psf": 1.5, "max_iter": 3, "workers": 0}
# A pole, and a place on the equator.
PLACES = np.array([[0.0, 0.0, 1.0], [np.cos(0.3), np.sin(0.3), 0.0]])
RADIUS, LEVEL, N_COUNTS = 9, 0.5, 400


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Events in CAR, pixels of a degree, masked but for caps about both places."""
    rng, shape = np.random.default_rng(5), (180, 360)
    cards = {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CUNIT1": "deg", "CUNIT2": "deg", "CDELT1": -1, "CDELT2": 1}
    header = fits.Header(cards | {"CRPIX1": 180.5, "CRPIX2": 90.5, "CRVAL1": 0.0, "CRVAL2": 0.0})
    wcs, (y, x) = WCS(header), np.indices(shape)
    lon, lat = np.radians(wcs.all_pix2world(x, y, 0))
    background = LEVEL * np.cos(lat) * np.radians(1) ** 2 / pixel_of(NSIDE) ** 2
    counts = rng.poisson(background)
    events = np.concatenate([spheres.scattered(p, 1.5 * pixel_of(NSIDE), rng.poisson(N_COUNTS), rng) for p in PLACES])
    sky = SkyCoord(*lon_lat_of(events), unit="deg", frame="galactic")
    column, row = (np.rint(each).astype(int) for each in wcs.world_to_pixel(sky))
    np.add.at(counts, (row, column % 360), 1)
    mask = (vectors_of(lon, lat) @ PLACES.T > np.cos(np.radians(RADIUS))).any(axis=-1).astype(np.uint8)
    planes = {"COUNTS": counts, "BACKGROUND": background, "MASK": mask}
    hdus = [fits.ImageHDU(values, header, name) for name, values in planes.items()]
    return spheres.write(tmp_path_factory.mktemp("moved") / "car.fits", *hdus)


@pytest.fixture(scope="module")
def finished(survey):
    return run_survey(survey, survey.parent / "run", sphere=True, **OPTIONS)


def test_sources_are_found_once_with_their_counts_at_the_pole_too(finished):
    assert finished.survey.statistics.sphere.nside == NSIDE
    rows = vstack([finished.catalogue, finished.candidates])
    bright = rows[rows["score"] > 6]
    found = vectors_of(np.radians(bright["glon"]), np.radians(bright["glat"]))
    apart, which = cKDTree(PLACES).query(found)
    assert sorted(which) == [0, 1]
    assert (apart < pixel_of(NSIDE)).all()
    assert np.abs(bright["npred"] / N_COUNTS - 1).max() < 0.25


def test_every_count_is_in_one_cell_and_the_image_is_named(survey, finished):
    used = fits.getdata(survey, "MASK") > 0
    facets = finished.certificate["facets"]
    assert facets["counts_in_cells"] == facets["counts_of_survey"] == fits.getdata(survey, "COUNTS")[used].sum()
    assert [each["file"] for each in finished.certificate["files"]] == [str(survey)]
    (origin,) = [each for each in finished.stored.plan.origins if each["plane"] == "counts"]
    assert origin["file"] == str(survey)


def test_it_is_resumed_and_reused(survey, finished):
    again = run_survey(survey, finished.files.path, sphere=True, **OPTIONS)
    assert again.stored.run_id == finished.stored.run_id
    lines = what_would_be_reused(survey, finished.files.path, sphere=True)
    assert any("reused" in line for line in lines)
