"""Tables of other people in any format, told by what is in the file: its name says little."""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise, product, zip_longest
from typing import BinaryIO

from astropy.io import fits
from astropy.table import Column, Table
from astropy.utils.data import get_readable_fileobj

from cwt_dask.config.validation import counted
from cwt_dask.inspection.bounds import refuse_large, refuse_large_table, refuse_votable
from cwt_dask.inspection.columns import angle_unit, holds_both

# What texts that are more than rows begin with, and what astropy calls them. All others are read here: it would try one
# format after another, and leave out rows that look like comments without a word.
_FORMATS = {
    r"# %ECSV": "ascii.ecsv",
    r"(?sm).*^Byte-by-byte Description of file": "ascii.cds",
    r"(\\.*\n)*\|.*\n\|[\s|]*(char|c|double|d|float|f|real|r|integer|int|i|long|l|date)[\s|]": "ascii.ipac",
    r"# +1 +\w+.*\n# +2 ": "ascii.sextractor",
    r"\s*<": "ascii.html",
    r"(%.*\n|\s)*\\(begin|documentclass|table)": "ascii.latex",
}
_DELIMITERS = "\t,;|"
# A number, or an angle in parts.
_VALUE = re.compile(r"[+\-\u2212]?\s*\.?\d[\d.:+\-\u2212eE\shdms°'\u2032\u2033\"]*")
# What else may stand below the names of columns, beside units: a line that is drawn, types of RDB files.
_RULE = re.compile(r"[-=:+\s]*[-=][-=:+\s]*")
_TYPE = re.compile(r"\d*[SNM]")
# What programs write where there is no unit.
_NO_UNIT = re.compile(r"(nan|none|null|-+)?", re.IGNORECASE)


def read_tables(file: str) -> Iterator[tuple[int, str, Table]]:
    """Read the tables of a file one after another: number, of FITS that of the HDU, else from 1; name; table.

    Columns have their UCD in `meta`, as `ucd`; a table of text has there how many rows are left out because they stand
    as comments, as `n_comments`. Raises whatever astropy raises where it cannot read.
    """
    with get_readable_fileobj(file, encoding="binary") as content:
        refuse_large(content)
        start = content.read(2**12)
        content.seek(0)
        if start.startswith(b"SIMPLE  ="):
            yield from _of_fits(content)
        elif re.match(rb"(\xef\xbb\xbf)?\s*<(\?xml|!DOCTYPE\s+VOTABLE|VOTABLE)", start, re.IGNORECASE):
            yield from _of_votable(content)
        elif b"\0" in start and not start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            table = Table.read(file)
            table.convert_bytestring_to_unicode()
            yield 1, "", table
        else:
            yield from _of_text(_decoded(content.read()))


def _of_fits(content: BinaryIO) -> Iterator[tuple[int, str, Table]]:
    with fits.open(content) as hdus:
        for number, hdu in enumerate(hdus):
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
                refuse_large_table(hdu.header)
                table = Table.read(hdu)
                for k, name in enumerate(hdu.columns.names, start=1):
                    if name in table.colnames and f"TUCD{k}" in hdu.header:
                        table[name].info.meta = {"ucd": hdu.header[f"TUCD{k}"]}
                yield number, hdu.name, table


def _of_votable(content: BinaryIO) -> Iterator[tuple[int, str, Table]]:
    # Imported late: it is slow.
    from astropy.io.votable import parse  # noqa: PLC0415

    refuse_votable(content)
    for number, table in enumerate(parse(content, verify="ignore").iter_tables(), start=1):
        yield number, table.name or table.ID or "", table.to_table(use_names_over_ids=True)


def _decoded(content: bytes) -> str:
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _of_text(text: str) -> Iterator[tuple[int, str, Table]]:
    for beginning, format_ in _FORMATS.items():
        if re.match(beginning, text):
            yield 1, "", Table.read(text.splitlines(), format=format_)
            return
    # VizieR writes several tables one below the other.
    heads = [match.start() for match in re.finditer(r"(?m)^#Table\b", text)] or [0]
    for number, (start, end) in enumerate(zip(heads, [*heads[1:], None], strict=True), start=1):
        part = text[start:end]
        name = re.match(r"#Table\s+([^:\s]+)", part)
        yield number, name[1] if name else "", _of_rows(part)


