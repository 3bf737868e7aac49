"""Files in a run directory that are no part of a run: they are never removed."""

from __future__ import annotations

from collections.abc import Iterable

from cwt_dask.errors import InputError
from cwt_dask.storage.drafts import is_draft
from cwt_dask.storage.layout import FOLDERS, RunDir

_SHOWN = 5


def foreign_among(names: Iterable[str]) -> list[str]:
    """Those of the names, relative to a run directory, that no run has, nor a command that makes one."""
    return [name for name in names if not RunDir.is_part(name) and not any(map(is_draft, name.split("/")))]


def refuse_foreign(files: RunDir, names: Iterable[str]) -> None:
    """Refuse to remove a run directory that has files below it that are no part of a run, by an InputError."""
    # Of a folder that is none of a run's, the name says enough.
    found = {name if (first := name.partition("/")[0]) in FOLDERS else first for name in foreign_among(names)}
    if found:
        shown = ", ".join(sorted(found)[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise InputError(f"{files.path} holds {shown}{more}, no part of a run, which would be lost: move it elsewhere")
