from copy import deepcopy
from dataclasses import fields

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwt_dask import CWTKernels
from cwt_dask.cwt.spectra import BLOCK_BYTES, fast_length, kernel_spectra, row_blocks
from cwt_dask.cwt.state import Criteria, Field, State, rounding_level
from cwt_dask.cwt.step import step
from cwt_dask.cwt.stopping import Moments
from cwt_dask.cwt.workspace import Workspace, smooth

SCALES = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}
KERNELS = CWTKernels(**SCALES)
SHAPE = (30, 41)
BOX = tuple(fast_length(n + KERNELS.reach) for n in SHAPE)
SPECTRA = kernel_spectra(KERNELS, BOX)
INSIDE = np.s_[..., : SHAPE[0], : SHAPE[1]]


def criteria(threshold=3.0, island_threshold=None, *, remove_isolated=True, rounding=0.0):
    return Criteria(threshold, island_threshold, remove_isolated, rounding)


def poisson_field(seed, *, masked=0.0, shape=SHAPE, box=BOX):
    """Counts with a few sources over a background of 0.5, on the pixels of a shape, some of them masked."""
    rng = np.random.default_rng(seed)
    valid = np.zeros(box, dtype=bool)
    valid[: shape[0], : shape[1]] = rng.random(shape) >= masked
    expected = np.full(box, 0.5)
    expected[rng.integers(shape[0], size=3), rng.integers(shape[1], size=3)] += 60
    return Field(np.where(valid, rng.poisson(expected), 0.0), np.where(valid, 0.5, 0.0), valid)


def iterate(field, rules, n_iter):
    """The start, and the state after each iteration."""
    workspace = Workspace(field, SPECTRA, rules)
    states = [State.start(KERNELS.n_scale, BOX, with_cubes=True)]
    for _ in range(n_iter):
        states.append(step(deepcopy(states[-1]), workspace))
    return states


def residual(field, state):
    return field.counts - (state.model + state.approx)


def assert_same_bits(a, b):
    assert (a.iteration, a.core) == (b.iteration, b.core)
    for name in (f.name for f in fields(State) if f.name not in ("iteration", "core")):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 3.0]),
    st.sampled_from([None, 6.0]),
    st.booleans(),
    st.sampled_from([0.0, 0.2]),
)
def test_four_iterations_are_those_of_the_oracle(seed, threshold, island_threshold, remove_isolated, masked):
    field = poisson_field(seed, masked=masked)
    rules = criteria(threshold, island_threshold, remove_isolated=remove_isolated, rounding=1e-12)
    state = iterate(field, rules, 4)[-1]
    expected = oracle.analyze(
        field.counts[INSIDE],
        field.background[INSIDE],
        **SCALES,
        max_iter=4,
        significance_threshold=threshold,
        significance_island_threshold=island_threshold,
        remove_isolated=remove_isolated,
        mask=field.valid[INSIDE],
        rounding=1e-12,
        fixed=True,
    )
    assert state.iteration == 4
    np.testing.assert_array_equal(state.support[INSIDE], expected.support)
    np.testing.assert_array_equal(state.best_scale[INSIDE], expected.best_scale)
    np.testing.assert_array_equal(state.best_iteration[INSIDE], expected.best_iteration)
    images = {name: getattr(state, name) for name in ("model", "approx", "transform", "transform_2d")}
    images["residual"] = residual(field, state)
    for name, image in images.items():
        ours, theirs = image[INSIDE], getattr(expected, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(np.abs(theirs).max(), 1e-3), err_msg=name)
    defined = state.significance[INSIDE] > -np.inf
    np.testing.assert_allclose(
        state.significance[INSIDE][defined], expected.significance[defined], rtol=1e-8, atol=1e-8
    )
    sigma = np.where(state.sigma[INSIDE] > -np.inf, state.sigma[INSIDE], 0)
    np.testing.assert_allclose(sigma, expected.sigma, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        smooth(field.background, field.valid, SPECTRA)[INSIDE], expected.approx_bkg, rtol=0, atol=1e-14
    )
    moments = Workspace(field, SPECTRA, rules).residual_moments(state)
    assert moments.count == np.count_nonzero(field.valid)
    assert moments.variance == pytest.approx(expected.variances[-1], rel=1e-12)


