import os

import numba
import numpy as np
import oracle
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cwt_dask.cwt.loops import (
    add_positive,
    compiled,
    find_significant,
    keep_largest,
    label,
    not_isolated,
    sum_over_scales,
    versions_of,
)

# Narrow ones are rings of pixels that are their own neighbours, or each other's twice.
shapes = st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 3, 4, 9]))
masks = shapes.flatmap(lambda shape: arrays(bool, shape))
seeds = st.integers(0, 2**32 - 1)
on_ring_or_not = pytest.mark.parametrize("ring", [False, True], ids=["image", "ring"])


def dense_labels(mask, ring):
    """Labels of the pixels of a mask, in their order, numbered in the order of the islands' first pixels."""
    islands = (oracle.label_ring(mask) if ring else scipy.ndimage.label(mask)[0])[mask]
    _, first, island = np.unique(islands, return_index=True, return_inverse=True)
    return first.argsort().argsort()[island] + 1


# Islands that wind through an image.
winding = [np.random.default_rng(1).random((70, 91)) < filled for filled in (0.3, 0.55, 0.6, 0.65, 0.9)]


@on_ring_or_not
@given(st.one_of(masks, st.sampled_from(winding)))
def test_labels_are_those_of_scipy_or_the_oracle(ring, mask):
    labels, count = label(np.flatnonzero(mask), mask.shape[1], ring)
    expected = dense_labels(mask, ring)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32
    assert count == expected.max(initial=0)


def count_neighbours(mask, y, x, ring):
    height, width = mask.shape
    columns = {(x - 1) % width, (x + 1) % width} - {x} if ring else {x - 1, x + 1} & set(range(width))
    rows = {y - 1, y + 1} & set(range(height))
    return sum(mask[row, x] for row in rows) + sum(mask[y, column] for column in columns)


@on_ring_or_not
@given(masks)
def test_isolated_is_what_has_no_neighbour(ring, mask):
    found = not_isolated(mask, np.arange(mask.size), ring)
    expected = [count_neighbours(mask, y, x, ring) > 0 for y, x in np.ndindex(mask.shape)]
    np.testing.assert_array_equal(found, expected)


def significant(transform, variance, valid, joined, floor, rounding, thresholds, *, exact=True):
    """What `find_significant` fills, by name."""
    filled = {"ratio": np.empty(transform.shape)}
    filled |= {name: np.empty(transform.shape, dtype=bool) for name in ("above", "wanted", "near", "hidden")}
    find_significant(transform, variance, valid, joined, floor, rounding, thresholds, exact, *filled.values())
    return filled


def test_where_nothing_is_expected_the_significance_is_undefined():
    variance = np.array([[1.0, 0.0, np.nan, -1e-3, 1e-12, 1e-14, 1.0]])
    transform, valid = np.full(variance.shape, 5.0), np.array([[True] * 6 + [False]])
    joined = np.array([[0, 0, 0, 0, 0, 7, 7]], dtype=np.uint16)
    found = significant(transform, variance, valid, joined, 1e-12, 1e-12, (3.0, 3.0))
    np.testing.assert_array_equal(found["ratio"], [[5.0, *[-np.inf] * 6]])
    np.testing.assert_array_equal(found["above"], [[True] + [False] * 6])
    np.testing.assert_array_equal(found["wanted"], [[True] + [False] * 4 + [True] * 2])
    assert not found["near"].any()
    np.testing.assert_array_equal(found["hidden"], [[False] + [True] * 5 + [False]])


@pytest.mark.parametrize(("amplitude", "stands_out"), [(90.0, True), (2.9, False), (-90.0, False)])
def test_later_what_the_floor_decides_is_counted_and_flagged_where_something_stands_out(amplitude, stands_out):
    # With the floor at 1 the threshold is at 3.
    variance = np.array([[-1e9, 0.1, 0.7, 0.8, 1.0, 1.2, 1.3, 1e3, 1.0]])
    valid, joined = np.arange(9)[np.newaxis] < 8, np.zeros(variance.shape, dtype=np.uint16)
    found = significant(np.full(variance.shape, amplitude), variance, valid, joined, 1.0, 0.0, (3, 3), exact=False)
    np.testing.assert_array_equal(found["hidden"], (stands_out | (variance < -1e6)) & (variance <= 1) & valid)
    # That it comes near the threshold itself is another thing.
    by_floor = stands_out & (variance > 0.75) & (variance < 1.25) & valid
    np.testing.assert_array_equal(found["near"] & (amplitude > 10), by_floor)


