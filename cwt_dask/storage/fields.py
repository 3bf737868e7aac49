"""Whether what a file gave for a dataclass of plain data is of the types that the class declares."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any


def impossible_fields(record: Any) -> list[str]:
    """Names of the fields of a dataclass with values that cannot be: of another type, infinite, or a negative count."""
    return [field.name for field in fields(record) if not _IS[str(field.type)](getattr(record, field.name))]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    # Not math.isfinite: a whole number may be larger than any float.
    return type(value) in (int, float) and -sys.float_info.max <= value <= sys.float_info.max


def _is_moments(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and _is_count(row[0]) and all(map(_is_number, row[1:]))


# By the types as they are written.
_IS: dict[str, Callable[[Any], bool]] = {
    "int": _is_count,
    "float | None": lambda value: value is None or _is_number(value),
    "float": _is_number,
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "list[int]": lambda value: isinstance(value, list) and all(type(item) is int for item in value),
    "dict[str, str]": lambda value: isinstance(value, dict) and all(isinstance(item, str) for item in value.values()),
    "list[tuple[int, float, float]]": lambda value: isinstance(value, list) and all(map(_is_moments, value)),
}