def test_a_step_reuses_the_arrays_of_its_state():
    workspace = Workspace(poisson_field(1), SPECTRA, criteria())
    before = State.start(KERNELS.n_scale, BOX, with_cubes=True)
    after = step(before, workspace)
    assert (before.iteration, after.iteration) == (0, 1)
    for name in (f.name for f in fields(State) if f.name != "iteration"):
        assert getattr(after, name) is getattr(before, name)


def test_of_a_core_the_same_is_known_as_of_the_whole_box():
    field, rules = poisson_field(5, masked=0.2), criteria(1.0, 2.0, rounding=1e-2)
    workspace, core = Workspace(field, SPECTRA, rules), np.s_[9:26, 5:37]
    state = State.start(KERNELS.n_scale, BOX, core)
    for whole in iterate(field, rules, 4)[1:]:
        state = step(state, workspace)
        for name in ("model", "approx", "joined", "transform_2d"):
            np.testing.assert_array_equal(getattr(state, name), getattr(whole, name), err_msg=name)
        for name in (
            "significance",
            "best_scale",
            "best_iteration",
            "sigma",
            "sigma_scale",
            "undefined",
            "near_threshold",
        ):
            np.testing.assert_array_equal(getattr(state, name), getattr(whole, name)[core], err_msg=name)
        assert state.transform.size == state.error.size == 0
        expected = Moments.of(residual(field, state)[core][field.valid[core]])
        moments = workspace.residual_moments(state)
        assert moments.count == expected.count
        assert moments.mean == pytest.approx(expected.mean, rel=1e-12)
        assert moments.variance == pytest.approx(expected.variance, rel=1e-12)
    assert state.near_threshold.any()


def four_iterations(field, kernels, threads):
    """State and moments after four iterations, with a core and cubes."""
    box = field.counts.shape
    workspace = Workspace(field, kernel_spectra(kernels, box, threads), criteria(1.0, 3.0, rounding=1e-12))
    state = State.start(KERNELS.n_scale, box, np.s_[3:26, 5:37], with_cubes=True)
    for _ in range(4):
        state = step(state, workspace)
    return state, workspace.residual_moments(state)


@pytest.mark.parametrize(
    ("block_bytes", "masked", "kernels", "box"),
    [
        *((1, 0.0, KERNELS, BOX), (2**12, 0.2, CWTKernels(2, 2.1, 1.3, old=True), BOX)),
        # A large box in blocks as they are.
        (BLOCK_BYTES, 0.2, KERNELS, (540, 640)),
    ],
)
def test_neither_threads_nor_blocks_of_rows_change_bits(monkeypatch, block_bytes, masked, kernels, box):
    field = poisson_field(6, masked=masked, shape=np.subtract(box, KERNELS.reach), box=box)
    monkeypatch.setattr("cwt_dask.cwt.spectra.BLOCK_BYTES", 2**30)
    in_one_block, _ = four_iterations(field, kernels, threads=1)
    assert len(row_blocks(box)) == 1
    assert in_one_block.support.any()
    monkeypatch.setattr("cwt_dask.cwt.spectra.BLOCK_BYTES", block_bytes)
    assert len(row_blocks(box)) > 4
    states, moments = zip(*(four_iterations(field, kernels, threads) for threads in (1, 2, 3)), strict=True)
    for state in states:
        assert_same_bits(state, in_one_block)
    assert moments[0] == moments[1] == moments[2]


@pytest.mark.parametrize("n_scale", [1, 4])
def test_an_iteration_takes_three_fourier_transforms_and_two_a_scale(ffts, n_scale):
    spectra = kernel_spectra(CWTKernels(n_scale=n_scale, min_scale=1.2, step_scale=1.5), BOX)
    workspace, state = Workspace(poisson_field(1), spectra, criteria()), State.start(n_scale, BOX)
    assert ffts == {"forward": 1}
    for n_iter in (1, 2, 3):
        state = step(state, workspace)
        workspace.residual_moments(state)
        # The first transforms the third cumulants, too.
        assert ffts == {"forward": 1 + 2 * n_iter, "backward": (1 + 2 * n_scale) * n_iter + n_scale}
    assert state.support.any()