def _of_rows(text: str) -> Table:
    """A table of lines: names of columns, as a comment or not; below them units, a line drawn, or neither; rows."""
    lines = [line for line in text.splitlines() if line.strip()]
    first = next((k for k, line in enumerate(lines) if not line.startswith("#")), None)
    if first is None:
        raise ValueError("it has no rows")
    header, delimiter = _header(lines, first)
    below = lines[first if header is None else header + 1 :]
    uncommented = [line for line in below if not line.startswith("#")]
    split = _splitter(uncommented[:2], delimiter)
    rows = split(uncommented)
    names = [""] * len(rows[0]) if header is None else split([_uncommented(lines[header])])[0]
    if delimiter is None:
        rows = [_with_one_position(row, names) for row in rows]
    units, n_below = _below_names(rows[:2])
    for k, row in enumerate(rows[n_below:], start=1):
        # Without a delimiter nobody knows which cell is missing.
        if any(row[len(names) :]) or (delimiter is None and len(row) < len(names)):
            raise ValueError(f"row {k} has {counted(len(row), 'cell')} where there are {counted(len(names), 'column')}")
    ucds = dict(re.findall(r"(?m)^#Column\s+(\S+)\s.*\[ucd=([^\]]*)\]", text))
    table = Table()
    for k, (name, unit, *cells) in enumerate(zip_longest(names, units, *rows[n_below:], fillvalue="")):
        if k < len(names):
            meta = {"ucd": ucds.get(name, "")}
            # Of several columns with one name, as of catalogues that were joined, the first keeps it.
            own = f"{name or 'col'}{k + 1}" if name in ("", *table.colnames) else name
            table.add_column(Column(cells, own, object, unit=None if _NO_UNIT.fullmatch(unit) else unit, meta=meta))
    comments = split(_uncommented(line) for line in below if line.startswith("#"))
    table.meta["n_comments"] = sum(len(row) == len(names) and _has_value(row) for row in comments)
    return table


def _header(lines: list[str], first: int) -> tuple[int | None, str | None]:
    """Which line names the columns, the first that is no comment or one above it; and what is between the names."""
    own = next((each for each in _DELIMITERS if each in lines[first]), None)
    if not _has_value(_split([lines[first]], own)[0]):
        return first, own
    for delimiter, k in product((own, *_DELIMITERS, None), reversed(range(first))):
        names, cells = _split([_uncommented(lines[k]), lines[first]], delimiter)
        if len(names) == len(cells) > 1 and not _has_value(names):
            return k, delimiter
    return None, own


def _with_one_position(row: list[str], names: list[str]) -> list[str]:
    """A row between whose columns are blanks: those within a position that is one column's text are none of these."""
    k = next((k for k, name in enumerate(names) if holds_both(name)), None)
    more = len(row) - len(names)
    # 83.63 +22.01 and 05 34 31 +22 00 52.
    if k is None or more not in (1, 5):
        return row
    end = k + more + 1
    return [*row[:k], " ".join(row[k:end]), *row[end:]]


def _uncommented(line: str) -> str:
    return re.sub(r"^#+", " ", line)


def _splitter(beginning: list[str], delimiter: str | None) -> Callable[[Iterable[str]], list[list[str]]]:
    """What makes cells of lines: by a delimiter, or by where a line that is drawn below the names has its gaps."""
    drawn = next((line for line in beginning if _RULE.fullmatch(line)), "")
    starts: list[int | None] = [match.start() for match in re.finditer(r"[-=]+", drawn)]
    if delimiter is None and len(starts) > 1:
        edges = [*pairwise([*starts, None])]
        return lambda lines: [[line[start:end].strip() for start, end in edges] for line in lines]
    return partial(_split, delimiter=delimiter)


def _split(lines: Iterable[str], delimiter: str | None) -> list[list[str]]:
    # Around a table of bars, and between columns that stand below each other, there is nothing.
    lines = (
        " ".join(line.split()) if delimiter is None else line.strip(" |") if delimiter == "|" else line
        for line in lines
    )
    # Strict: a quotation mark that is not closed would swallow rows.
    rows = csv.reader(lines, delimiter=delimiter or " ", skipinitialspace=True, strict=True)
    return [[cell.strip() for cell in row] for row in rows]


def _below_names(rows: list[list[str]]) -> tuple[list[str], int]:
    """Units of the columns, and how many lines below their names are no rows."""
    for k, row in enumerate(rows):
        if _has_value(row):
            break
        if _RULE.fullmatch("".join(row)):
            return rows[0] if k else [], k + 1
    first = rows[0] if rows and not _has_value(rows[0]) else []
    if first and all(map(_TYPE.fullmatch, first)):
        return [], 1
    # Both positions have one: a source may be called D.
    return (first, 1) if sum(angle_unit(cell) is not None for cell in first if " " not in cell) > 1 else ([], 0)


def _has_value(cells: list[str]) -> bool:
    return any(_VALUE.fullmatch(cell) for cell in cells)
