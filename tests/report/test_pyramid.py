import shutil
from pathlib import Path

import numpy as np
import pytest
from reports import Here
from scipy.stats import poisson

from cwt_dask import run_survey
from cwt_dask.inspection.verify import verify_run
from cwt_dask.report import pyramid, write_report
from cwt_dask.report.histogram import Expectation, count_residuals, residual_edges
from cwt_dask.report.pyramid import FLAGS
from cwt_dask.runtime.executors import OnDask
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.schema import map_names
from cwt_dask.storage.zarr_io import open_group

SUMMED = ("counts", "background")


def blocks(values, factor, combine):
    """Blocks of an array (y, x), one by one."""
    ny, nx = (-(-length // factor) for length in values.shape)
    return np.array(
        [[combine(values[y * factor :][:factor, x * factor :][:, :factor]) for x in range(nx)] for y in range(ny)]
    )


@pytest.fixture
def small_levels(monkeypatch):
    """Sizes of levels and chunks with which small maps have several of them."""
    for name, size in {"LARGEST_LEVEL": 3000, "SHORT_SIDE": 20, "LEAST_CHUNK": 4, "PIXELS_AT_ONCE": 500}.items():
        monkeypatch.setattr(pyramid, name, size)


@pytest.mark.parametrize("tile_size", [45, "auto"])
@pytest.mark.usefixtures("small_levels")
def test_levels_are_what_numpy_makes_of_the_maps(run, survey, options, tmp_path, mask, tile_size):
    if tile_size == "auto":
        run = run_survey(survey, tmp_path / "one tile", **options)
    plan = pyramid.ensure_pyramid(run, Here(), rebuild=True)
    group = open_group(run.files.pyramid, whole="run")
    assert plan.factors == (2, 4, 8)
    assert len(plan.chunks) <= run.stored.plan.grid.n_tiles
    assert len(plan.chunks) > 1 or tile_size == "auto"
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
        np.testing.assert_allclose(level["significance"][:], blocks(maps["significance"], factor, np.max), rtol=1e-6)
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
    place = np.searchsorted(edges, k - mean[:, None], side="right")
    expected = np.bincount(place.ravel(), poisson.pmf(k, mean[:, None]).ravel(), minlength=len(edges) + 1)
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
    assert {"model", "counts"} & set(map_names(open_group(finished.files.maps))) == {"model"}
    assert not [check for check in verify_run(finished) if check.fault]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("path", "damage"),
    [
        ("1/model/c/0/0", cut_short),
        ("residual_pixels/c/0/0", Path.unlink),
        ("expected_pixels/zarr.json", Path.unlink),
        ("zarr.json", cut_short),
    ],
)
def test_reduced_maps_that_were_damaged_are_made_again(run, path, damage):
    before = (run.files.pyramid / path).read_bytes()
    damage(run.files.pyramid / path)
    write_report(run)
    assert (run.files.pyramid / path).read_bytes() == before


def test_workers_reduce_the_maps(run, client):
    expected = open_group(run.files.pyramid)["1"]["model"][:]
    shutil.rmtree(run.files.pyramid)
    pyramid.ensure_pyramid(run, Stages(OnDask(client), Reporter(), run.files))
    assert np.array_equal(open_group(run.files.pyramid, whole="run")["1"]["model"][:], expected)
