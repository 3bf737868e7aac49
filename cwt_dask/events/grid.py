"""The flat map onto which events are binned: its pixels, and which of them a position lies in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from cwt_dask.config.events import EventOptions
from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.errors import SettingsError
from cwt_dask.survey.wcs import celestial_header, closes_circle, wcs_from_text

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

_AXES = {"gal": ("GLON", "GLAT"), "icrs": ("RA--", "DEC-")}
# Their equator is a straight line whatever they are centred on; the latitude of others is that of the centre.
_CYLINDRICAL = ("CAR", "CEA", "MER")
_ZENITHAL = ("TAN", "SIN", "ARC", "STG", "ZEA")
_CIRCLE, _POLE = 360.0, 90.0
# In degrees; and rows and columns, as of any survey.
_LEAST_PIXEL, _LONGEST = 1e-9, 2**22
# Of a size in pixels, so that 360 deg in pixels of 0.1 deg are 3600.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Grid:
    """A flat map of the sky."""

    shape: tuple[int, int]  # Rows and columns.
    header: fits.Header  # The cards of its WCS.
    ring: bool  # Whether its last column is the neighbour of its first.

    @classmethod
    def of(cls, options: EventOptions) -> Grid:
        """Make the map that options describe.

        Raises SettingsError if they leave out what it takes, or describe no part of the sky.
        """
        needed = {"center": "L,B", "size": "W,H", "pixel": "P"}
        if lacking := [f"--{name} {what}" for name, what in needed.items() if getattr(options, name) is None]:
            raise SettingsError(
                f"event lists are binned onto a map that must be given: add {' '.join(lacking)}, in degrees, as in "
                "--center 0,0 --size 360,180 --pixel 0.1; or the whole sky, --allsky --nside N"
            )
        # They are checked, and so numbers.
        center: Any = options.center
        size: Any = options.size
        pixel: Any = options.pixel
        return cls._of(center, size, pixel, options)

    @classmethod
    def _of(cls, center: Any, size: Any, pixel: float, options: EventOptions) -> Grid:
        lon, lat = center
        if abs(lon) > _CIRCLE or abs(lat) > _POLE:
            raise SettingsError(
                f"center is {lon:g},{lat:g}: it must be a longitude from -360 to 360 and a latitude from -90 to 90, "
                "in degrees"
            )
        if pixel < _LEAST_PIXEL:
            raise SettingsError(f"pixel is {pixel:g}: it must be at least {_LEAST_PIXEL:g} degrees")
        most = (_CIRCLE, _CIRCLE if options.projection in _ZENITHAL else _CIRCLE / 2)
        if min(size) < pixel or size[0] > most[0] or size[1] > most[1]:
            raise SettingsError(
                f"size is {size[0]:g},{size[1]:g}: it must be at least a pixel, {pixel:g}, and at most {most[0]:g},"
                f"{most[1]:g} degrees in projection {options.projection}"
            )
        width, height = (_n_pixels(*lengths, pixel) for lengths in zip(size, most, strict=True))
        if max(width, height) > _LONGEST:
            raise SettingsError(
                f"the map has {height} x {width} pixels (y, x), and may have up to {_LONGEST} rows and columns: take "
                "larger pixels"
            )
        header = _header(options, (height, width), lon, lat, pixel)
        text = celestial_header(header, (height, width), "the map")
        return cls((height, width), header, closes_circle(wcs_from_text(text or ""), (height, width)))

    @property
    def extent(self) -> str:
        """How large it is, for people."""
        return f"{self.shape[0]} x {self.shape[1]} pixels"

    def new_wcs(self) -> WCS:
        """The map's WCS, for one thread: wcslib writes to it while it works."""
        return WCS(self.header)

    def hdu_header(self, bits: int) -> fits.Header:
        """The cards of an image of whole numbers of so many bits."""
        n_rows, n_columns = self.shape
        header = fits.Header({"SIMPLE": True, "BITPIX": bits, "NAXIS": 2, "NAXIS1": n_columns, "NAXIS2": n_rows})
        header["EXTEND"], header["EXTNAME"], header["BUNIT"] = True, "COUNTS", "count"
        header.update(self.header)
        return header

    def stored(self, counts: Ints, bits: int) -> NDArray[Any]:
        """Counts (rows, columns) as such an image has them."""
        return counts.astype(f"int{bits}")

    def pixels(self, wcs: WCS, sky: SkyCoord) -> tuple[Ints, Ints]:
        """Rows and columns (events,) of the pixels that positions lie in, of those on the map, in their order.

        They are those of `numpy.histogramdd` on astropy's pixel positions: edges lie half a pixel from the centres,
        and belong to the pixel that begins there, the last one to the last pixel. On a ring columns count modulo its
        width.
        """
        x, y = wcs.world_to_pixel(sky)
        n_rows, n_columns = self.shape
        column, row = _floor_of(x, n_columns), _floor_of(y, n_rows)
        if self.ring:
            column %= n_columns
        on_map = (column >= 0) & (column < n_columns) & (row >= 0) & (row < n_rows)
        return row[on_map].astype(np.int64), column[on_map].astype(np.int64)


def _n_pixels(length: float, most: float, pixel: float) -> int:
    """Pixels in a length, rounded; but none that would show the same sky again."""
    return min(max(round(length / pixel), 1), max(int(most / pixel * (1 + _ROUNDING)), 1))


def _header(options: EventOptions, shape: tuple[int, int], lon: float, lat: float, pixel: float) -> fits.Header:
    """The cards of a map with its centre in the middle."""
    cylindrical = options.projection in _CYLINDRICAL
    header = fits.Header()
    reference = lon % _CIRCLE, 0.0 if cylindrical else lat
    steps = zip((1, 2), _AXES[options.frame], reversed(shape), reference, (-pixel, pixel), strict=True)
    for axis, name, length, value, step in steps:
        header[f"CTYPE{axis}"] = f"{name}-{options.projection}"
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRPIX{axis}"] = (length + 1) / 2
        header[f"CRVAL{axis}"] = value
        header[f"CDELT{axis}"] = step
    if options.frame == "icrs":
        header["RADESYS"] = "ICRS"
    if cylindrical and lat:
        _, y = WCS(header).wcs_world2pix(reference[0], lat, 0)
        if not np.isfinite(y) or abs(y) > _LONGEST:
            raise SettingsError(f"center is {lon:g},{lat:g}, which {options.projection} cannot show: take another one")
        header["CRPIX2"] = shape[0] - float(y)
    return header


def _floor_of(position: Floats, n: int) -> Floats:
    """Pixel numbers of positions; NaN where a position is. ``floor(x + 0.5)`` would round up just below one half."""
    low = np.floor(position)
    number: Floats = low + (position - low >= 0.5)
    number[position == n - 0.5] = n - 1
    return number
