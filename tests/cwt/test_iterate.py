from dataclasses import fields
from itertools import pairwise

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwt_dask import CWTKernels
from cwt_dask.cwt.iterate import (
    Criteria,
    Field,
    State,
    background_approximation,
    by_own_peak,
    candidate_pixels,
    rounding_level,
    significance_of,
    step,
)
from cwt_dask.cwt.transform import fast_length, kernel_spectra

KERNELS = CWTKernels(n_scale=2, min_scale=1.2, step_scale=1.5)
SHAPE = (30, 41)
BOX = tuple(fast_length(n + KERNELS.reach) for n in SHAPE)
SPECTRA = kernel_spectra(KERNELS, BOX)
INSIDE = np.s_[..., : SHAPE[0], : SHAPE[1]]


def criteria(threshold=3.0, island_threshold=None, *, remove_isolated=True, rounding=0.0):
    return Criteria(threshold, island_threshold, remove_isolated, rounding)


def poisson_field(seed, *, masked=0.0):
    """Counts with a few sources over a background of 0.5, on the pixels of SHAPE, some of them masked."""
    rng = np.random.default_rng(seed)
    valid = np.zeros(BOX, dtype=bool)
    valid[INSIDE] = rng.random(SHAPE) >= masked
    expected = np.full(BOX, 0.5)
    expected[rng.integers(SHAPE[0], size=3), rng.integers(SHAPE[1], size=3)] += 60
    return Field(np.where(valid, rng.poisson(expected), 0.0), np.where(valid, 0.5, 0.0), valid)


def iterate(field, rules, n_iter):
    states = [State.start(KERNELS.n_scale, BOX)]
    for _ in range(n_iter):
        states.append(step(states[-1], field, SPECTRA, rules))
    return states


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 6.0]), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_four_iterations_are_those_of_the_oracle(seed, island_threshold, remove_isolated, masked):
    field = poisson_field(seed, masked=masked)
    rules = criteria(3.0, island_threshold, remove_isolated=remove_isolated, rounding=1e-12)
    state = iterate(field, rules, 4)[-1]
    expected = oracle.analyze(
        field.counts[INSIDE],
        field.background[INSIDE],
        n_scale=2,
        min_scale=1.2,
        step_scale=1.5,
        max_iter=4,
        significance_island_threshold=island_threshold,
        remove_isolated=remove_isolated,
        mask=field.valid[INSIDE],
        rounding=1e-12,
        fixed=True,
    )
    assert state.iteration == 4
    np.testing.assert_array_equal(state.support[INSIDE], expected.support)
    np.testing.assert_array_equal(state.best_scale[INSIDE], expected.best_scale)
    for name in ("model", "approx", "residual", "transform", "transform_2d"):
        ours, theirs = getattr(state, name)[INSIDE], getattr(expected, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(np.abs(theirs).max(), 1e-3), err_msg=name)
    defined = state.significance[INSIDE] > -np.inf
    np.testing.assert_allclose(
        state.significance[INSIDE][defined], expected.significance[defined], rtol=1e-8, atol=1e-8
    )
    np.testing.assert_allclose(
        background_approximation(field, SPECTRA)[INSIDE], expected.approx_bkg, rtol=0, atol=1e-14
    )


def test_a_step_leaves_its_input_alone():
    field = poisson_field(1)
    before = iterate(field, criteria(), 2)[-1]
    copies = {f.name: np.copy(getattr(before, f.name)) for f in fields(before)}
    step(before, field, SPECTRA, criteria())
    for name, copy in copies.items():
        np.testing.assert_array_equal(getattr(before, name), copy)


def test_support_model_and_significance_only_grow():
    states = iterate(poisson_field(2), criteria(), 5)
    assert states[-1].model.max() > 1
    for a, b in pairwise(states):
        assert not (a.support & ~b.support).any()
        assert (b.model >= a.model).all()
        assert (b.significance >= a.significance).all()


def test_pixels_that_take_no_part_stay_zero():
    field = poisson_field(3, masked=0.3)
    state = iterate(field, criteria(), 3)[-1]
    for image in (
        state.model,
        state.approx,
        state.residual,
        state.transform_2d,
        background_approximation(field, SPECTRA),
    ):
        assert not image[~field.valid].any()
    assert not state.support[:, ~field.valid].any()
    assert (state.significance[~field.valid] == -np.inf).all()
    assert (state.best_scale[~field.valid] == -1).all()
    assert not state.undefined[~field.valid].any()


def test_an_error_that_is_not_a_number_is_undefined_and_detects_nothing():
    # 10^5 counts in one pixel: the approximation makes the expected counts around it negative.
    counts, background = np.zeros(BOX), np.full(BOX, 0.5)
    counts[15, 20] = 1e5
    field = Field(counts, background, np.ones(BOX, dtype=bool))
    state = iterate(field, criteria(), 5)[-1]
    blind = np.isnan(state.error[0])
    assert blind.any()
    assert state.undefined[blind].all()


def test_where_nothing_is_expected_the_significance_is_undefined():
    transform, error = np.array([[5.0, 5.0, 5.0, 5.0]]), np.array([[1.0, 0.0, np.nan, 1e-7]])
    np.testing.assert_array_equal(significance_of(transform, error, 1e-12), [[5.0, -np.inf, -np.inf, -np.inf]])


def test_pixels_near_the_threshold_are_marked():
    field = poisson_field(4)
    ratio = iterate(field, criteria(), 1)[-1].significance
    y, x = np.unravel_index(np.argmax(np.where(field.valid, ratio, -np.inf)), BOX)
    hit = step(State.start(2, BOX), field, SPECTRA, criteria(float(ratio[y, x]), rounding=1e-13))
    assert hit.near_threshold[y, x]
    assert hit.near_threshold.sum() == 1
    exact = step(State.start(2, BOX), field, SPECTRA, criteria(float(ratio[y, x])))
    assert not exact.near_threshold.any()


def test_an_island_threshold_decides_nothing_unless_it_is_above_that_of_pixels():
    assert criteria(3.0, 6.0).thresholds == (3.0, 6.0)
    assert criteria(3.0, 3.0).thresholds == criteria(3.0).thresholds == (3.0,)


def test_rules_of_the_support():
    ratio = np.array([[4.0, 3.0, 6.0, 5.0], [1.0, 1.0, 1.0, 1.0], [3.5, 3.5, 1.0, -np.inf]])
    bright, isolated, faint = ratio > 4.5, ratio == 4.0, ratio == 3.5
    np.testing.assert_array_equal(candidate_pixels(ratio, criteria()), bright | faint)
    np.testing.assert_array_equal(candidate_pixels(ratio, criteria(remove_isolated=False)), bright | isolated | faint)
    np.testing.assert_array_equal(by_own_peak(criteria())(0, bright | faint, ratio), bright | faint)
    np.testing.assert_array_equal(by_own_peak(criteria(3.0, 6.0))(0, bright | faint, ratio), bright)


@given(st.floats(1e-6, 1e12))
def test_rounding_level_is_the_next_power_of_ten(brightest):
    level, rounding = rounding_level(brightest), 64 * 2.0**-52 * brightest
    assert level == pytest.approx(10.0 ** round(np.log10(level)), rel=1e-14)
    assert rounding * (1 - 1e-12) <= level < 10 * rounding * (1 + 1e-12)


def test_rounding_level_of_an_empty_map():
    assert rounding_level(0.0) == 0.0
