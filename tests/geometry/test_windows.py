import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.geometry.tiling import Box
from cwt_dask.geometry.windows import read_box

columns = st.tuples(st.integers(-40, 40), st.integers(0, 60))
rows = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted)


@given(st.sampled_from([(), (2,), (3, 2)]), st.integers(1, 15), rows, columns)
def test_columns_of_a_ring_count_modulo_its_width(leading, width, rows, columns):
    array = np.arange(np.prod([*leading, 6, width])).reshape(*leading, 6, width)
    box = Box(*rows, columns[0], sum(columns))
    expected = array[..., rows[0] : rows[1], :][..., np.arange(box.x0, box.x1) % width]
    found = read_box(array, box, ring=True)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("box", [Box(0, 6, 0, 9), Box(2, 3, 4, 9), Box(2, 2, 4, 9)])
def test_without_a_ring_a_box_is_a_slice(box):
    array = np.arange(2 * 6 * 9).reshape(2, 6, 9)
    for ring in (False, True):
        np.testing.assert_array_equal(read_box(array, box, ring=ring), array[(..., *box.slices)])
