"""The whole sky onto which events are binned: its HEALPix pixels, and which of them a position lies in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.config.events import EventOptions
from cwt_dask.cwt.arrays import Ints
from cwt_dask.errors import SettingsError
from cwt_dask.events.grid import Grid
from cwt_dask.geometry.healpix import N_BASE, number_of, order_of

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

_FRAMES = {"gal": ("galactic", "GAL"), "icrs": ("icrs", "CEL")}
_OF_A_MAP = ("center", "size", "pixel", "projection")


@dataclass(frozen=True)
class SkyGrid:
    """The pixels of the whole sky by their NESTED numbers, `nside` in a row: the interface of `Grid`."""

    nside: int
    frame: str  # As options call it.

    @classmethod
    def of(cls, options: EventOptions) -> SkyGrid:
        """Make the sky that options describe.

        Raises SettingsError if they do not say how fine it is, or describe a part of it, too.
        """
        default = EventOptions()
        if given := [name for name in _OF_A_MAP if getattr(options, name) != getattr(default, name)]:
            raise SettingsError(
                f"allsky and {given[0]} are both given: leave out allsky for a map, or {given[0]} for the whole sky"
            )
        if options.nside is None:
            raise SettingsError("allsky needs the pixels that events are binned onto: add --nside N, such as 512")
        return cls(options.nside, options.frame)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return N_BASE * self.nside, self.nside

    @property
    def extent(self) -> str:
        """What it covers, for people."""
        return f"the sky in pixels of NSIDE {self.nside}"

    def new_wcs(self) -> None:
        """Nothing: pixels are found without a WCS."""

    def pixels(self, _wcs: None, sky: SkyCoord) -> tuple[Ints, Ints]:
        """Rows and columns (events,) of the pixels that positions lie in."""
        there = sky.transform_to(_FRAMES[self.frame][0]).spherical
        row, column = np.divmod(number_of(there.lon, there.lat, order_of(self.nside)), self.nside)
        return row, column

    def hdu_header(self, bits: int) -> fits.Header:
        """The cards of a table of whole numbers of so many bits, one of each pixel."""
        column = fits.Column("CHANNEL1", {32: "J", 64: "K"}[bits], unit="count")
        header = fits.BinTableHDU.from_columns([column], nrows=0, name="COUNTS").header
        header["NAXIS2"] = N_BASE * self.nside**2
        header["PIXTYPE"], header["ORDERING"], header["INDXSCHM"] = "HEALPIX", "NESTED", "IMPLICIT"
        header["NSIDE"], header["ORDER"] = self.nside, order_of(self.nside)
        header["FIRSTPIX"], header["LASTPIX"] = 0, N_BASE * self.nside**2 - 1
        header["COORDSYS"] = _FRAMES[self.frame][1]
        return header

    def stored(self, counts: Ints, bits: int) -> NDArray[Any]:
        """Counts (rows, columns) as the bytes of such a table."""
        return np.ascontiguousarray(counts, f">i{bits // 8}").reshape(-1).view(np.uint8)


# What events are binned onto.
AnyGrid = Grid | SkyGrid


def grid_of(options: EventOptions) -> AnyGrid:
    """The map, or the whole sky, that options describe.

    Raises SettingsError as `Grid.of` and `SkyGrid.of`; if only one of two options of the whole sky is given.
    """
    if options.allsky:
        return SkyGrid.of(options)
    if options.nside is not None:
        raise SettingsError(f"nside is {options.nside}, and event lists are binned onto a map: add --allsky")
    return Grid.of(options)
