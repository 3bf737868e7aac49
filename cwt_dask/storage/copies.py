"""Files that lie in two folders, since nothing else says what they do: read from the first copy that is sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cwt_dask.errors import DamageError
from cwt_dask.storage.paths import read_file, write_atomically

T = TypeVar("T")


def write_copies(copies: Sequence[Path], content: bytes) -> None:
    """Write all copies of a file."""
    for copy in copies:
        write_atomically(copy, content)


def read_copies(copies: Sequence[Path], parse: Callable[[bytes], T]) -> T:
    """Read the first copy that is sound; raises DamageError naming the first if none is.

    Parameters
    ----------
    copies : sequence of Path
        The file.
    parse : callable
        Makes something of the content; raises ValueError, TypeError or LookupError if it is not as it was written.
    """
    damage = []
    for copy in copies:
        try:
            return _read(copy, parse)
        except DamageError as error:
            damage.append(error)
    raise damage[0]


def faults_of_copies(copies: Sequence[Path], parse: Callable[[bytes], object]) -> dict[Path, str]:
    """Which copies are damaged or lost, and how; `parse` as of `read_copies`."""
    faults = {}
    for copy in copies:
        try:
            _read(copy, parse)
        except DamageError as error:
            faults[copy] = str(error)
    return faults


def mend_copies(copies: Sequence[Path], parse: Callable[[bytes], object]) -> list[str]:
    """Write damaged copies again, where one is sound; a line of text for each; `parse` as of `read_copies`."""
    faults = faults_of_copies(copies, parse)
    sound = [copy for copy in copies if copy not in faults]
    for copy in faults if sound else ():
        write_atomically(copy, read_file(sound[0]))
    return [f"{copy} was damaged or lost: written again, as {sound[0]} has it" for copy in faults if sound]


def _read(copy: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(read_file(copy))
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise DamageError(f"{copy} is damaged or lost ({error}): the run's own command makes it again") from error
