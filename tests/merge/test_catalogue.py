import re

import numpy as np
import pytest
import scipy.ndimage
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table, vstack
from astropy.wcs import WCS
from regions import Regions
from scipy.stats import norm
from skies import EXPOSURE, poisson_sky, sky_header, write_survey

from cwt_dask import run_survey
from cwt_dask.measure.poisson import excess_interval, sqrt_ts
from cwt_dask.merge.agreement import Windows
from cwt_dask.merge.catalogue import build_catalogue
from cwt_dask.merge.columns import COLUMNS, columns_of
from cwt_dask.merge.names import source_names
from cwt_dask.trust import SourceFlag

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 4, "fits": "no", "workers": 0}
# All candidates are sources.
OPTIONS |= {"false_sources": 1e9}
WHOLE_NUMBERS = [column.name for column in COLUMNS if column.dtype is int]


@pytest.fixture(scope="module")
def catalogue(run):
    return run.catalogue


def assert_same_rows(found, expected):
    assert found.colnames == expected.colnames
    assert list(found["name"]) == list(expected["name"])
    for name in set(expected.colnames) - {"name"}:
        whole = {"rtol": 0, "atol": 0} if name in WHOLE_NUMBERS else {"rtol": 1e-9, "atol": 1e-6}
        assert (found[name].dtype.kind == "i") == (name in WHOLE_NUMBERS)
        np.testing.assert_allclose(found[name], expected[name], **whole)


@pytest.mark.parametrize(("tile_size", "on_workers"), [(47, False), (64, True)])
def test_rows_do_not_depend_on_the_tiles_or_workers(request, run, catalogue, tmp_path, tile_size, on_workers):
    options = OPTIONS | ({"workers": None, "client": request.getfixturevalue("client")} if on_workers else {})
    run = run_survey(run.files.path.with_name("survey.fits"), tmp_path / "run", tile_size=tile_size, **options)
    grid = run.stored.plan.grid
    assert grid.n_tiles > 1
    assert len(catalogue) > 10
    found = run.catalogue
    # The one flag that depends on the tiles.
    crosses = (found["flags"] & SourceFlag.CROSSES_SEAM) > 0
    labels, _ = scipy.ndimage.label(run.support.any(axis=0).compute())
    tiles = np.zeros((90, 130), dtype=int)
    for tile in grid.tiles():
        tiles[tile.core.slices] = tile.id
    of_islands = [np.unique(tiles[labels == labels[row["y_peak"], row["x_peak"]]]).size for row in found]
    assert crosses.tolist() == [n > 1 for n in of_islands]
    found["flags"] &= ~SourceFlag.CROSSES_SEAM
    assert_same_rows(found, catalogue)


def test_where_neighbours_are_equal_rounding_does_not_choose_the_peak(tmp_path):
    # On a flat background pairs of equal pixels have the same T/E, which differs in the last digits from tile to tile.
    counts = np.zeros((60, 90))
    y, x = np.random.default_rng(5).integers([[3], [3]], [[57], [86]], (2, 40))
    counts[y, x] = counts[y, x + 1] = 6
    survey = write_survey(tmp_path / "survey.fits", counts, np.full(counts.shape, 0.1))
    whole, found = (
        run_survey(survey, tmp_path / f"run-{size}", tile_size=size, **OPTIONS).catalogue for size in (90, 31)
    )
    assert len(whole) > 20
    found["flags"] = whole["flags"]
    assert_same_rows(found, whole)


@pytest.mark.parametrize("kind", ["catalogue", "catalogue_fits", "catalogue_votable"])
def test_all_files_hold_the_table_with_its_units_and_provenance(run, measured, kind):
    path = getattr(run.files, kind)
    known = run.stored.run_id, run.stored.plan, run.survey.statistics
    built, *_ = build_catalogue(measured.files, *known, run.wcs, Windows(60))
    stored = Table.read(path)
    if kind == "catalogue_votable":
        document = parse(path, verify="exception")
        for info in document.resources[0].infos:
            stored.meta[info.name] = info.value
        systems = {system.ID: system.system for system in document.resources[0].coordinate_systems}
        of_columns = {field.name: systems[field.ref] for field in document.get_first_table().fields if field.ref}
        assert of_columns == {"ra": "ICRS", "dec": "ICRS", "glon": "galactic", "glat": "galactic"}
    assert {name: str(stored.meta[name]) for name in built.meta} == {n: str(value) for n, value in built.meta.items()}
    assert_same_rows(stored, built)
    columns = columns_of(run.survey.statistics.exposure_unit)
    assert [stored[column.name].unit for column in columns] == [column.unit for column in columns]
    # A VOTable breaks long lines.
    texts = ["".join(stored[column.name].description.split()) for column in columns]
    assert texts == [column.text.replace(" ", "") for column in columns]


