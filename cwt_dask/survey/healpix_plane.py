"""A HEALPix map in a table of a FITS file, or a cube of them, read as rows of the image that a whole sky is kept as.

What is read is a plane of a survey like an image: `cwt_dask.survey.fits_plane.FitsPlane`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.errors import SurveyError
from cwt_dask.geometry.healpix import N_BASE, numbers_in, order_of, ring_of
from cwt_dask.storage.scratch import Mapped
from cwt_dask.survey.bands import MisfitError, read_bands
from cwt_dask.survey.fits_file import FitsFile, is_healpix
from cwt_dask.survey.fits_plane import stands_for
from cwt_dask.survey.headers import damage_named
from cwt_dask.survey.healpix_header import frame_of, is_ring, nsides_of, refuse_too_fine
from cwt_dask.survey.healpix_rows import Layout, rows_of, scaled
from cwt_dask.survey.sphere import SkyImage

# What stands for "no value" in the field's maps.
UNSEEN = -1.6375e30
# Bytes that are copied at once, and values that are read at once.
_BLOCK, _AT_ONCE = 2**24, 2**22


class HealpixPlane:
    """A map of the sphere, or one a band.

    Parameters
    ----------
    hdu : astropy HDU
        A table of the file.
    file : FitsFile
    frame : str, optional
        The frame of files that do not say, as the option has it.

    Raises
    ------
    MisfitError
        If the table is no HEALPix map.
    SurveyError
        If it is damaged, or of a kind that is not read.
    """

    def __init__(self, hdu: Any, file: FitsFile, frame: str | None = None) -> None:
        self.hdu = f"{hdu.name or file.hdus.index(hdu)}"
        self.label = f"HDU {self.hdu}"
        self.path = file.path
        self.where = f"{self.label} of {self.path}"
        self.header, self.stands_for = hdu.header, stands_for(file)
        self._hdu, self._file = hdu, file
        with damage_named(f"{self.where} is damaged"):
            table = self._table_of_bands(file)
            self._layout = Layout.of(hdu, table, self.where)
            is_only = sum(is_healpix(each) for each in file.hdus) == 1
            n_planes = len(self._layout.values)
            if "BUNIT" not in self.header and n_planes and (unit := hdu.columns[self._layout.values[0]].unit):
                # Columns have their units; images have theirs in the header.
                self.header = hdu.header.copy()
                self.header["BUNIT"] = unit
            if n_planes == 0 or rows_of(hdu) <= 0:
                raise MisfitError(f"{self.where} holds no pixels", "name the HDU that holds the map")
            self.bands = read_bands(hdu, file.hdus, self.where, n_planes=n_planes, is_only=is_only)
            self.n_bands = n_planes
            self._nsides = nsides_of(self.header, table, n_planes, self.where)
            self.frame = frame_of(self.header, self.hdu, self.where, frame)
            self._ring = is_ring(self.header, self.where)
            self.dtype = np.dtype(np.float64)
        # Counts can be summed, not shared: the coarsest band decides.
        self.nside = min(self._nsides)
        self.shape = SkyImage(self.nside, self.frame).shape  # Rows and columns of the image.
        self.has_dispersion = file.has("EDISP")
        self.is_density = False  # Whether its values are taken to other pixels as they are, not shared among them.
        self.is_mask = False

    def onto(self, nside: int, *, density: bool, mask: bool = False) -> None:
        """Take it to pixels of another size.

        Parameters
        ----------
        nside : int
            Of the map of the counts.
        density : bool
            Whether values are densities, such as of an exposure; else they are shared among finer pixels, and summed.
        mask : bool
            Whether these are those of a mask: a larger pixel is used where all that lie in it are.
        """
        refuse_too_fine(nside, self.where)
        self.nside, self.is_density, self.is_mask = nside, density, mask
        self.shape = SkyImage(nside, self.frame).shape

    @property
    def sky_text(self) -> str:
        """Cards of its sky coordinates."""
        return SkyImage(self.nside, self.frame).header_text

    def open(self, planes: range, stack: ExitStack, scratch: Path | None = None) -> None:
        """Open bands at their first row.

        Parameters
        ----------
        planes, stack, scratch
            As of `FitsPlane.open`.

        Raises
        ------
        SurveyError
            If pixels are numbered wrongly, or it is damaged.
        """
        self.n_open, self._row, self._planes = len(planes), 0, planes
        with damage_named(f"{self.where} is damaged"):
            table = self._table(stack, scratch)
            # Numbers of all pixels that have a value, by band, where they are known.
            self._known: list[Ints] = []
            values_of = self._whole_sky if self._layout.scheme == "IMPLICIT" else self._some_pixels
            self._at = [values_of(table, band) for band in planes]

    def read(self, n_rows: int) -> list[NDArray[Any]]:
        """Read the next rows (y, x) of each band, NaN where the map has no value."""
        rows = np.arange(self._row, self._row + n_rows)[:, np.newaxis]
        self._row += n_rows
        numbers = numbers_in(rows, np.arange(self.shape[1]), self.nside)
        with damage_named(f"{self.where} is truncated or damaged"):
            return [self._in_parts(at, band, numbers) for at, band in zip(self._at, self._planes, strict=True)]

    def skip(self, n_rows: int) -> None:
        """Leave the next rows out."""
        self._row += n_rows

    def is_blank(self, n_rows: int) -> bool:
        """Whether it is known, without reading them, that the next rows have no value in any band."""
        cells, beside = divmod(self.nside, n_rows)
        if self._ring or beside or self._row % n_rows or len(self._known) < self.n_open:
            return False
        # They are a row of squares, whose pixels have successive numbers.
        first = numbers_in(np.array(self._row // n_rows), np.arange(cells), cells) * n_rows**2
        for pixels, band in zip(self._known, self._planes, strict=True):
            finer, coarser = (max(1, a // b) ** 2 for a, b in permutations((self._nsides[band], self.nside)))
            low, high = first * finer // coarser, -(-(first + n_rows**2) * finer // coarser)
            if (np.searchsorted(pixels, low) < np.searchsorted(pixels, high)).any():
                return False
        return True

    def _in_parts(self, at: Callable[[Ints], Floats], band: int, numbers: Ints) -> Floats:
        """Values of pixels, some rows at a time: of much finer maps each takes many."""
        finer = max(1, (self._nsides[band] // self.nside) ** 2)
        rows = max(1, _AT_ONCE // (finer * numbers.shape[1]))
        parts = [self._values_at(at, band, numbers[y : y + rows]) for y in range(0, len(numbers), rows)]
        return np.concatenate(parts)

    def _values_at(self, at: Callable[[Ints], Floats], band: int, numbers: Ints) -> Floats:
        """Values of pixels of the map that is wanted."""
        own, wanted = order_of(self._nsides[band]), order_of(self.nside)
        if own <= wanted:
            values = _known(at(self._in_file(numbers >> 2 * (wanted - own), own)))
            return values if self.is_density else values / 4.0 ** (wanted - own)
        finer = 4 ** (own - wanted)
        parts = _known(at(self._in_file((numbers[..., np.newaxis] * finer + np.arange(finer)).ravel(), own)))
        of_pixel = parts.reshape(*numbers.shape, finer)
        if self.is_mask:
            return np.asarray((np.nan_to_num(of_pixel) != 0).all(axis=-1), np.float64)
        return np.asarray(of_pixel.mean(axis=-1) if self.is_density else of_pixel.sum(axis=-1))

    def _in_file(self, nested: Ints, order: int) -> Ints:
        return ring_of(nested.ravel(), order).reshape(nested.shape) if self._ring else nested

    def _whole_sky(self, table: Mapped, band: int) -> Callable[[Ints], Floats]:
        """Values of pixels by their numbers in the file, of a column with one or several of them a row."""
        name, n_pixels = self._layout.values[band], N_BASE * self._nsides[band] ** 2
        n_rows, per_row = rows_of(self._hdu), math.prod(self._hdu.columns.dtype[name].shape)
        if n_rows * per_row != n_pixels:
            raise SurveyError(
                f"{self.where} has {n_rows * per_row} pixels, and a whole sky of NSIDE = {self._nsides[band]} has "
                f"{n_pixels}: correct NSIDE, or say which pixels they are, INDXSCHM = EXPLICIT"
            )

        def at(numbers: Ints) -> Floats:
            row, within = np.divmod(numbers, per_row)
            column = table.rows(row)[name]
            return scaled(column[row] if column.ndim == 1 else column[row, within], self._hdu.columns[name])

        return at

    def _some_pixels(self, table: Mapped, band: int) -> Callable[[Ints], Floats]:
        """Values of pixels by their numbers in the file, of those that it has."""
        nside, finest = self._nsides[band], max(self._nsides)
        pixels, stored, missing = self._layout.read(table.rows(), band, nside, finest=finest, ring=self._ring)
        table.let_go()
        if np.isnan(missing):
            self._known.append(pixels)
        values = scaled(stored, self._hdu.columns[self._layout.values[band]])

        def at(numbers: Ints) -> Floats:
            if not len(pixels):
                return np.full(numbers.shape, missing)
            places = np.minimum(np.searchsorted(pixels, numbers), len(pixels) - 1)
            found: Bools = pixels[places] == numbers
            return np.where(found, values[places], missing)

        return at

    def _table_of_bands(self, file: FitsFile) -> Any:
        name = str(self.header.get("BANDSHDU", "BANDS")).upper()
        return next((hdu for hdu in file.hdus if name and hdu.name.upper() == name), None)

    def _table(self, stack: ExitStack, scratch: Path | None) -> Mapped:
        """The rows of the table as they lie in the file, which memory need not hold."""
        table = Mapped(scratch, stack, self._hdu.columns.dtype.newbyteorder(">"))
        left = self._hdu.columns.dtype.itemsize * rows_of(self._hdu)
        source = self._file.new_handle(stack)
        source.seek(self._hdu.fileinfo()["datLoc"])
        while left:
            block = source.read(min(left, _BLOCK))
            if not block:
                raise SurveyError(f"{self.where} is truncated or damaged: get the file again")
            left -= len(block)
            table.write(block)
        return table


def _known(values: Floats) -> Floats:
    """Values, NaN where the map says that it has none."""
    return np.where(np.abs(values - UNSEEN) < abs(UNSEEN) * 1e-5, np.nan, values)
