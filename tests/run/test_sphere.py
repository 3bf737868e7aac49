"""Runs on the sphere: sources are found once wherever they lie, and nothing depends on how the work was done."""

import numpy as np
import pytest
import spheres
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from scipy.spatial import cKDTree

from cwt_dask.errors import InputError
from cwt_dask.geometry.facets import pixel_of
from cwt_dask.geometry.healpix import centres_of, edges_of, lon_lat_of, vectors_of
from cwt_dask.inspection.match import match_run
from cwt_dask.inspection.verify import verify_run
from cwt_dask.products.summary import describe_plan
from cwt_dask.results import SurveyRun
from cwt_dask.run import plan_survey, run_survey

NSIDE = 64
OPTIONS = {
    "n_scale": 2,
    "min_scale": 1.5,
    "step_scale": 1.5,
    "psf": 1.5,
    "max_iter": 3,
    "workers": 0,
}
# A pole, where four cells meet; a corner of three; the middle of a border; and the middle of a cell.
POLE = np.array([0.0, 0.0, 1.0])
CORNER = np.array([np.sqrt(5) / 3, 0.0, 2 / 3])
PLACES = np.array([POLE, CORNER, edges_of(np.array([15]), 2, 8)[0][4], centres_of(np.array([15]), 2)[0]])


def vectors(rows):
    return vectors_of(np.radians(rows["glon"]), np.radians(rows["glat"]))


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sphere")
    counts, background = spheres.sky(NSIDE, PLACES, 300.0)
    pixels = np.union1d(spheres.cap(NSIDE, POLE, 25), spheres.cap(NSIDE, CORNER, 8))
    hdus = [spheres.table("COUNTS", counts, NSIDE, pixels=pixels), spheres.table("BACKGROUND", background, NSIDE)]
    return spheres.write(folder / "sky.fits", *hdus)


@pytest.fixture(scope="module")
def finished(survey):
    return run_survey(survey, survey.parent / "run", **OPTIONS)


def test_sources_are_found_once_at_poles_borders_and_corners(finished):
    rows = vstack([finished.catalogue, finished.candidates])
    bright = rows[rows["score"] > 6]
    apart, which = cKDTree(PLACES).query(vectors(bright))
    assert sorted(which) == list(range(len(PLACES)))
    assert (apart < pixel_of(NSIDE)).all()
    assert np.abs(bright["npred"] / 300 - 1).max() < 0.25


def test_the_certificate_counts_every_count_once(finished):
    certificate = finished.certificate
    assert certificate["tiling_exact"], certificate["not_exact_because"]
    facets = certificate["facets"]
    assert facets["counts_in_cells"] == facets["counts_of_survey"] == finished.survey.statistics.counts_sum
    borders = facets["borders"]
    assert borders["settled"] >= 2
    assert borders["agreed"] == borders["compared"] > 0
    assert 0.9 < borders["counts_ratio"] < 1.1


def test_images_of_unlike_sizes_are_a_whole_run(tmp_path):
    run = spheres.small_run(tmp_path, nside=256)
    grid = run.stored.plan.grid
    assert len({grid.side_of(facet) for facet in range(grid.n_tiles)}) > 1
    assert run.promises_kept
    assert not [check for check in verify_run(SurveyRun.open(run.files.path), recompute=1) if check.broken]
    scale = run.map("best_scale").compute()
    for facet in range(grid.n_tiles):
        core = grid.core_of(facet)
        scale[facet, : len(core), : len(core)][core] = -1
    assert (scale == -1).all()


def test_maps_have_an_axis_of_facets_and_are_empty_beyond_cells(finished):
    grid = finished.stored.plan.grid
    assert finished.model.shape == (grid.n_tiles, grid.side, grid.side)
    assert finished.support.shape == (2, *finished.model.shape)
    owned = np.zeros(grid.array_shape, bool)
    for facet in range(grid.n_tiles):
        owned[grid.tile(facet).core.slices] = grid.core_of(facet)
    for name in ("model", "sigma", "mask", "residual"):
        values = finished.map(name).compute()
        assert not values[~owned].any(), name
        assert values[owned].any(), name
    assert finished.catalogue["facet"].max() < grid.n_tiles


