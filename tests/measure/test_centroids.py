import numpy as np
import pytest
from scipy.special import ndtr

from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.centroids import find_centroids, reach_of

SHAPE = (40, 50)
ALL = Box(0, *SHAPE[:1], 0, SHAPE[1])


def source(y, x, counts, width, shape=SHAPE):
    """Expected counts of a Gaussian source, integrated over pixels."""
    along = [np.diff(ndtr((np.arange(n + 1) - 0.5 - centre) / width)) for n, centre in zip(shape, (y, x), strict=True)]
    return counts * np.outer(*along)


def centroids(counts, background, y, x, scale, box=ALL, turn=None, valid=None):
    y, x = np.atleast_1d(y), np.atleast_1d(x)
    return find_centroids(
        counts,
        np.broadcast_to(np.asarray(background, float), counts.shape),
        np.ones(counts.shape, bool) if valid is None else valid,
        box,
        y,
        x,
        np.full(len(y), scale),
        turn=turn,
    )


@pytest.mark.parametrize("width", [1.0, 1.5, 2.5])
@pytest.mark.parametrize(("y", "x"), [(20.0, 25.0), (20.4, 24.7), (19.55, 25.45)])
def test_without_noise_it_is_where_the_source_is(y, x, width):
    found = centroids(source(y, x, 1000.0, width) + 0.5, 0.5, round(y), round(x), 1.8)
    assert found.y[0] == pytest.approx(y, abs=2e-3)
    assert found.x[0] == pytest.approx(x, abs=2e-3)


def test_errors_are_the_scatter_of_repeated_observations():
    rng, expected = np.random.default_rng(4), source(20.3, 24.8, 150.0, 1.5) + 1.0
    found = [centroids(rng.poisson(expected).astype(float), 1.0, 20, 25, 1.8) for _ in range(400)]
    for axis in ("y", "x"):
        scatter = np.std([getattr(f, axis)[0] for f in found])
        stated = np.median([getattr(f, f"{axis}_error")[0] for f in found])
        # 400 of them tell the scatter to 3.5 %.
        assert stated == pytest.approx(scatter, rel=0.14)


def test_it_depends_on_no_pixel_beyond_its_reach():
    rng = np.random.default_rng(5)
    counts = rng.poisson(source(20, 25, 80.0, 1.5) + 1.0).astype(float)
    whole, reach = centroids(counts, 1.0, 20, 25, 1.8), reach_of(1.8)
    box = Box(20 - reach, 21 + reach, 25 - reach, 26 + reach)
    part = centroids(counts[box.slices], 1.0, 20, 25, 1.8, box=box)
    assert (part.y, part.x, part.y_error, part.x_error) == (whole.y, whole.x, whole.y_error, whole.x_error)


@pytest.mark.parametrize(("x", "seen"), [(0.2, False), (2.4, False), (3.0, True), (24.0, True)])
def test_beside_the_edge_there_is_none_and_where_there_is_one_it_is_unbiased(x, seen):
    found = centroids(source(20.3, x, 500.0, 1.5), 0.0, 20, round(x), 1.8)
    assert np.isfinite(found.x_error[0]) == seen
    assert found.x[0] == (pytest.approx(x, abs=0.1) if seen else round(x))


def test_beside_a_masked_pixel_there_is_none():
    counts, valid = source(20.0, 25.0, 500.0, 1.5), np.ones(SHAPE, bool)
    valid[20, 29] = False
    assert np.isfinite(centroids(counts * valid, 0.0, 20, 25, 1.8, valid=valid).x_error[0])
    valid[20, 28] = False
    found = centroids(counts * valid, 0.0, 20, 25, 1.8, valid=valid)
    assert (found.y[0], found.x[0], found.x_error[0]) == (20, 25, np.inf)


def test_on_a_ring_it_goes_over_the_edge():
    counts = np.roll(source(20.2, 25.3, 500.0, 1.5), -25, axis=1)
    box = Box(0, 40, -25, 75)
    around = counts[:, np.arange(-25, 75) % 50]
    found = centroids(around, 0.0, 20, 0, 1.8, box=box, turn=50)
    assert found.x[0] == pytest.approx(0.3, abs=2e-3)


def test_on_a_narrow_ring_no_pixel_counts_twice():
    counts = source(20.0, 2.0, 500.0, 1.0, shape=(40, 5))
    box = Box(0, 40, -10, 15)
    found = centroids(counts[:, np.arange(-10, 15) % 5], 0.0, 20, 2, 3.0, box=box, turn=5)
    alone = centroids(counts, 0.0, 20, 2, 3.0, box=Box(0, 40, 0, 5))
    assert found.x[0] == alone.x[0]


@pytest.mark.parametrize("background", [5.0, 1.0])
def test_without_an_excess_there_is_no_centroid_but_the_peak(background):
    found = centroids(np.full(SHAPE, 1.0), background, 20, 25, 1.8)
    assert (found.y[0], found.x[0]) == (20, 25)
    assert found.y_error[0] == found.x_error[0] == np.inf


def test_a_window_that_runs_away_leaves_no_trace():
    found = centroids(source(20.0, 30.0, 1e4, 2.5), 0.0, 20, 25, 1.8)
    assert (found.y[0], found.x[0], found.x_error[0]) == (20, 25, np.inf)


def test_many_are_measured_in_parts_and_of_all_scales():
    rng = np.random.default_rng(6)
    counts = rng.poisson(source(20, 25, 300.0, 1.5) + 1.0).astype(float)
    n = 3000
    scale = np.where(np.arange(n) % 2, 1.8, 6.0)
    found = find_centroids(counts, np.ones(SHAPE), np.ones(SHAPE, bool), ALL, np.full(n, 20), np.full(n, 25), scale)
    for some in (slice(0, n, 2), slice(1, n, 2)):
        assert len(set(found.x[some])) == 1
    assert found.x[0] != found.x[1]
