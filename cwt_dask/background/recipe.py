"""The recipe: values made of the pixels around by direct sums, so that none depends on where a tile begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.special import gammainc

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.errors import SettingsError

# All below is fixed: another value is another estimate. docs/design/0019-background.md says how they were chosen.
# The Gaussian ends after so many scales.
TRUNCATED = 4.0


class Smoothing(NamedTuple):
    """How a background is made of the counts outside of sources."""

    width: float  # Standard deviation of the Gaussian, in scales.
    times: int  # Estimates, each with the one before as its acceptance.


# Sources are looked for on one that follows the counts closely; the last one has less noise.
IN_ROUNDS, LAST = Smoothing(1.0, 2), Smoothing(2.0, 4)
# Pixels are sources where a disc around them holds so many counts with less than this probability.
LEAST_PROBABILITY = 1e-6
# Radii of the discs: 1 pixel, and twice the one before up to this share of the scale.
LARGEST_DISC = 0.5
# Sources grow by what others leave: mostly there is nothing new after five rounds.
MOST_ROUNDS = 20
# Least scale in pixels.
LEAST_SCALE = 2.0


@dataclass(frozen=True)
class Recipe:
    """How a background is estimated."""

    scale: float  # In pixels.

    @property
    def reach(self) -> int:
        """Pixels up to which others count in a smoothed one."""
        return math.ceil(TRUNCATED * self.scale)

    @cached_property
    def radii(self) -> tuple[int, ...]:
        """Radii of the discs in which sources are looked for, in pixels."""
        doublings = math.floor(math.log2(max(LARGEST_DISC * self.scale, 1.0)))
        return tuple(2**n for n in range(doublings + 1))

    @property
    def source_reach(self) -> int:
        """Pixels up to which others decide whether one is part of a source."""
        return 2 * self.radii[-1]

    @property
    def area(self) -> float:
        """Pixels of a disc of two scales: a mean over them has about the noise of the last estimate."""
        return 4 * math.pi * self.scale**2

    def smooth(self, pixels: Floats, width: float) -> Floats:
        """Sum pixels (y, x) with the weights of a Gaussian of so many scales, which is 1 in its middle.

        What lies closer than `reach` to the edges is cut off. Each sum has its own order of terms, wherever it lies.
        """
        reach = self.reach
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (width * self.scale)) ** 2)
        rows = correlate1d(pixels, weights, axis=1, mode="constant")[:, reach:-reach]
        smoothed: Floats = correlate1d(rows, weights, axis=0, mode="constant")[reach:-reach]
        return smoothed

    def background(self, counts: NDArray[Any], acceptance: Floats, free: Bools, width: float) -> tuple[Floats, Bools]:
        """Estimate the background of what is expected to go with an acceptance.

        Parameters
        ----------
        counts : ndarray
            (y, x), counts a pixel.
        acceptance : ndarray
            (y, x), in any unit; 0 where there is none.
        free : ndarray of bool
            (y, x), True at pixels outside of sources that are used.
        width : float
            Standard deviation of the Gaussian, in scales.

        Returns
        -------
        background : ndarray
            Counts a pixel, without `reach` pixels at each edge.
        known : ndarray of bool
            Whether any pixel with acceptance is free within reach; the background is 0 where none is.
        """
        inside = slice(self.reach, -self.reach)
        found = self.smooth(np.where(free, counts, 0.0), width)
        offered = self.smooth(np.where(free, acceptance, 0.0), width)
        known = offered > 0
        background = acceptance[inside, inside] * (found / np.where(known, offered, 1.0))
        return background, known

    def sources(self, counts: NDArray[Any], background: Floats, used: Bools) -> Bools:
        """Find the pixels (y, x) of sources, without `source_reach` pixels at each edge.

        Parameters
        ----------
        counts, background : ndarray
            (y, x), counts a pixel.
        used : ndarray of bool
            (y, x), True at pixels that are used.
        """
        counts, background = np.where(used, counts, 0.0), np.where(used, background, 0.0)
        edge, found = self.source_reach, np.zeros([length - 2 * self.source_reach for length in used.shape], bool)
        for radius in self.radii:
            # Discs around all pixels whose disc reaches what is asked for.
            around = slice(edge - 2 * radius, (2 * radius - edge) or None)
            seen, expected = (in_discs(pixels[around, around], radius) for pixels in (counts, background))
            improbable = is_improbable(seen, expected)
            if improbable.any():
                found |= in_discs(improbable.astype(np.float64), radius) > 0
        return found


def recipe_of(name: str, scale: float | str | None, shape: tuple[int, int], pixel_scale: float | None = None) -> Recipe:
    """Make the recipe of a scale.

    Parameters
    ----------
    name : str
        What the user calls the scale.
    scale : float or str
        Pixels, or an angle, as `cwt_dask.config.validation.Extent` gives it.
    shape : tuple of int
        Rows and columns of the map.
    pixel_scale : float, optional
        Size of a pixel in degrees; without it the scale must be in pixels.

    Raises
    ------
    SettingsError
        If the scale is too small or too large for the map, or an angle where pixels have no size.
    """
    if isinstance(scale, str) and pixel_scale is None:
        raise SettingsError(f"{name} is {shown(scale)}: an array has no size on the sky, give pixels")
    pixels = float(scale.removesuffix("deg")) / (pixel_scale or 1.0) if isinstance(scale, str) else float(scale or 0)
    # Six digits, as of the size of a pixel: 2 deg are 20 pixels of 0.1.
    pixels = float(f"{pixels:.6g}")
    if pixels < LEAST_SCALE:
        raise SettingsError(f"{name} is {pixels:g} pixels: it must be at least {LEAST_SCALE:g}")
    if pixels > min(shape):
        raise SettingsError(
            f"{name} is {pixels:g} pixels, and the map has {shape[0]} x {shape[1]} (y, x): it must be at most "
            f"{min(shape)}"
        )
    return Recipe(pixels)


def is_improbable(counts: Floats, expected: Floats) -> Bools:
    """Whether as many counts have a probability below `LEAST_PROBABILITY` by the exact distribution of Poisson."""
    improbable = np.zeros(counts.shape, bool)
    # The others need no incomplete gamma function, which takes its time.
    excess = counts > expected
    improbable[excess] = gammainc(counts[excess], expected[excess]) < LEAST_PROBABILITY
    return improbable


def in_discs(pixels: Floats, radius: int) -> Floats:
    """Sum pixels (y, x) in discs around each, without `radius` pixels at each edge."""
    n_rows, n_columns = (length - 2 * radius for length in pixels.shape)
    half = [math.isqrt(radius**2 - dy**2) for dy in range(radius + 1)]
    rows, total = pixels[:, radius : radius + n_columns].copy(), np.zeros((n_rows, n_columns))
    # Rows of the disc from the shortest, at its top and bottom, to the longest.
    for width in range(radius + 1):
        if width:
            rows += pixels[:, radius - width :][:, :n_columns]
            rows += pixels[:, radius + width :][:, :n_columns]
        for dy in (dy for dy in range(radius, -1, -1) if half[dy] == width):
            for shift in {dy, -dy}:
                total += rows[radius + shift : radius + shift + n_rows]
    return total
