"""An exposure on other pixels than the counts, such as one of the whole sky: interpolated to theirs, row by row.

Either of them may be a map of the sphere.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.geometry.healpix import interpolation_at, order_of, places_of
from cwt_dask.survey.bands import MisfitError
from cwt_dask.survey.fits_plane import FitsPlane
from cwt_dask.survey.healpix_plane import HealpixPlane
from cwt_dask.survey.misfits import Plane, refuse_misfit, sky_of
from cwt_dask.survey.sphere import is_on_sphere
from cwt_dask.survey.wcs import closes_circle, columns_of_circle, grid_of, wcs_from_text

# Pixels of all planes, which are held in memory: some 20 planes of the whole sky in pixels of a fifth of a degree.
LARGEST = 2**26


def on_pixels_of(counts: Plane, header_text: str, exposure: Plane) -> Plane:
    """Give an exposure on the pixels of the counts: as it is, or interpolated.

    Parameters
    ----------
    counts, exposure : FitsPlane
        Neither is open.
    header_text : str
        The WCS cards of the counts.

    Raises
    ------
    MisfitError
        If it has other pixels, and does not cover the map, or is too large to be held.
    """
    try:
        refuse_misfit("exposure", exposure, counts, header_text)
    except MisfitError:
        regridded = _regridded(counts, header_text, exposure)
        if regridded is None or not regridded.covers:
            raise
        return regridded
    return exposure


def _regridded(counts: Plane, header_text: str, exposure: Plane) -> Regridded | None:
    if isinstance(exposure, HealpixPlane):
        if isinstance(counts, HealpixPlane):
            return None
        exposure.onto(exposure.nside, density=True)
        return FromSphere(exposure, exposure.sky_text, header_text, counts.shape)
    own = sky_of(exposure)
    return None if own is None else Regridded(exposure, own, header_text, counts.shape)


class Regridded(FitsPlane):
    """An exposure that covers the map of the counts, linear between the centres of its own pixels.

    Parameters
    ----------
    plane : FitsPlane
        The exposure, not yet open.
    header_text : str
        Its WCS cards.
    counts_header : str
        Those of the counts.
    shape : tuple of int
        Rows and columns of the counts.
    """

    def __init__(self, plane: Plane, header_text: str, counts_header: str, shape: tuple[int, int]) -> None:
        vars(self).update(vars(plane))
        self._plane = plane
        self._own, self._map = wcs_from_text(header_text), wcs_from_text(counts_header)
        self._circle = columns_of_circle(self._own)
        # Beyond the last column of a map that closes the circle lies the first.
        self._closed = closes_circle(self._own, plane.shape)
        self.shape = shape
        self.dtype = np.dtype(np.float64)
        self._next = 0

    @property
    def covers(self) -> bool:
        """Whether it can be held, and has all points of a grid over the map.

        What a sphere of counts has, its file says only when it is read; that may be as small as the exposure.
        """
        if not self._can_be_held or is_on_sphere(self._map):
            return self._can_be_held
        x, y = grid_of(self.shape)
        on_sky = ~np.isnan(self._map.all_pix2world(x, y, 0)[0])
        return bool(self._inside(*self._place(x, y))[on_sky].all())

    @property
    def _can_be_held(self) -> bool:
        return self.n_bands * math.prod(self._plane.shape) <= LARGEST

    def open(self, planes: range, stack: ExitStack, scratch: Path | None = None) -> None:
        """Read planes as a whole.

        Parameters
        ----------
        planes, stack, scratch
            As of `FitsPlane.open`, which says what is raised, too.
        """
        pixels = self._read_all(planes, stack, scratch)
        self._pixels = [np.pad(each.astype(np.float64), ((0, 0), (0, int(self._closed))), "wrap") for each in pixels]

    def _read_all(self, planes: range, stack: ExitStack, scratch: Path | None) -> list[NDArray[Any]]:
        self._plane.open(planes, stack, scratch)
        self.n_open = len(planes)
        return self._plane.read(self._plane.shape[0])

    def read(self, n_rows: int) -> list[NDArray[Any]]:
        """Interpolate the next rows (y, x) of each plane; NaN beyond the exposure's pixels."""
        rows = [self._row(y) for y in range(self._next, self._next + n_rows)]
        self._next += n_rows
        return [np.stack(planes) for planes in zip(*rows, strict=True)]

    def _row(self, y: int) -> list[Floats]:
        # A row at a time: astropy holds ten numbers a pixel while it works.
        columns = np.arange(self.shape[1])
        x, y_own = self._place(columns, np.full(columns.shape, y))
        inside = self._inside(x, y_own)
        place = np.stack([y_own, x])[:, inside]
        found = []
        for pixels in self._pixels:
            row = np.full(columns.shape, np.nan)
            row[inside] = map_coordinates(pixels, place, order=1, mode="nearest")
            found.append(row)
        return found

    def _place(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[Floats, Floats]:
        """Where pixels of the map are among those of the exposure."""
        x_own, y_own = (
            np.asarray(each, np.float64) for each in self._own.world_to_pixel(self._map.pixel_to_world(x, y))
        )
        if np.isfinite(self._circle):
            x_own = (x_own + 0.5) % self._circle - 0.5
            x_own = np.where(self._closed & (x_own < 0), x_own + self._circle, x_own)
        return x_own, y_own

    def _inside(self, x: Floats, y: Floats) -> Bools:
        """Whether a place lies within a pixel of the exposure."""
        n_rows, n_columns = self._plane.shape
        with np.errstate(invalid="ignore"):
            return np.asarray(
                (x >= -0.5) & (x <= n_columns - 0.5 + 0.5 * self._closed) & (y >= -0.5) & (y <= n_rows - 0.5)
            )


class FromSphere(Regridded):
    """An exposure of the sphere on the map of the counts, bilinear between the centres of its own pixels.

    Parameters
    ----------
    plane, header_text, counts_header, shape
        As of `Regridded`.
    """

    @property
    def covers(self) -> bool:
        """Whether it can be held; which pixels it has, its file says only when it is read."""
        return self._can_be_held

    def open(self, planes: range, stack: ExitStack, scratch: Path | None = None) -> None:
        """Read planes as a whole.

        Parameters
        ----------
        planes, stack, scratch
            As of `FitsPlane.open`, which says what is raised, too.
        """
        self._pixels = self._read_all(planes, stack, scratch)

    def _row(self, y: int) -> list[Floats]:
        columns = np.arange(self.shape[1])
        position = self._map.pixel_to_world(columns, np.full(columns.shape, y))
        there = position.transform_to(self._own.frame).spherical
        on_sky = np.isfinite(there.lon.deg) & np.isfinite(there.lat.deg)
        numbers, weights = interpolation_at(there.lon[on_sky], there.lat[on_sky], order_of(self._own.nside))
        place = places_of(numbers, self._own.nside)
        found = []
        for pixels in self._pixels:
            row = np.full(columns.shape, np.nan)
            row[on_sky] = (pixels[place] * weights).sum(axis=1)
            found.append(row)
        return found
