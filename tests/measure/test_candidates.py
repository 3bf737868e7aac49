import numpy as np
import pytest

from cwt_dask.measure.candidates import Candidates, find_candidates, reach_of_candidates

SHAPE = (30, 40)


def image(*pixels):
    values = np.full(SHAPE, -np.inf)
    for y, x, value in pixels:
        values[y, x] = value
    return values


def rows(found: Candidates):
    return list(zip(*(column.tolist() for column in vars(found).values()), strict=True))


def test_a_maximum_of_s_near_a_peak_of_the_support_is_where_its_fit_starts():
    # The nearest peak takes a maximum; of several maxima the largest S counts.
    support = image((10, 10, 8.0), (10, 14, 7.0))
    sigma = image((11, 11, 5.0), (10, 8, 6.0), (10, 15, 4.0))
    found = find_candidates(support, np.full(SHAPE, 1.5), sigma, 1.5)
    assert rows(found) == [(10, 10, 10, 8, True, False), (10, 14, 10, 15, True, False)]


def test_what_is_alone_is_a_candidate_of_its_own_in_row_major_order():
    support, sigma = image((20, 10, 8.0), (3, 30, 8.0)), image((12, 10, 4.0), (3, 30, 5.0))
    found = find_candidates(support, np.full(SHAPE, 1.5), sigma, 1.5)
    late = (20, 10, 20, 10, True, True)
    assert rows(found) == [(3, 30, 3, 30, True, False), (12, 10, 12, 10, False, False), late]


@pytest.mark.parametrize("ring", [False, True])
def test_a_window_shows_the_candidates_of_the_map_within_its_reach(ring):
    rng = np.random.default_rng(3)
    scales = np.array([1.5, 4.0])
    significance = np.where(rng.random((60, 90)) < 0.3, rng.random((60, 90)), -np.inf)
    sigma, separation = (
        np.where(rng.random((60, 90)) < 0.2, rng.random((60, 90)), -np.inf),
        rng.choice(scales, (60, 90)),
    )
    images = significance, separation, sigma
    turn = 90 if ring else None
    whole = find_candidates(*images, scales[0], turn=turn)
    reach = reach_of_candidates(scales)
    core = np.s_[20:40, 0 if ring else 30 : 50]
    columns = np.arange(core[1].start - reach, core[1].stop + reach)
    near = np.arange(core[0].start - reach, core[0].stop + reach)
    part = find_candidates(*(values[np.ix_(near, columns % 90)] for values in images), scales[0], turn=turn)

    def in_core(found, dy, dx):
        shifted = [(y + dy, x + dx, (b + dy), (a + dx) % 90, *rest) for y, x, b, a, *rest in rows(found)]
        return [row for row in shifted if 20 <= row[0] < 40 and core[1].start <= row[1] < 50]

    assert in_core(part, near[0], columns[0]) == in_core(whole, 0, 0)
    assert len(in_core(whole, 0, 0)) > 20


@pytest.mark.parametrize("which", ["support", "sigma"])
def test_one_list_may_be_empty(which):
    alone, nothing = image((5, 5, 9.0)), image()
    pair = (alone, nothing) if which == "support" else (nothing, alone)
    found = find_candidates(pair[0], np.full(SHAPE, 1.5), pair[1], 1.5)
    assert rows(found) == [(5, 5, 5, 5, which == "support", which == "support")]
