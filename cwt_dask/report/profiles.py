"""Counts by distance around each source, with what background and the fitted source are expected to give there.

And what these rings say of its extension: TS by width, with all other sources in the model as they were fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.psf import PointSpread
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.report.residual import smoothing_width
from cwt_dask.report.table import Sources
from cwt_dask.results import SurveyRun
from cwt_dask.storage.zarr_io import open_group

N_RINGS = 8
# Least width of a ring in pixels of the level that it is counted on, and sources that are looked at together.
_LEAST_RING, _AT_ONCE = 1.2, 250
# Extensions that are tried, in widths of the point spread function, of which the rings reach to eight.
_EXTENSIONS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
# Counts that are expected in a ring at least, and halvings of the interval in which an amplitude lies.
_LEAST, _HALVINGS = 1e-6, 50


def read_profiles(run: SurveyRun, pyramid: Pyramid, sources: Sources) -> dict[str, Any]:
    """Read counts in rings around sources.

    Parameters
    ----------
    run, pyramid
        Finished; as `ensure_pyramid` made it.
    sources : Sources
        The sources.

    Returns
    -------
    dict
        `edges` of the rings in degrees; by source and ring `counts` and `background`, the `area` in square degrees of
        used pixels with their centres in it, and in counts per square degree the fitted `source` alone: its counts,
        spread by point spread function, extension and the pixels themselves. And `extensions` in degrees, with the
        `ts` of a source of each of them, by source; none where the page's pixels cannot tell them apart.
    """
    of_survey = run.survey.statistics.pixel_scale_deg
    # Of the page's map, which on the sphere has pixels of its own.
    pixel = pyramid.plane.pixel if pyramid.plane else of_survey
    width = smoothing_width(run) * of_survey / pixel
    # The coarsest level that resolves it: windows of few pixels.
    factor = max((each for each in pyramid.factors if each * _LEAST_RING <= width), default=pyramid.factors[0])
    ring = max(width / factor, _LEAST_RING)
    group = open_group(run.files.pyramid / str(factor), whole="run")
    level = {name: group[name][:] for name in ("counts", "background", "used")}
    if pyramid.plane:
        # Pixels that show others' values have none of their own.
        level = {name: np.where(group["own"][:] > 0, values, 0) for name, values in level.items()}
    x, y = ((np.asarray(place) + 0.5) / factor - 0.5 for place in (sources.x, sources.y))
    # As much wider than the point spread function as the extension and the pixels make the source, and in pixels of
    # the level, not in those in which the point spread function is known.
    spread = run.psf or PointSpread.gaussian(smoothing_width(run))

    def seen(extension: NDArray[Any]) -> _Profile:
        wider = np.sqrt(1 + extension**2 + (factor / width) ** 2 / 12)
        return _Profile(spread, wider * (width / factor) / spread.sigma)

    # Widths are told apart by pixels that resolve them, on a map that does not stretch them, of one profile; and beside
    # others whose counts are known. The columns of a ring have neighbours beyond the page's edge.
    one, known = spread.places is None, any(column.name == "npred" for column in sources.columns)
    resolved = factor == 1 or factor * _LEAST_RING <= width
    is_told = resolved and one and known and not pyramid.plane and not run.stored.plan.grid.ring
    npred = np.nan_to_num(np.asarray(sources.npred, np.float64))
    around = _Around(level["used"].shape, x, y, ring)
    fitted = seen(np.asarray(sources.extension) / (width * pixel))
    extensions = _EXTENSIONS if is_told else ()
    tried = [seen(np.full(len(x), extension)) for extension in extensions]
    images = {name: around.padded(values) for name, values in level.items()}
    # Pixels of the survey in one of the level, as a share of those that have room in it.
    share_used = images["used"] * (of_survey / (factor * pixel)) ** 2
    expected = np.zeros(share_used.shape)
    for part in around.parts():
        np.add.at(expected, part.places, npred[part.some, None, None] * fitted.shares(part))
    rings = {name: np.zeros((len(x), N_RINGS)) for name in (*level, "source")}
    ts = np.zeros((len(x), len(tried)))
    for part in around.parts():
        some, used, own = part.some, share_used[part.places], fitted.shares(part)
        for name, values in images.items():
            rings[name][some] = part.sums(values[part.places])
        rings["source"][some] = part.sums(own) / np.maximum(part.sums(np.ones(own.shape)), 1)
        others = part.sums((expected[part.places] - npred[some, None, None] * own) * used)
        below = np.maximum(rings["background"][some] + others, _LEAST)
        if tried:
            shares = np.stack([part.sums(profile.shares(part) * used) for profile in tried], axis=1)
            ts[some] = _ts(rings["counts"][some, None], below[:, None], shares)
    return {
        "edges": [float(f"{edge * ring * factor * pixel:.5g}") for edge in range(N_RINGS + 1)],
        "counts": _short(rings["counts"]),
        "background": _short(rings["background"]),
        "area": _short(rings["used"] * of_survey**2),
        "source": _short(rings["source"] * npred[:, None] / (factor * pixel) ** 2),
        "extensions": [float(f"{extension * width * pixel:.4g}") for extension in extensions],
        "ts": _short(ts),
    }


def _ts(counts: NDArray[Any], below: NDArray[Any], shares: NDArray[Any]) -> NDArray[np.float64]:
    """TS of sources with such shares in rings, (source, extension, ring), at the amplitude that fits best."""
    total = shares.sum(axis=-1)
    low = np.zeros(total.shape)
    high = counts.sum(axis=-1) / np.maximum(total, _LEAST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rises = (counts * shares / (below + middle[..., None] * shares)).sum(axis=-1) > total
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    gained = (counts * np.log1p(low[..., None] * shares / below)).sum(axis=-1) - low * total
    return np.asarray(2 * np.maximum(gained, 0))


@dataclass(frozen=True)
class _Profile:
    """The point spread function in pixels of a level, wider for each source by a factor of its own."""

    spread: PointSpread
    scale: NDArray[np.float64]  # (source,)

    def shares(self, part: _Part) -> NDArray[np.float64]:
        """Shares of sources in the pixels around them (source, y, x), together what is within their reach."""
        scale = self.scale[part.some]
        radius, density = self.spread.profile()
        shares = np.interp(part.distance / scale[:, None, None], radius, density, right=0.0)
        within = self.spread.containment(part.reach / scale)
        return np.asarray(shares * (within / np.maximum(shares.sum(axis=(1, 2)), 1e-300))[:, None, None])


@dataclass(frozen=True)
class _Part:
    """Some sources, and the pixels around them (source, y, x)."""

    some: slice
    places: tuple[NDArray[np.int64], NDArray[np.int64]]  # In an image that is padded.
    distance: NDArray[np.float64]  # In pixels.
    number: NDArray[np.int64]  # Of the ring of each source; the last is beyond all of them.
    reach: int

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums of pixels by ring, (source, ring)."""
        n = len(self.distance)
        sums = np.bincount(self.number.ravel(), values.ravel(), minlength=(N_RINGS + 1) * n)
        return sums.reshape(n, N_RINGS + 1)[:, :N_RINGS]


