"""Names of what is being made: hidden, and with its maker's process, so that what a killed one has left is known."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from cwt_dask.storage.driver import has_ended, start_of, this_machine

_DRAFT = re.compile(
    r"\.(?P<name>.+)\.cwt-(?P<host>[0-9a-f]{6})(?P<machine>[0-9a-f]{12})-(?P<pid>\d{1,9})-(?P<start>\d{1,19})"
    r"-[0-9a-f]{8}(\.old)?",
    re.DOTALL,
)
_MACHINE_ID = Path("/etc/machine-id")
# Of a system that does not tell.
_UNKNOWN = "0" * 12


def draft_of(path: Path) -> Path:
    """A name next to a path for what this process makes until it is whole: of no other."""
    host, machine = _here()
    pid = os.getpid()
    return path.with_name(f".{path.name}.cwt-{host}{machine}-{pid}-{_start(pid)}-{uuid.uuid4().hex[:8]}")


def is_draft(name: str) -> bool:
    """Whether a file's name is one that `draft_of` gives."""
    return _DRAFT.fullmatch(name) is not None


def shown_place(path: Path) -> Path:
    """A path with the names that things being made will have, for messages."""
    return Path(*(match["name"] if (match := _DRAFT.fullmatch(part)) else part for part in path.parts))


def drafts(directory: Path, name: str = "") -> list[Path]:
    """What is being made in a directory, or was when its maker was killed: of one name, or of any."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = ((entry.name, _DRAFT.fullmatch(entry.name)) for entry in os.scandir(directory))
        return sorted(directory / entry for entry, match in found if match and (not name or match["name"] == name))
    return []


def is_abandoned(draft: Path) -> bool:
    """Whether the maker is known to have ended; of other machines this is not known."""
    match = _DRAFT.fullmatch(draft.name)
    host, machine = _here()
    if match is None or _UNKNOWN in {machine, match["machine"]} or match["host"] != host:
        return False
    # This machine was started again since; containers on it differ in the second half.
    restarted = match["machine"][:6] != machine[:6]
    return restarted or (match["machine"] == machine and has_ended(int(match["pid"]), int(match["start"])))


def is_being_made(draft: Path) -> bool:
    """Whether the maker is known to live."""
    match = _DRAFT.fullmatch(draft.name)
    return (
        match is not None
        and match["machine"] != _UNKNOWN
        and (match["host"], match["machine"]) == _here()
        and not has_ended(int(match["pid"]), int(match["start"]))
    )


def remove_draft(draft: Path) -> None:
    """Remove what this user's process has left; of a link only the link, of a directory no more than can be."""
    with suppress(OSError):
        about = draft.lstat()
        if about.st_uid != os.geteuid():
            return
        if stat.S_ISDIR(about.st_mode):
            # It does not follow links.
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink()


def remove_abandoned(directory: Path) -> None:
    """Remove from a directory what killed commands of this user have left there; not from those below it."""
    with suppress(OSError):
        for draft in filter(is_abandoned, drafts(directory)):
            remove_draft(draft)


@contextmanager
def scratch_directory(near: Path | None = None) -> Iterator[Path]:
    """A directory for this user alone, for the length of a `with` block; where a command was killed, to the next one.

    Parameters
    ----------
    near : Path, optional
        Directory to make it in; that of the system for temporary files unless given.
    """
    where = near or Path(tempfile.gettempdir()).absolute()
    remove_abandoned(where)
    scratch = draft_of(where / "scratch")
    scratch.mkdir(mode=0o700)
    try:
        yield scratch
    finally:
        remove_draft(scratch)


@lru_cache
def _here() -> tuple[str, str]:
    """Which machine this is, and its start with the space of process numbers; the second may be `_UNKNOWN`."""
    number = ""
    with suppress(OSError):
        number = _MACHINE_ID.read_text(encoding="ascii").strip().removeprefix("uninitialized")
    boot, _, space = this_machine().partition(" ")
    # Without a number names of hosts may be those of several machines, as containers have them: this start is known.
    return _short(f"{socket.gethostname()} {number or boot}"), f"{_short(boot)}{_short(space)}" if boot else _UNKNOWN


@lru_cache
def _start(pid: int) -> int:
    return start_of(pid)


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:6]
