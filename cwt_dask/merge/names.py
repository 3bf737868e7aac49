"""Names of sources by their positions, as the IAU asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count

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
        n_fields, last = (3, 3600) if pixel_scale_deg < MINUTE else (2, 60)
        # An hour is 15 deg.
        whole, tenth = divmod(ra_parts * last * 10 // 15 // _PARTS, 10)
        clock, degrees = _sexagesimal(whole, n_fields), _sexagesimal(dec_parts * last // _PARTS, n_fields)
        names.append(f"{prefix} J{clock}.{tenth}{sign}{degrees}")
    return _distinct(names)


def _sexagesimal(number: int, n_fields: int) -> str:
    """Hhmm or hhmmss of a number of the last field's units."""
    text = ""
    for _ in range(n_fields - 1):
        number, field = divmod(number, 60)
        text = f"{field:02d}{text}"
    return f"{number:02d}{text}"


def _distinct(names: list[str]) -> list[str]:
    how_often, so_far = Counter(names), {name: count(1) for name in names}
    return [name + _letters(next(so_far[name])) if how_often[name] > 1 else name for name in names]


def _letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ... for 1, 2, ..."""
    letters = ""
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return letters
