"""Large arrays that are used again: fresh ones take the system as long to provide as a pass over them.

A process that has done its tiles should `forget` them.
"""

from __future__ import annotations

import ctypes
import math
import threading
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_FREE: dict[np.dtype[Any], list[NDArray[Any]]] = {}
_LOCK = threading.Lock()


def borrow(shape: tuple[int, ...], dtype: DTypeLike = np.float64, fill: float | None = None) -> NDArray[Any]:
    """Array from the free buffers, or a new one; it need not be given back.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : dtype-like, optional
        Its type.
    fill : float, optional
        Value of all elements; arbitrary unless given.
    """
    size = math.prod(shape)
    with _LOCK:
        free = _FREE.get(np.dtype(dtype), [])
        # Cores at the map's edge are smaller: the buffer of a full core serves them.
        fitting = [i for i, buffer in enumerate(free) if buffer.size >= size]
        buffer = free.pop(min(fitting, key=lambda i: free[i].size)) if fitting else None
        if buffer is None:
            if free:
                # They are all too small, and will be: boxes of facets have some ten sizes, and to keep buffers of each
                # took gigabytes.
                free.clear()
                _trim()
            buffer = np.empty(size, dtype)
    array = buffer[:size].reshape(shape)
    if fill is not None:
        array.fill(fill)
    return array


def give_back(*arrays: NDArray[Any]) -> None:
    """Free borrowed arrays for others; neither they nor views of them may be used any more."""
    with _LOCK:
        for array in arrays:
            buffer = array.base
            assert buffer is not None  # noqa: S101 - for the type checker: what is borrowed is a view
            _FREE.setdefault(array.dtype, []).append(buffer)


def forget() -> None:
    """Give all free arrays back to the system."""
    with _LOCK:
        _FREE.clear()


def release() -> None:
    """Give all free memory back to the system, that of small arrays, too, before or after work of another kind."""
    forget()
    _trim()


def _trim() -> None:
    # Other C libraries have no such function, and do without.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
