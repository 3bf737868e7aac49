"""FITS headers, checked before astropy reads them: it counts up to any number that a header gives."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astropy.utils.exceptions import AstropyWarning

from cwt_dask.config.validation import shown
from cwt_dask.errors import SurveyError

_BLOCK, _CARD = 2880, 80
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


def check_headers(path: Path, handle: Any) -> None:
    """Check the headers of all HDUs of an open file, and go back to its beginning.

    Data that break off are not looked for.

    Raises SurveyError if a header has no end, or impossible numbers of axes, columns or bytes.
    """
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
    handle.seek(0)


def _headers(path: Path, handle: Any) -> Iterator[dict[str, int]]:
    """Whole numbers in each header by keyword; data are skipped once the caller has checked the header."""
    number = 0
    while (block := handle.read(_BLOCK)).startswith((b"SIMPLE", b"XTENSION")):
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
            ended = any(card.rstrip() == b"END" for card in found)
            block = b"" if ended else handle.read(_BLOCK)
            if not block or block.startswith(b"XTENSION"):
                break
        if not ended:
            raise SurveyError(
                f"{path} is truncated, damaged or no FITS file (the header of HDU {number} has no END): get the file "
                "again"
            )
        yield cards
        handle.seek(_data_bytes(cards), 1)
        number += 1


def _axes(cards: dict[str, int]) -> list[int]:
    return [cards.get(f"NAXIS{axis}", 0) for axis in range(1, cards.get("NAXIS", 0) + 1)]


def _data_bytes(cards: dict[str, int]) -> int:
    axes = _axes(cards)
    # Random groups have no first axis.
    pixels = math.prod(axes[1:] if cards.get("GROUPS") and axes[:1] == [0] else axes) if axes else 0
    n_bytes = abs(cards["BITPIX"]) // 8 * cards.get("GCOUNT", 1) * (cards.get("PCOUNT", 0) + pixels)
    return min(-(-max(n_bytes, 0) // _BLOCK) * _BLOCK, _LARGEST_SIZE)
