"""Room for files: where there is none, the error says for which, and which limit there is."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cwt_dask.config.validation import format_bytes

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_for(path: Path, draft: Path | None = None) -> Iterator[None]:
    """Within a `with` block: an error of writing `path`, for now at `draft`, names it where there is no room."""
    try:
        yield
    except OSError as error:
        # Of what it could write a part of only, NumPy says how much that was, and no more.
        short = error.errno is None and str(error).endswith(" written")
        if error.filename or not (short or error.errno in _NO_ROOM):
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
