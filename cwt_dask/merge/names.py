"""Names of sources by their positions, as the IAU asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Positions are whole numbers of a tenth of a milliarcsecond, of which all digits of names are multiples: truncation of
# binary fractions would put 05h34m30.0s, which is 83.625 deg or slightly less, into minute 34.4.
_PARTS = 3600 * 10**4
# Sources on finer pixels, in degrees, would share names that are given to the minute.
MINUTE = 1 / 60


def source_names(
    ra: NDArray[np.float64] | Sequence[float],
    dec: NDArray[np.float64] | Sequence[float],
    pixel_scale_deg: float,
    prefix: str = "CWT",
) -> list[str]:
    """Names by position, coordinates truncated; equal ones get a suffix a, b, ...

    Parameters
    ----------
    ra, dec : sequence of float
        ICRS positions in degrees.
    pixel_scale_deg : float
        Side of a pixel: names are ``Jhhmm.m+ddmm``, or ``Jhhmmss.s+ddmmss`` where it is less than an arc minute.
    prefix : str, optional
        First word of the names.
    """
    names = []
    for lon, lat in zip(np.rint(np.multiply(ra, _PARTS)), np.rint(np.multiply(dec, _PARTS)), strict=True):
        ra_parts, dec_parts = int(lon) % (360 * _PARTS), abs(int(lat))
        sign = "-" if lat < 0 else "+"
        if pixel_scale_deg < MINUTE:
            tenths, seconds = ra_parts * 2400 // _PARTS, dec_parts * 3600 // _PARTS
            clock = f"{_sexagesimal(tenths // 10, 3)}.{tenths % 10}"
            names.append(f"{prefix} J{clock}{sign}{_sexagesimal(seconds, 3)}")
        else:
            tenths, minutes = ra_parts * 40 // _PARTS, dec_parts * 60 // _PARTS
            clock = f"{_sexagesimal(tenths // 10, 2)}.{tenths % 10}"
            names.append(f"{prefix} J{clock}{sign}{_sexagesimal(minutes, 2)}")
    return _distinct(names)


def _sexagesimal(number: int, n_fields: int) -> str:
    """Hhmm or hhmmss of a number of the last field's units."""
    fields: list[str] = []
    for _ in range(n_fields - 1):
        number, field = divmod(number, 60)
        fields.insert(0, f"{field:02d}")
    return f"{number:02d}{''.join(fields)}"


def _distinct(names: list[str]) -> list[str]:
    how_often = Counter(names)
    so_far: Counter[str] = Counter()
    distinct = []
    for name in names:
        so_far[name] += 1
        distinct.append(name + _letters(so_far[name]) if how_often[name] > 1 else name)
    return distinct


def _letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ... for 1, 2, ..."""
    letters = ""
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return letters