@dataclass(frozen=True)
class _Around:
    """The pixels of a level around positions."""

    shape: tuple[int, int]
    x: NDArray[Any]
    y: NDArray[Any]
    ring: float

    @property
    def _reach(self) -> int:
        return math.ceil(N_RINGS * self.ring)

    def padded(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """An image with as much around it as the rings of a position at its edge take."""
        return np.pad(image.astype(np.float64), self._reach)

    def parts(self) -> Iterator[_Part]:
        """All of them, some at a time."""
        reach = self._reach
        offsets = np.arange(-reach, reach + 1)
        for start in range(0, len(self.x), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            rows, columns = (
                np.clip(np.rint(at[some]).astype(np.int64), 0, most - 1)[:, None] + offsets
                for at, most in zip((self.y, self.x), self.shape, strict=True)
            )
            off_y, off_x = rows - self.y[some, None], columns - self.x[some, None]
            distance = np.hypot(off_y[:, :, None], off_x[:, None, :])
            number = np.minimum(distance / self.ring, N_RINGS).astype(np.int64)
            number += (N_RINGS + 1) * np.arange(len(rows))[:, None, None]
            yield _Part(some, ((rows + reach)[:, :, None], (columns + reach)[:, None, :]), distance, number, reach)


def _short(values: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in values.tolist()]