def test_maps_by_healpix_pixel_are_those_of_the_facets(survey, finished):
    table = Table.read(finished.files.maps_hpx, hdu="SKYMAP")
    numbers, statistics = np.asarray(table["PIX"]), finished.survey.statistics
    assert len(table) == statistics.n_valid
    assert (np.diff(numbers) > 0).all()
    assert {table.meta[key] for key in ("ORDERING", "INDXSCHM", "COORDSYS")} == {"NESTED", "EXPLICIT", "GAL"}
    # Where the bright sources are, the maps are large.
    near = np.array([np.argmax(centres_of(numbers, 6) @ place) for place in PLACES])
    assert (table["SIGMA"][near] > 6).all()
    assert (table["SUPPORT"][near] > 0).all()
    counts = Table.read(survey, hdu="COUNTS")
    given = dict(zip(counts["PIX"], counts["CHANNEL1"], strict=True))
    approx = finished.map("approx").compute().max()
    # Of pixels next to a border, too, of which the facet's nearest may have its centre beyond.
    shown = finished.at(SkyCoord(*lon_lat_of(centres_of(numbers, 6)), unit="deg", frame="galactic"))
    assert (shown["mask"] == 1).all()
    for name in ("model", "sigma", "significance"):
        np.testing.assert_array_equal(table[name.upper()], np.float32(shown[name]))
    left = table["RESIDUAL"] + table["MODEL"] - [given[pixel] for pixel in numbers]
    assert np.abs(left).max() <= approx + 1e-5


def test_the_same_bits_on_workers_and_by_another_file(survey, finished):
    again = run_survey(survey, survey.parent / "again", **OPTIONS | {"workers": 2, "threads": 1})
    assert again.certificate["digest_maps"] == finished.certificate["digest_maps"]
    assert again.certificate["digest_catalogue"] == finished.certificate["digest_catalogue"]


def test_it_is_resumed_and_verified(survey, finished):
    run = run_survey(survey, finished.files.path, **OPTIONS)
    assert run.stored.run_id == finished.stored.run_id
    checks = list(verify_run(SurveyRun.open(run.files.path), recompute=2))
    assert all(not check.fault for check in checks), [check for check in checks if check.fault]
    with pytest.raises(InputError, match="the sphere has no whole map"):
        list(verify_run(run, against_whole=True))


def test_sources_are_matched_by_their_place_on_the_sky(finished):
    known = finished.files.path.parent / "known.ecsv"
    lon, lat = lon_lat_of(np.vstack([PLACES, -PLACES]))
    Table({"glon": lon, "glat": lat}).write(known)
    found = match_run(finished, known, 1.0)
    # Half of them lie elsewhere on the sphere.
    assert found.inside.tolist() == [True] * len(PLACES) + [False] * len(PLACES)
    assert found.found.tolist() == found.inside.tolist()


def test_a_plan_says_what_facets_there_are(survey):
    plan = plan_survey(survey, **OPTIONS)
    assert plan.grid.extent.endswith("of nside 64")
    assert f"cells of 16 x 16 pixels in images of up to {plan.grid.side} x {plan.grid.side}\n" in describe_plan(plan)
    narrow, wide = (plan_survey(survey, **OPTIONS | {"psf": psf}).warnings for psf in (0.6, 0.7))
    (doubt,) = set(narrow) - set(wide)
    assert doubt.startswith("the point spread function has a sigma of 0.6 pixels: below 0.7 facets blur where")
    finer = plan_survey(survey, **OPTIONS | {"tile_size": 8})
    assert (plan.grid.order, finer.grid.order) == (2, 3)
