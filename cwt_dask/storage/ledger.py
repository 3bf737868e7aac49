"""The ledger: one record a finished tile or block of iterations, written after its data. Only it says what is done.

Failures leave records too, one each; they decide nothing. Each is sealed and says of which run it is. To read a record
of another version raises RunError; where many are read, one that is damaged or of another run counts as none.
"""

from __future__ import annotations

import json
import traceback
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

from cwt_dask.errors import MachineError, RunError
from cwt_dask.storage.fields import impossible_fields
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import backend_of, listed, make_directory, read_file, remove, store_errors, write_atomically
from cwt_dask.storage.sealed import BROKEN, SEAL, is_sound, sealed, unsealed

R = TypeVar("R", "TileRecord", "BlockRecord", "FailureRecord")

SCHEMA = 4
# Of earlier runs, without seals; no damage makes one of these of one that is sealed.
_UNSEALED = 3
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a tile did."""

    # Version of this layout, and number of the tile.
    schema: int
    run: str  # Which run this belongs to: `read_run_id`.
    tile: int
    settings_digest: str  # Of the settings as resolved.
    algorithm_version: int  # Of the mathematics.
    n_iter: int  # Iterations made.
    converged: bool  # Whether the tile stopped by its own variance (only where it may).
    # Count, mean and sum of squared deviations of the core's residual after each iteration.
    moments: list[tuple[int, float, float]]
    attempt: int  # 1, and one more for each failure that was recorded before.
    # Where it ran, on what kind of processor, under which batch job (empty outside of one).
    host: str
    processor: str
    job: str
    # Start (UTC) of the last task, and wall time of all.
    started: str
    seconds: float
    survey_digest: str = ""  # Of the survey; empty in records that have no seal, as what follows.
    versions: dict[str, str] = field(default_factory=dict)  # Of what can change last bits, where the last task ran.


@dataclass(frozen=True, kw_only=True)
class TileRecord(Record):
    """A finished tile."""

    # Boxes y0, y1, x0, x1 in pixels of the map: what is published, what was seen, and what the FFTs were made of.
    core: list[int]
    window: list[int]
    box: list[int]
    wrap: bool  # Whether columns count modulo the map's width.
    input_digest: str  # Of all pixels of the window.
    model_max: float  # Largest model value in the core, counts per pixel.
    empty: bool  # Whether no pixel of the core is in the support.
    # Pixels of the core within rounding of a threshold, and with an undefined expected error.
    near_threshold: int
    undefined: int
    # Sha256 or CRC32C of what the tile wrote to each array of `maps.zarr` and `seams.zarr`, and of its detections.
    chunk_digests: dict[str, str]
    peak_memory: int  # Largest resident size of the process in bytes.
    owned_counts: float | None = None  # Of a facet: the counts of the survey's pixels in its cell.
    taken_from: str = ""  # The run that this was reused from, with its time and place; empty where it was done here.


@dataclass(frozen=True, kw_only=True)
class BlockRecord(Record):
    """A tile at the end of a block of iterations."""

    block: int  # Last iteration of the block.
    round: int  # How often the tile had been done again in this block, for decisions on islands.
    checkpoint: str  # Digest of the checkpoint.
    history: str = ""  # Digest of the models after each iteration, of a run that keeps its history.


@dataclass(frozen=True)
class FailureRecord:
    """A tile that could not be done."""

    # As of `Record`.
    schema: int
    run: str
    tile: int
    stage: str  # What was being done with it.
    attempt: int  # How many failures of this tile are recorded, with this one.
    # Class of the error, what it says, and where it came from.
    error: str
    message: str
    traceback: str
    when: str  # Time (UTC).


def begin_ledger(run_dir: RunDir) -> str:
    """Make a ledger, of a run that is no other, and return which."""
    make_directory(run_dir.ledger)
    run_id = uuid.uuid4().hex
    write_run_id(run_dir, run_id)
    return run_id


def write_run_id(run_dir: RunDir, run_id: str) -> None:
    """Write which run lies there."""
    write_atomically(run_dir.run_id, run_id.encode())


def read_run_id(run_dir: RunDir) -> str:
    """Which run lies there: tasks of another one, which this has replaced, must not write here."""
    try:
        return read_file(run_dir.run_id).decode("ascii")
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:
        raise RunError(f"{run_dir.run_id} cannot be read ({error}): the run's own command writes it again") from error


def refuse_another_run(run_dir: RunDir, run_id: str) -> None:
    """Refuse a task that was thought lost and came back when its run had been overwritten by a new one."""
    if read_run_id(run_dir) != run_id:
        raise RunError(f"{run_dir.run_id}: {run_dir.path} holds another run by now: this task is of the one before")


def write_record(run_dir: RunDir, record: TileRecord | BlockRecord) -> None:
    """Publish a record; a later one of the same kind replaces it.

    Raises FileExistsError if another process writes the same record at once.
    """
    path, content = _path_of(run_dir, record), record_text(record)
    backend = backend_of(path)
    seen = backend.version_of(path)
    refuse_another_run(run_dir, record.run)
    backend.replace(path, content, seen)


def read_records(ledger: Path, run_id: str = "") -> dict[int, TileRecord]:
    """Records of finished tiles by number: of one run, or of any if it is not given."""
    return {record.tile: record for record in _records(ledger, TileRecord, run_id)}


def is_ledger_of(run_dir: RunDir, run_id: str) -> bool:
    """Whether a run's records are there, or none of any: those of others alone are those of another run."""
    others = False
    for record in chain(_records(run_dir.ledger, TileRecord), _records(run_dir.ledger, BlockRecord)):
        if record.run == run_id:
            return True
        others = True
    return not others