@given(seeds, st.sampled_from([(3.0, 3.0), (2.0, 5.0), (0.0, 1.0), (-1.0, -1.0)]))
def test_significance_is_transform_over_error(seed, thresholds):
    rng = np.random.default_rng(seed)
    shape, floor, rounding = (20, 30), 0.1, 0.2
    transform, variance = 3 * rng.normal(size=shape), rng.uniform(-0.2, 2, size=shape)
    valid, joined = rng.random(shape) < 0.8, rng.integers(0, 2, shape).astype(np.uint16)
    found = significant(transform, variance, valid, joined, floor, rounding, thresholds)

    defined = valid & (variance > floor)
    error = np.sqrt(variance, out=np.ones(shape), where=defined)
    ratio = np.where(defined, transform / error, -np.inf)
    np.testing.assert_array_equal(found["ratio"], ratio)
    np.testing.assert_array_equal(found["above"], ratio > thresholds[0])
    np.testing.assert_array_equal(found["wanted"], (ratio > thresholds[0]) | (joined > 0))
    # T may be off by the one, E² by the other.
    near = [np.abs(ratio - t) * error <= rounding + abs(t) * floor / (2 * error) for t in thresholds]
    np.testing.assert_array_equal(found["near"], defined & np.logical_or(*near))
    assert found["near"].any()
    assert not found["near"].all()


@given(seeds)
def test_the_largest_significance_is_kept_with_its_scale_and_iteration(seed):
    rng = np.random.default_rng(seed)
    shape = (4, 6, 7)
    valid = rng.random(shape[1:]) < 0.8
    # Few values: of equals the first is kept.
    ratio = np.where(valid, rng.choice([-np.inf, -1.0, 2.0, 3.0], shape), -np.inf)
    largest, best = np.full(shape[1:], -np.inf), np.full(shape[1:], -1, dtype=np.int16)
    when = np.zeros(shape[1:], dtype=np.uint16)
    for scale, values in enumerate(ratio):
        keep_largest(values, scale, 7 + scale, largest, best, when)
    np.testing.assert_array_equal(largest, ratio.max(axis=0))
    np.testing.assert_array_equal(best, np.where(np.isneginf(largest), -1, ratio.argmax(axis=0)))
    np.testing.assert_array_equal(when, np.where(best < 0, 0, 7 + best))


def test_the_iteration_is_the_first_within_rounding_of_the_largest():
    one = np.ones((1, 1))
    known = -np.inf * one, np.array([[-1]], np.int16), np.array([[0]], np.uint16)
    for iteration, value in enumerate([4.0, 5.0, 5.0 + 1e-12, 4.0], 1):
        keep_largest(value * one, 0, iteration, *known)
    assert known[0].item() == 5.0 + 1e-12
    assert known[2].item() == 2


@given(seeds, st.integers(1, 4))
def test_the_model_takes_up_what_is_positive_of_the_sum_over_scales(seed, n_scale):
    rng = np.random.default_rng(seed)
    joined = rng.integers(0, 3, size=(n_scale, 50)).astype(np.uint16)
    transform, model = rng.normal(size=joined.shape), rng.random(50)
    # An iteration before left its sum wherever something had joined.
    summed = np.where((joined == 1).any(axis=0), 100.0, 0.0)
    wanted = [np.flatnonzero((support > 0) | (rng.random(50) < 0.3)) for support in joined]

    expected = sum(np.where(joined[scale] > 0, transform[scale], 0.0) for scale in range(n_scale))
    expected_model = model + np.maximum(expected, 0.0)
    for scale, pixels in enumerate(wanted):
        sum_over_scales(joined, scale, pixels, transform[scale, pixels], summed)
    np.testing.assert_array_equal(summed, expected)
    for scale, pixels in enumerate(wanted):
        add_positive(joined, scale, pixels, summed, model)
    np.testing.assert_array_equal(model, expected_model)


SOURCE = "def doubled(number):\n    return 2 * number\n"


def function_in(path):
    """The function of SOURCE, from a file."""
    path.write_text(SOURCE, encoding="utf-8")
    namespace = {}
    exec(compile(SOURCE, path, "exec"), namespace)  # noqa: S102 - it is ours
    return namespace["doubled"]


def test_what_is_compiled_is_kept_beside_its_source(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    assert compiled(function_in(tmp_path / "loops.py"))(21) == 42
    assert list((tmp_path / "__pycache__").glob("loops.doubled*.nbc"))


def test_it_is_compiled_again_when_a_module_beside_it_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    function, hits = function_in(tmp_path / "loops.py"), []
    for beside in ("", "", "A = 1\n"):
        (tmp_path / "joint.py").write_text(beside, encoding="utf-8")
        os.utime(tmp_path / "joint.py", (0, 0))
        versions_of.cache_clear()
        made = compiled(function)
        made(21)
        hits.append(sum(made.stats.cache_hits.values()))
    assert hits == [0, 1, 0]


def test_where_no_directory_can_be_written_it_is_compiled_all_the_same(tmp_path, monkeypatch):
    # Not even root can make a directory in a file.
    blocked = tmp_path / "__pycache__"
    blocked.write_bytes(b"")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(blocked / "numba"))
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(blocked))
    function = function_in(tmp_path / "loops.py")
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(function)
    assert compiled(function)(21) == 42
