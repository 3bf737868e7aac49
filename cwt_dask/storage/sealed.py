"""Documents that show whether they are as they were written: tables with a digest of all else that is in them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cwt_dask.config.settings import digest

SEAL = "seal"
BROKEN = "it is not as it was written"


def sealed(content: Mapping[str, Any], seal: str = SEAL) -> dict[str, Any]:
    """Add, or make again, the digest of all else.

    Parameters
    ----------
    content : mapping
        Plain data.
    seal : str, optional
        Name of the entry that holds the digest.
    """
    content = unsealed(content, seal)
    return content | {seal: digest(content)}


def unsealed(content: Mapping[str, Any], seal: str = SEAL) -> dict[str, Any]:
    """Leave out the digest."""
    return {name: value for name, value in content.items() if name != seal}


def is_sound(content: Any, seal: str = SEAL) -> bool:
    """Whether there is such a digest, and it is right."""
    # What JSON cannot say, such as NaN, has no digest.
    with suppress(ValueError, TypeError, RecursionError):
        return isinstance(content, Mapping) and content.get(seal) == digest(unsealed(content, seal))
    return False
