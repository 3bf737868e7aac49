"""Planes onto which the sphere is drawn: what plots and cutouts show of it. For looking at, never for analysis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits

from cwt_dask.cwt.arrays import Bools, Ints
from cwt_dask.survey.region import pixels_of, position_of
from cwt_dask.survey.sphere import axes_of
from cwt_dask.survey.wcs import frame_of, wcs_from_text

if TYPE_CHECKING:
    from astropy.wcs import WCS

RESAMPLED = "Resampled for display: each pixel is that of the facet, or of the HEALPix map, nearest to its centre."
# Up to this size straight lines are more welcome than equal areas: a tangential plane stretches its corners by 5 %.
_MOST_TANGENTIAL = 20.0
# The sphere in the other projections: ends at the antipode, and at the ends of the ellipse.
_WIDTH_ZEA, _WIDTH_MOL = math.degrees(4.0), math.degrees(4 * math.sqrt(2))


@dataclass(frozen=True)
class Plane:
    """Pixels (y, x) of a plane, and where they are on the sky."""

    header_text: str  # FITS cards of its WCS, one a line.
    shape: tuple[int, int]

    @classmethod
    def whole_sky(cls, pixel: float, most: float = math.inf) -> Plane:
        """The whole sky in the projection of Mollweide, in galactic coordinates.

        Parameters
        ----------
        pixel : float
            Size of the pixels to show, in degrees.
        most : float, optional
            Columns at most.
        """
        columns = min(2 * math.ceil(_WIDTH_MOL / pixel / 2), most)
        cards = _cards("MOL", "galactic", 0.0, 0.0, _WIDTH_MOL / columns)
        return cls._of(cards, math.ceil(columns / 2), int(columns))

    @classmethod
    def around(cls, center: Any, size: Any, frame: str, pixel: float, most: float = math.inf) -> Plane:
        """A rectangle about a position: tangential if it is small, else of equal area.

        Parameters
        ----------
        center : SkyCoord or None
            The middle; longitude and latitude 0 where None.
        size : Angle, Quantity or str
            Angular size in the plane, one for a square, or (height, width); it ends where the sphere does.
        frame : str
            The frame of its coordinates.
        pixel : float
            Size of the pixels to show, in degrees.
        most : float, optional
            Rows and columns at most: pixels are larger where they would be more.

        Raises
        ------
        InputError
            If it is none.
        """
        middle = SkyCoord(0, 0, unit="deg", frame=frame) if center is None else position_of(center).transform_to(frame)
        rows, columns = (min(n, math.ceil(_WIDTH_ZEA / pixel)) for n in pixels_of(size, pixel, pixel))
        larger = max(max(rows, columns) / most, 1.0)
        projection = "TAN" if max(rows, columns) * pixel <= _MOST_TANGENTIAL else "ZEA"
        cards = _cards(projection, frame, middle.spherical.lon.deg, middle.spherical.lat.deg, pixel * larger)
        return cls._of(cards, math.ceil(rows / larger), math.ceil(columns / larger))

    @classmethod
    def _of(cls, cards: dict[str, Any], rows: int, columns: int) -> Plane:
        cards |= {"CRPIX1": (columns + 1) / 2, "CRPIX2": (rows + 1) / 2}
        header = fits.Header(cards.items())
        header["COMMENT"] = RESAMPLED
        return cls("\n".join(card.image.rstrip() for card in header.cards), (rows, columns))

    @cached_property
    def wcs(self) -> WCS:
        """Sky coordinates of its pixels."""
        return wcs_from_text(self.header_text)

    @property
    def pixel(self) -> float:
        """Size of a pixel in its middle, in degrees."""
        return float(self.wcs.wcs.cdelt[1])

    @property
    def is_whole_sky(self) -> bool:
        """Whether it shows the whole sky."""
        return bool(self.wcs.wcs.ctype[0].endswith("MOL"))

    @cached_property
    def sky(self) -> tuple[Bools, SkyCoord]:
        """Which pixels (y, x) are on the sky, and where these are."""
        # A row at a time: astropy holds ten numbers a pixel while it works.
        columns = np.arange(self.shape[1])
        rows = (np.stack(self.wcs.all_pix2world(columns, np.full(self.shape[1], y), 0)) for y in range(self.shape[0]))
        lon, lat = np.stack(list(rows), axis=1)
        on_sky = np.isfinite(lon + lat)
        return on_sky, SkyCoord(lon[on_sky], lat[on_sky], unit="deg", frame=frame_of(self.wcs))

    def pixels(self, sky: SkyCoord) -> tuple[Bools, Ints]:
        """Which positions (n,) are in it, and the numbers of the pixels that hold these, row by row."""
        x, y = self.wcs.world_to_pixel(sky)
        rows, columns = self.shape
        # NaN is in none.
        there = (np.rint(x) >= 0) & (np.rint(x) < columns) & (np.rint(y) >= 0) & (np.rint(y) < rows)
        return there, np.rint(y[there]).astype(np.int64) * columns + np.rint(x[there]).astype(np.int64)


def _cards(projection: str, frame: str, lon: float, lat: float, pixel: float) -> dict[str, Any]:
    cards: dict[str, Any] = {f"CTYPE{n}": f"{axis}-{projection}" for n, axis in enumerate(axes_of(frame), 1)}
    cards |= {"CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": float(lon), "CRVAL2": float(lat)}
    cards |= {"CDELT1": -pixel, "CDELT2": pixel}
    return cards | ({"RADESYS": "ICRS"} if frame == "icrs" else {})
