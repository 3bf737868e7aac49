"""Large arrays that serve tile after tile: fresh ones take the system as long to provide as a pass over them.

A process that has done its tiles should `forget` them.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_FREE: dict[np.dtype[Any], list[NDArray[Any]]] = {}
_LOCK = threading.Lock()


def borrow(shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Give an array with whatever it holds; whoever keeps it need not give it back."""
    size = math.prod(shape)
    with _LOCK:
        free = _FREE.get(np.dtype(dtype), [])
        # Cores at the map's edge are smaller: they are served by a full one's.
        fitting = [i for i, room in enumerate(free) if room.size >= size]
        room = free.pop(min(fitting, key=lambda i: free[i].size)) if fitting else np.empty(size, dtype)
    return room[:size].reshape(shape)


def borrow_filled(shape: tuple[int, ...], value: float, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Give an array that is `value` everywhere."""
    array = borrow(shape, dtype)
    array.fill(value)
    return array


def give_back(*arrays: NDArray[Any]) -> None:
    """Let borrowed arrays serve again; nobody may hold any of them, or a view of it."""
    with _LOCK:
        for array in arrays:
            room = array.base
            assert room is not None  # noqa: S101 - for the type checker: what is borrowed is a view
            _FREE.setdefault(array.dtype, []).append(room)


def forget() -> None:
    """Give all free arrays back to the system."""
    with _LOCK:
        _FREE.clear()
