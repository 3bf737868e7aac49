"""Which rows of a table of HEALPix pixels are of which band and which pixel: the schemes of INDXSCHM.

IMPLICIT: a row a pixel of the whole sky, or several, as healpy writes them, a column a band. EXPLICIT: a column names
the pixels of all bands. LOCAL: that column counts through the pixels of a region. SPARSE: a row a pixel of one band.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.errors import SurveyError
from cwt_dask.geometry.healpix import N_BASE
from cwt_dask.survey.healpix_header import Region

_PIXELS = ("PIX", "PIXEL")
_CHANNEL, _VALUE = "CHANNEL", "VALUE"


@dataclass(frozen=True)
class Layout:
    """How a table is laid out."""

    where: str  # The table, for messages.
    scheme: str
    pixels: str  # Its column of pixel numbers; empty where rows count through the sky.
    values: tuple[str, ...]  # Its column of values of each band.
    channel: str  # Its column of bands; empty where rows do not name theirs.
    ends: tuple[int, ...]  # Where bands end that lie one after the other; empty where they do not.
    region: Region | None  # The part of the sky, where rows do not name all of its pixels.

    @classmethod
    def of(cls, hdu: Any, bands: Any, where: str) -> Layout:
        """Find it.

        Parameters
        ----------
        hdu : astropy HDU
            The table.
        bands : astropy HDU or None
            The table of its bands.
        where : str
            The table, for messages.

        Raises
        ------
        SurveyError
            If rows do not tell their pixel or band.
        """
        names = list(hdu.columns.names)
        # Names of FITS have no case.
        capitals = [name.upper() for name in names]
        scheme = str(hdu.header.get("INDXSCHM", "IMPLICIT")).strip().upper()
        named = bool(names) and capitals[0] in _PIXELS
        if scheme == "SPARSE" or (named and capitals[1:3] == [_CHANNEL, _VALUE]):
            called = dict(zip(capitals, names, strict=True))
            channel = called.get(_CHANNEL, "")
            ends = () if channel else _ends(hdu, bands, where)
            n_bands = len(ends) or _n_channels(hdu, bands, channel)
            values = (called.get(_VALUE, _VALUE),) * n_bands
            return cls(where, "SPARSE", names[0], values, channel, ends, Region.of(hdu.header, where))
        if scheme == "LOCAL":
            region = Region.of(hdu.header, where)
            if region is None:
                raise SurveyError(
                    f"{where} has INDXSCHM = LOCAL, and no HPX_REG that says which pixels these are: write it as "
                    "EXPLICIT"
                )
            if region.kind != "DISK":
                # healpy lists some at the rim that the circle does not touch: places in a list are the writer's own.
                raise SurveyError(
                    f"{where} has INDXSCHM = LOCAL and HPX_REG = {region.text}, of which writers list unlike pixels: "
                    "write it as EXPLICIT"
                )
            return cls(where, scheme, names[0] if named else "", tuple(names[named:]), "", (), region)
        if named or scheme == "EXPLICIT":
            return cls(where, "EXPLICIT", names[0] if names else "", tuple(names[1:]), "", (), None)
        return cls(where, "IMPLICIT", "", tuple(names), "", (), None)

    def read(self, table: Any, band: int, nside: int, *, finest: int, ring: bool) -> tuple[Ints, NDArray[Any], float]:
        """Numbers of a band's pixels, ascending, their values as stored, and what stands for pixels that are not there.

        Parameters
        ----------
        table : ndarray
            All rows.
        band : int
            Which.
        nside, finest : int
            Of this band, and the largest of all.
        ring : bool
            Whether pixels are numbered in the RING scheme.

        Raises
        ------
        SurveyError
            If there are no such pixels, some come twice, or rows that count through a region are not as many.
        """
        rows = self._rows_of(table, band)
        values = np.asarray(table[self.values[band]][rows])
        numbers = np.asarray(table[self.pixels][rows], np.int64) if self.pixels else np.arange(len(values))
        every = self.region.numbers(nside, ring=ring) if self.region else None
        if self.scheme == "LOCAL" and self.region and every is not None:
            if not self.pixels:
                self._refuse_other_rows(len(values), self.region, finest)
            inside = (numbers >= 0) & (numbers < len(every))
            # Bands of larger pixels end before the others.
            if nside == finest:
                self._refuse_beyond(numbers, len(every), f"its region of NSIDE = {nside}")
            numbers, values = every[numbers[inside]], values[inside]
        ascending = np.argsort(numbers, kind="stable")
        numbers, values = numbers[ascending], values[ascending]
        self._refuse_beyond(numbers, N_BASE * nside**2, f"a sky of NSIDE = {nside}")
        twice = numbers[1:][numbers[1:] == numbers[:-1]]
        if twice.size:
            raise SurveyError(f"{self.where} has pixel {twice[0]} twice: sum, or drop, what is double")
        if self.scheme != "SPARSE":
            return numbers, values, np.nan
        # What is not in such a file is no count; beyond the region of the map there is nothing.
        if every is None:
            return numbers, values, 0.0
        every = np.union1d(every, numbers)
        filled = np.zeros(len(every), values.dtype)
        filled[np.searchsorted(every, numbers)] = values
        return every, filled, np.nan

    def _rows_of(self, table: Any, band: int) -> Any:
        if self.ends:
            return slice(self.ends[band - 1] if band else 0, self.ends[band])
        return table[self.channel] == band if self.channel else slice(None)

    def _refuse_other_rows(self, n_rows: int, region: Region, finest: int) -> None:
        if n_rows != (n_pixels := len(region.numbers(finest, ring=False))):
            raise SurveyError(
                f"{self.where} has {n_rows} rows, and its region of NSIDE = {finest} has {n_pixels} pixels: write it "
                "as EXPLICIT"
            )

    def _refuse_beyond(self, numbers: Ints, n_pixels: int, what: str) -> None:
        bad = numbers[(numbers < 0) | (numbers >= n_pixels)]
        if bad.size:
            raise SurveyError(
                f"{self.where} has a pixel of number {bad[0]}, and {what} has 0 to {n_pixels - 1}: correct NSIDE or "
                "the numbers"
            )


def rows_of(hdu: Any) -> int:
    """How many rows a table has, by its header: its `data` would be the whole of it, in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.io import fits
    >>> from cwt_dask.survey.healpix_rows import rows_of
    >>> rows_of(fits.BinTableHDU(np.zeros(12, [("VALUE", "f4")])))
    12
    """
    return int(hdu.header["NAXIS2"])


def _ends(hdu: Any, bands: Any, where: str) -> tuple[int, ...]:
    """Where bands end, by the number of pixels of each; empty where there is one band."""
    if bands is None or "NPIX" not in {name.upper() for name in bands.columns.names} or len(bands.data) < 2:
        return ()
    ends = np.cumsum(np.asarray(bands.data["NPIX"], np.int64))
    if ends[-1] != rows_of(hdu):
        raise SurveyError(
            f"{where} has {rows_of(hdu)} rows, and NPIX of its table {bands.name} tells of {ends[-1]}: get the file "
            "again"
        )
    return tuple(ends.tolist())


def _n_channels(hdu: Any, bands: Any, channel: str) -> int:
    if not channel:
        return 1
    return len(bands.data) if bands is not None else int(max(hdu.data[channel], default=-1)) + 1


def scaled(values: NDArray[Any], column: Any) -> Floats:
    """Values of a column as it says them, as float64."""
    scale, zero = float(column.bscale or 1), float(column.bzero or 0)
    return values.astype(np.float64) * scale + zero if (scale, zero) != (1, 0) else values.astype(np.float64)
