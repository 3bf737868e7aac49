"""Counts in rings around sources, and what they say of extensions, on maps of all kinds."""

import math
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import spheres
from reports import data_of, page_of
from skies import write_survey
from spreads import psf_map, write

from cwt_dask import run_survey
from cwt_dask.geometry.facets import pixel_of
from cwt_dask.geometry.healpix import numbers_at, order_of
from cwt_dask.report import write_report
from cwt_dask.report.blocks import blocks_around
from cwt_dask.report.profiles import N_RINGS, read_profiles
from cwt_dask.report.table import read_sources
from cwt_dask.run import plan_survey
from cwt_dask.storage.zarr_io import DurableStore
from cwt_dask.survey import ingest
from cwt_dask.survey.store import CHUNK, Survey

WIDTH = 1.5


def in_blocks(image, factor):
    """Sums of an image (y, x) over blocks of factor x factor pixels; the last ones may have fewer."""
    for axis, length in enumerate(image.shape):
        image = np.add.reduceat(image, np.arange(0, length, factor), axis)
    return image


def sums_around(images, x, y, edges):
    """Sums of images (y, x) in rings, by brute force."""
    rows, columns = np.indices(images[0].shape)
    far = np.hypot(columns - x, rows - y)
    rings = [(far >= low) & (far < high) for low, high in pairwise(edges)]
    return [[image[ring].sum() for ring in rings] for image in images]


