"""Large arrays that serve tile after tile: fresh ones take the system as long to provide as a pass over them.

A process that has done its tiles should `forget` them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_FREE: dict[tuple[tuple[int, ...], np.dtype[Any]], list[NDArray[Any]]] = {}


def borrow(shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Give an array with whatever it holds; whoever keeps it need not give it back."""
    free = _FREE.get((shape, np.dtype(dtype)))
    try:
        return free.pop() if free else np.empty(shape, dtype)
    except IndexError:
        # Another thread was faster.
        return np.empty(shape, dtype)


def borrow_filled(shape: tuple[int, ...], value: float, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Give an array that is `value` everywhere."""
    array = borrow(shape, dtype)
    array.fill(value)
    return array


def give_back(*arrays: NDArray[Any]) -> None:
    """Let arrays serve again; nobody may hold any of them, or a view of it."""
    for array in arrays:
        _FREE.setdefault((array.shape, array.dtype), []).append(array)


def forget() -> None:
    """Give all free arrays back to the system."""
    _FREE.clear()
