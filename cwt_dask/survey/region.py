"""A rectangle of a map, by its place on the sky: its pixels, and their sky coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.units import UnitsError
from astropy.wcs.utils import proj_plane_pixel_scales

from cwt_dask.errors import InputError
from cwt_dask.geometry.tiling import Box, on_map
from cwt_dask.survey.wcs import centred, wcs_from_text

if TYPE_CHECKING:
    from astropy.wcs import WCS


@dataclass(frozen=True)
class Region:
    """A rectangle of a map."""

    box: Box  # Its pixels; where the columns of the map close the circle, they count on beyond its edge.
    ring: bool  # Whether they do.
    header_text: str  # FITS cards of the WCS of these pixels, one a line.

    @classmethod
    def of(
        cls, header_text: str, shape: tuple[int, int], *, ring: bool, center: Any = None, size: Any = None
    ) -> Region:
        """Find the pixels of a rectangle.

        Parameters
        ----------
        header_text : str
            FITS cards of the WCS of the map, one a line.
        shape : tuple of int
            Rows and columns of the map.
        ring : bool
            Whether its columns close the circle.
        center : SkyCoord, optional
            The middle, in any frame; that of the map where not given.
        size : Angle, Quantity or str, optional
            Angular size in the plane of projection, one for a square, or (height, width); the whole map where neither
            it nor `center` is given.

        Returns
        -------
        Region
            Cut at the edges of the map; on a ring it crosses them, but no column is in it twice.

        Raises
        ------
        InputError
            If this is no rectangle, or no pixel of the map is in it.
        """
        if center is None and size is None:
            return cls(Box(0, shape[0], 0, shape[1]), ring, header_text)
        wcs = wcs_from_text(header_text)
        x_scale, y_scale = proj_plane_pixel_scales(wcs)
        n_rows, n_columns = pixels_of(size, y_scale, x_scale)
        x, y = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if center is None else _pixel(center, wcs)
        if ring:
            x, n_columns = x % shape[1], min(n_columns, shape[1])
        # As astropy's Cutout2D has it.
        y0, x0 = int(np.ceil(y - n_rows / 2)), int(np.ceil(x - n_columns / 2))
        box = on_map(Box(y0, y0 + n_rows, x0, x0 + n_columns), shape, ring=ring)
        if not box.area:
            raise InputError(
                f"nothing of the map of {shape[0]} x {shape[1]} pixels (y, x) is in a rectangle of {n_rows} x "
                f"{n_columns} pixels around y = {y:.0f}, x = {x:.0f}: choose another center"
            )
        header = fits.Header.fromstring(header_text, sep="\n")
        header["CRPIX1"] = header.get("CRPIX1", 0.0) - box.x0
        header["CRPIX2"] = header.get("CRPIX2", 0.0) - box.y0
        text = "\n".join(card.image.rstrip() for card in header.cards)
        return cls(box, ring, centred(text, box.shape))

    @property
    def wcs(self) -> WCS:
        """Sky coordinates of its pixels, the first of which is (0, 0)."""
        return wcs_from_text(self.header_text)


def position_of(center: Any) -> SkyCoord:
    """Check that this is one position.

    Raises InputError if it is none.
    """
    if not (isinstance(center, SkyCoord) and center.isscalar):
        raise InputError(f"center is {center!r}: give one position, such as SkyCoord(184.6, -5.8, unit='deg')")
    return center


def _pixel(center: Any, wcs: WCS) -> tuple[float, float]:
    x, y = (float(pixel) for pixel in wcs.world_to_pixel(position_of(center)))
    if not np.isfinite(x + y):
        raise InputError(f"{center.to_string()} has no pixel in the map's projection: choose another center")
    # A position that was itself made from pixels comes back with a rounding error, which would decide at which of two
    # pixels an even number of pixels starts.
    return round(x, 6), round(y, 6)


def pixels_of(size: Any, y_scale: float, x_scale: float) -> tuple[int, int]:
    """Rows and columns of an angular size.

    Parameters
    ----------
    size : Angle, Quantity or str
        One for a square, or (height, width).
    y_scale, x_scale : float
        Height and width of a pixel, in degrees.

    Raises
    ------
    InputError
        If it is no angle, or smaller than a pixel.
    """
    try:
        height, width = np.broadcast_to(Angle(size).deg, 2)
    except (ValueError, TypeError, UnitsError) as error:
        raise InputError(f"size is {size!r}: give an angle, such as '2 deg', or two, (height, width)") from error
    rows, columns = np.round(height / y_scale), np.round(width / x_scale)
    if not 0 < min(rows, columns) <= max(rows, columns) < np.inf:
        raise InputError(f"size is {size}, {columns:g} x {rows:g} pixels: give a larger one")
    return int(rows), int(columns)
