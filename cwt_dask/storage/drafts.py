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

# A process: its machine, that one's start and space of process numbers, and its own start.
_PROCESS = re.compile(
    r"(?P<host>[0-9a-f]{6})(?P<boot>[0-9a-f]{6})(?P<space>[0-9a-f]{6})-(?P<pid>\d{1,9})-(?P<start>\d{1,19})"
)
_DRAFT = re.compile(rf"\.(?P<name>.+)\.cwt-(?P<process>{_PROCESS.pattern})-[0-9a-f]{{8}}(\.old)?", re.DOTALL)
# Ending of the name of what has another process's work in its place soon.
REPLACED = ".old"
_MACHINE_ID = Path("/etc/machine-id")
# Of a system that does not tell.
_UNKNOWN = "0" * 6
# The space of process numbers of a Linux that is no container: the kernel has fixed its number.
_NO_CONTAINER = "pid:[4026531836]"


def this_process() -> str:
    """What the calling process is known by, wherever files are shared."""
    pid = os.getpid()
    return f"{''.join(_here())}-{pid}-{_start(pid)}"


def is_gone(process: str) -> bool | None:
    """Whether a process has ended; None where that is not known: of other machines, and of containers.

    Parameters
    ----------
    process : str
        What `this_process` gave there.
    """
    match, (host, boot, space) = _PROCESS.fullmatch(process), _here()
    if match is None or _UNKNOWN in {boot, match["boot"]} or match["host"] != host:
        return None
    if (match["boot"], match["space"]) == (boot, space):
        return has_ended(int(match["pid"]), int(match["start"]))
    # This machine was started again since. Containers on other machines may have its name and number from one image.
    restarted = match["boot"] != boot and match["space"] == space == _short(_NO_CONTAINER)
    return True if restarted else None


def draft_of(path: Path) -> Path:
    """A name next to a path for what this process makes until it is whole: of no other."""
    return path.with_name(f".{path.name}.cwt-{this_process()}-{uuid.uuid4().hex[:8]}")


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
    """Whether the maker is known to have ended."""
    match = _DRAFT.fullmatch(draft.name)
    return match is not None and is_gone(match["process"]) is True


def is_being_made(draft: Path) -> bool:
    """Whether the maker is known to live."""
    match = _DRAFT.fullmatch(draft.name)
    return match is not None and is_gone(match["process"]) is False


def remove_draft(draft: Path) -> None:
    """Remove what this user's process has left; of a link only the link, of a directory no more than can be.

    What was to be replaced stays until something has its name.
    """
    with suppress(OSError):
        about = draft.lstat()
        if about.st_uid != os.geteuid():
            return
        if draft.suffix == REPLACED and not os.path.lexists(draft.parent / shown_place(Path(draft.name))):
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
def _here() -> tuple[str, str, str]:
    """Which machine this is, which start of it (or `_UNKNOWN`), and which space of process numbers."""
    number = ""
    with suppress(OSError):
        number = _MACHINE_ID.read_text(encoding="ascii").strip().removeprefix("uninitialized")
    boot, _, space = this_machine().partition(" ")
    # Without a number names of hosts may be those of several machines, as containers have them: this start is known.
    return _short(f"{socket.gethostname()} {number or boot}"), _short(boot) if boot else _UNKNOWN, _short(space)


@lru_cache
def _start(pid: int) -> int:
    return start_of(pid)


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:6]
