"""Tables of events, some rows at a time: FITS, plain or in gzip, and ECSV."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.io import ascii as text_tables
from astropy.io import fits
from astropy.units import Unit
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.errors import SurveyError
from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.paths import open_file
from cwt_dask.survey.fits_file import FitsFile
from cwt_dask.survey.headers import damage_named

# Rows of a block, and its bytes in the file.
_MOST_ROWS, _MOST_BYTES = 2**18, 2**24
# Rows of a text, which take longer.
_TEXT_ROWS = 2**14
_ECSV = b"# %ECSV"
_MOST_COMMENTS = 2**16

Columns = dict[str, NDArray[Any]]


class Table(Protocol):
    """A table that can be read, from its first row to its last."""

    @property
    def where(self) -> str:
        """The table, for messages."""

    @property
    def place(self) -> tuple[str, int]:
        """Its file, whatever it was called, and where in it it begins."""

    @property
    def header(self) -> Mapping[str, Any]:
        """What it says of itself, by keywords in capitals."""

    @property
    def units(self) -> Mapping[str, str]:
        """Units of its columns, empty where there is none, by their names in capitals."""

    @property
    def n_rows(self) -> int | None:
        """How many rows there are; None where only reading shows."""

    @property
    def path(self) -> Path:
        """Its file."""

    def sha256(self) -> str:
        """SHA-256 of the bytes of its file.

        Raises SurveyError if that has changed.
        """

    def blocks(self, names: tuple[str, ...], digest: Any) -> Iterator[tuple[int, Columns]]:
        """Read some columns: rows, and their values, NaN where there is none; `digest` is updated with all rows.

        Raises SurveyError if the file breaks off, is damaged or has changed.
        """


@dataclass(frozen=True)
class FitsTable:
    """A binary table of a FITS file; the file need not stay open."""

    file: FitsFile
    where: str
    header: Mapping[str, Any]
    units: Mapping[str, str]
    n_rows: int
    dtype: np.dtype[Any]  # Of a row, as it is stored.
    offset: int  # Of the first row in the file, in bytes.
    # Scale, zero and null of the columns that have such, by name.
    scales: Mapping[str, tuple[float, float, int | None]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Its file."""
        return self.file.path

    def sha256(self) -> str:
        """SHA-256 of the bytes of its file."""
        return self.file.sha256()

    @property
    def place(self) -> tuple[str, int]:
        """Its file, and where in it it begins."""
        return str(self.file.path.resolve()), self.offset

    @classmethod
    def of(cls, hdu: Any, file: FitsFile) -> FitsTable:
        """Describe an HDU of an open file.

        Raises SurveyError if it cannot be read in rows, or its columns do not fill them.
        """
        where = f"HDU {hdu.name or file.hdus.index(hdu)} of {file.path}"
        with damage_named(f"{where} is damaged"):
            if hdu.header.get("ZTABLE"):
                raise SurveyError(f"{where} is a compressed table: unpack it with funpack")
            if not isinstance(hdu, fits.BinTableHDU):
                raise SurveyError(f"{where} is a table of text: convert it to a binary table, or to ECSV")
            columns = hdu.columns
            dtype = columns.dtype
            if dtype.itemsize != hdu.header["NAXIS1"]:
                raise SurveyError(
                    f"{where} has rows of {hdu.header['NAXIS1']} bytes, but its columns take {dtype.itemsize}: get "
                    "the file again"
                )
            # Names are those of any case, as FITS has it.
            dtype = np.dtype([(name.upper(), dtype[name]) for name in columns.names]).newbyteorder(">")
            scales = {
                column.name.upper(): (float(column.bscale or 1), float(column.bzero or 0), column.null)
                for column in columns
                if column.bscale not in ("", None, 1) or column.bzero not in ("", None, 0) or column.null is not None
            }
            units = {column.name.upper(): str(column.unit or "").strip() for column in columns}
            header = {**{key: file.hdus[0].header[key] for key in _OF_FILE if key in file.hdus[0].header}, **hdu.header}
            n_rows, offset = int(hdu.header["NAXIS2"]), hdu.fileinfo()["datLoc"]
        return cls(file, where, header, units, n_rows, dtype, offset, scales)

    def blocks(self, names: tuple[str, ...], digest: Any) -> Iterator[tuple[int, Columns]]:
        """Read some columns."""
        for rows in self._rows(digest):
            yield len(rows), {name: self._values(name, rows[name]) for name in names}

    def texts(self, names: tuple[str, ...]) -> list[list[str]]:
        """Columns of text, whole, without blanks around it.

        Raises SurveyError as `blocks`, or if one is of something else.
        """
        for name in names:
            if self.dtype[name].kind != "S":
                raise SurveyError(f"column {name} of {self.where} holds no text: give a table whose column does")
        blocks = list(self._rows(sha256()))
        found = [np.concatenate([rows[name] for rows in blocks] or [np.empty(0, "S1")]) for name in names]
        return [np.char.strip(np.char.decode(each, "ascii", "replace")).tolist() for each in found]

    def _rows(self, digest: Any) -> Iterator[NDArray[Any]]:
        row = self.dtype.itemsize
        height = min(max(_MOST_BYTES // row, 1), _MOST_ROWS)
        with ExitStack() as stack, _named(self.where):
            handle = self.file.new_handle(stack)
            handle.seek(self.offset)
            for start in range(0, self.n_rows, height):
                n_rows = min(height, self.n_rows - start)
                content = handle.read(n_rows * row)
                if len(content) < n_rows * row:
                    raise EOFError("it ends before its last row")
                digest.update(content)
                yield np.frombuffer(content, self.dtype)
        self.file.refuse_changed()

    def _values(self, name: str, stored: NDArray[Any]) -> NDArray[Any]:
        if stored.ndim != 1 or stored.dtype.kind not in "iuf":
            raise SurveyError(f"column {name} of {self.where} does not hold a number a row: give a table that does")
        if stored.dtype.kind == "f" and name not in self.scales:
            return stored.astype(stored.dtype.newbyteorder("="))
        scale, zero, null = self.scales.get(name, (1.0, 0.0, None))
        values = stored * scale + zero
        return values if null is None else np.where(stored == null, np.nan, values)


# Keywords of a file that hold for its tables.
_OF_FILE = ("TELESCOP", "INSTRUME", "OBS_ID", "MJDREFI", "MJDREFF", "MJDREF", "RADESYS", "RADECSYS", "EQUINOX")


@dataclass(frozen=True)
class EcsvTable:
    """A table of text in astropy's format."""

    path: Path
    header: Mapping[str, Any]
    units: Mapping[str, str]
    head: tuple[str, ...]  # Lines before the first row.
    names: Mapping[str, str]  # Names of the columns in capitals, and as they are written.
    n_rows: None = None

    @property
    def where(self) -> str:
        """The table, for messages."""
        return str(self.path)

    def sha256(self) -> str:
        """SHA-256 of the bytes of its file."""
        return sha256_of_file(self.path)

    @property
    def place(self) -> tuple[str, int]:
        """Its file."""
        return str(self.path.resolve()), 0

    @classmethod
    def of(cls, path: Path) -> EcsvTable:
        """Read what stands before the first row.

        Raises SurveyError if that is no head of such a table.
        """
        with damage_named(f"{path} cannot be read as ECSV", "write it again with astropy"), _lines(path) as lines:
            head: list[str] = []
            for line in islice(lines, _MOST_COMMENTS):
                head.append(line)
                if not line.startswith("#"):
                    break
            table = text_tables.read(head, format="ecsv")
        units = {column.name.upper(): str(column.unit or "") for column in table.columns.values()}
        header = {str(key).upper(): value for key, value in table.meta.items()}
        return cls(path, header, units, tuple(head), {name.upper(): name for name in table.colnames})

    def blocks(self, names: tuple[str, ...], digest: Any) -> Iterator[tuple[int, Columns]]:
        """Read some columns."""
        wanted = [self.names[name] for name in names]
        with _named(self.where), _lines(self.path) as lines:
            rows = islice(lines, len(self.head), None)
            while block := list(islice(rows, _TEXT_ROWS)):
                digest.update("".join(block).encode())
                if not any(map(str.strip, block)):
                    continue
                table = text_tables.read(list(chain(self.head, block)), format="ecsv", include_names=wanted)
                yield len(table), {name: self._values(table[self.names[name]]) for name in names}

    def _values(self, column: Any) -> NDArray[Any]:
        values = np.ma.asarray(column)
        if values.ndim != 1 or values.dtype.kind not in "iuf":
            raise SurveyError(
                f"column {column.name} of {self.where} does not hold a number a row: give a table that does"
            )
        return np.ma.filled(values if values.dtype.kind == "f" else values.astype(np.float64), np.nan)


def is_ecsv(path: Path) -> bool:
    """Whether a file is a table of text in astropy's format; what cannot be read is none."""
    try:
        with open_file(path) as file:
            return file.read(len(_ECSV)) == _ECSV
    except (OSError, ValueError):
        return False


def factor_of(table: Table, name: str, wanted: str, default: str, what: str) -> float:
    """Size of the unit of a column in the wanted unit.

    Parameters
    ----------
    table : Table
    name : str
        Of the column.
    wanted : str
        The unit.
    default : str
        Its own, where the table has none; empty if it must have one.
    what : str
        What the unit is of, for messages.

    Raises
    ------
    SurveyError
        If it is of something else, or there is none.
    """
    unit: Any = table.units[name] or default
    try:
        return float(Unit(unit).to(wanted))
    except (ValueError, TypeError) as error:
        given = f"the unit {shown(unit)}" if unit else "no unit"
        raise SurveyError(
            f"column {name} of {table.where} has {given}: it must be that of {what}, such as {wanted}"
        ) from error


def read_all(table: Table, names: tuple[str, ...]) -> Columns:
    """All rows of some columns of a small table."""
    blocks = [columns for _, columns in table.blocks(names, sha256())]
    return {name: np.concatenate([block[name] for block in blocks] or [np.empty(0)]) for name in names}


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    with open_file(path) as file, TextIOWrapper(file, encoding="utf-8") as text:
        yield text


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Name the table that is damaged. Threads read: warnings, which belong to the process, are left alone."""
    try:
        yield
    except SurveyError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError) as error:
        reason = shown(" ".join(str(error).split()) or repr(error))
        raise SurveyError(f"{where} is truncated or damaged ({reason}): get the file again") from error
