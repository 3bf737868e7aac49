"""What says that a directory is a run's, and which other runs read its survey's store."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from cwt_dask.errors import AccessError, InputError, MachineError, RunError
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_run_id
from cwt_dask.storage.paths import as_path, listed, make_directory, read_file, store_errors, write_atomically
from cwt_dask.storage.sealed import is_sound, sealed

# In the settings of each run.
KIND = "cwt_dask run"


def is_run(files: RunDir) -> bool:
    """Whether a run was begun there: its settings or its ledger say so, by their marks; one of them may be damaged."""
    with suppress(OSError):
        if f'kind = "{KIND}"'.encode() in read_file(files.settings):
            return True
    return bool(re.fullmatch("[0-9a-f]{32}", _run_id(files)))


def remedy_of(store: Path) -> str:
    """What mends a survey's store: the command of the run that it belongs to, or `ingest`."""
    own = _owner(store) is not None
    return "give the run's own command again, which reads the survey again" if own else "ingest the survey again"


def note_user(files: RunDir, store: Path, run_id: str) -> None:
    """Have the run that a survey's store is part of know which other one reads it, if it may be written to.

    Parameters
    ----------
    files : RunDir
        The run that reads the store.
    store : Path
        The store.
    run_id : str
        Which run that is.
    """
    owner = _owner(store)
    if owner is None or owner.path == files.path or owner.users.is_symlink():
        return
    # A run of another user, whose files cannot be written to, is only read.
    with suppress(OSError, MachineError), store_errors():
        note = owner.users / f"{run_id}.json"
        make_directory(owner.users)
        write_atomically(note, json.dumps(sealed({"run": str(files.path)})).encode())


def users_of(files: RunDir) -> list[Path]:
    """Directories of other runs that read the survey's store of this one; those that were moved since are not found.

    Raises InputError if a note of one is damaged.
    """
    found = []
    for note in listed(files.users, "*.json"):
        content: Any = None
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(read_file(note))
        if not is_sound(content):
            raise InputError(
                f"{note} is damaged, which says where a run is that reads {files.survey}: remove it if there is none, "
                "or choose another directory"
            )
        with suppress(InputError):
            user = as_path(str(content["run"]))
            if _run_id(RunDir(user)) == note.stem:
                found.append(user)
    return found


def _owner(store: Path) -> RunDir | None:
    """The run that a survey's store is part of; None where there is none, or it may not be read."""
    owner = RunDir(store.resolve().parent)
    with suppress(AccessError):
        return owner if owner.survey == store.resolve() and is_run(owner) else None
    return None


def _run_id(files: RunDir) -> str:
    with suppress(OSError, RunError):
        return read_run_id(files)
    return ""