def test_profiles_are_counts_in_rings_and_the_fit(finished, mask):
    profiles, pixel = data_of(page_of(finished))["profiles"], finished.survey.statistics.pixel_scale_deg
    rows, edges = finished.catalogue, np.arange(N_RINGS + 1) * profiles["rings"][0] / pixel
    images = [
        array.compute(scheduler="synchronous").astype(float) * mask
        for array in (finished.survey.counts, finished.survey.background)
    ]
    for i in (0, len(rows) // 2, len(rows) - 1):
        x, y = rows["x_centroid"][i], rows["y_centroid"][i]
        counts, background, n = sums_around([*images, mask], x, y, edges)
        assert profiles["counts"][i] == pytest.approx(counts, rel=1e-3)
        assert profiles["background"][i] == pytest.approx(background, rel=1e-3)
        assert profiles["area"][i] == pytest.approx(np.array(n) * pixel**2, rel=1e-3)
        ((area,),) = [sums_around([np.ones((270, 310))], x + 90, y + 90, edges)]
        assert np.array(profiles["source"][i]) @ area * pixel**2 == pytest.approx(rows["npred"][i], rel=0.01)


# An extended source of two widths, a point, and a pair of them at 3.5 widths: y, x, counts and width in pixels.
SOURCES = ((80.3, 80.2, 1500, 3.354), (30.2, 40.3, 400, 1.5), (30, 120.4, 400, 1.5), (30, 125.65, 400, 1.5))
OPTIONS = {"extended": True, "max_iter": 2, "workers": 0, "fits": "no"}


def run_on(folder, sources, *, shape=(120, 200), psf=WIDTH, ring=False):
    y, x = np.mgrid[: shape[0], : shape[1]]
    expected = np.full(shape, 0.5)
    for y0, x0, n, width in sources:
        off_x = (x - x0 + shape[1] / 2) % shape[1] - shape[1] / 2 if ring else x - x0
        expected += n * np.exp(-((y - y0) ** 2 + off_x**2) / (2 * width**2)) / (2 * np.pi * width**2)
    counts = np.random.default_rng(3).poisson(expected)
    survey = write_survey(folder / "survey.fits", counts, np.full(shape, 0.5), ring=ring)
    return run_survey(survey, folder / "run", psf=psf, **OPTIONS)


def coarse_page(folder):
    """A map of which the page shows blocks of 4 x 4 pixels."""
    run = run_on(folder, SOURCES)
    with mock.patch("cwt_dask.report.pyramid.LARGEST_LEVEL", 2000):
        write_report(run)
    data = data_of(page_of(run))
    assert data["factors"] == [4]
    return run, data["profiles"]


def ring(folder):
    """The extended source at the edge column, a point beyond it."""
    turned = [(y, (x + 119.2) % 200, n, width) for y, x, n, width in SOURCES]
    turned[1] = 30.2, 0.3, 400, 1.5
    return run_on(folder, turned, ring=True), None


def wide(folder):
    """A point spread function that blocks of 2 x 2 pixels resolve, on a map of which the last ones are halves."""
    sources = (80.3, 60.2, 2500, 5.814), (30.2, 40.3, 800, 2.6), (30, 120.4, 800, 2.6), (30, 129.5, 800, 2.6)
    return run_on(folder, sources, shape=(121, 203), psf=2.6), None


def varying(folder):
    """Point spread functions of 1.2 pixels in the east, of 2.4 in the west; the extended source in the west."""
    psf = write(folder / "psf.fits", *psf_map([[0.12, 0.12], [0.24, 0.24]]))
    sources = (80, 20.4, 1800, 5.367), (30, 20.4, 400, 2.4), (30.2, 80.3, 400, 1.2), (80.2, 80.2, 400, 1.2)
    return run_on(folder, sources, shape=(110, 100), psf=psf), None


def sphere(folder):
    """The extended source at a corner of three facets, a point, and a pair at 4 widths."""
    nside, centre, rng = 128, spheres.CORNER, np.random.default_rng(3)
    pixel, order = pixel_of(nside), order_of(nside)
    east = np.cross([0.0, 0.0, 1.0], centre) / np.hypot(*centre[:2])
    counts, background = spheres.sky(nside, [], [])
    for far, n, width in ((0.2, 1500, 3.354), (-18, 400, WIDTH), (17, 400, WIDTH), (23, 400, WIDTH)):
        place = math.cos(far * pixel) * centre + math.sin(far * pixel) * east
        np.add.at(counts, numbers_at(spheres.scattered(place, width * pixel, rng.poisson(n), rng), order), 1)
    seen = spheres.cap(nside, centre, np.degrees(35 * pixel))
    tables = [
        spheres.table(name, values, nside, pixels=seen)
        for name, values in (("COUNTS", counts), ("BACKGROUND", background))
    ]
    return run_survey(spheres.write(folder / "sky.fits", *tables), folder / "run", psf=WIDTH, **OPTIONS), None


@pytest.mark.parametrize("kind", [coarse_page, ring, wide, varying, sphere])
def test_rings_tell_extended_sources_from_pairs_of_points(kind, tmp_path):
    run, profiles = kind(tmp_path)
    profiles = profiles or read_profiles(run, read_sources(run))
    rows, extensions, ts = run.catalogue, np.array(profiles["extensions"]), np.array(profiles["ts"])
    n = 4
    assert (rows["sqrt_ts"][:n] > 30).all()
    best = extensions[ts.argmax(axis=1)][:n] * profiles["psf"][:n]
    assert best[0] == pytest.approx(rows["extension"][0], rel=0.2)
    assert not best[1:].any()
    # What the likelihood of all pixels says of them.
    assert np.sqrt(ts.max(axis=1))[:n] == pytest.approx(np.asarray(rows["sqrt_ts"][:n]), rel=0.06)
    assert np.sqrt(np.ptp(ts[0, [0, ts[0].argmax()]])) == pytest.approx(rows["sqrt_ts_ext"][0], rel=0.06)


@pytest.mark.parametrize(("width", "factor"), [(WIDTH, 1), (2.6, 2)])
def test_each_chunk_near_a_source_is_read_once_and_no_other(tmp_path, width, factor):
    shape = CHUNK + 61, 2 * CHUNK + 60
    rng = np.random.default_rng(5)
    counts, background = rng.poisson(0.5, shape), rng.uniform(0.4, 0.6, shape)
    mask = rng.random(shape) < 0.9
    ingest(write_survey(tmp_path / "sky.fits", counts, background, mask), tmp_path / "survey.zarr")
    plan = plan_survey(tmp_path / "survey.zarr", psf=width)
    survey = Survey.open(tmp_path / "survey.zarr")
    run = SimpleNamespace(stored=SimpleNamespace(plan=plan), survey=survey, files=None)
    # Where four chunks meet, well inside one of them, beside the edge between two, at the map's edge.
    x, y = np.array([CHUNK - 0.6, 100.3, 300.2, 0.1]), np.array([CHUNK + 0.4, 200.1, CHUNK - 3.0, 500.0])
    sources = SimpleNamespace(columns=[], pixels=(x, y), npred=[0.0] * 4, extension=[0.0] * 4)
    read, get = Counter(), DurableStore.get

    async def noted(store, key, *args, **kwargs):
        read[key] += "/c/" in key
        return await get(store, key, *args, **kwargs)

    with mock.patch.object(DurableStore, "get", noted):
        profiles = read_profiles(run, sources)
    planes = "counts", "background", "mask"
    near = {f"{plane}/c/{row}/{column}" for plane in planes for row in range(2) for column in range(2)}
    assert {key: n for key, n in read.items() if n and key.split("/")[0] in planes} == dict.fromkeys(near, 1)
    for block in blocks_around(run, x, y, 1, 12):
        assert max(block.counts.shape) <= CHUNK
    images = [in_blocks(image, factor) for image in (counts * mask, background * mask, mask * 0.01)]
    for i in range(4):
        at_x, at_y = ((at[i] + 0.5) / factor - 0.5 for at in (x, y))
        sums = sums_around(images, at_x, at_y, np.arange(N_RINGS + 1) * width / factor)
        for name, expected in zip(("counts", "background", "area"), sums, strict=True):
            assert profiles[name][i] == pytest.approx(expected, rel=1e-3)


def test_rings_count_each_pixel_of_a_narrow_map_around_the_sky_once(tmp_path):
    # Rings reach 24 pixels to each side of 40, in blocks of 2 x 2.
    run = run_on(tmp_path, [(30, 0.4, 400, 3.0)], shape=(60, 40), psf=3.0, ring=True)
    area = read_profiles(run, read_sources(run))["area"][0]
    x, y = ((run.catalogue[f"{axis}_centroid"][0] + 0.5) / 2 - 0.5 for axis in "xy")
    rows, columns = np.indices((30, 20))
    far = np.hypot(rows - y, (columns - x + 10) % 20 - 10)
    n_pixels = 4 * np.count_nonzero(far < N_RINGS * 1.5)
    assert sum(area) == pytest.approx(n_pixels * run.survey.statistics.pixel_scale_deg**2, rel=1e-3)