def test_rows_are_numbered_from_the_best_with_islands_of_the_merged_support(run, catalogue):
    assert catalogue["source_id"].tolist() == list(range(1, len(catalogue) + 1))
    assert (np.diff(catalogue["score"]) <= 0).all()
    pixels = list(zip(catalogue["y_peak"], catalogue["x_peak"], strict=True))
    assert len(set(pixels)) == len(pixels)
    labels, _ = scipy.ndimage.label(run.support.any(axis=0).compute())
    at_peaks = labels[catalogue["y_peak"], catalogue["x_peak"]]
    assert ((catalogue["island_id"] > 0) == (at_peaks > 0)).all()
    n_pixels = np.where(at_peaks > 0, np.bincount(labels.ravel())[at_peaks], 0)
    assert catalogue["n_pixels"].tolist() == n_pixels.tolist()
    same = at_peaks[:, np.newaxis] == at_peaks
    np.testing.assert_array_equal(same, catalogue["island_id"][:, np.newaxis] == np.asarray(catalogue["island_id"]))


@pytest.mark.parametrize("asked", [30.0, pytest.param(1.0, marks=pytest.mark.long)])
def test_the_catalogue_has_the_rows_of_which_few_enough_are_expected_to_be_false(run, catalogue, tmp_path, asked):
    # As the certificate has it; of scores in between by the number of trials.
    stated = run.certificate["expected_false"]
    trials = np.interp(catalogue["score"], stated["score"], stated["rows"] / norm.sf(stated["score"]))
    np.testing.assert_allclose(catalogue["expected_false"], trials * norm.sf(catalogue["score"]), rtol=1e-9)
    assert (trials < 90 * 130).all()
    options = OPTIONS | {"false_sources": asked, "tile_size": 70}
    split = run_survey(run.files.path.with_name("survey.fits"), tmp_path / "run", **options)
    n_selected = np.count_nonzero(catalogue["expected_false"] <= asked)
    assert 0 < n_selected < len(catalogue)
    rows = vstack([split.catalogue, split.candidates], metadata_conflicts="silent")
    assert (len(split.catalogue), rows.colnames) == (n_selected, catalogue.colnames)
    for name in ("source_id", "name", "x_peak", "y_peak"):
        assert rows[name].tolist() == catalogue[name].tolist()
    np.testing.assert_allclose(rows["score"], catalogue["score"], atol=1.1e-5)


def test_counts_excess_errors_and_statistic_agree(catalogue):
    counts, background, excess = (np.asarray(catalogue[name]) for name in ("counts", "background", "excess"))
    np.testing.assert_allclose(excess, counts - background, atol=2e-6)
    assert (counts == np.rint(counts)).all()
    low, high = excess_interval(counts, background)
    np.testing.assert_allclose(excess - catalogue["excess_errn"], np.minimum(low, excess), atol=3e-6)
    np.testing.assert_allclose(excess + catalogue["excess_errp"], high, atol=3e-6)
    assert (catalogue["excess_errn"] >= 0).all()
    np.testing.assert_allclose(catalogue["sqrt_ts_disc"], sqrt_ts(counts, background), atol=1e-5)


def test_the_flux_is_the_excess_over_the_exposure_where_there_is_any(run, tmp_path):
    path = tmp_path / "survey.fits"
    with fits.open(run.files.path.with_name("survey.fits")) as hdus:
        hdus["EXPOSURE"].data[:, 65:] = 0
        hdus.writeto(path)
    rows = run_survey(path, tmp_path / "run", **OPTIONS).catalogue
    exposed = np.asarray(rows["x_peak"]) < 65
    assert 0 < exposed.sum() < len(rows)
    assert rows["exposure"].tolist() == np.where(exposed, EXPOSURE, 0).tolist()
    expected = np.where(exposed, rows["excess"] / EXPOSURE, np.nan)
    np.testing.assert_allclose(np.asarray(rows["photon_flux"], float), expected, rtol=1e-5)


def test_scales_are_in_degrees_too(run, catalogue):
    np.testing.assert_allclose(catalogue["scale_deg"], 0.1 * catalogue["scale"], rtol=1e-6)
    iteration = run.map("best_iteration").compute()
    assert catalogue["iteration"].tolist() == iteration[catalogue["y_peak"], catalogue["x_peak"]].tolist()


def test_regions_are_the_discs(run, catalogue):
    circles = Regions.read(run.files.catalogue_regions, format="ds9")
    for circle, row in zip(circles, catalogue, strict=True):
        assert circle.center.separation(SkyCoord(row["ra"], row["dec"], unit="deg")).arcsec < 0.01
        assert circle.radius.to_value("deg") == pytest.approx(0.1 * row["radius"], abs=1e-6)
        assert circle.meta["text"] == row["name"]


@pytest.mark.parametrize("wrap", ["no", "yes"])
def test_a_source_is_blended_if_its_disc_overlaps_anothers(tmp_path, wrap):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((80, 130), seed=11, n_sources=90))
    catalogue = run_survey(survey, tmp_path / "run", wrap=wrap, **OPTIONS).catalogue
    y, x, radius = (np.asarray(catalogue[name], float)[:, np.newaxis] for name in ("y_peak", "x_peak", "radius"))
    apart_x = np.abs(x - x.T)
    apart = np.hypot(y - y.T, apart_x if wrap == "no" else np.minimum(apart_x, 130 - apart_x))
    np.fill_diagonal(apart, np.inf)
    expected = (apart <= radius + radius.T).any(axis=1)
    assert ((catalogue["flags"] & SourceFlag.BLENDED) > 0).tolist() == expected.tolist()
    assert 0 < expected.sum() < len(catalogue)