def read_all_records(
    ledger: Path, run_id: str = ""
) -> tuple[list[TileRecord | BlockRecord | FailureRecord], list[str]]:
    """Records of all kinds of one run, or of any, and what is wrong with those that are none."""
    records: list[TileRecord | BlockRecord | FailureRecord] = []
    damaged = []
    for path in listed(ledger, "tile-*.json"):
        try:
            records.append(_read(path, _kind_of(path), run_id))
        except DamagedRecordError as error:
            damaged.append(str(error))
    return records, damaged


def read_record(path: Path) -> TileRecord:
    """One record of a finished tile; raises RunError if it is not one that this version writes."""
    return _read(path, TileRecord)


def read_finished(run_dir: RunDir, run_id: str, n_tiles: int) -> dict[int, TileRecord]:
    """Records of a run of which every tile is done, by number.

    Raises DamagedRecordError naming the one that is damaged or lost, which the run's own command makes again.

    Parameters
    ----------
    run_dir, run_id
        The run.
    n_tiles : int
        Its number of tiles.
    """
    paths = [run_dir.record(tile) for tile in range(n_tiles)]
    try:
        return {tile: _read(path, TileRecord, run_id) for tile, path in enumerate(paths)}
    except DamagedRecordError as error:
        raise DamagedRecordError(f"{error}: the run's own command does its tile again") from error


def record_failure(run_dir: RunDir, tile: int, stage: str, error: BaseException) -> None:
    """Keep why a tile could not be done, if that is possible.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    tile : int
        Number of the tile.
    stage : str
        What was being done with it.
    error : BaseException
        What was raised.
    """
    # What broke the tile may break this.
    with suppress(OSError, MachineError), store_errors():
        attempt = count_failures(run_dir, tile) + 1
        origin, now = "".join(traceback.format_exception(error)), datetime.now(UTC).isoformat(timespec="seconds")
        kind, run = type(error).__name__, read_run_id(run_dir)
        record = FailureRecord(SCHEMA, run, tile, stage, attempt, kind, str(error), origin, now)
        write_atomically(run_dir.failure(tile, attempt), record_text(record))


def count_failures(run_dir: RunDir, tile: int) -> int:
    """Number of recorded failures of a tile."""
    return next(n for n in count() if not run_dir.failure(tile, n + 1).exists())


