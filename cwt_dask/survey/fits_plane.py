"""One image plane of a FITS file, read forward in blocks of rows: memory holds one block of a file of any size."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.cwt.sky_cards import with_inherited
from cwt_dask.errors import SurveyError
from cwt_dask.survey.bands import Bands, MisfitError, read_bands
from cwt_dask.survey.fits_file import TABLES, FitsFile, kind_of_table
from cwt_dask.survey.headers import damage_named
from cwt_dask.survey.source import Band

Rows = Callable[[int], NDArray[Any]]

_STORED = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}

# zlib makes a thousandth of zeros, runs of a mask (PLIO) are 4095 pixels of up to 4 bytes in 2.
_LARGEST_COMPRESSION = 2**13


def _streamed(handle: Any, offset: int, columns: int, dtype: np.dtype[Any]) -> Rows:
    """Rows of an uncompressed HDU, read with a file handle of its own.

    Not astropy's `section`: after each block it seeks back to where the file stood, and in a gzip file every step back
    starts again from the first byte. Planes taken in turns from one handle would do the same.
    """
    handle.seek(offset)
    return lambda n_rows: np.frombuffer(handle.read(n_rows * columns * dtype.itemsize), dtype).reshape(n_rows, columns)


def _compressed(section: Any, band: tuple[int, ...]) -> Rows:
    """Rows of a tile-compressed HDU (``.fits.fz``); a block costs the tiles that it touches."""
    first = 0

    def read(n_rows: int) -> NDArray[Any]:
        nonlocal first
        rows = slice(first, first + n_rows)
        first = rows.stop
        return np.asarray(section[(*band, rows, slice(None))])

    return read


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
        self.label = f"HDU {hdu.name or file.hdus.index(hdu)}"
        self.path = file.path
        self.where = f"{self.label} of {self.path}"  # For messages.
        self._hdu, self._file = hdu, file
        with damage_named(f"{self.where} is damaged"):
            self.header = with_inherited(hdu.header, file.hdus[0].header)
            if not hdu.is_image:
                raise MisfitError(f"{self.where} is {kind_of_table(hdu)}", TABLES[kind_of_table(hdu)])
            if not hdu.shape or 0 in hdu.shape:
                raise MisfitError(f"{self.where} holds no data", "name the HDU that holds the image")
            if len(hdu.shape) < 2:
                raise MisfitError(
                    f"{self.where} has one axis, NAXIS1 = {hdu.shape[0]}", "name an HDU that holds an image of two axes"
                )
            self._refuse_missing_pixels(hdu)
            self.shape: tuple[int, int] = hdu.shape[-2:]  # Rows and columns.
            self.n_bands = int(np.prod(hdu.shape[:-2], dtype=int))
            self.bands = read_bands(hdu, file.hdus, self.where) if self.n_bands > 1 else Bands()
            # Of the rows that `read` gives: that of the file in native byte order; float64 with BSCALE, BZERO or BLANK.
            self._decode, self.dtype = self._decoder()

    def open(self, band: Band, stack: ExitStack) -> None:
        """Open it at its first row.

        Parameters
        ----------
        band : int, "sum" or None
            What to take of a cube.
        stack : ExitStack
            Closes the handles opened here.

        Raises
        ------
        SurveyError
            If it is a cube and `band` does not say what to take of it.
        """
        with damage_named(f"{self.where} is damaged"):
            bands = self._choose_bands(band)
            self._rows = [self._open_rows(self._hdu, self._file, index, stack) for index in bands]

    @property
    def n_open(self) -> int:
        """Planes that `read` gives."""
        return len(self._rows)

    def _refuse_missing_pixels(self, hdu: Any) -> None:
        """Refuse more pixels than the HDU can hold, before memory is taken for them."""
        n_bytes = math.prod(hdu.shape) * abs(self.header["BITPIX"]) // 8
        held = hdu.fileinfo()["datSpan"]
        if n_bytes > held * (_LARGEST_COMPRESSION if isinstance(hdu, fits.CompImageHDU) else 1):
            axes = " x ".join(map(str, hdu.shape))
            raise SurveyError(
                f"{self.where} is damaged: its header says {axes} pixels, but it holds {held} bytes: get the file again"
            )

    def _choose_bands(self, band: Band) -> range:
        """Choose the planes, counted through all leading axes."""
        n_bands = self.n_bands
        if n_bands == 1:
            # One image is a companion of each plane of a cube.
            return range(1)
        if band is None:
            raise SurveyError(
                f"{self.where} is a cube of {n_bands} planes: choose one, --band I with I from 0 to {n_bands - 1}, or "
                "their sum, --band sum"
            )
        if band == "sum":
            return range(n_bands)
        if band >= n_bands:
            raise SurveyError(f"{self.where} has no band {band}: its bands are 0 to {n_bands - 1}")
        return range(band, band + 1)

    def _open_rows(self, hdu: Any, file: FitsFile, band: int, stack: ExitStack) -> Rows:
        if isinstance(hdu, fits.CompImageHDU):
            if file.gzipped:
                raise SurveyError(
                    f"{self.where} is tile-compressed inside a gzip file: unpack the file with gunzip first"
                )
            # Without leading axes there is one band and no index to name it.
            index = np.unravel_index(band, hdu.shape[:-2]) if len(hdu.shape) > 2 else ()
            return _compressed(hdu.section, tuple(int(i) for i in index))
        stored = np.dtype(_STORED[self.header["BITPIX"]])
        offset = hdu.fileinfo()["datLoc"] + band * self.shape[0] * self.shape[1] * stored.itemsize
        return _streamed(file.new_handle(stack), offset, self.shape[1], stored)

    def read(self, n_rows: int) -> list[NDArray[Any]]:
        """Read the next rows (y, x) of each plane, in physical values of `dtype`; NaN where the file says BLANK.

        Raises SurveyError if the file is truncated or damaged.
        """
        with damage_named(f"{self.where} is truncated or damaged"):
            return [self._decode(rows(n_rows)) for rows in self._rows]

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
