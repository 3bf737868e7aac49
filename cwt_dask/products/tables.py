"""Tables of any length in files, some rows at a time: ECSV, FITS and VOTable as astropy writes them, and ECSV read.

Astropy holds every cell as an object of Python's: ten times the table's memory, and a minute or more a million rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO, TextIO
from xml.sax.saxutils import escape

import numpy as np
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from cwt_dask.storage.checksum import DigestedFile

# That are text at once.
ROWS = 10_000
_BOOLEANS = {"True": True, "False": False}
_PARSERS: dict[str, Callable[[str], Any]] = {"b": _BOOLEANS.__getitem__, "f": float, "i": int, "u": int}
_XML_WORDS = {"nan": "NaN", "inf": "+InF", "-inf": "-InF", "True": "1", "False": "0"}
_NO_WORDS: dict[str, str] = {}
_END_OF_TABLE = b"  </TABLE>\n"
_BLOCK = 2880  # Bytes; of a FITS file's parts.


def write_ecsv(table: Table, file: BinaryIO) -> None:
    """Write a table as ECSV, byte for byte as astropy does, which drops blanks around text.

    Parameters
    ----------
    table : astropy.table.Table
        Its rows are written in parts, unless a column holds arrays or objects.
    file : binary file
        To write to.
    """
    plain = _is_plain(table)
    (table[:0] if plain else table).write(head := io.StringIO(), format="ascii.ecsv")
    file.write(head.getvalue().encode())
    for part in _parts(table) if plain else ():
        rows = zip(*(_texts(column, _quoted, '""') for column in part.itercols()), strict=True)
        file.write("".join(" ".join(row) + "\n" for row in rows).encode())


def read_digested(file: BinaryIO) -> tuple[Table, str]:
    """Read a table from ECSV, and the sha256 of the file."""
    digested = DigestedFile(file)
    table = read_ecsv(io.TextIOWrapper(io.BufferedReader(digested), "utf-8", newline=""))
    return table, digested.sha256


def read_ecsv(file: TextIO) -> Table:
    """Read a table from ECSV, as astropy does.

    Parameters
    ----------
    file : text file
        Its rows are read in parts, unless a column holds arrays or objects, or its delimiter is not a blank.

    Raises
    ------
    ValueError
        If rows do not fit their columns; for other faults what astropy, YAML and csv raise.
    """
    head = "".join(_head(file))
    # Arrays and objects have a type below that of their text.
    if "subtype" in head or "delimiter" in head or not _is_plain(table := Table.read(head, format="ascii.ecsv")):
        return Table.read(head + file.read(), format="ascii.ecsv")
    rows = (row for row in csv.reader(file, delimiter=" ", strict=True) if row)
    parts: list[list[NDArray[Any]]] = [[column.data] for column in table.itercols()]
    while some := list(islice(rows, ROWS)):
        for column, part, cells in zip(table.itercols(), parts, zip(*some, strict=True), strict=True):
            part.append(_values(cells, column.dtype))
    columns = []
    for column, part in zip(table.itercols(), parts, strict=True):
        values = np.ma.concatenate(part)  # type: ignore[no-untyped-call]
        part.clear()
        kind, content = (MaskedColumn, values) if values.mask.any() else (Column, values.data)
        attributes = {name: getattr(column, name) for name in ("name", "unit", "format", "description", "meta")}
        columns.append(kind(content, **attributes))
    return Table(columns, meta=table.meta, copy=False)


def write_votable(document_of: Callable[[Table], Any], table: Table, file: BinaryIO) -> None:
    """Write a table as VOTable.

    Parameters
    ----------
    document_of : callable
        Gives astropy's document of a table.
    table : astropy.table.Table
        As of `write_ecsv`.
    file : binary file
        To write to.
    """
    if not _is_plain(table):
        document_of(table).to_xml(file)
        return
    document_of(table[:0]).to_xml(empty := io.BytesIO())
    head, end = empty.getvalue().rsplit(_END_OF_TABLE, 1)
    file.write(head + b"   <DATA>\n    <TABLEDATA>\n")
    for part in _parts(table):
        rows = zip(*(_texts(column, escape, "", _XML_WORDS) for column in part.itercols()), strict=True)
        cells = ("".join(f"<TD>{text}</TD>" for text in row) for row in rows)
        file.write("".join(f"     <TR>{row}</TR>\n" for row in cells).encode())
    file.write(b"    </TABLEDATA>\n   </DATA>\n" + _END_OF_TABLE + end)


def write_fits(table: Table, file: BinaryIO) -> None:
    """Write a table as a binary table in FITS, byte for byte as astropy does.

    Parameters
    ----------
    table : astropy.table.Table
        As of `write_ecsv`; with masked values it is written at once.
    file : binary file
        To write to.
    """
    if not len(table) or not _is_plain(table) or table.has_masked_values:
        file.write(_as_fits(table))
        return
    size = 0
    for part in _parts(table):
        content = _as_fits(part)
        with fits.open(io.BytesIO(content)) as hdus:
            header, place = hdus[1].header, hdus.fileinfo(1)
        if not size:
            header["NAXIS2"] = len(table)
            file.write(content[: place["hdrLoc"]] + header.tostring().encode("ascii"))
        length = header["NAXIS1"] * len(part)
        file.write(content[place["datLoc"] : place["datLoc"] + length])
        size += length
    file.write(bytes(-size % _BLOCK))


def _as_fits(table: Table) -> bytes:
    # Astropy does not know all kinds of open files.
    table.write(content := io.BytesIO(), format="fits")
    return content.getvalue()


def _is_plain(table: Table) -> bool:
    return bool(table.colnames) and all(
        isinstance(column, Column) and column.ndim == 1 and column.dtype.kind in "biufU" for column in table.itercols()
    )


def _parts(table: Table) -> Iterator[Table]:
    return (table[start : start + ROWS] for start in range(0, len(table), ROWS))


def _texts(
    column: Column, of_text: Callable[[str], str], missing: str, words: Mapping[str, str] = _NO_WORDS
) -> list[str]:
    """Cells of a column: `words` for some numbers, `missing` where it is masked."""
    values = np.asarray(column)
    if values.dtype.kind == "U":
        texts = list(map(of_text, values.tolist()))
    else:
        # As float64 other floats have digits that they do not hold.
        exact = values.dtype.kind != "f" or values.dtype == np.float64
        texts = [words.get(text, text) for text in map(str, values.tolist() if exact else values)]
    for i in np.flatnonzero(getattr(column, "mask", False)):
        texts[i] = missing
    return texts


def _quoted(text: str) -> str:
    plain = text and not any(mark in text for mark in ' "\r\n')
    return text if plain else '"' + text.replace('"', '""') + '"'


def _head(file: TextIO) -> Iterator[str]:
    """Lines of a file up to the names of its columns."""
    for line in file:
        yield line
        if not line.startswith("#") and line.strip():
            return


def _values(cells: Sequence[str], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Cells of a column, masked where they are empty."""
    missing = "" in cells and [not cell for cell in cells]
    if dtype.kind == "U":
        return np.ma.array(cells, mask=missing) if missing else np.array(cells)
    parse = _PARSERS[dtype.kind]
    if missing:
        return np.ma.array([parse(cell) if cell else 0 for cell in cells], dtype, mask=missing)
    return np.fromiter(map(parse, cells), dtype, len(cells))