def last_failures(run_dir: RunDir, run_id: str = "") -> dict[int, FailureRecord]:
    """The last failure of each tile that failed: in one run, or in any if it is not given."""
    return {record.tile: record for record in _records(run_dir.ledger, FailureRecord, run_id)}


def forget_damaged_failures(run_dir: RunDir, run_id: str) -> None:
    """Remove what is no record of a failure of the run: nothing makes it again, as it does those of tiles."""
    for path in listed(run_dir.ledger, "tile-*.failed-*.json"):
        try:
            _read(path, FailureRecord, run_id)
        except DamagedRecordError:
            remove(path)


class DamagedRecordError(RunError):
    """A file of the ledger that is no record: it is as if it were not there."""


def _kind_of(path: Path) -> type[Any]:
    # Names of the others have a second dot.
    return BlockRecord if ".block-" in path.name else FailureRecord if ".failed-" in path.name else TileRecord


def _records(ledger: Path, kind: type[R], run_id: str = "") -> Iterator[R]:
    paths = (path for path in listed(ledger, "tile-*.json") if _kind_of(path) is kind)
    return undamaged(paths, kind, run_id)


def undamaged(paths: Iterable[Path], kind: type[R], run_id: str = "") -> Iterator[R]:
    """Records of a kind, of one run or of any, without what is none.

    Parameters
    ----------
    paths : iterable of Path
        Files.
    kind : type
        Which records these are.
    run_id : str, optional
        Which run's count; those of any unless given.
    """
    for path in paths:
        with suppress(DamagedRecordError):
            yield _read(path, kind, run_id)


def _path_of(run_dir: RunDir, record: TileRecord | BlockRecord | FailureRecord) -> Path:
    if isinstance(record, TileRecord):
        return run_dir.record(record.tile)
    if isinstance(record, BlockRecord):
        return run_dir.block_record(record.block, record.tile, record.round)
    return run_dir.failure(record.tile, record.attempt)


def record_text(record: TileRecord | BlockRecord | FailureRecord) -> bytes:
    """What the file of a record holds."""
    return json.dumps(sealed(asdict(record)), indent=1, allow_nan=False).encode()


def _read(path: Path, kind: type[R], run_id: str = "") -> R:
    try:
        text = read_file(path)
    except FileNotFoundError as error:
        # Since its name was seen: those of blocks are removed while a run goes on.
        raise DamagedRecordError(f"{path} is lost") from error
    except IsADirectoryError as error:
        raise DamagedRecordError(f"{path} is not a ledger record ({error})") from error
    return parse_record(path, text, kind, run_id)


def parse_record(path: Path, text: bytes, kind: type[R], run_id: str = "") -> R:
    """Take a record from what its file holds.

    Raises DamagedRecordError if it is none, or of another run; RunError if it is of another version.

    Parameters
    ----------
    path : Path
        The file.
    text : bytes
        Its content.
    kind : type
        Which record it is.
    run_id : str, optional
        Of which run; of any unless given.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        unsound = not is_sound(content) and (SEAL in content or content["schema"] == SCHEMA)
        record = kind(**unsealed(content))
    except _MALFORMED as error:
        raise DamagedRecordError(f"{path} is not a ledger record ({error})") from error
    if unsound:
        raise DamagedRecordError(f"{path} is not a ledger record ({BROKEN})")
    if record.schema not in (SCHEMA, _UNSEALED):
        raise RunError(f"{path} has schema {record.schema}, this version reads {SCHEMA}: use the version that wrote it")
    wrong = impossible_fields(record)
    # Numbers of tiles become names of files.
    if wrong or path.name != _path_of(RunDir(path.parent.parent), record).name:
        raise DamagedRecordError(f"{path} is not a ledger record (impossible: {', '.join(wrong) or 'its name'})")
    if run_id not in ("", record.run):
        raise DamagedRecordError(f"{path} is a record of another run")
    return record
