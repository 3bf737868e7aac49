"""The joint fit against plain optimisers, and what it does where there is little to fit."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import ndtr

from cwt_dask.measure.likelihood import Fit
from cwt_dask.measure.shapes import gaussian_shapes

SIGMA, SIZE = 1.3, (40, 44)
SHAPES = gaussian_shapes(SIGMA)
EVERYWHERE = np.ones(SIZE, bool)


def drawn(sources, background, size=SIZE, shapes=SHAPES):
    """Expectation of sources (amplitude, y, x) on a background."""
    return background + sum((f * shapes.draw(0, y, x, size) for f, y, x in sources), np.zeros(size))


def fitted(counts, background, valid, places, shapes=SHAPES, **options):
    fit = Fit(counts.astype(float), np.broadcast_to(background, counts.shape).astype(float), valid, shapes, **options)
    y, x = np.array(places, float).reshape(-1, 2).T
    fit.select(y, x, np.zeros(len(y), int))
    fit.solve()
    return fit


def log_likelihood(counts, expected, valid):
    return (counts * np.log(expected) - expected)[valid].sum()


@pytest.mark.parametrize(("seed", "background", "apart"), [(1, 0.01, 8.0), (2, 0.3, 4.0), (3, 3.0, 3.5), (4, 0.3, 2.5)])
def test_no_optimiser_finds_a_higher_maximum(seed, background, apart):
    rng = np.random.default_rng(seed)
    truth = [(500, 15.2, 15.3), (150, 15.2, 15.3 + apart), (80, 26.0, 21.1)]
    counts, valid = rng.poisson(drawn(truth, background)), rng.random(SIZE) > 0.02
    fit = fitted(counts, background, valid, [(y + 0.2, x - 0.2) for _, y, x in truth])
    found = fit.sources
    assert len(found.y) == 3
    start = np.column_stack([found.amplitude, found.y, found.x])

    def worse(parameters):
        return -log_likelihood(counts, drawn(parameters.reshape(-1, 3), background), valid)

    rough = start + rng.normal(0, 1, start.shape) * [5, 0.05, 0.05]
    best = minimize(worse, rough.ravel(), method="BFGS", options={"gtol": 1e-6})
    assert worse(start) <= best.fun + 1e-9
    np.testing.assert_allclose(best.x.reshape(-1, 3), start, atol=2e-2, rtol=1e-3)
    np.testing.assert_allclose(fit.expected, drawn(start, background), rtol=1e-12)


def test_the_curve_of_an_amplitude_gives_its_ts_interval_and_limit():
    counts = np.random.default_rng(5).poisson(drawn([(12, 20.0, 20.0)], 0.02))
    fit = fitted(counts, 0.02, EVERYWHERE, [(20.0, 20.0)])
    found = fit.sources
    y, x, best = found.y[0], found.x[0], found.amplitude[0]

    def fall(amplitude):
        return 2 * (
            log_likelihood(counts, fit.expected, EVERYWHERE)
            - log_likelihood(counts, drawn([(amplitude, y, x)], 0.02), EVERYWHERE)
        )

    assert fall(0) == pytest.approx(found.ts[0], abs=1e-6)
    # Its position, which is fitted as well, widens the interval by next to nothing.
    assert fall(found.amplitude_low[0]) == pytest.approx(1, abs=0.02)
    assert fall(found.amplitude_high[0]) == pytest.approx(1, abs=0.02)
    empty = Fit(counts, np.full(SIZE, 0.02), EVERYWHERE, SHAPES)
    more = empty.single([y], [x], [0])
    assert [more.amplitude[0], more.ts[0]] == pytest.approx([best, found.ts[0]], rel=1e-8)
    assert [fall(more.amplitude_low[0]), fall(more.amplitude_high[0])] == pytest.approx([1, 1], abs=1e-6)
    assert found.amplitude_low[0] < best < found.amplitude_high[0] < found.upper_limit[0]


@pytest.mark.parametrize("apart", [2.5, 4.0])
def test_of_sources_that_overlap_ts_and_errors_are_those_of_the_profile(apart):
    # No noise: the maximum is where it should be.
    truth = [(500, 20.3, 18.4), (100, 20.3, 18.4 + apart)]
    counts, places = drawn(truth, 0.3), [(y, x) for _, y, x in truth]
    fit = fitted(counts, 0.3, EVERYWHERE, places)
    found, other = fit.sources, fitted(counts, 0.3, EVERYWHERE, places[:1])
    faint, top = 1, log_likelihood(counts, fit.expected, EVERYWHERE)
    np.testing.assert_allclose(found.amplitude, [500, 100], rtol=1e-6)
    assert found.ts[faint] == pytest.approx(2 * (top - log_likelihood(counts, other.expected, EVERYWHERE)), rel=1e-3)

    def profile(amplitude):
        def worse(rest):
            sources = [rest[:3], (amplitude, *rest[3:])]
            return -log_likelihood(counts, np.maximum(drawn(sources, 0.3), 1e-9), EVERYWHERE)

        start = [500 + 100 - amplitude, *places[0], *places[1]]
        return 2 * (top + minimize(worse, start, method="BFGS").fun)

    # Symmetric errors of a curve that is not: their mean.
    ends = found.amplitude_low[faint], found.amplitude_high[faint]
    assert np.mean([profile(end) for end in ends]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("background", "amplitude"), [(0.01, 5), (0.3, 20), (3.0, 30)])
def test_upper_limits_cover(background, amplitude):
    rng = np.random.default_rng(11)
    size = (440, 440)
    places = np.stack(np.meshgrid(*[np.arange(10, 440, 20)] * 2), axis=-1).reshape(-1, 2) + rng.uniform(-0.5, 0.5, 2)
    expected = np.full(size, background)
    for y, x in places:
        expected += amplitude * SHAPES.draw(0, y, x, size)
    covered = []
    for _ in range(4):
        fit = Fit(rng.poisson(expected).astype(float), np.full(size, background), np.ones(size, bool), SHAPES)
        covered.append(fit.single(*places.T, np.zeros(len(places), int)).upper_limit > amplitude)
    # 0.5 % of uncertainty.
    assert 0.93 <= np.mean(covered) <= 0.97


def test_no_upper_limit_is_below_that_of_no_counts():
    one = Fit(np.zeros(SIZE), np.full(SIZE, 0.001), EVERYWHERE, SHAPES).single([20.0], [20.0], [0])
    assert (one.amplitude, one.ts) == (0, 0)
    assert one.upper_limit == pytest.approx([-np.log(0.05)], rel=1e-6)


def test_what_pixels_do_not_see_is_counted_nevertheless():
    rng, valid = np.random.default_rng(6), EVERYWHERE.copy()
    valid[:, 20:] = False
    counts = rng.poisson(drawn([(2e5, 20.0, 19.4)], 1.0))
    counts[~valid] = 10**6
    found = fitted(counts, np.where(valid, 1.0, np.nan), valid, [(20.0, 19.0)]).sources
    assert found.amplitude[0] == pytest.approx(2e5, rel=0.02)
    # Partly beyond the window, too.
    counts = rng.poisson(drawn([(2e5, 0.2, 19.4)], 1.0))
    assert fitted(counts, 1.0, EVERYWHERE, [(0.0, 19.0)]).sources.amplitude[0] == pytest.approx(2e5, rel=0.02)


def test_where_no_background_is_counts_are_evidence_and_no_number_is_infinite():
    counts = np.zeros(SIZE)
    counts[20, 20] = counts[20, 21] = 2
    fit = fitted(counts, 0.0, EVERYWHERE, [(20.0, 20.4), (30.0, 30.0)])
    found = fit.sources
    assert found.amplitude == pytest.approx([4], rel=1e-6)
    for each in vars(found).values():
        assert np.isfinite(each).all()
    nothing = fit.single([30.0], [30.0], [0])
    assert (nothing.amplitude, nothing.ts) == (0, 0)
    assert 0 < nothing.upper_limit[0] < 5


def test_a_position_without_any_valid_pixel_is_no_source_and_has_no_limit():
    valid = EVERYWHERE.copy()
    valid[5:, :] = False
    fit = fitted(np.ones(SIZE), 0.1, valid, [(30.0, 30.0)])
    assert len(fit.sources.y) == 0
    assert fit.single([30.0], [30.0], [0]).upper_limit[0] == np.inf


def test_nothing_is_selected_of_nothing():
    fit = fitted(np.ones(SIZE), 1.0, EVERYWHERE, [])
    assert len(fit.sources.y) == 0
    np.testing.assert_array_equal(fit.expected, np.ones(SIZE))


def test_copies_of_a_candidate_are_one_source_and_positions_stay_near():
    counts = np.random.default_rng(7).poisson(drawn([(1000, 20.0, 20.0)], 0.3))
    fit = fitted(counts, 0.3, EVERYWHERE, [(20.0, 20.3), (20.3, 20.0), (19.7, 19.6), (21.0, 20.0)])
    assert len(fit.sources.y) == 1
    # One from afar comes as near as it may.
    found = fitted(counts, 0.3, EVERYWHERE, [(20.0, 22.5)]).sources
    assert found.x.tolist() == [22.5 - 125 / 64]
    assert found.at_bound.all()
    assert np.isnan(found.x_err).all()


def test_the_order_of_candidates_does_not_matter():
    rng = np.random.default_rng(8)
    truth = np.column_stack([rng.uniform(20, 200, 15), rng.uniform(3, 37, 15), rng.uniform(3, 40, 15)])
    counts, places = rng.poisson(drawn(truth, 0.3)), truth[:, 1:] + rng.normal(0, 0.2, (15, 2))
    shuffled = rng.permutation(15)
    one, other = (
        fitted(counts, 0.3, EVERYWHERE, places).sources,
        fitted(counts, 0.3, EVERYWHERE, places[shuffled]).sources,
    )
    np.testing.assert_array_equal(shuffled[other.candidate], one.candidate)
    for name in ("amplitude", "y", "x", "ts", "upper_limit", "order"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name))


def test_another_window_gives_the_same_sources():
    rng, size = np.random.default_rng(9), (120, 130)
    truth = np.column_stack([rng.uniform(20, 300, 80), rng.uniform(3, 117, 80), rng.uniform(3, 127, 80)])
    counts, places = rng.poisson(drawn(truth, 0.3, size)), truth[:, 1:] + rng.normal(0, 0.2, (80, 2))
    whole = fitted(counts, 0.3, np.ones(size, bool), places).sources
    corner = np.array([20, 31])
    inside = np.flatnonzero(np.all((places > corner) & (places < [109, 128]), axis=1))
    part = fitted(counts[20:110, 31:129], 0.3, np.ones((90, 98), bool), places[inside] - corner).sources

    def in_the_middle(candidate):
        """Of sources by candidate: those in the middle of both windows, in their order."""
        near = np.all(np.abs(places[candidate] - [65, 80]) < 22, axis=1)
        return np.flatnonzero(near)[np.argsort(candidate[near])]

    of_whole, of_part = in_the_middle(whole.candidate), in_the_middle(inside[part.candidate])
    assert len(of_whole) > 8
    np.testing.assert_array_equal(whole.candidate[of_whole], inside[part.candidate[of_part]])
    np.testing.assert_allclose(part.amplitude[of_part], whole.amplitude[of_whole], rtol=1e-7)
    np.testing.assert_allclose(part.ts[of_part], whole.ts[of_whole], rtol=1e-7)


def test_a_source_that_is_wider_is_one_row():
    shapes = gaussian_shapes(SIGMA, [2.6, 5.2, 10.4])
    rng, size = np.random.default_rng(10), (120, 120)
    wide = int(np.argmin(np.abs(shapes.extensions - 5.0)))
    counts = rng.poisson(0.3 + 2000 * shapes.draw(wide, 60.0, 61.0, size) + 300 * shapes.draw(0, 58.0, 70.0, size))
    places = np.concatenate([rng.uniform(45, 75, (40, 2)), [[60.0, 61.0], [58.0, 70.0]]])
    found = fitted(counts, 0.3, np.ones(size, bool), places, shapes, extended=True).sources
    assert len(found.y) == 2
    first = np.argmax(found.amplitude)
    assert found.extension[first] == pytest.approx(5.2, rel=0.2)
    assert found.amplitude == pytest.approx([2000, 300], rel=0.15)
    assert found.ts_ext[first] > 200
    assert found.ts_ext[1 - first] == found.extension[1 - first] == 0
    assert np.all(np.abs(found.extension / 5.0 - 1)[first] < 0.1)


@pytest.mark.parametrize(("truth", "background"), [(3000.0, 3.0), (1000.0, 3.0), (1000.0, 0.3)])
def test_the_interval_of_a_wide_source_holds_the_error_of_its_width(truth, background):
    shapes, size = gaussian_shapes(SIGMA, [2.6, 5.2, 10.4]), (150, 150)
    wide = int(np.argmin(np.abs(shapes.extensions - 6.0)))
    image = shapes.draw(wide, 75.0, 74.0, size)
    expected = background + truth * image
    found = fitted(expected, background, np.ones(size, bool), [[75.0, 74.0]], shapes, extended=True).sources
    assert found.extension == pytest.approx(shapes.extensions[wide], rel=1e-3)
    # Fisher's information of amplitude and width; of its position nothing is added where the source is round.
    wider, narrower = (shapes.draw(wide + step, 75.0, 74.0, size) for step in (1, -1))
    slopes = np.stack([image, truth * (wider - narrower) / 2])
    information = np.einsum("iyx,jyx->ij", slopes / expected, slopes)
    # And it may lie anywhere between two widths.
    error = np.sqrt(np.linalg.inv(information)[0, 0] + (information[0, 1] / information[0, 0]) ** 2 / 12)
    assert error > 1.04 / np.sqrt(information[0, 0])
    assert (found.amplitude_high - found.amplitude_low)[0] / 2 == pytest.approx(error, rel=0.05)


def test_of_a_crowd_the_maximum_is_reached_to_the_last_digits():
    rng = np.random.default_rng(12)
    truth = np.column_stack([rng.uniform(50, 800, 60), rng.uniform(1, 38, 60), rng.uniform(1, 42, 60)])
    fit = fitted(rng.poisson(drawn(truth, 0.3)), 0.3, EVERYWHERE, truth[:, 1:])
    before = fit.sources
    assert len(before.y) > 30
    fit.solve()
    after = fit.sources
    np.testing.assert_array_equal(after.candidate, before.candidate)
    np.testing.assert_allclose(after.amplitude, before.amplitude, rtol=1e-9)
    np.testing.assert_allclose([after.y, after.x], [before.y, before.x], atol=1e-8)
    assert after.ts.min() > 9


def test_what_the_residual_shows_is_added_to_what_was_found():
    rng = np.random.default_rng(13)
    counts = rng.poisson(drawn([(500, 20.0, 20.0), (200, 20.0, 24.5)], 0.3)).astype(float)
    fit = Fit(counts, np.full(SIZE, 0.3), EVERYWHERE, SHAPES)
    assert fit.select([20.0, 35.0], [20.0, 5.0], [0, 0]).tolist() == [0, -1]
    fit.solve()
    assert fit.select([20.0], [24.4], [0]).tolist() == [1]
    fit.solve()
    found = fit.sources
    assert found.candidate.tolist() == [0, 2]
    at_once = fitted(counts, 0.3, EVERYWHERE, [(20.0, 20.0), (20.0, 24.4)]).sources
    np.testing.assert_allclose(found.amplitude, at_once.amplitude, rtol=1e-8)


def test_a_width_that_gains_too_little_beside_others_goes():
    shapes = gaussian_shapes(SIGMA, [SIGMA])
    counts = np.random.default_rng(14).poisson(drawn([(600, 20.0, 18.5), (600, 20.0, 21.5)], 0.3)).astype(float)
    fit = Fit(counts, np.full(SIZE, 0.3), EVERYWHERE, shapes, extended=True)
    fit.select([20.0], [20.0], [0])
    assert fit.sources.extension[0] > 0
    fit.select([20.0, 20.0], [18.0, 22.0], [0, 0])
    fit.solve()
    assert fit.sources.extension.tolist() == [0, 0]


@pytest.mark.parametrize("counts", [1e3, 1e6])
def test_a_bright_source_is_alone(counts):
    places = np.stack(np.meshgrid(np.arange(5, 36, 2.0), np.arange(5, 36, 2.0)), axis=-1).reshape(-1, 2)
    fit = fitted(np.random.default_rng(15).poisson(drawn([(counts, 20.3, 19.6)], 0.05)), 0.05, EVERYWHERE, places)
    found = fit.sources
    assert np.count_nonzero(found.ts > 25) == 1
    assert found.amplitude[0] == pytest.approx(counts, rel=4 / np.sqrt(counts))


def test_pixels_that_hold_none_one_or_two_of_the_survey_are_expected_where_those_lie():
    """As facets of the sphere have them: what their counts are expected to be is found again, if it is known."""
    rng, size = np.random.default_rng(12), (60, 60)
    n = rng.choice([0.0, 1.0, 2.0], size, p=[0.15, 0.7, 0.15])
    centres = rng.uniform(-0.5, 0.5, (2, *size))
    there = np.indices(size) + centres
    truth = [(400.0, 20.3, 17.8), (150.0, 38.1, 40.4)]
    counts = 0.3 * n
    for f, *place in truth:
        along = there - np.reshape(place, (2, 1, 1))
        counts += f * n * np.prod(ndtr((along + 0.5) / SIGMA) - ndtr((along - 0.5) / SIGMA), axis=0)
    places = [(round(y), round(x)) for _, y, x in truth]
    known, unknown = (fitted(counts, 0.3, n, places, shapes) for shapes in (SHAPES._replace(centres=centres), SHAPES))
    for name, column, off in (("amplitude", 0, 1.0), ("y", 1, 0.01), ("x", 2, 0.01)):
        expected = np.array(truth)[:, column]
        np.testing.assert_allclose(getattr(known.sources, name), expected, atol=off)
    assert np.abs(unknown.sources.amplitude - [400, 150]).max() > 5