def test_positions_agree_with_the_wcs_and_astropy(run, catalogue):
    icrs = SkyCoord(catalogue["ra"], catalogue["dec"], frame="icrs")
    galactic = SkyCoord(catalogue["glon"], catalogue["glat"], frame="galactic")
    assert icrs.separation(galactic).max() < 3e-7 * u.deg
    x, y = run.wcs.world_to_pixel(icrs)
    np.testing.assert_allclose(x, catalogue["x_centroid"], atol=2e-5)
    np.testing.assert_allclose(y, catalogue["y_centroid"], atol=2e-5)
    apart = np.hypot(catalogue["x_centroid"] - catalogue["x_peak"], catalogue["y_centroid"] - catalogue["y_peak"])
    assert 0 < apart.max() <= catalogue["scale"].max()
    assert list(catalogue["name"]) == source_names(catalogue["ra"], catalogue["dec"], 0.1)


@pytest.mark.parametrize("cards", [{"RADESYS": "ICRS"}, {"RADESYS": "FK5", "EQUINOX": 2000.0}, {"RADESYS": "FK4"}])
def test_equatorial_maps_give_the_same_kinds_of_coordinates(run, measured, cards):
    header = sky_header((99, 99))
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.6, "CRVAL2": 22.0} | cards)
    wcs = WCS(header)
    known = run.stored.run_id, run.stored.plan, run.survey.statistics
    catalogue, *_ = build_catalogue(measured.files, *known, wcs, Windows(60))
    expected = wcs.pixel_to_world(catalogue["x_centroid"], catalogue["y_centroid"])
    for frame, lon, lat in (("icrs", "ra", "dec"), ("galactic", "glon", "glat")):
        found = SkyCoord(catalogue[lon], catalogue[lat], frame=frame)
        assert found.separation(expected.transform_to(frame)).max() < 2e-6 * u.deg


def test_injected_sources_are_found_where_they_are_and_nothing_else(tmp_path):
    places = [(5, 7), (20, 60), (48, 51), (50, 100), (80, 12), (88, 128)]
    rng = np.random.default_rng(12)
    y, x = np.mgrid[:90, :130]
    shapes = (np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2) for y0, x0 in places)
    expected = 0.5 + 400 * sum(shapes)
    survey = write_survey(tmp_path / "survey.fits", rng.poisson(expected), np.full((90, 130), 0.5))
    run = run_survey(survey, tmp_path / "run", tile_size=50, **OPTIONS | {"false_sources": 0.001})
    catalogue = run.catalogue
    catalogue.sort(["y_peak", "x_peak"])
    found = list(zip(catalogue["y_peak"], catalogue["x_peak"], strict=True))
    assert all(np.hypot(*np.subtract(place, peak)) <= 1.5 for place, peak in zip(places, found, strict=True))
    near_the_edge = [min(y0, x0, 89 - y0, 129 - x0) < 11 for y0, x0 in places]
    assert (catalogue["flags"] & 1).astype(bool).tolist() == near_the_edge


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_map_without_a_source_gives_an_empty_table_with_all_columns(tmp_path, level):
    survey = write_survey(tmp_path / "survey.fits", np.zeros((60, 70), dtype=int), np.full((60, 70), level))
    run = run_survey(survey, tmp_path / "run", **OPTIONS)
    assert run.promises_kept
    for path in (run.files.catalogue, run.files.catalogue_fits, run.files.catalogue_votable):
        table = Table.read(path)
        assert len(table) == 0
        assert [(name, table[name].unit) for name in table.colnames] == [(c.name, c.unit) for c in columns_of("")]
    assert Regions.read(run.files.catalogue_regions, format="ds9").regions == []


def test_no_peak_lies_off_the_sky(tmp_path):
    # A full-sky map with a source every few pixels, so that all regions have peaks.
    counts, background = np.zeros((50, 90), int), np.full((50, 90), 0.5)
    counts[3::9, 3::9] = 60
    cards = {"CTYPE1": "GLON-AIT", "CTYPE2": "GLAT-AIT", "CDELT1": -4.0, "CDELT2": 4.0, "CRPIX1": 45.5, "CRVAL1": 0.0}
    run = run_survey(write_survey(tmp_path / "survey.fits", counts, background, **cards), tmp_path / "run", **OPTIONS)
    for path in (run.files.catalogue, run.files.catalogue_fits):
        rows = Table.read(path)
        assert 20 < len(rows) < 50
        assert all(re.fullmatch(r"CWT J\d{4}\.\d[+-]\d{4}[a-z]*", name) for name in rows["name"])
        for column in ("ra", "dec", "glon", "glat"):
            assert np.isfinite(rows[column]).all()
