"""Values that users give, checked; what is wrong is said in one line."""

from __future__ import annotations

import math
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

from cwt_dask.errors import SettingsError

# What libraries in C take as a whole number, and as a size.
LARGEST_WHOLE = 2**31 - 1
LARGEST_SIZE = 2**63 - 1

# Of a value that cannot be, messages show so many characters.
_SHOWN = 200


def shown(value: Any) -> str:
    """A value that cannot be, in a message of one line: its beginning, if it is long."""
    text = "a number of thousands of digits"
    with suppress(ValueError):  # Python does not write those
        text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def as_whole(name: str, value: Any, least: int, most: int = LARGEST_WHOLE, *, or_auto: bool = False) -> int:
    """A whole number that a C library takes, within bounds.

    Raises
    ------
    SettingsError
        If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        kind = f"a whole number of at least {least}{', or auto' if or_auto else ''}"
        raise SettingsError(f"{name} is {shown(value)}: it must be {kind}")
    number = int(value)
    if number > most:
        raise SettingsError(f"{name} is {shown(number)}: it must be at most {most}")
    return number


def as_number(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> float:
    """A finite number, within bounds.

    Raises
    ------
    SettingsError
        If it is not.
    """
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number that no float holds
            number = float(value)
    if not math.isfinite(number):
        raise SettingsError(f"{name} is {shown(value)}: it must be a finite number")
    if number < least:
        raise SettingsError(f"{name} is {number}: it must be at least {least}")
    if number <= above:
        raise SettingsError(f"{name} is {number}: it must be above {above}")
    return number


def check_flag(name: str, value: Any) -> None:
    """Refuse what is not true or false.

    Raises
    ------
    SettingsError
        If it is not.
    """
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {shown(value)}: it must be true or false")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of some words.

    Raises
    ------
    SettingsError
        If it is not.
    """
    if value not in choices:
        raise SettingsError(f"{name} is {shown(value)}: it must be one of {', '.join(choices)}")
