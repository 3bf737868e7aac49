import numpy as np
import pytest

from cwt_dask.measure.given import fit_given, nothing
from cwt_dask.measure.joint import Stars
from cwt_dask.measure.shapes import gaussian_shapes

SHAPES, SIZE = gaussian_shapes(1.5, [3.0]), (50, 60)
LEVEL, SEEN = np.full(SIZE, 0.3), np.ones(SIZE, bool)
PLACE = 24.3, 30.2


def known(*sources):
    """Sources (counts, y, x) as a run knows them, with room of two pixels."""
    state = np.array(sources, np.float64)
    return Stars(np.zeros(len(state), np.int64), state, state[:, 1:].copy(), np.full(len(state), 2.0))


def expected(*sources):
    return LEVEL + sum(f * SHAPES.draw(0, y, x, SIZE) for f, y, x in sources)


@pytest.mark.parametrize("true", [0.0, 40.0])
@pytest.mark.parametrize("apart", [2.0, 4.0])
def test_expected_counts_give_what_was_put_in_whatever_a_neighbour_had_taken_up(true, apart):
    bright = (300.0, PLACE[0] + apart, PLACE[1])
    counts = expected((true, *PLACE), bright)
    # As a run that has not seen the source would have it.
    found = fit_given(counts, LEVEL, SEEN, SHAPES, known((300.0 + true, PLACE[0] + apart - 0.2, PLACE[1])), PLACE, 0)
    assert found.amplitude == pytest.approx(true, abs=0.05)
    assert (found.ts > 1) == (true > 0)
    assert found.low <= found.amplitude < found.high < found.upper_limit
    assert found.seen == pytest.approx(1, abs=1e-6)


def test_a_neighbour_that_could_have_fewer_counts_raises_the_limit():
    near, far = ((300.0, PLACE[0] + apart, PLACE[1]) for apart in (2.0, 15.0))
    limits = [
        fit_given(expected(bright), LEVEL, SEEN, SHAPES, known(bright), PLACE, 0).upper_limit for bright in (near, far)
    ]
    alone = fit_given(LEVEL, LEVEL, SEEN, SHAPES, nothing(), PLACE, 0)
    assert limits[1] == pytest.approx(alone.upper_limit, rel=1e-3)
    # Were the neighbour held fast it would be lower.
    held = fit_given(expected(near), expected(near), SEEN, SHAPES, nothing(), PLACE, 0)
    assert limits[0] > 1.2 * held.upper_limit


def test_a_given_width_is_that_of_the_fit():
    wide = len(SHAPES.extensions) - 1
    counts = LEVEL + 200 * SHAPES.draw(wide, *PLACE, SIZE)
    assert fit_given(counts, LEVEL, SEEN, SHAPES, nothing(), PLACE, wide).amplitude == pytest.approx(200, rel=1e-3)
    assert fit_given(counts, LEVEL, SEEN, SHAPES, nothing(), PLACE, 0).amplitude < 150


def test_of_what_is_not_seen_nothing_is_said():
    half = SEEN.copy()
    half[:, :30] = False
    counts = expected((100.0, *PLACE)) * half
    found = fit_given(counts, LEVEL, half, SHAPES, nothing(), PLACE, 0)
    assert 0.4 < found.seen < 0.7
    assert found.amplitude == pytest.approx(100, rel=1e-3)
    unseen = fit_given(counts, LEVEL, half, SHAPES, nothing(), (24.0, 10.0), 0)
    assert (unseen.seen, unseen.amplitude, unseen.ts) == (0, 0, 0)
    assert np.isinf(unseen.upper_limit)
