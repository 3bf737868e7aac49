"""What tables of other people may not make this process do: read other files, or take memory without end."""

from __future__ import annotations

import re
from math import prod
from typing import Any, BinaryIO
from xml.parsers import expat

# Bytes of a table, unpacked.
LARGEST = 2**30
_CELL_BYTES = 8


def refuse_large(content: BinaryIO) -> None:
    """Refuse a file that is larger once it is unpacked than a catalogue may be; ValueError."""
    content.seek(LARGEST)
    if content.read(1):
        raise ValueError(f"it holds more than {_limit()}: cut out what lies near the map")
    content.seek(0)


def refuse_large_table(header: Any) -> None:
    """Refuse a table of FITS by its header; ValueError."""
    # Columns may have no width.
    if header["NAXIS2"] * max(header["NAXIS1"], 1) + header.get("PCOUNT", 0) > LARGEST:
        raise ValueError(f"a table of it takes more than {_limit()}: cut out what lies near the map")


def refuse_votable(content: BinaryIO) -> None:
    """Refuse a VOTable whose data are elsewhere, that defines abbreviations, or unfolds to much; ValueError."""
    scan = _Scan()
    parser = expat.ParserCreate()
    parser.StartElementHandler = scan.begin
    parser.EntityDeclHandler = scan.entity
    parser.ParseFile(content)
    content.seek(0)


class _Scan:
    """The rows that a table says it has, those that it has, and how many values a row has."""

    def __init__(self) -> None:
        self._said = self._found = self._width = 0

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        element = name.rpartition(":")[2]
        if element == "TD":
            return
        if element == "STREAM" and attributes.get("href"):
            raise ValueError("its data are in another file (STREAM href): save it with its data in it")
        if element == "TABLE":
            self._said, self._found, self._width = _whole(attributes.get("nrows", "")), 0, 0
        elif element == "FIELD":
            self._width += prod(_whole(each) for each in re.split("x", attributes.get("arraysize", "1"))) or 1
        elif element == "TR":
            self._found += 1
        if max(self._said, self._found) * self._width * _CELL_BYTES > LARGEST:
            raise ValueError(f"a table of it takes more than {_limit()}: cut out what lies near the map")

    def entity(self, *_: Any) -> None:
        raise ValueError("it defines abbreviations (ENTITY): save it without")


def _whole(text: str) -> int:
    """A number, or that before a star; 1 where there is none."""
    digits = re.match(r"\s*(\d{1,18})", text)
    return int(digits[1]) if digits else 1


def _limit() -> str:
    return f"{LARGEST / 2**30:g} GiB"
