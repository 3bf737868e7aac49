"""Copies of the records of finished tiles, in runs whose tiles decide on islands together.

Decisions are not kept: where one record is damaged or lost, all tiles make all iterations again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cwt_dask.storage.copies import faults_of_copies, mend_copies, write_copies
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import DamagedRecordError, TileRecord, parse_record, record_text
from cwt_dask.storage.paths import exists, listed


def write_record_copy(run_dir: RunDir, record: TileRecord) -> None:
    """Write the copy of a record, after that."""
    write_copies([run_dir.record_copy(record.tile)], record_text(record))


def mend_records(run_dir: RunDir, run_id: str) -> list[str]:
    """Write records again of which the copy is sound, and copies of which the record is; a line of text for each.

    Parameters
    ----------
    run_dir, run_id
        The run.
    """
    return [line for copies in _all(run_dir) for line in mend_copies(copies, partial(_parse, copies[0], run_id))]


def faults_of_record_copies(run_dir: RunDir, run_id: str) -> list[str]:
    """What is wrong with copies that are there, and with which; records are looked at where they are read.

    Parameters
    ----------
    run_dir, run_id
        The run.
    """
    found = (faults_of_copies([copy], partial(_parse, path, run_id)) for path, copy in _all(run_dir) if exists(copy))
    return [fault for faults in found for fault in faults.values()]


def _all(run_dir: RunDir) -> Iterator[tuple[Path, Path]]:
    names = (path.name for folder in (run_dir.ledger, run_dir.islands) for path in listed(folder, "tile-*.json"))
    # Names of other records have a second dot.
    for name in sorted({name for name in names if name.count(".") == 1}):
        yield run_dir.ledger / name, run_dir.islands / name


def _parse(path: Path, run_id: str, content: bytes) -> TileRecord:
    try:
        return parse_record(path, content, TileRecord, run_id)
    except DamagedRecordError as error:
        raise ValueError(str(error)) from error
