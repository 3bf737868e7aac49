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

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.buffers import release
from cwt_dask.psf import PointSpread
from cwt_dask.report.blocks import Block, blocks_around
from cwt_dask.report.table import Sources
from cwt_dask.results import SurveyRun
from cwt_dask.tiles.shapes import point_spread_of

N_RINGS = 8
# Least width of a ring in pixels that it is counted on, and pixels that are looked at together.
_LEAST_RING, _AT_ONCE = 1.2, 2**18
# Extensions that are tried, in widths of the point spread function, of which rings reach to eight.
_EXTENSIONS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
# Counts that are expected in a ring at least, and halvings of the interval in which an amplitude lies.
_LEAST, _HALVINGS = 1e-6, 50


def read_profiles(run: SurveyRun, sources: Sources) -> dict[str, Any]:
    """Count in rings around sources, on the survey's pixels, or blocks of them that resolve the point spread function.

    Parameters
    ----------
    run : SurveyRun
        Finished.
    sources : Sources
        The sources.

    Returns
    -------
    dict
        By source the width of its `rings` and of the point spread function, `psf`, in degrees; by source and ring
        `counts` and `background`, the `area` in square degrees of used pixels with their centres in it, and in counts
        per square degree the fitted `source` alone: its counts, spread by point spread function, extension and the
        pixels themselves. And `extensions` in widths of the point spread function, with the `ts` of a source of each
        of them, by source; none of runs that know no counts of whole sources.
    """
    plan, pixel = run.stored.plan, run.survey.statistics.pixel_scale_deg
    spread = point_spread_of(run.files, plan, run.survey.header_text)
    # The coarsest blocks of pixels that resolve it: windows of few.
    factor = 1 << max(0, math.floor(math.log2(spread.sigma / _LEAST_RING)))
    known = any(column.name == "npred" for column in sources.columns)
    extensions = np.array(_EXTENSIONS if known else ())
    x, y = sources.pixels
    node = spread.nearest(x, y)
    width = spread.sigmas[node]
    rings = _Rings(np.maximum(width / factor, _LEAST_RING))

    def seen(extension: Floats) -> _Profile:
        # Counts lie anywhere in pixels.
        return _Profile(spread, node, np.sqrt(1 + (extension**2 + factor**2 / 12) / width**2) / factor)

    npred = np.nan_to_num(np.asarray(sources.npred, np.float64))
    fitted, tried = seen(np.asarray(sources.extension) / pixel), [seen(extension * width) for extension in extensions]
    sums = _Sums.nothing(len(x), len(extensions))
    for block in blocks_around(run, x, y, factor, int(rings.reach.max(initial=0))):
        rings.add(sums, block, npred, fitted, tried, 1 / factor**2)
    release()
    below = np.maximum(sums.background + sums.others, _LEAST)
    return {
        "rings": [float(f"{ring * factor * pixel:.5g}") for ring in rings.width],
        "psf": [float(f"{each * pixel:.5g}") for each in width],
        "counts": _short(sums.counts),
        "background": _short(sums.background),
        "area": _short(sums.used * pixel**2),
        "source": _short(sums.source * npred[:, None] / (factor * pixel) ** 2),
        "extensions": extensions.tolist(),
        "ts": _short(_ts(sums.counts[:, None], below[:, None], sums.shares)),
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
class _Sums:
    """What rings hold, (source, ring)."""

    counts: Floats
    background: Floats
    used: Floats  # Pixels of the survey.
    source: Floats  # Mean share of the fitted source in a pixel of blocks, wherever it is.
    others: Floats  # Expected counts of all other sources.
    shares: Floats  # Of sources of each extension in used pixels, (source, extension, ring).

    @classmethod
    def nothing(cls, n: int, n_extensions: int) -> _Sums:
        counts, background, used, source, others = np.zeros((5, n, N_RINGS))
        return cls(counts, background, used, source, others, np.zeros((n, n_extensions, N_RINGS)))


@dataclass(frozen=True)
class _Profile:
    """The point spread function of each source in pixels of blocks, wider by a factor of its own."""

    spread: PointSpread
    node: Ints  # Which holds, (source,).
    scale: Floats  # (source,)

    def shares(self, part: _Part) -> Floats:
        """Shares of sources in the pixels around them (source, y, x), together what is within their reach."""
        shares, squared = np.empty(part.distance.shape), self.spread.radius**2
        for node in np.unique(self.node[part.source]):
            here = self.node[part.source] == node
            scale, within = self.scale[part.source[here]], self.spread.within[node]
            radius, density = self.spread.profile_of(node)
            # Normalised on whole pixels: what lies aside in them lies elsewhere in others.
            found = whole = np.interp(part.distance[here] / scale[:, None, None], radius, density, right=0.0)
            if part.of_middle is not part.distance:
                whole = np.interp(part.of_middle[here] / scale[:, None, None], radius, density, right=0.0)
            total = np.interp((part.reach / scale) ** 2, squared, within)
            shares[here] = found * (total / np.maximum(whole.sum(axis=(1, 2)), 1e-300))[:, None, None]
        return shares


@dataclass(frozen=True)
class _Part:
    """Some sources, and the pixels around them (source, y, x)."""

    source: Ints
    # In the block, and whether they are there.
    places: tuple[Ints, Ints]
    inside: Bools
    # In pixels: of what pixels hold, and of their middles.
    distance: Floats
    of_middle: Floats
    number: Ints  # Of the ring of each source; the last is beyond all of them.
    reach: int

    def of(self, image: NDArray[Any]) -> Floats:
        """The pixels of an image of the block; 0 beyond it."""
        return np.where(self.inside, image[self.places], 0.0)

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums of pixels by ring, (source, ring)."""
        n = len(self.distance)
        sums = np.bincount(self.number.ravel(), values.ravel(), minlength=(N_RINGS + 1) * n)
        return sums.reshape(n, N_RINGS + 1)[:, :N_RINGS]


@dataclass(frozen=True)
class _Rings:
    """Rings around sources, on the pixels of blocks."""

    width: Floats  # (source,)

    @property
    def reach(self) -> Ints:
        """Pixels on each side of each source that they may hold."""
        return np.ceil(N_RINGS * self.width).astype(np.int64)

    def add(
        self, sums: _Sums, block: Block, npred: Floats, fitted: _Profile, tried: list[_Profile], pixel: float
    ) -> None:
        """Add what a block holds; `pixel` is one of the survey's, as a share of those that have room in a block's."""
        expected = np.zeros(block.counts.shape)
        for part in self._parts(block, np.flatnonzero(npred[block.source] > 0)):
            np.add.at(expected, part.places, npred[part.source, None, None] * part.inside * fitted.shares(part))
        for part in self._parts(block, np.flatnonzero(block.counted)):
            own, used = fitted.shares(part), part.of(block.used)
            others = part.of(expected) - npred[part.source, None, None] * own
            # A source may be in a part twice.
            for to, values in (
                (sums.counts, part.of(block.counts)),
                (sums.background, part.of(block.background)),
                (sums.used, used),
                (sums.others, others * used * pixel),
            ):
                np.add.at(to, part.source, part.sums(values))
            sums.source[part.source] = part.sums(own) / np.maximum(part.sums(np.ones(own.shape)), 1)
            for k, profile in enumerate(tried):
                np.add.at(sums.shares[:, k], part.source, part.sums(profile.shares(part) * used * pixel))

    def _parts(self, block: Block, which: Ints) -> Iterator[_Part]:
        """Some of its sources, those with windows of one size, some at a time."""
        of_each = self.reach[block.source[which]]
        for reach in np.unique(of_each).tolist():
            alike, offsets = which[of_each == reach], np.arange(-reach, reach + 1)
            step = max(1, _AT_ONCE // len(offsets) ** 2)
            for start in range(0, len(alike), step):
                yield self._part(block, alike[start : start + step], offsets)

    def _part(self, block: Block, some: Ints, offsets: Ints) -> _Part:
        source, (height, width) = block.source[some], block.counts.shape
        rows, columns = (np.rint(at[some]).astype(np.int64)[:, None] + offsets for at in (block.y, block.x))
        places = np.clip(rows, 0, height - 1)[:, :, None], np.clip(columns, 0, width - 1)[:, None, :]
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        off_y, off_x = (rows - block.y[some, None])[:, :, None], (columns - block.x[some, None])[:, None, :]
        inside = inside & (-block.turn / 2 <= off_x) & (off_x < block.turn / 2)
        of_middle = distance = np.hypot(off_y, off_x)
        if block.aside:
            distance = np.hypot(off_y + block.aside[0][places], off_x + block.aside[1][places])
        number = np.minimum(distance / self.width[source, None, None], N_RINGS).astype(np.int64)
        number += (N_RINGS + 1) * np.arange(len(some))[:, None, None]
        return _Part(source, places, inside, distance, of_middle, number, int(offsets[-1]))


def _short(values: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in values.tolist()]
