"""Arrays that are used again."""

import tracemalloc

import numpy as np
import psutil
import pytest

from cwt_dask.cwt.buffers import borrow, forget, give_back, release


@pytest.fixture(autouse=True)
def nothing_free():
    forget()
    yield
    forget()


def test_no_array_is_lent_twice_at_once_nor_after_it_was_forgotten():
    first = borrow((20, 30))
    give_back(first)
    second, third = borrow((20, 30)), borrow((20, 30))
    assert not np.shares_memory(second, third)
    give_back(second)
    forget()
    assert not np.shares_memory(borrow((20, 30)), second)


def test_a_smaller_array_takes_the_smallest_buffer_that_holds_it():
    large, middle, small = borrow((50, 50)), borrow((20, 30)), borrow((3, 3))
    give_back(large, middle, small)
    edge = borrow((20, 11))
    assert np.shares_memory(edge, middle)
    assert edge.shape == (20, 11)
    assert edge.flags.c_contiguous
    give_back(edge)
    assert np.shares_memory(borrow((20, 30)), middle)


def test_what_is_too_small_is_not_kept_beside_what_is_larger():
    small, middle = borrow((300, 300)), borrow((400, 400))
    give_back(small, middle)
    del small, middle
    tracemalloc.start()
    for side in (500, 600, 700, 800):
        give_back(borrow((side, side)), borrow((side, side)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2.1 * 8 * 800**2


def test_types_are_kept_apart():
    give_back(borrow((4, 4), np.float64))
    assert borrow((4, 4), np.uint16).dtype == np.uint16
    np.testing.assert_array_equal(borrow((2, 3), fill=-np.inf), np.full((2, 3), -np.inf))


def test_what_is_released_goes_back_to_the_system():
    size = 10**7
    array = borrow((size,), fill=1)
    give_back(array)
    del array
    before = psutil.Process().memory_info().rss
    release()
    assert psutil.Process().memory_info().rss < before - 4 * size
