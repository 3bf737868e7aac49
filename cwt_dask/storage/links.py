"""Links among the folders of a run: what is written there would be written elsewhere, such as into another run.

Links to files do no harm: a file is written under another name and renamed, which replaces the link. A survey's store
is only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cwt_dask.errors import InputError
from cwt_dask.storage.access import scan
from cwt_dask.storage.layout import FOLDERS, RunDir


def refuse_links(files: RunDir) -> None:
    """Refuse to write to a run of which a folder, or the lock, is a link; an InputError names it.

    Parameters
    ----------
    files : RunDir
        The run, in a directory that may be reached by a link.
    """
    for name in sorted({*FOLDERS, files.lock.name} - {files.survey.name}):
        _refuse_link(files.path / name)
    # Arrays, their chunks, and rows of these; as checkpoints lie in blocks. All else in folders is files.
    for folder, depth in ((files.maps, 3), (files.pyramid, 3), (files.seams, 3), (files.checkpoints, 1)):
        for below in _folders(folder, depth):
            _refuse_link(below)


def refuse_link_to(folder: Path, root: Path) -> None:
    """Refuse to write to a folder that lies elsewhere than its name says, seen from a directory above it.

    Parameters
    ----------
    folder, root : Path
        The folder, and the directory, which may be reached by a link.
    """
    # Names above the root may be links.
    if folder.resolve() != root.resolve() / folder.relative_to(root):
        raise InputError(f"{folder} is a link, or below one, which would be written to: {_REMEDY}")


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise InputError(f"{path} is a link to {path.readlink()}, which would be written to: {_REMEDY}")


_REMEDY = "put what it leads to in its place, or choose another directory"


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders below one, and links to any, so many levels down."""
    for entry in scan(folder):
        if entry.is_dir():
            yield folder / entry.name
            if depth > 1 and not entry.is_symlink():
                yield from _folders(folder / entry.name, depth - 1)
