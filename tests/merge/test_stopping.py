import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.cwt.stopping import Moments, stops_at
from cwt_dask.merge.stopping import pooled_variances, stopping_iteration


def records_of(iterations, cuts):
    """Records whose tiles hold the pixels of flat maps, one map an iteration, between cuts."""
    edges = [0, *sorted(cuts), iterations.shape[1]]
    moments = [
        [(m.count, m.mean, m.sum_squared_deviations) for m in (Moments.of(values[a:b]) for values in iterations)]
        for a, b in itertools.pairwise(edges)
    ]
    return {tile: SimpleNamespace(moments=values) for tile, values in enumerate(moments)}


residuals = st.builds(
    lambda seed, level: level + np.random.default_rng(seed).normal(size=(3, 60)),
    st.integers(0, 1000),
    st.sampled_from([0.0, 1.0, 1e4]),
)
cuts = st.lists(st.integers(0, 60), max_size=12)


@given(residuals, cuts, st.randoms(use_true_random=False))
def test_pooled_over_any_tiles_in_any_order_it_is_the_variance_of_the_whole(iterations, cuts, shuffler):
    # Cuts may coincide: a tile may have no valid pixel.
    records = records_of(iterations, cuts)
    variances = pooled_variances(records)
    assert variances == pytest.approx(iterations.var(axis=1), rel=1e-12)
    tiles = list(records)
    shuffler.shuffle(tiles)
    assert pooled_variances({tile: records[tile] for tile in tiles}) == variances


def test_only_iterations_that_all_tiles_have_made_are_pooled():
    records = records_of(np.random.default_rng(1).normal(size=(4, 60)), [20, 40])
    records[1].moments.pop()
    assert len(pooled_variances(records)) == 3


def test_tiles_stop_where_the_whole_map_would():
    # Each tile's own variance goes on changing; that of the whole stands still from iteration 3 to 4.
    rng = np.random.default_rng(2)
    iterations = rng.normal(size=(5, 60)) * np.array([2, 1.5, 1.2, 1.2, 1.1])[:, np.newaxis]
    iterations[3] = rng.permutation(iterations[2])
    records = records_of(iterations, [13, 31])
    assert stopping_iteration(records, 1e-9) == stops_at(list(iterations.var(axis=1)), 1e-9) == 4
    assert all(stopping_iteration({0: record}, 1e-9) is None for record in records.values())
