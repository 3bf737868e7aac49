"""Names of sources, by position."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


def source_names(sky: SkyCoord, prefix: str = "CWT") -> list[str]:
    """IAU-style names from ICRS positions, coordinates truncated; equal ones get a suffix a, b, ..."""
    names = []
    for ra, dec in zip(np.atleast_1d(sky.ra.deg), np.atleast_1d(sky.dec.deg), strict=True):
        tenths, minutes = int(ra / 15 * 600), int(abs(dec) * 60)
        hours = f"{tenths // 600:02d}{tenths // 10 % 60:02d}.{tenths % 10}"
        names.append(f"{prefix} J{hours}{'-' if dec < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}")
    return _distinct(names)


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
