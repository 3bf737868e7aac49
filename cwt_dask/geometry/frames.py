"""Images on the sphere: equal-area projections (ZEA) about any place, turned by any angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats


@dataclass(frozen=True)
class Frame:
    """The image of one facet: how its pixels lie on the sphere."""

    # Unit vectors: of the cell's centre, and of the directions in which columns and rows count on there.
    centre: Floats
    along_x: Floats
    along_y: Floats
    # The pixel at which the centre lies.
    x: float
    y: float
    pixel: float  # Size of a pixel, in radians.
    turn: float  # Angle from north to the direction of rows, towards east, in radians.

    def vectors(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Floats:
        """Unit vectors (..., 3) of positions in the image."""
        a, b = (x - self.x) * self.pixel, (y - self.y) * self.pixel
        square = a * a + b * b
        # In this projection the radius is 2 sin(distance / 2).
        outward = np.sqrt(np.maximum(1.0 - square / 4, 0.0))
        along = (1.0 - square / 2, outward * a, outward * b)
        found = along[0][..., np.newaxis] * self.centre
        for part, axis in zip(along[1:], (self.along_x, self.along_y), strict=True):
            found += part[..., np.newaxis] * axis
        return found

    def on_sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Bools:
        """Which positions lie on the sphere; those beyond the antipode do not."""
        inside: Bools = ((x - self.x) ** 2 + (y - self.y) ** 2) * self.pixel**2 < 4.0
        return inside

    def pixels(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Positions x, y in the image of unit vectors (..., 3); NaN at the antipode."""
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.sqrt(2.0 / np.maximum(1.0 + vectors @ self.centre, 0.0)) / self.pixel
            return vectors @ self.along_x * factor + self.x, vectors @ self.along_y * factor + self.y
