"""FITS headers, checked before astropy reads them: it counts up to any number that a header gives."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END
from pathlib import Path
from typing import Any

from astropy.utils.exceptions import AstropyWarning

from cwt_dask.config.validation import shown
from cwt_dask.errors import SurveyError

_BLOCK, _CARD = 2880, 80
_EXTENSION = b"XTENSION"
# A hundred thousand cards.
_MOST_BLOCKS = 2800
_STRUCTURE = re.compile(
    rb" *(NAXIS[0-9]*|BITPIX|PCOUNT|GCOUNT|TFIELDS|ZNAXIS|GROUPS) *= *([+-]?[0-9]+|T)\b", re.IGNORECASE
)
_LARGEST_SIZE = 2**62
# The standard's largest number of axes, and of columns of a table; nothing takes negative room.
_MOST = {"NAXIS": 999, "ZNAXIS": 999, "TFIELDS": 999, "PCOUNT": _LARGEST_SIZE, "GCOUNT": _LARGEST_SIZE}
_BITPIX = (8, 16, 32, 64, -32, -64)


@contextmanager
def damage_named(what: str, remedy: str = "get the file again") -> Iterator[None]:
    """Turn any error of astropy, and of the libraries below it, into a `SurveyError`.

    Their warnings, one for every card that breaks the standard, are suppressed.

    Raises SurveyError, saying what is wrong, why, and what to do.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            yield
    except SurveyError:
        raise
    except Exception as error:  # they raise anything: KeyError, AttributeError, zlib.error, VerifyError, ...
        reason = shown(" ".join(str(error).split()) or repr(error))
        raise SurveyError(f"{what} ({reason}): {remedy}") from error


def count_hdus(path: Path, handle: Any) -> int:
    """Count the HDUs of an open file, check that each is whole, and go back to the file's beginning.

    Bytes after the last one are no fault.

    Raises SurveyError if a header has no end, or impossible numbers of axes, columns or bytes, or data break off.
    """
    number = -1
    for number, cards in enumerate(_headers(path, handle)):
        for keyword, most in _MOST.items():
            if keyword in cards and not 0 <= cards[keyword] <= most:
                raise SurveyError(
                    f"HDU {number} of {path} has {keyword} = {cards[keyword]}: it must be from 0 to {most}; get the "
                    "file again"
                )
        axes = _axes(cards)
        if min(axes, default=0) < 0 or cards.get("BITPIX") not in _BITPIX:
            raise SurveyError(
                f"HDU {number} of {path} has BITPIX = {cards.get('BITPIX')} and axes of {axes} pixels, which cannot "
                "be: get the file again"
            )
    _check_to_the_end(handle)
    handle.seek(0)
    return number + 1


def _headers(path: Path, handle: Any) -> Iterator[dict[str, int]]:
    """Whole numbers in each header by keyword; data are skipped once the caller has checked the header."""
    number = 0
    while _begins_hdu(block := handle.read(_BLOCK)):
        cards: dict[str, int] = {}
        ended = False
        for _ in range(_MOST_BLOCKS):
            found = [block[start : start + _CARD] for start in range(0, len(block), _CARD)]
            for match in filter(None, map(_STRUCTURE.match, found)):
                keyword, value = match[1].decode().upper(), int(match[2]) if match[2] not in b"tT" else 1
                if cards.setdefault(keyword, value) != value:
                    # Some of astropy takes the first, some the last.
                    raise SurveyError(
                        f"HDU {number} of {path} has {keyword} = {cards[keyword]} and {value}: get the file again"
                    )
            ended = any(card.replace(b"\0", b" ").rstrip() == b"END" for card in found)
            block = b"" if ended else handle.read(_BLOCK)
            if not block or block.startswith(_EXTENSION):
                break
        if not ended:
            raise SurveyError(
                f"{path} is truncated, damaged or no FITS file (the header of HDU {number} has no END): get the file "
                "again"
            )
        yield cards
        _skip_data(path, handle, number, _data_bytes(cards))
        number += 1


def _begins_hdu(block: bytes) -> bool:
    """Whether a block is the first of an HDU; a file may break off in the very name."""
    return block.startswith((b"SIMPLE", _EXTENSION)) or block == _EXTENSION[: len(block) or 1]


def _skip_data(path: Path, handle: Any, number: int, n_bytes: int) -> None:
    """Go on to where the next HDU begins; the data of the last one need not be padded.

    Raises SurveyError if the data break off, or the next HDU begins too early.
    """
    if not n_bytes:
        return
    end = handle.tell() + n_bytes
    try:
        handle.seek(end - 1)
        last = handle.read(1)
        missing = 0 if last else end - handle.seek(0, SEEK_END)
    except EOFError:  # of a gzip file that breaks off
        missing = end - handle.tell()
    if missing:
        raise SurveyError(
            f"{path} is truncated: the data of HDU {number} lack {missing} of {n_bytes} bytes: get the file again"
        )
    if _EXTENSION in handle.read(-n_bytes % _BLOCK):
        _check_to_the_end(handle)
        raise SurveyError(
            f"HDU {number} of {path} is not padded to {_BLOCK} bytes, so that those after it cannot be found: write "
            "the file again, with a program that pads"
        )


def _check_to_the_end(handle: Any) -> None:
    """Read on to the end of a gzip file, which then checks itself; it costs nothing elsewhere."""
    handle.seek(0, SEEK_END)


def _axes(cards: dict[str, int]) -> list[int]:
    return [cards.get(f"NAXIS{axis}", 0) for axis in range(1, cards.get("NAXIS", 0) + 1)]


def _data_bytes(cards: dict[str, int]) -> int:
    axes = _axes(cards)
    # Random groups have no first axis.
    pixels = math.prod(axes[1:] if cards.get("GROUPS") and axes[:1] == [0] else axes) if axes else 0
    n_bytes = abs(cards["BITPIX"]) // 8 * cards.get("GCOUNT", 1) * (cards.get("PCOUNT", 0) + pixels)
    return min(max(n_bytes, 0), _LARGEST_SIZE)
