import shutil
from pathlib import Path

import numpy as np
import pytest
from reports import Here

from cwt_dask import run_survey
from cwt_dask.inspection.verify import verify_run
from cwt_dask.report import pyramid, write_report
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
        np.testing.assert_allclose(level["significance"][:], blocks(maps["significance"], factor, np.max), rtol=1e-6)
        flags = blocks(maps["trust"], factor, lambda block: np.bitwise_or.reduce(block.ravel()))
        assert np.array_equal(level["trust"][:], flags)
        assert np.array_equal(level["support"][:], [blocks(plane, factor, np.any) for plane in maps["support"]])
    flagged = [np.count_nonzero(maps["trust"] & flag) for flag in FLAGS]
    assert group["flagged_pixels"][:].sum(axis=0).tolist() == flagged


def test_the_maps_stay_what_other_tools_open(finished):
    assert {"model", "counts"} & set(map_names(open_group(finished.files.maps))) == {"model"}
    assert not [check for check in verify_run(finished) if check.fault]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("path", "damage"),
    [
        ("1/model/c/0/0", cut_short),
        ("flagged_pixels/c/0/0", Path.unlink),
        ("1/used/zarr.json", Path.unlink),
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


def test_reduced_maps_of_an_earlier_version_are_not_damaged_and_made_again(run, monkeypatch):
    monkeypatch.setattr(pyramid, "VERSION", pyramid.VERSION + 1)
    before = open_group(run.files.pyramid).attrs["of"]
    assert not pyramid.damaged_pyramid(run)
    pyramid.ensure_pyramid(run, Here())
    assert open_group(run.files.pyramid).attrs["of"] != before
