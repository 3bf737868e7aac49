"""One image plane of a FITS file, read forward in blocks of rows: memory holds one block of a file of any size."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.cwt.sky_cards import with_inherited
from cwt_dask.errors import SurveyError
from cwt_dask.survey.bands import MisfitError, read_bands
from cwt_dask.survey.fits_file import TABLES, FitsFile, kind_of_table
from cwt_dask.survey.headers import damage_named
from cwt_dask.survey.source import IN_MEMORY, IN_MEMORY_CARD
from cwt_dask.survey.unpacking import TileRows, refuse_tiles

# Gives the next rows (y, x) of each plane, as the file stores them.
Rows = Callable[[int], list[NDArray[Any]]]

_STORED = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}

# zlib makes a thousandth of zeros, runs of a mask (PLIO) are 4095 pixels of up to 4 bytes in 2.
_LARGEST_COMPRESSION = 2**13


def stands_for(file: FitsFile) -> str:
    """What a file stands for, if it was made on the way and is removed; empty otherwise."""
    told = file.hdus[0].header.get(IN_MEMORY_CARD)
    return IN_MEMORY if told is True else str(told or "")


class FitsPlane:
    """A two-dimensional image of a FITS file, or a cube of them.

    Parameters
    ----------
    hdu : astropy HDU
        An HDU of the file.
    file : FitsFile

    Raises
    ------
    MisfitError
        If the HDU holds no two-dimensional image, or the planes of a cube have pixels of their own.
    SurveyError
        If it is damaged.
    """

    def __init__(self, hdu: Any, file: FitsFile) -> None:
        self.hdu = f"{hdu.name or file.hdus.index(hdu)}"
        self.label = f"HDU {self.hdu}"
        self.path = file.path
        self.where = f"{self.label} of {self.path}"  # For messages.
        self._broken = f"{self.where} is truncated or damaged"
        self._hdu, self._file = hdu, file
        with damage_named(f"{self.where} is damaged"):
            self.header = with_inherited(hdu.header, file.hdus[0].header)
            self.stands_for = stands_for(file)
            if not hdu.is_image:
                raise MisfitError(f"{self.where} is {kind_of_table(hdu)}", TABLES[kind_of_table(hdu)])
            if not hdu.shape or 0 in hdu.shape:
                raise MisfitError(f"{self.where} holds no data", "name the HDU that holds the image")
            if len(hdu.shape) < 2:
                raise MisfitError(
                    f"{self.where} has one axis, NAXIS1 = {hdu.shape[0]}", "name an HDU that holds an image of two axes"
                )
            self._refuse_missing_pixels(hdu)
            if isinstance(hdu, fits.CompImageHDU):
                refuse_tiles(hdu, self.where)
            self.shape: tuple[int, int] = hdu.shape[-2:]  # Rows and columns.
            self.n_bands = int(np.prod(hdu.shape[:-2], dtype=int))
            self.bands = read_bands(hdu, file.hdus, self.where)
            self.has_dispersion = file.has("EDISP")  # Whether its file has an energy dispersion.
            # Of the rows that `read` gives: that of the file in native byte order; float64 with BSCALE, BZERO or BLANK.
            self._decode, self.dtype = self._decoder()

    def open(self, planes: range, stack: ExitStack, scratch: Path | None = None) -> None:
        """Open planes, counted through all leading axes, at their first row.

        Parameters
        ----------
        planes : range
            Which.
        stack : ExitStack
            Closes the handles opened here.
        scratch : Path, optional
            Directory for rows that tiles are unpacked to before they are asked for; the system's by default.

        Raises
        ------
        SurveyError
            If it is compressed twice, or damaged.
        """
        with damage_named(f"{self.where} is damaged"):
            self.n_open = len(planes)  # Planes that `read` gives.
            if isinstance(self._hdu, fits.CompImageHDU):
                self._rows = self._compressed(planes, scratch, stack)
            else:
                self._rows = self._uncompressed(planes, stack)

    def _refuse_missing_pixels(self, hdu: Any) -> None:
        """Refuse more pixels than the HDU can hold, before memory is taken for them."""
        n_bytes = math.prod(hdu.shape) * abs(self.header["BITPIX"]) // 8
        held = hdu.fileinfo()["datSpan"]
        if n_bytes > held * (_LARGEST_COMPRESSION if isinstance(hdu, fits.CompImageHDU) else 1):
            axes = " x ".join(map(str, hdu.shape))
            raise SurveyError(
                f"{self.where} is damaged: its header says {axes} pixels, but it holds {held} bytes: get the file again"
            )

    def _uncompressed(self, bands: range, stack: ExitStack) -> Rows:
        """Read rows with a file handle a band.

        Not astropy's `section`: after each block it seeks back to where the file stood, and in a gzip file every step
        back starts again from the first byte. Planes taken in turns from one handle would do the same.
        """
        stored = np.dtype(_STORED[self.header["BITPIX"]])
        n_rows, n_columns = self.shape
        handles = []
        for band in bands:
            handles.append(self._file.new_handle(stack))
            handles[-1].seek(self._hdu.fileinfo()["datLoc"] + band * n_rows * n_columns * stored.itemsize)

        def read(n: int) -> list[NDArray[Any]]:
            with damage_named(self._broken):
                blocks = (handle.read(n * n_columns * stored.itemsize) for handle in handles)
                return [np.frombuffer(block, stored).reshape(n, n_columns) for block in blocks]

        return read

    def _compressed(self, bands: range, scratch: Path | None, stack: ExitStack) -> Rows:
        if self._file.gzipped:
            raise SurveyError(f"{self.where} is tile-compressed inside a gzip file: unpack the file with gunzip first")
        planes = _box(bands, self._hdu.shape[:-2])
        # What the box has besides is unpacked, and left out.
        inside = np.arange(self.n_bands).reshape(self._hdu.shape[:-2])[tuple(planes)].ravel()
        wanted = np.flatnonzero(np.isin(inside, bands))
        stored = np.dtype(_STORED[self.header["BITPIX"]]).newbyteorder("=")
        tiles = TileRows(self._hdu, planes, stored, self._broken, scratch, stack)

        def read(n: int) -> list[NDArray[Any]]:
            rows = tiles(n)
            return [rows[band] for band in wanted]

        return read

    def read(self, n_rows: int) -> list[NDArray[Any]]:
        """Read the next rows (y, x) of each plane, in physical values of `dtype`; NaN where the file says BLANK.

        Raises SurveyError if the file is truncated or damaged.
        """
        return [self._decode(rows) for rows in self._rows(n_rows)]

    def _decoder(self) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], np.dtype[Any]]:
        """Give the function that makes physical values of stored ones, and their type."""
        header = self.header
        bitpix, scale, zero = header["BITPIX"], self._number("BSCALE", 1), self._number("BZERO", 0)
        if scale == 0:
            raise SurveyError(f"{self.where} has BSCALE = 0, so that all its pixels are the same: correct its header")
        # The standard gives BLANK no meaning for floats.
        blank = self._number("BLANK", 0) if bitpix > 0 and "BLANK" in header else None
        native = np.dtype(_STORED[bitpix]).newbyteorder("=")
        if (scale, zero, blank) == (1, 0, None):
            return lambda stored: stored.astype(native, copy=False), native
        if (scale, zero, blank) == (1, 1 << (abs(bitpix) - 1), None) and bitpix > 8:
            # The standard's way to keep unsigned integers: the sum wraps, so it is exact.
            unsigned = np.dtype(f"u{bitpix // 8}")
            return lambda stored: stored.astype(unsigned) + unsigned.type(zero), unsigned

        def scaled(stored: NDArray[Any]) -> NDArray[Any]:
            with np.errstate(over="ignore"):  # infinite values are refused where they are seen
                values = stored * np.float64(scale) + np.float64(zero)
            return values if blank is None else np.where(stored == blank, np.nan, values)

        return scaled, np.dtype(np.float64)

    def _number(self, keyword: str, default: float) -> float:
        value = self.header.get(keyword, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise SurveyError(f"{self.where} has {keyword} = {value}, not a finite number: correct its header")
        return value


def _box(bands: range, lengths: tuple[int, ...]) -> list[slice]:
    """The least box of leading axes of these lengths that holds consecutive planes."""
    first, last = (np.unravel_index(band, lengths) if lengths else () for band in (bands[0], bands[-1]))
    planes, apart = [], False
    for start, end, length in zip(first, last, lengths, strict=True):
        planes.append(slice(0, length) if apart else slice(int(start), int(end) + 1))
        apart |= bool(start != end)
    return planes
