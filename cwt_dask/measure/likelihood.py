"""One joint likelihood of all sources in a window: which there are, how bright, where, how wide, and how certain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.measure.amplitude import Window
from cwt_dask.measure.errors import joint_errors
from cwt_dask.measure.groups import ascend
from cwt_dask.measure.joint import END, Stars, pairs
from cwt_dask.measure.poisson import upper_limit
from cwt_dask.measure.results import NEAR, loss, measure_curves, measure_more, measure_ts
from cwt_dask.measure.selection import Candidates, Thresholds, select_forward
from cwt_dask.measure.shapes import Shapes, add, patch_for
from cwt_dask.measure.widths import extensions, widen

# Counts that a pixel is expected to have at least: where the background is 0, a count is evidence, not certainty.
FLOOR = 1e-9
# TS that a source must have, and that it must gain by a width beyond the point spread function.
TS, TS_EXT = 9.0, 12.0
# Rounds of steps over all sources.
_ROUNDS = 240
# Times that widths are looked at again after that.
_WIDTHS = 20


@dataclass(frozen=True)
class Sources:
    """Sources of a window, (source,) each, in the order of their acceptance."""

    candidate: Ints  # index among all candidates, in the order they were handed over
    y: Floats  # positions in pixels of the window
    x: Floats
    node: Ints  # which point spread function
    width: Ints  # index of the extension
    extension: Floats  # in pixels: sigma beyond the point spread function, 0 for a point
    amplitude: Floats  # counts of the whole source
    ts: Floats  # with all others in the model
    ts_ext: Floats  # of the width over a point
    amplitude_low: Floats  # ends of the 68 % interval
    amplitude_high: Floats
    upper_limit: Floats  # 95 %
    y_err: Floats  # standard deviations of the position in pixels, NaN where it is at the end of its room
    x_err: Floats
    at_bound: Bools  # whether it is
    order: Ints  # number of acceptance, as `select` returns it


@dataclass(frozen=True)
class More:
    """What one more source would be at each of some positions, (position,) each."""

    amplitude: Floats
    ts: Floats
    amplitude_low: Floats
    amplitude_high: Floats
    upper_limit: Floats


def window_of(counts: Floats, background: Floats, seen: Bools | Floats, shapes: Shapes) -> Window:
    """Pixels of a fit, with no source in the model.

    Parameters
    ----------
    counts, background, seen, shapes
        As of `Fit`.
    """
    return Window(
        np.where(seen, counts, 0.0).astype(np.float64),
        seen.astype(np.float64),
        np.fmax(background, FLOOR),
        FLOOR,
        shapes,
        patch_for(shapes),
        patch_for(shapes),
    )


class Fit:
    """The fit of a window.

    Parameters
    ----------
    counts, background : ndarray of float64
        (y, x).
    seen : ndarray of bool or float64
        (y, x): pixels that take part; or what share of a source's counts there is seen, the background being that over
        this share.
    shapes : Shapes
        Of point spread functions and widths.
    extended : bool, optional
        Whether widths are tried.

    Examples
    --------
    >>> import numpy as np
    >>> from cwt_dask.measure.likelihood import Fit
    >>> from cwt_dask.measure.shapes import gaussian_shapes
    >>> shapes, background = gaussian_shapes(1.5), np.full((40, 50), 0.1)
    >>> counts = np.rint(background + shapes.draw(0, 20.2, 30.4, (40, 50)) * 1000)
    >>> fit = Fit(counts, background, np.ones((40, 50), bool), shapes)
    >>> fit.select([20.0], [30.0], [0])
    array([0])
    >>> fit.solve()
    >>> print(fit.sources.y.round(1), fit.sources.x.round(1))
    [20.2] [30.4]
    """

    def __init__(
        self, counts: Floats, background: Floats, seen: Bools | Floats, shapes: Shapes, *, extended: bool = False
    ) -> None:
        self.shapes, self.extended = shapes, extended
        self._window = window_of(counts, background, seen, shapes)
        self._background = self._window.expected.copy()
        self._stars = Stars(np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 2)), np.empty(0))
        self._candidate, self._order = np.empty(0, np.int64), np.empty(0, np.int64)
        self._n_candidates = self._n_accepted = self.n_steps = 0

    @property
    def expected(self) -> Floats:
        """Background and sources, (y, x)."""
        return self._window.expected

    def of_sources(self, part: tuple[slice, slice]) -> Floats:
        """Counts that are expected of the sources in a part (y, x) of the window."""
        return np.maximum(self._window.expected[part] - self._background[part], 0.0) * self._window.seen[part]

    def select(self, y: ArrayLike, x: ArrayLike, node: ArrayLike) -> Ints:
        """Accept candidates, the best first, on the model as it is.

        Parameters
        ----------
        y, x : array-like
            Positions in pixels of the window, in any order.
        node : array-like of int
            Which point spread function holds.

        Returns
        -------
        ndarray of int64
            The number of acceptance of each candidate, -1 of those that are not accepted.
        """
        y, x = (np.asarray(each, np.float64) for each in (y, x))
        node = np.asarray(node, np.int64)
        by_place = np.lexsort((x, y))
        candidates = Candidates(y[by_place], x[by_place], node[by_place])
        n = len(y)
        found = Stars(np.empty(n, np.int64), np.empty((n, 3)), np.empty((n, 2)), np.empty(n))
        accepted = np.empty(n, np.int64)
        number = select_forward(self._window, candidates, Thresholds(TS, TS_EXT), self.extended, found, accepted)
        numbers = np.full(n, -1)
        order = self._n_accepted + np.arange(number)
        numbers[by_place[accepted[:number]]] = order
        self._stars = Stars(*(np.concatenate([old, new[:number]]) for old, new in zip(self._stars, found, strict=True)))
        self._candidate = np.concatenate([self._candidate, self._n_candidates + by_place[accepted[:number]]])
        self._order = np.concatenate([self._order, order])
        self._n_candidates += n
        self._n_accepted += number
        return numbers

    def solve(self) -> None:
        """Find the joint maximum over amplitudes, positions and widths; what is no source beside all others goes."""
        moving = np.ones(len(self._order), bool)
        for _ in range(_WIDTHS):
            self._ascend(moving)
            wider = [k for k in np.flatnonzero(self._extended) if widen(self._window, self._stars, k)]
            moving = self._overlapping(np.array(wider, np.int64))
            if not wider:
                break
        while True:
            points, weak = self._no_wider(), self._weakest()
            if not (weak | points).any():
                break
            moving = self._overlapping(np.flatnonzero(weak | points))
            self._make_points(points)
            self._remove(weak & ~points)
            self._ascend(moving[~weak | points])
        self._rebuild()

    @property
    def sources(self) -> Sources:
        """Sources on the model as it is."""
        stars, n_widths = self._stars, len(self.shapes.extensions)
        first, near = self._near()
        amplitude, width = stars.state[:, 0].copy(), stars.shape % n_widths
        low, high, slope, bend, seen = measure_curves(self._window, stars).T
        stretch, y_err, x_err = joint_errors(self._window, stars, first, near).T
        extension, by_width = extensions(self._window, stars)
        error = (high - low) / 2
        stretch = np.sqrt(stretch**2 + np.divide(by_width, error**2, out=np.zeros_like(error), where=error > 0))
        ts_ext = np.zeros(len(width))
        ts_ext[width > 0] = self._ts_ext()
        off = np.abs(stars.state[:, 1:] - stars.home)
        return Sources(
            candidate=self._candidate,
            y=stars.state[:, 1].copy(),
            x=stars.state[:, 2].copy(),
            node=stars.shape // n_widths,
            width=width,
            extension=extension,
            amplitude=amplitude,
            ts=measure_ts(self._window, stars, first, near),
            ts_ext=np.maximum(ts_ext, 0.0),
            amplitude_low=np.maximum(amplitude - stretch * (amplitude - low), 0.0),
            amplitude_high=amplitude + stretch * (high - amplitude),
            upper_limit=amplitude + stretch * (upper_limit(amplitude, slope, bend, seen) - amplitude),
            y_err=y_err.copy(),
            x_err=x_err.copy(),
            at_bound=np.asarray((off >= stars.reach[:, np.newaxis] * END).any(axis=1)),
            order=self._order,
        )

    def single(self, y: ArrayLike, x: ArrayLike, node: ArrayLike) -> More:
        """What one more point source would be at positions, on the model as it is.

        Parameters
        ----------
        y, x, node
            As of `select`.
        """
        candidates = Candidates(np.asarray(y, np.float64), np.asarray(x, np.float64), np.asarray(node, np.int64))
        low, high, slope, bend, seen, amplitude, ts = measure_more(self._window, candidates).T.copy()
        return More(amplitude, ts, low, high, upper_limit(amplitude, slope, bend, seen))

    def _ascend(self, moving: Bools) -> None:
        stars, half = self._stars, self.shapes.half[self._stars.shape]
        order = np.lexsort((stars.home[:, 1], stars.home[:, 0]))
        overlap = pairs(stars.home, half + 0.5 + stars.reach, stars.state[:, 0] > 0)
        self.n_steps += ascend(self._window, stars, order, moving, *overlap, _ROUNDS)

    def _overlapping(self, these: Ints) -> Bools:
        """Some sources and all that they overlap, (source,)."""
        stars, found = self._stars, np.zeros(len(self._order), bool)
        reach = self.shapes.half[stars.shape] + 0.5 + stars.reach
        for k in these:
            found |= np.all(np.abs(stars.home - stars.home[k]) <= (reach + reach[k])[:, np.newaxis], axis=1)
        return found

    def _near(self) -> tuple[Ints, Ints]:
        """Pairs of sources that are near each other."""
        stars = self._stars
        return pairs(stars.home, NEAR * self.shapes.sigma[stars.shape], stars.state[:, 0] > 0)  # type: ignore[no-any-return]

    def _weakest(self) -> Bools:
        """Sources below the threshold that none that overlaps them is further below."""
        stars = self._stars
        ts = measure_ts(self._window, stars, *self._near())
        weak = ts < TS
        first, others = pairs(stars.home, self.shapes.half[stars.shape] + 0.5, weak)
        least = weak.copy()
        for k in np.flatnonzero(weak):
            least[k] = not (ts[others[first[k] : first[k + 1]]] < ts[k]).any()
        return np.asarray(least)

    @property
    def _extended(self) -> Bools:
        return np.asarray(self._stars.shape % len(self.shapes.extensions) > 0)

    def _ts_ext(self) -> Floats:
        """TS of the widths of extended sources over points."""
        stars, (first, near) = self._stars, self._near()
        found = [
            loss(self._window, stars, k, near[first[k] : first[k + 1]], self._as_point(int(k)))
            for k in np.flatnonzero(self._extended)
        ]
        return np.maximum(found, 0.0)

    def _as_point(self, k: int) -> int:
        return int(self._stars.shape[k] - self._stars.shape[k] % len(self.shapes.extensions))

    def _no_wider(self) -> Bools:
        """Extended sources whose width gains too little beside all others."""
        found = self._extended
        found[found] = self._ts_ext() < TS_EXT
        return found

    def _make_points(self, these: Bools) -> None:
        for k in np.flatnonzero(these):
            f, y, x = self._stars.state[k]
            add(self._window.expected, self.shapes, self._stars.shape[k], y, x, -f, self._window.patch)
            self._stars.shape[k] = self._as_point(int(k))
            add(self._window.expected, self.shapes, self._stars.shape[k], y, x, f, self._window.patch)

    def _remove(self, these: Bools) -> None:
        for k in np.flatnonzero(these):
            f, y, x = self._stars.state[k]
            add(self._window.expected, self.shapes, self._stars.shape[k], y, x, -f, self._window.patch)
        stars = self._stars
        self._stars = Stars(stars.shape[~these], stars.state[~these], stars.home[~these], stars.reach[~these])
        self._candidate, self._order = self._candidate[~these], self._order[~these]

    def _rebuild(self) -> None:
        """Make the model of the sources, without what many steps have left of rounding."""
        self._window.expected[:] = self._background
        for k in np.lexsort((self._stars.home[:, 1], self._stars.home[:, 0])):
            f, y, x = self._stars.state[k]
            add(self._window.expected, self.shapes, self._stars.shape[k], y, x, f, self._window.patch)
