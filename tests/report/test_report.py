"""The report: the page's facts, that it needs nothing else, and when it is written."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from dask.utils import format_bytes
from scipy.stats import poisson
from skies import poisson_sky, sky_header, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import MachineError
from cwt_dask.inspection.verify import verify_run
from cwt_dask.report import data, pyramid, write_report
from cwt_dask.report import rasters as planes
from cwt_dask.report import text as telling
from cwt_dask.report.histogram import Expectation, count_residuals, residual_edges
from cwt_dask.report.page import MARK
from cwt_dask.report.pyramid import FLAGS
from cwt_dask.report.sky import SkyGrid
from cwt_dask.report.table import flag_words, read_sources
from cwt_dask.runtime.executors import InProcess, OnDask
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.lock import sole_driver
from cwt_dask.storage.schema import map_names
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.trust import SourceFlag, Trust

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3}
SHAPE = (90, 130)
SUMMED = ("counts", "background")


class Messages(Reporter):
    def __init__(self):
        self.texts = []

    def message(self, text):
        self.texts.append(text)


@pytest.fixture(scope="module")
def mask():
    mask = np.ones(SHAPE, bool)
    mask[:, 40:47] = False
    mask[10:20, 100:120] = False
    return mask


@pytest.fixture(scope="module")
def survey(tmp_path_factory, mask):
    return write_survey(tmp_path_factory.mktemp("sky") / "survey.fits", *poisson_sky(SHAPE, seed=3), mask=mask)


@pytest.fixture(scope="module")
def finished(survey):
    """A run with seams, masked pixels and a report; to be copied, not changed."""
    run = run_survey(survey, survey.with_name("run"), tile_size=45, **OPTIONS)
    write_report(run)
    return run


class Everything:
    """Does all tiles here."""

    def over(self, function, tiles, _):
        return {tile: function(tile) for tile in tiles}


def numbers_of(run):
    return data.gather(run, pyramid.ensure_pyramid(run, Everything()), Everything())


@pytest.fixture
def run(finished, tmp_path):
    # Its report names the place that it was made at.
    return SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))


def page_of(run):
    return run.files.report.read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """Elements, and the text of each kind."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def words(self):
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("script", "style")).split())


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))


# --- the maps, reduced ------------------------------------------------------------------------------------------------


