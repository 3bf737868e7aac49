"""Errors of files name them; where there is no room, they say which limit there is."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cwt_dask.config.validation import format_bytes


@contextmanager
def naming(path: Any) -> Iterator[None]:
    """Within a `with` block: an error of the system that names no file is one of `path`."""
    try:
        yield
    except OSError as error:
        if error.filename or error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


@contextmanager
def room_for(path: Path, draft: Path | None = None) -> Iterator[None]:
    """Within a `with` block: an error of writing `path`, for now at `draft`, names it."""
    try:
        yield
    except OSError as error:
        # Of what it could write a part of only, NumPy says how much that was, and no more.
        short = error.errno is None and str(error).endswith(" written")
        if error.filename not in (None, str(draft)) or (error.errno is None and not short):
            raise
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        has_limit = limit != resource.RLIM_INFINITY
        reached = error.errno == errno.EFBIG or (short and has_limit and _size(draft) >= limit)
        number = errno.EFBIG if reached else error.errno or errno.ENOSPC
        reason = f", the limit is {format_bytes(limit)} (ulimit -f)" if reached and has_limit else ""
        raise OSError(number, os.strerror(number) + reason, str(path)) from error


def _size(path: Path | None) -> int:
    with suppress(OSError):
        return path.stat().st_size if path else 0
    return 0
