"""Standard streams of the command: standard output is its own, and what cannot be written ends nothing.

Libraries in C, and processes that are started, find standard error in place of standard output.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from cwt_dask.runtime.terminal import VisibleStream


class _Lenient(io.FileIO):
    """A file that takes what cannot be written as written: a full disk, or a reader that has gone, spoils no work."""

    fault: OSError | None = None

    def write(self, data: object) -> int:
        """Write what can be written."""
        try:
            return super().write(data)  # type: ignore[arg-type] # as the base class takes it
        except OSError as error:
            self.fault = error
            return len(memoryview(data))  # type: ignore[arg-type]


def take_streams() -> None:
    """Make standard output the command's alone, and neither it nor standard error a cause of errors."""
    for number in range(3):
        _open_if_closed(number)
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout, sys.stderr = _stream(own, sys.stdout), _stream(2, sys.stderr)


def give_up_output() -> OSError | None:
    """What could not be written to standard output, but for lack of a reader; from now on it is standard error."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    sys.stdout = sys.stderr
    fault = raw.fault if isinstance(raw, _Lenient) else None
    return None if fault is None or fault.errno == errno.EPIPE else fault


@contextmanager
def lines_of_others(take: Callable[[str], object]) -> Iterator[None]:
    """Within a `with` block, lines that libraries and their processes write go to a function, in its own thread."""
    own, (reading, writing) = os.dup(2), os.pipe()
    sys.stderr.flush()
    for number in (1, 2):
        os.dup2(writing, number)
    reader = threading.Thread(target=_take_lines, args=(reading, take), name="lines of others", daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        for number in (1, 2):
            os.dup2(own, number)
        # Not the end of the file: processes that end with this one still hold it.
        os.write(writing, _END)
        reader.join()
        for number in (own, reading, writing):
            os.close(number)


# A line that nobody writes.
_END = b"\n\0\n"


def _take_lines(reading: int, take: Callable[[str], object]) -> None:
    with open(reading, "rb", closefd=False) as file:
        for line in iter(file.readline, _END.lstrip()):
            if text := line.decode(errors="replace").rstrip():
                take(text)


def _open_if_closed(number: int) -> None:
    """Have a descriptor that is closed lead nowhere, so that no file which is opened later gets its number."""
    try:
        os.fstat(number)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
        os.set_inheritable(number, True)


def _stream(number: int, before: TextIO | None) -> TextIO:
    encoding = before.encoding if before else "utf-8"
    file = io.BufferedWriter(_Lenient(number, "w", closefd=False))
    return VisibleStream(file, encoding)
