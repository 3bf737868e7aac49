"""Types of arrays, and the state of NumPy in which they are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@contextmanager
def _numpys_own() -> Iterator[None]:
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"), np.printoptions(legacy=False):
        yield


# Decorates what users call. What they have set is for their own arithmetic (`numpy.seterr`) and for what they print:
# numbers that are written as text lose digits by the legacy modes of `numpy.set_printoptions`.
numpys_own = _numpys_own()
