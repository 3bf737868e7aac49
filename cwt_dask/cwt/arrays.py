"""Types of arrays, and the state of NumPy in which they are computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Decorates what users call: their own setting (`numpy.seterr`) is for their arithmetic, NumPy's default for ours.
numpys_own = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
