"""The whole maps after each iteration, of a run that kept them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import dask.array


@dataclass(frozen=True)
class IterationMaps:
    """The whole maps after one iteration, or the difference of two such.

    Parameters
    ----------
    counts, background : dask.array.Array
        What was analysed (y, x), counts per pixel.
    model : dask.array.Array
        Model M (y, x), counts per pixel, float64.
    support : dask.array.Array
        Pixels of the support, by scale (scale, y, x), bool.

    Examples
    --------
    >>> import dask.array as da
    >>> from cwt_dask.history import IterationMaps
    >>> zeros, ones = da.zeros((2, 3)), da.ones((2, 3))
    >>> start = IterationMaps(ones, ones, model=zeros, support=da.zeros((1, 2, 3), dtype=bool))
    >>> first = IterationMaps(ones, ones, model=2 * ones, support=da.ones((1, 2, 3), dtype=bool))
    >>> (first - start).model.sum().compute()
    np.float64(12.0)
    >>> first.support_2d.shape
    (2, 3)
    """

    counts: dask.array.Array
    background: dask.array.Array
    model: dask.array.Array
    support: dask.array.Array

    @property
    def support_2d(self) -> dask.array.Array:
        """Pixels in the support at any scale, bool (y, x)."""
        return self.support.any(axis=0)

    def __sub__(self, other: IterationMaps) -> IterationMaps:
        """Differences of what was computed, exclusive or of the supports; counts and background of the first."""
        return IterationMaps(self.counts, self.background, self.model - other.model, self.support ^ other.support)


class History(Sequence[IterationMaps]):
    """The start, and the maps after every iteration; `history[i]` is that after iteration i.

    Parameters
    ----------
    n_iter : int
        Iterations made.
    after : callable
        Gives the maps after an iteration from 0 to `n_iter`.

    Raises
    ------
    IndexError
        Of an iteration that was not made.

    Examples
    --------
    >>> import dask.array as da
    >>> from cwt_dask.history import History, IterationMaps
    >>> def after(iteration):
    ...     ones = da.ones((2, 3))
    ...     return IterationMaps(ones, ones, model=iteration * ones, support=da.zeros((1, 2, 3), dtype=bool))
    >>> history = History(n_iter=4, after=after)
    >>> len(history), history[-1].model.max().compute()
    (5, np.float64(4.0))
    """

    def __init__(self, n_iter: int, after: Callable[[int], IterationMaps]) -> None:
        self._n_iter = n_iter
        self._after = after

    def __len__(self) -> int:
        return self._n_iter + 1

    @overload
    def __getitem__(self, index: int) -> IterationMaps: ...

    @overload
    def __getitem__(self, index: slice) -> list[IterationMaps]: ...

    def __getitem__(self, index: int | slice) -> IterationMaps | list[IterationMaps]:
        if isinstance(index, slice):
            return [self._after(i) for i in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"iteration {index}: the history has 0 (the start) to {self._n_iter}")
        return self._after(range(len(self))[index])