def test_the_iteration_at_which_each_pixel_joined_the_support_is_known():
    states = iterate(poisson_field(2), criteria(1.0), 5)
    joined = states[-1].joined
    assert joined.dtype == np.uint16
    assert set(np.unique(joined)) == {0, 1, 2, 3, 4, 5}
    # So the support only grows.
    for state in states:
        np.testing.assert_array_equal(state.support, (joined > 0) & (joined <= state.iteration))


def test_pixels_near_the_threshold_are_marked():
    field = poisson_field(4)
    ratio = iterate(field, criteria(), 1)[-1].significance
    y, x = np.unravel_index(np.argmax(np.where(field.valid, ratio, -np.inf)), BOX)
    hit = iterate(field, criteria(float(ratio[y, x]), rounding=1e-13), 1)[-1]
    assert hit.near_threshold[y, x]
    assert hit.near_threshold.sum() == 1
    exact = iterate(field, criteria(float(ratio[y, x])), 1)[-1]
    assert not exact.near_threshold.any()


def test_an_island_threshold_decides_nothing_unless_it_is_above_that_of_pixels():
    assert criteria(3.0, 6.0).thresholds == (3.0, 6.0)
    assert criteria(3.0, 3.0).thresholds == criteria(3.0).thresholds == (3.0,)


def test_a_ring_has_no_first_column():
    def shifted(image):
        return np.roll(image, 17, axis=-1)

    # Only below is a rim of zeros; and there is an island that is one only over the edge.
    box, states = (BOX[0], fast_length(SHAPE[1])), []
    field = poisson_field(8, shape=(SHAPE[0], box[1]), box=box)
    field.counts[12, 0] += 60
    for turned in (field, Field(*(shifted(getattr(field, f.name)) for f in fields(field) if f.name != "pooled"))):
        workspace = Workspace(turned, kernel_spectra(KERNELS, box), criteria(2.0, 15.0, rounding=1e-12), ring=True)
        state = State.start(KERNELS.n_scale, box, with_cubes=True)
        for _ in range(4):
            state = step(state, workspace)
        states.append(state)
    one, other = states
    assert not one.near_threshold.any()
    assert (one.support[..., 0] & one.support[..., -1]).any()
    for name in ("joined", "best_scale", "best_iteration", "undefined"):
        np.testing.assert_array_equal(getattr(other, name), shifted(getattr(one, name)), err_msg=name)
    for name in ("model", "approx", "transform", "transform_2d"):
        ours, theirs = getattr(other, name), shifted(getattr(one, name))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max(), err_msg=name)


def test_on_a_ring_a_pixel_over_the_edge_is_a_neighbour():
    box, by_edge_alone = (BOX[0], fast_length(SHAPE[1])), 0
    field = poisson_field(8, shape=(SHAPE[0], box[1]), box=box)
    field.counts[12, [0, -1]] += 30
    for threshold in np.geomspace(2, 200, 60):
        workspace = Workspace(field, kernel_spectra(KERNELS, box), criteria(threshold, rounding=1e-12), ring=True)
        state = State.start(KERNELS.n_scale, box, with_cubes=True)
        workspace.begin(state)
        detected, _, _ = workspace.detect(state, 0)
        above = np.pad(field.valid & (state.transform[0] > threshold * state.error[0]), 1)
        across = np.roll(above[:, 1:-1], 1, axis=1) | np.roll(above[:, 1:-1], -1, axis=1)
        plain = (above[:-2] | above[2:])[:, 1:-1] | (above[:, :-2] | above[:, 2:])[1:-1]
        joined = above[1:-1, 1:-1] & (plain | across[1:-1])
        np.testing.assert_array_equal(detected.pixels, np.flatnonzero(joined))
        by_edge_alone += (joined & ~plain).sum()
    assert by_edge_alone > 0


@given(st.floats(1e-6, 1e12))
def test_rounding_level_is_the_next_power_of_ten(brightest):
    level, rounding = rounding_level(brightest), 64 * 2.0**-52 * brightest
    assert level == pytest.approx(10.0 ** round(np.log10(level)), rel=1e-14)
    assert rounding * (1 - 1e-12) <= level < 10 * rounding * (1 + 1e-12)
    assert rounding_level(0.0) == 0.0
