"""Fields: what counts of them is the survey, once, but for what lies at edges that have nothing beyond."""

from types import SimpleNamespace

import numpy as np
import pytest

from cwt_dask.assess.fields import fields_of, sample
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.survey.sphere import Sphere

REACH = 7


def times_counted(fields, shape):
    times = np.zeros(shape, int)
    for field in fields:
        times[field.counted.slices] += 1
        assert field.box.intersection(field.counted) == field.counted
    return times


@pytest.mark.parametrize("ring", [False, True])
def test_tiles_with_their_margins_count_once(ring):
    shape = (60, 110)
    grid = TileGrid.plan(shape, (50, 50), 12, 5, fast_length, ring=ring)
    fields = fields_of(grid, SimpleNamespace(shape=shape), REACH)
    assert len(fields) == grid.n_tiles
    times = times_counted(fields, shape)
    edge = REACH if ring else 0
    assert (times[:, edge : shape[1] - edge] == 1).all()
    assert times.sum() == shape[0] * (shape[1] - 2 * edge)
    # A field has what its tile sees, as far as the map has it.
    assert all(field.box.x0 == max(field.counted.x0 - grid.margin, 0) for field in fields[1:2])


@pytest.mark.parametrize(("nside", "least", "n_fields"), [(512, 40, 192), (256, 1024, 12), (32, 40, 1)])
def test_cells_of_the_sphere_count_but_for_their_edges(monkeypatch, nside, least, n_fields):
    monkeypatch.setattr("cwt_dask.assess.fields._LEAST_PIXELS", least)
    grid = FacetGrid.plan(nside, 2, range(192), 20, 9, fast_length)
    shape, sphere = (12 * nside, nside), Sphere(nside, tuple(range(12 * 4 ** Sphere(nside).order)))
    fields = fields_of(grid, SimpleNamespace(shape=shape, sphere=sphere), REACH)
    assert len(fields) == n_fields
    assert sum(field.box.area for field in fields) == 12 * nside**2
    times = times_counted(fields, shape)
    assert times.max() == 1
    # Of a sky with cells too small for that nothing is lost: it is one field.
    lost = 0 if n_fields == 1 else 2 * REACH
    assert times.sum() == pytest.approx(n_fields * (np.sqrt(12 * nside**2 / n_fields) - lost) ** 2)


def test_a_sample_has_so_many_pixels_and_is_another_one_each_time():
    grid = TileGrid.plan((500, 500), (50, 50), 10, 5, fast_length)
    fields = fields_of(grid, SimpleNamespace(shape=(500, 500)), REACH)
    first, second = (sample(fields, 20_000, np.random.default_rng(seed)) for seed in (1, 2))
    assert first != second
    assert len(set(first)) == len(first) == 5
    assert sample(fields, 1, np.random.default_rng(1))
    assert sample(fields, 1e9, np.random.default_rng(1)) == list(range(100))