def blocks(values, factor, combine):
    """Blocks of an array (y, x), one by one."""
    ny, nx = (-(-length // factor) for length in values.shape)
    return np.array(
        [[combine(values[y * factor :][:factor, x * factor :][:, :factor]) for x in range(nx)] for y in range(ny)]
    )


@pytest.fixture
def small_levels(monkeypatch):
    """Levels and chunks of a size that small maps have several of."""
    for name, size in {"LARGEST_LEVEL": 3000, "SHORT_SIDE": 20, "LEAST_CHUNK": 4, "PIXELS_AT_ONCE": 500}.items():
        monkeypatch.setattr(pyramid, name, size)


@pytest.mark.parametrize("tile_size", [30, 64, "auto"])
@pytest.mark.usefixtures("small_levels")
def test_levels_are_what_numpy_makes_of_the_maps(survey, tmp_path, mask, tile_size):
    run = run_survey(survey, tmp_path / "run", tile_size=tile_size, **OPTIONS)
    plan = pyramid.ensure_pyramid(run, Everything())
    group = open_group(run.files.pyramid, whole="run")
    assert plan.factors == (2, 4, 8)
    assert plan.n_chunks <= run.stored.plan.grid.n_tiles
    assert plan.n_chunks > 1 or tile_size == "auto"
    maps = {name: array[:] for name, array in open_group(run.files.maps).arrays()}
    maps |= {name: array[:].astype(float) for name, array in open_group(run.survey.path).arrays() if name in SUMMED}
    for factor in plan.factors:
        level = group[str(factor)]
        n = blocks(mask, factor, np.sum)
        assert np.array_equal(level["used"][:], n)
        for name in (*SUMMED, "model"):
            np.testing.assert_allclose(level[name][:], blocks(maps[name], factor, np.sum), rtol=1e-6)
        mean = blocks(maps["residual"], factor, np.sum) / np.maximum(n, 1)
        np.testing.assert_allclose(level["residual"][:], mean, rtol=1e-5, atol=1e-6)
        largest = blocks(maps["significance"], factor, np.max)
        np.testing.assert_allclose(level["significance"][:], largest, rtol=1e-6)
        flags = blocks(maps["trust"], factor, lambda block: np.bitwise_or.reduce(block.ravel()))
        assert np.array_equal(level["trust"][:], flags)
        assert np.array_equal(level["support"][:], [blocks(plane, factor, np.any) for plane in maps["support"]])
    flagged = [np.count_nonzero(maps["trust"] & flag) for flag in FLAGS]
    assert group["flagged_pixels"][:].sum(axis=0).tolist() == flagged


def test_residuals_are_counted_and_compared_with_poisson_numbers(finished, mask):
    edges = residual_edges(finished.survey.statistics)
    counts, background, residual = (
        array.compute(scheduler="synchronous").astype(float)[mask]
        for array in (finished.survey.counts, finished.survey.background, finished.residual)
    )
    left = residual - background
    group = open_group(finished.files.pyramid)
    counted = group["residual_pixels"][:].sum(axis=0)
    assert counted.sum() == np.count_nonzero(mask)
    assert counted[1:-1].tolist() == np.histogram(left[left < edges[-1]], edges)[0].tolist()
    mean = np.maximum(counts - left, 0)
    k = np.arange(60)
    shares = poisson.pmf(k, mean[:, None])
    place = np.searchsorted(edges, k - mean[:, None], side="right")
    expected = np.bincount(place.ravel(), shares.ravel(), minlength=len(edges) + 1)
    found = group["expected_pixels"][:].sum(axis=0)
    assert found.sum() == pytest.approx(mean.size)
    # Of means that differ by 0.2 % some counts fall on the other side of an edge.
    assert np.abs(np.cumsum(found) - np.cumsum(expected)).max() < 0.005 * mean.size


def test_an_expectation_below_zero_is_one_of_no_counts():
    expectation, edges = Expectation(), np.array([-1.0, -0.5, 0.5, 1.0])
    expectation.add(np.array([[-3.0, 0.0], [1e-9, 0.0]]))
    assert expectation.histogram(edges) == pytest.approx([0, 0, 4, 0, 0], abs=1e-8)
    assert count_residuals(np.array([-2.0, -1.0, 0.9, 1.0, 7.0]), edges).tolist() == [1, 1, 0, 1, 2]


def test_the_maps_stay_what_other_tools_open(finished):
    names = map_names(open_group(finished.files.maps))
    assert "model" in names
    assert "counts" not in names
    assert not [check for check in verify_run(finished) if check.fault]


# --- planes, sky ------------------------------------------------------------------------------------------------------


def test_bytes_stand_for_values_and_masked_pixels_for_none(finished, mask):
    shown = {plane.name: plane for plane in planes.read_planes(finished, pyramid.Pyramid.of(finished.stored.plan.grid))}
    assert list(shown) == ["counts", "model", "residual", "significance", "support"]
    for plane in shown.values():
        assert np.array_equal(plane.levels[0] == 0, ~mask)
    for name, values in (("counts", finished.survey.counts), ("significance", finished.significance)):
        plane, true = shown[name], values.compute(scheduler="synchronous").astype(float)[mask]
        decoded = np.array([np.nan, *plane.values[1:]])[plane.levels[0][mask]]
        np.testing.assert_allclose(decoded, true, rtol=0.03, atol=0.03 * true.std())
        assert all(byte in range(1, 256) for byte in plane.ticks)
        assert all(np.all(np.diff(places) >= 0) for places in plane.stretches.values())
    support = finished.support.compute(scheduler="synchronous")
    assert np.array_equal(shown["support"].levels[0][mask], (1 + 2 * support[0] + 4 * support[1])[mask])


def test_more_scales_than_bits_have_several_planes():
    level = {"support": np.ones((9, 2, 3), bool)}
    first, second = planes._support([level], [np.ones((2, 3), np.uint32)], np.arange(1.0, 10.0))
    assert (first.levels[0].max(), second.levels[0].max()) == (255, 7)
    assert (first.name, second.name) == ("support", "support7")
    assert second.scale_names == ["8", "9"]


PROJECTIONS = {
    "a strip of the plane": ("GLON-CAR", "GLAT-CAR", (0.0, 0.0), 0.1, (101, 2001)),
    "the whole sky": ("GLON-AIT", "GLAT-AIT", (0.0, 0.0), 2.0, (81, 163)),
    "a pole": ("RA---TAN", "DEC--TAN", (30.0, 89.5), 0.05, (80, 90)),
    "a small field": ("RA---TAN", "DEC--TAN", (83.6, 22.0), 0.002, (50, 60)),
    "half of a sky": ("ELON-SIN", "ELAT-SIN", (120.0, -20.0), 1.5, (90, 90)),
}


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_lines_of_coordinates_lie_where_they_say(kind):
    lon_type, lat_type, centre, pixel, shape = PROJECTIONS[kind]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = [lon_type, lat_type], centre
    wcs.wcs.cdelt, wcs.wcs.crpix = [-pixel, pixel], [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    sky = SkyGrid.of(wcs, shape)
    for levels, axis in ((sky.meridians, 0), (sky.parallels, 1)):
        assert levels
        for line in (line for level in levels for line in level):
            value = float(line.label.removesuffix("°").replace("\N{MINUS SIGN}", "-"))
            world = np.array(wcs.all_pix2world(line.x, line.y, 0))
            world[axis] = value
            off = np.hypot(*(np.array(wcs.all_world2pix(*world, 0)) - [line.x, line.y]))
            # At the limb a rounded pixel may be off the sky, or beyond; at its ends a map goes on on the other side.
            assert np.count_nonzero(off > 0.1) <= 2
            assert 0 <= value < 360 or axis == 1
            assert min(line.x) >= -0.5
            assert max(line.x) <= shape[1] - 0.5
    # Anywhere between directions the interpolated one is as near to the true one as the grid says.
    rng = np.random.default_rng(3)
    i, j = rng.integers(0, len(sky.x) - 1, 500), rng.integers(0, len(sky.y) - 1, 500)
    u, v = rng.uniform(0, 1, (2, 500, 1))
    corners = sky.directions[j, i] * (1 - u), sky.directions[j, i + 1] * u
    upper = sky.directions[j + 1, i] * (1 - u), sky.directions[j + 1, i + 1] * u
    between = sum(corners) * (1 - v) + sum(upper) * v
    step_x, step_y = sky.x[1] - sky.x[0], sky.y[1] - sky.y[0]
    lon, lat = np.radians(wcs.all_pix2world(sky.x[i] + u[:, 0] * step_x, sky.y[j] + v[:, 0] * step_y, 0))
    true = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    on_sky = np.isfinite(between).all(axis=1)
    assert on_sky.sum() > 200
    apart = np.linalg.norm(between / np.linalg.norm(between, axis=1, keepdims=True) - true, axis=1)[on_sky]
    assert np.degrees(apart.max()) <= 1.1 * sky.error + 1e-9
    # At a limb there is no bound.
    assert (sky.error < 0.1 * pixel) == (kind not in ("the whole sky", "half of a sky"))


def test_a_map_of_which_nothing_is_on_the_sky_has_no_lines():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crpix = ["GLON-SIN", "GLAT-SIN"], [-1, 1], [-500, -500]
    sky = SkyGrid.of(wcs, (5, 6))
    assert not [line for level in (*sky.meridians, *sky.parallels) for line in level]
    assert np.isnan(sky.directions).all()


# --- facts ------------------------------------------------------------------------------------------------------------


def test_the_pages_figures_are_those_of_the_run(finished):
    page = Parsed(page_of(finished))
    catalogue, certificate = finished.catalogue, finished.certificate
    assert f"sources {len(catalogue)}" in page.words
    assert f"with T/E above 5 {np.count_nonzero(catalogue['significance'] > 5)}" in page.words
    assert f"with a flag {np.count_nonzero(catalogue['flags'] & ~SourceFlag.CROSSES_SEAM)}" in page.words
    assert f"with negative excess {np.count_nonzero(catalogue['excess'] < 0)}" in page.words
    assert "The tiles did no harm" in page.words
    assert "the contract asks for" in page.words
    assert certificate["digest_maps"] in page.words
    assert "not flux" in page.words
    assert "not a number of sigmas" in page.words
    assert "Few counts a kernel: on 100 % of the map" in page.words
    assert "within the kernels' reach of the map's edge" in page.words
    assert "within the kernels' reach of masked pixels" in page.words
    assert str(finished.files.certificate) in page.words
    data = data_of(page_of(finished))
    strongest = catalogue[np.argsort(-catalogue["significance"])]
    names = next(column["values"] for column in data["columns"] if column["name"] == "name")
    assert names == list(strongest["name"])
    assert data["x"] == [round(float(x), 2) for x in strongest["x_centroid"]]
    assert len([tag for tag, _ in page.elements if tag == "tr"]) >= min(len(catalogue), 50)


def test_seams_count_for_both_tiles(finished):
    seams = [data.compare_seams(finished.files.seams, finished.stored.plan.grid, tile) for tile in range(6)]
    seams = [seam for found in seams for seam in found]
    records = read_records(finished.files.ledger)
    told = data.tile_facts(records, [seams[0]._replace(model_difference=1e30, support_flips=2), *seams[1:]])
    ends = {seams[0].tile, seams[0].neighbour}
    assert {fact.tile for fact in told if fact.seam_error > 1} == ends
    assert {fact.tile for fact in told if fact.flips == 2} == ends
    assert data.tile_facts(records, [])[0].seam_error is None


def test_what_was_not_promised_is_not_called_harmless(survey, tmp_path):
    run = run_survey(survey, tmp_path / "run", tile_size=45, margin=0, **OPTIONS)
    verdict = telling.verdict(run.stored.plan, numbers_of(run))
    assert verdict.kind == "open"
    assert verdict.sentence == "It is not shown that the tiles did no harm, and it was not promised."
    assert any("is below the contract" in reason for reason in verdict.reasons)


def test_a_broken_promise_is_called_one(finished):
    numbers = numbers_of(finished)
    changed = replace(numbers, certificate=numbers.certificate | {"tiling_exact": False})
    verdict = telling.verdict(finished.stored.plan, changed)
    assert verdict.kind == "bad"
    assert "It was promised" in verdict.sentence


def test_pixels_stretched_on_the_sky_are_warned_of(finished):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crpix = ["GLON-CAR", "GLAT-CAR"], [-1, 1], [180.5, 90.5]
    stretch, share = data.pixel_stretch(wcs, (180, 360))
    assert stretch > 50
    assert share == pytest.approx(0.5, abs=0.03)
    numbers = numbers_of(finished)
    flagged = {flag: 40 * (flag == Trust.ERROR_UNDEFINED) for flag in FLAGS}
    changed = replace(numbers, stretch=stretch, stretched=share, plate_carree=True, flagged=flagged)
    said = "\n".join(telling.warnings(changed, read_sources(finished)))
    assert re.search(r"Pixels are up to .* times as long as wide on the sky, .* on \d\d % of the map, beyond 45°", said)
    assert "Blind: at 40 used pixels" in said
    assert telling.share(1e-5) == "less than 0.1 %"
    assert telling.duration(7300) == "2.03 h"
    assert data.pixel_stretch(WCS(fits.Header(sky_header(SHAPE))), SHAPE)[1] == 0


def test_pixels_of_unlike_size_are_warned_of(finished):
    # A Mercator map to 62 deg of latitude, where its scale is 1 / cos(62 deg).
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crpix = ["GLON-MER", "GLAT-MER"], [-1, 1], [180.5, 80.5]
    assert data.pixel_stretch(wcs, (160, 360))[1] == 0
    uneven = data.pixel_sizes(wcs, (160, 360))
    top = wcs.all_pix2world(180, 159, 0)[1]
    assert uneven == pytest.approx(1 / np.cos(np.radians(top)), rel=0.03)
    assert data.pixel_sizes(WCS(fits.Header(sky_header(SHAPE))), SHAPE) < 1.1
    said = telling.warnings(replace(numbers_of(finished), uneven=uneven), read_sources(finished))
    assert any(text.startswith("Pixels are 2.") and "in one latitude as in another" in text for text in said)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    assert data.pixel_sizes(wcs, (160, 360)) == 1


def test_flags_are_words():
    assert flag_words(0) == ""
    assert flag_words(1 | 4) == "map edge, error undefined"
    assert flag_words(2 | 1024) == "masked neighbour, 1024"


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else(finished):
    text = page_of(finished)
    page = Parsed(text)
    assert finished.files.report.stat().st_size < 4e6
    for _, attributes in page.elements:
        assert not attributes.keys() & {"src", "srcset", "data", "background", "poster"}
        assert attributes.get("href", "#").startswith("#")
    assert "link" not in {tag for tag, _ in page.elements}
    style = "".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = (a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_page_can_be_read_without_seeing_it(finished):
    page = Parsed(page_of(finished))
    assert ("html", {"lang": "en"}) in page.elements
    assert any(tag == "title" and finished.files.path.name in text for tag, text in page.texts)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    charts = [attributes for _, attributes in page.elements if attributes.get("class") == "chart"]
    assert len(charts) == 10
    # A chart holds buttons, so it is no picture.
    assert {chart["role"] for chart in charts} == {"group"}
    assert not [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert "at most the 200 strongest in view" in charts[0]["aria-label"]
    assert all(len(chart["aria-label"].split()) > 5 for chart in charts)
    assert len({chart["aria-label"] for chart in charts}) == 10
    controls = [attributes for tag, attributes in page.elements if tag in ("select", "input")]
    labels = [tag for tag, _ in page.elements if tag == "label"]
    assert len(controls) <= len(labels)


def test_what_charts_show_is_also_in_words(finished):
    numbers = numbers_of(finished)
    labels = {
        attributes["id"]: attributes["aria-label"]
        for _, attributes in Parsed(page_of(finished)).elements
        if "id" in attributes and "aria-label" in attributes
    }
    slowest = max(numbers.tiles, key=lambda tile: tile.seconds)
    assert (
        f"tiles: {len(numbers.tiles)}, iterations: 3; the slowest is tile {slowest.tile} with "
        in labels["figure-tiles"]
    )
    assert f"{telling.residuals_in_words(numbers.residuals)}." in labels["figure-residuals"]
    assert "iterations: 2 to 3;" in telling.tiles_in_words([replace(slowest, n_iter=2), *numbers.tiles])
    (first, before), (last, after) = data.relative_changes(numbers.variances)
    assert f": {before:.2g} at iteration {first}, {after:.2g} at iteration {last}." in labels["figure-change"]
    assert telling.convergence_in_words([2.0]) == "no change"
    # 3 pixels below the first edge, 1 in the first bin, 3 in the second.
    residuals = data.Residuals(
        np.array([0.0, 2.0, 4.0]), np.array([3.0, 1.0, 3.0, 0.0]), np.array([0.0, 5.0, 0.0, 9.0])
    )
    said = "mean 2.5 and width 0.87 counts per pixel, of Poisson counts mean 1 and width 0"
    assert telling.residuals_in_words(residuals) == said
    assert f"{len(numbers.tiles)} of {len(numbers.tiles)} tiles, the slowest first" in Parsed(page_of(finished)).words
    rows = telling.slowest_tiles([*numbers.tiles, replace(slowest, tile=99, seconds=1e6, seam_error=None)])
    assert len(rows) == len(numbers.tiles) + 1
    assert rows[0][0] == "99"
    assert rows[0][2:] == ["278 h", format_bytes(slowest.memory), "no seam"]
    assert rows[1][0] == f"{slowest.tile}"
    assert rows[1][4] == f"{slowest.seam_error:.1e}"
    assert len(telling.slowest_tiles([slowest] * 60)) == 50


def test_the_same_run_gives_the_same_page_also_from_maps_alone(run, capsys):
    write_report(run)
    before = run.files.report.read_bytes()
    # As a run of before there was a report.
    shutil.rmtree(run.files.pyramid)
    run.files.report.unlink()
    assert main(["report", str(run.files.path)]) == 0
    assert f"report         {run.files.report}" in capsys.readouterr().out
    assert run.files.report.read_bytes() == before


def test_names_are_text_and_of_many_sources_the_strongest_are_shown(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.report.table.MOST_SOURCES", 3)
    name = "<b onclick=x>&\"'"
    run = SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / name))
    catalogue = run.catalogue
    catalogue["name"] = [f"</script><script>{i}" for i in range(len(catalogue))]
    catalogue["note"] = "<!--"
    catalogue.write(run.files.catalogue, format="ascii.ecsv", overwrite=True)
    write_report(run)
    before, after = Parsed(page_of(finished)), Parsed(page_of(run))
    assert {tag for tag, _ in after.elements} == {tag for tag, _ in before.elements}
    assert len([tag for tag, _ in after.elements if tag == "script"]) == 3
    assert name in after.words
    columns = {column["name"]: column for column in data_of(page_of(run))["columns"]}
    assert columns["name"]["values"][0].startswith("</script><script>")
    assert columns["note"]["values"] == ["<!--"] * 3
    said = f"Of {len(catalogue)} sources the 3 with the largest T/E are on this page. All are in"
    assert said in after.words


def test_columns_that_come_from_elsewhere_and_associations_are_shown(run):
    catalogue = run.catalogue
    strongest = int(np.argmax(catalogue["significance"]))
    own = np.arange(len(catalogue)) == strongest
    catalogue["sqrt_ts"] = np.where(np.arange(len(catalogue)) == 0, np.nan, 4.0)
    catalogue["sqrt_ts"][strongest] = np.inf
    catalogue["assoc_name"], catalogue["assoc_sep"] = np.where(own, "3FHL J1", ""), np.where(own, 0.1, np.nan)
    catalogue["note"] = 7.25
    catalogue["flags"] = SourceFlag.CROSSES_SEAM
    catalogue.write(run.files.catalogue, format="ascii.ecsv", overwrite=True)
    sources = read_sources(run)
    columns = {column.name: column for column in sources.columns}
    assert columns["assoc_name"].values[:2] == ["3FHL J1", ""]
    assert columns["assoc_sep"].values[:2] == [0.1, None]
    assert columns["note"].values[0] == 7.25
    assert sorted({str(value) for value in columns["sqrt_ts"].values}) == ["4", "None", "∞"]
    assert columns["sqrt_ts"].values[0] == "∞"
    assert columns["flags"].values[0] == "crosses seam"
    assert sources.n_flagged == 0
    assert not any(sources.flagged)


def all_sky(path):
    counts, background = poisson_sky((45, 90), seed=2)
    header = sky_header((45, 90))
    header["CTYPE1"], header["CTYPE2"], header["CDELT1"], header["CDELT2"] = "GLON-AIT", "GLAT-AIT", -4.0, 4.0
    hdus = [fits.ImageHDU(plane, header, name) for name, plane in (("COUNTS", counts), ("BACKGROUND", background))]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


MAPS = {
    "a ring": lambda path: write_survey(path, *poisson_sky((40, 90), seed=1), ring=True),
    "a sky with corners off it": all_sky,
    "nothing to find": lambda path: write_survey(path, np.zeros((40, 60)), np.ones((40, 60))),
    "a single row": lambda path: write_survey(path, *poisson_sky((1, 300), seed=1)),
}


@pytest.mark.parametrize("kind", MAPS)
def test_every_kind_of_map_has_a_report(tmp_path, kind):
    options = OPTIONS | {"significance_threshold": 50.0 if kind == "nothing to find" else 3.0}
    run = run_survey(MAPS[kind](tmp_path / "survey.fits"), tmp_path / "run", tile_size=45, **options)
    write_report(run)
    page = Parsed(page_of(run))
    assert "The figures need a script" in page.words
    if kind == "nothing to find":
        assert "No source was found." in page.words
        assert "counts are 0 on all" in page.words
    if kind == "a ring":
        assert "a ring: its columns close the circle" in page.words
    if kind == "a sky with corners off it":
        assert f"{run.certificate['off_sky_pixels']} off the sky" in page.words
        data = data_of(page_of(run))
        assert data["sky"]["directions"][:3] == [0, 0, 0]


# --- when it is written -----------------------------------------------------------------------------------------------


def again(run, survey, **options):
    progress = Messages()
    run_survey(survey, run.files.path, progress=progress, tile_size=45, **OPTIONS | options)
    return "\n".join(progress.texts)


def starts(run):
    return [record.started for record in read_records(run.files.ledger).values()]


@pytest.mark.usefixtures("reported")
def test_a_report_that_is_there_is_left_alone(run, survey):
    before = run.files.report.stat().st_mtime_ns
    assert "nothing to do" in again(run, survey)
    assert run.files.report.stat().st_mtime_ns == before
    assert f'<meta name="{MARK}" content="{run.certificate["digest_certificate"]}">' in page_of(run)[:1024]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("<html>of another run")])
@pytest.mark.usefixtures("reported")
def test_a_report_that_is_missing_or_of_another_certificate_is_made_again(run, survey, damage):
    before, certificate = starts(run), run.files.certificate.read_bytes()
    damage(run.files.report)
    assert "nothing to do" not in again(run, survey)
    assert "The tiles did no harm" in page_of(run)
    assert (starts(run), run.files.certificate.read_bytes()) == (before, certificate)
    assert "nothing to do" in again(run, survey)


@pytest.mark.usefixtures("reported")
def test_what_is_certified_anew_is_reported_anew(run, survey):
    run.files.record(2).unlink()
    again(run, survey, no_report=True)
    assert run.certificate["digest_certificate"] in page_of(run)[:1024]


@pytest.mark.parametrize("what", ["maps reduced", "seams for the report"])
@pytest.mark.usefixtures("reported")
def test_a_run_that_was_killed_in_its_report_goes_on(run, survey, what):
    class Killed(BaseException):
        pass

    class KilledAt(Reporter):
        def track(self, items, stage, total):  # noqa: ARG002 - as the reporter's
            for item in items:
                yield item
                if stage.startswith(what):
                    raise Killed

    run.files.report.unlink()
    shutil.rmtree(run.files.pyramid)
    before = starts(run)
    with pytest.raises(Killed):
        run_survey(survey, run.files.path, progress=KilledAt(), tile_size=45, **OPTIONS)
    assert not run.files.report.exists()
    assert run.certificate["tiling_exact"]
    again(run, survey)
    assert "The tiles did no harm" in page_of(run)
    assert starts(run) == before


@pytest.mark.usefixtures("reported")
def test_no_report_leaves_it_out(survey, tmp_path, capsys):
    command = ["run", str(survey), str(tmp_path / "run"), "--workers", "0", "--fits", "no", "--max-iter", "2"]
    assert main([*command, "--no-report"]) == 0
    assert "report " not in capsys.readouterr().out
    assert not (tmp_path / "run" / "report.html").exists()
    assert main([*command, "--no-report"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(command) == 0
    assert f"report         {tmp_path / 'run' / 'report.html'}" in capsys.readouterr().out


@pytest.mark.usefixtures("reported")
def test_a_report_that_fails_spoils_nothing(survey, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cwt_dask.report.table.read_sources", lambda _: 1 / 0)
    command = ["run", str(survey), str(tmp_path / "run"), "--workers", "0", "--fits", "no", "--max-iter", "2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "warning: the report could not be written (ZeroDivisionError: division by zero); all else is done" in said
    assert f"cwt-dask report {tmp_path / 'run'} tries again" in said
    assert not [check for check in verify_run(SurveyRun.open(tmp_path / "run")) if check.fault]
    monkeypatch.undo()


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink])
@pytest.mark.parametrize("array", ["1/model", "residual_pixels", "expected_pixels", "flagged_pixels"])
def test_reduced_maps_that_were_damaged_are_made_again(run, damage, array):
    before = open_group(run.files.pyramid)[array][:]
    damage(run.files.pyramid / array / "c" / "0" / "0")
    write_report(run)
    assert np.array_equal(open_group(run.files.pyramid, whole="run")[array][:], before)


def test_what_describes_reduced_maps_is_made_again(run):
    (run.files.pyramid / "expected_pixels" / "zarr.json").unlink()
    write_report(run)
    assert "expected_pixels" in open_group(run.files.pyramid)
    (run.files.pyramid / "zarr.json").write_text("{")
    pyramid.ensure_pyramid(run, Everything())
    assert "1" in open_group(run.files.pyramid)


def test_a_report_of_what_is_not_finished_or_held_is_refused(run, tmp_path, capsys):
    before = run.files.report.read_bytes()
    with sole_driver(run.files):
        assert main(["report", str(run.files.path)]) == 2
    assert "in use by process" in capsys.readouterr().err
    assert run.files.report.read_bytes() == before
    run.files.certificate.unlink()
    assert main(["report", str(run.files.path)]) == 2
    assert "has no certificate yet: the run is not finished" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2


def test_no_report_is_made_of_maps_that_are_lost(run, capsys):
    before = run.files.report.read_bytes()
    shutil.rmtree(run.files.pyramid)
    shutil.rmtree(run.files.maps / "model" / "c")
    assert main(["report", str(run.files.path)]) == 1
    said = capsys.readouterr().err
    assert re.search(r"the run's maps have lost their chunk model/c/\d/\d: cwt-dask verify says what else", said)
    assert run.files.report.read_bytes() == before


def test_workers_reduce_the_maps(run, client):
    expected = open_group(run.files.pyramid)["1"]["model"][:]
    shutil.rmtree(run.files.pyramid)
    pyramid.ensure_pyramid(run, Stages(OnDask(client), Reporter(), run.files))
    assert np.array_equal(open_group(run.files.pyramid, whole="run")["1"]["model"][:], expected)


def test_a_machine_that_fails_is_tried_again(run, monkeypatch):
    calls = []

    def once(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise MachineError("no answer")
        return reduce_chunk(*arguments)

    reduce_chunk = pyramid.reduce_chunk
    monkeypatch.setattr(pyramid, "reduce_chunk", once)
    shutil.rmtree(run.files.pyramid)
    pyramid.ensure_pyramid(run, Stages(InProcess(), Reporter(), run.files))
    assert len(calls) > 1
    assert open_group(run.files.pyramid).attrs["of"]
