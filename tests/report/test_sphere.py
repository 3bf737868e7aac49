"""The report of a run on the sphere: its pixels on a plane of the whole sky, facets in place of tiles."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from reports import Parsed, data_of, page_of
from scipy.spatial import cKDTree
from spheres import small_run

from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.healpix import edges_of, lon_lat_of, numbers_in
from cwt_dask.report import damage_of_report
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.report.sphere import outlines, plane_of
from cwt_dask.storage.zarr_io import open_group


@pytest.fixture(scope="module")
def plane(sphere):
    return Pyramid.of(sphere.stored.plan.grid).plane


@pytest.fixture(scope="module")
def seen(sphere):
    """Positions and values of the survey's used pixels."""
    numbers = numbers_in(*np.nonzero(sphere.survey.mask.compute()), 32)
    sky = sphere.survey.wcs.of_numbers(numbers)
    return sky, sphere.at(sky)


def test_all_pixels_of_the_survey_are_put_onto_the_plane(sphere, plane, seen):
    sky, values = seen
    level = open_group(sphere.files.pyramid, whole="run")["1"]
    assert level["used"].shape == plane.shape
    there, place = plane.pixels(sky)
    assert there.all()
    n = np.bincount(place, minlength=level["used"].size).reshape(plane.shape)
    hit = n > 0
    assert np.array_equal(level["used"][:][hit], n[hit])
    for name in ("counts", "background", "model"):
        total = np.bincount(place, values[name], minlength=n.size).reshape(plane.shape)
        np.testing.assert_allclose(level[name][:][hit], total[hit], rtol=1e-6, atol=1e-7)
    largest = np.full(n.size, -np.inf)
    np.maximum.at(largest, place, values["significance"])
    np.testing.assert_allclose(level["significance"][:][hit], largest.reshape(plane.shape)[hit], rtol=1e-6)
    support = np.zeros((2, n.size), bool)
    for k in range(2):
        support[k, place[values["support"][:, k]]] = True
    assert np.array_equal(level["support"][:][:, hit], support.reshape(2, *plane.shape)[:, hit])


def test_pixels_of_the_plane_without_any_show_the_one_in_their_middle(sphere, plane):
    level = open_group(sphere.files.pyramid, whole="run")["1"]
    on_sky, sky = plane.sky
    middle = sphere.at(sky)
    columns, rows = sphere.survey.wcs.world_to_pixel(sky)
    used, inside = level["used"][:][on_sky], sphere.survey.mask.compute()[rows, columns] > 0
    # None is left out, and none is drawn where the survey has nothing.
    assert (used[inside] > 0).all()
    single = (used == 1) & inside
    assert np.isin(level["counts"][:][on_sky][single], middle["counts"]).all()
    assert used[~inside].sum() <= 0.2 * used.sum()


def test_each_pixel_of_the_survey_counts_once(sphere):
    level, n = open_group(sphere.files.pyramid)["1"], sphere.survey.statistics.n_valid
    own = level["own"][:] > 0
    assert level["own"][:].sum() == level["used"][:][own].sum() == n
    # A source at the corner, and counts over all else: copies of pixels would have made them more.
    profiles = data_of(page_of(sphere))["profiles"]
    area, counts = np.array(profiles["area"]), np.array(profiles["counts"])
    assert 'id="figure-extent"' in page_of(sphere)
    assert area.sum(axis=1).max() <= np.pi * (8 * profiles["rings"][0]) ** 2 * 1.1
    assert (counts <= sphere.survey.statistics.counts_sum).all()


def test_sources_lie_where_they_are_on_the_sky(sphere, plane):
    data = data_of(page_of(sphere))
    rows = sphere.catalogue[np.argsort(-sphere.catalogue["score"], kind="stable")]
    there = plane.wcs.pixel_to_world(data["x"], data["y"])
    assert (there.separation(SkyCoord(rows["ra"], rows["dec"], unit="deg")).deg < 0.02 * plane.pixel).all()
    assert data["shape"] == list(plane.shape)
    facets = data["facets"]
    assert len(facets["x"]) == sphere.stored.plan.grid.n_tiles <= len(facets["xs"])


def test_the_page_tells_of_facets(sphere):
    page = Parsed(page_of(sphere)).content
    counts = f"{sphere.survey.statistics.counts_sum:.10g}"
    assert "The facets did no harm" in page
    assert f"all {counts} counts of the survey are in the cell of exactly one facet" in page
    assert f"Counts in all cells {counts}" in page
    assert "Counts in its cell Rows of the catalogue" in page
    assert "Whole sky" in page
    for word in ("seam error", "slowest tiles", "Whole map"):
        assert word not in page
    assert not damage_of_report(sphere)


@pytest.mark.usefixtures("reported")
def test_a_run_ends_with_its_report(tmp_path):
    run = small_run(tmp_path, max_iter=1)
    assert "The facets did no harm" in page_of(run)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_outlines_of_small_cells_have_few_points_and_lie_on_their_edges(order):
    grid = FacetGrid.plan(64 << order, order, (0, 4**order // 2), 20, 10, fast_length)
    plane = plane_of(grid, 2048)
    points = np.hstack([np.concatenate(each)[:, np.newaxis] for each in outlines(grid, plane, "galactic")])
    assert len(points) <= 8 + 4 * 2 * max(1, 12 >> (order - 2))
    edges = edges_of(np.array(grid.cells), order, 200).reshape(-1, 3)
    on_plane = plane.wcs.world_to_pixel(SkyCoord(*lon_lat_of(edges), unit="deg", frame="galactic"))
    # What is drawn between points is straight.
    between = (points[1:] + points[:-1])[np.hypot(*np.diff(points, axis=0).T) < 100] / 2
    assert cKDTree(np.column_stack(on_plane)).query(np.vstack([points, between]))[0].max() < 0.5
