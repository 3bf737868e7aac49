"""The ledger: one record a finished tile or block of iterations, written after its data. Only it says what is done.

Failures leave records too, one each; they decide nothing. Each is sealed. To read a record of another version raises
RunError; where many are read, a damaged one counts as none.
"""

from __future__ import annotations

import json
import re
import traceback
import uuid
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from cwt_dask.errors import MachineError, RunError
from cwt_dask.storage.fields import impossible_fields
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import backend_of, make_directory, read_file, remove, store_errors, write_atomically
from cwt_dask.storage.sealed import BROKEN, SEAL, is_sound, sealed, unsealed

R = TypeVar("R", "TileRecord", "BlockRecord", "FailureRecord")

SCHEMA = 4
# Of earlier runs, without seals; no damage makes one of these of one that is sealed.
_UNSEALED = 3
_NAME = re.compile(r"tile-\d+(\.(block|failed|round)-\d+)*\.json")
# Records of finished tiles that are read to say how far a run is.
MOST_READ = 1000


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
    path, content = _path_of(run_dir, record), _text(record)
    backend = backend_of(path)
    seen = backend.version_of(path)
    refuse_another_run(run_dir, record.run)
    backend.replace(path, content, seen)


def read_records(ledger: Path) -> dict[int, TileRecord]:
    """Records of finished tiles by number."""
    # Those of blocks and of failures have a second dot.
    paths = (path for path in sorted(ledger.glob("tile-*.json")) if path.name.count(".") == 1)
    return {record.tile: record for record in _undamaged(paths, TileRecord)}


def read_all_records(ledger: Path) -> tuple[list[TileRecord | BlockRecord | FailureRecord], list[str]]:
    """Records of all kinds, and what is wrong with those that are damaged."""
    records: list[TileRecord | BlockRecord | FailureRecord] = []
    damaged = []
    for path in sorted(ledger.glob("tile-*.json")):
        kinds = {"block": BlockRecord, "failed": FailureRecord}
        kind = next((kind for name, kind in kinds.items() if f".{name}-" in path.name), TileRecord)
        try:
            records.append(_read(path, kind))
        except DamagedRecordError as error:
            damaged.append(str(error))
    return records, damaged


def read_record(path: Path) -> TileRecord:
    """One record of a finished tile; raises RunError if it is not one that this version writes."""
    return _read(path, TileRecord)


def read_finished(run_dir: RunDir, n_tiles: int) -> dict[int, TileRecord]:
    """Records of a run of which every tile is done, by number.

    Raises DamagedRecordError naming the one that is damaged or lost, which the run's own command makes again.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    n_tiles : int
        Its number of tiles.
    """
    paths = [run_dir.record(tile) for tile in range(n_tiles)]
    try:
        return {tile: read_record(path) for tile, path in enumerate(paths)}
    except FileNotFoundError as error:
        raise DamagedRecordError(f"{error.filename} is lost: the run's own command does its tile again") from error
    except DamagedRecordError as error:
        raise DamagedRecordError(f"{error}: the run's own command does its tile again") from error


def read_block_records(ledger: Path, block: int) -> dict[int, list[BlockRecord]]:
    """Records of each tile in a block of iterations, round by round."""
    found: dict[int, list[BlockRecord]] = {}
    for record in _undamaged(sorted(ledger.glob(f"tile-*.block-{block:05d}.round-*.json")), BlockRecord):
        found.setdefault(record.tile, []).append(record)
    return found


def read_rounds(run_dir: RunDir, block: int, tile: int, most: int) -> list[BlockRecord]:
    """Records of one tile in a block of iterations.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    block, tile : int
        Last iteration of the block, and number of the tile.
    most : int
        Largest number of rounds.
    """
    # To list the ledger once a tile would take time by the square of their number.
    paths = (run_dir.block_record(block, tile, round_) for round_ in range(most))
    return list(_undamaged((path for path in paths if path.exists()), BlockRecord))


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
        write_atomically(run_dir.failure(tile, attempt), _text(record))


def count_failures(run_dir: RunDir, tile: int) -> int:
    """Number of recorded failures of a tile."""
    return next(n for n in count() if not run_dir.failure(tile, n + 1).exists())


def last_failures(run_dir: RunDir) -> dict[int, FailureRecord]:
    """The last failure of each tile that failed."""
    paths = sorted(run_dir.ledger.glob("tile-*.failed-*.json"))
    return {record.tile: record for record in _undamaged(paths, FailureRecord)}


def forget_damaged_failures(run_dir: RunDir) -> None:
    """Remove what is no record of a failure any more: nothing makes it again, as it does those of tiles."""
    for path in run_dir.ledger.glob("tile-*.failed-*.json"):
        try:
            _read(path, FailureRecord)
        except DamagedRecordError:
            remove(path)


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    n_done: int  # Finished tiles; of many, damaged records are found in a part only.
    iterations: list[int]  # How many they made, as far as their records were read.
    # The last block of iterations that other tiles have made, by its end, and how many have; None without any.
    block: tuple[int, int] | None
    failed: dict[int, FailureRecord]  # The last failure of each tile with which nothing has succeeded since.


def read_progress(run_dir: RunDir) -> Progress:
    """See how far a run is, from names in its ledger and few of its files: soon done with however many tiles."""
    names = sorted(name for name in backend_of(run_dir.ledger).entries(run_dir.ledger) if _NAME.fullmatch(name))
    # Those of blocks and of failures have a second dot.
    done = [name for name in names if name.count(".") == 1]
    read = done[:: len(done) // MOST_READ + 1]
    records = list(_undamaged((run_dir.ledger / name for name in read), TileRecord))
    others = [name.split(".") for name in names if name.count(".") > 1]
    finished = set(done if others else ())
    begun = (words[1] for words in others if words[-2] == "round-00000" and f"{words[0]}.json" not in finished)
    blocks = Counter(int(block.removeprefix("block-")) for block in begun)
    failures = last_failures(run_dir) if any(words[1].startswith("failed-") for words in others) else {}
    failed = {tile: failure for tile, failure in failures.items() if not _has_succeeded(run_dir, names, failure)}
    n_done, iterations = len(done) - len(read) + len(records), sorted({record.n_iter for record in records})
    return Progress(n_done, iterations, max(blocks.items(), default=None), failed)


def _has_succeeded(run_dir: RunDir, names: Sequence[str], failure: FailureRecord) -> bool:
    """Whether anything was done with a tile since it failed; `names` are those of all records, in order."""
    path = run_dir.failure(failure.tile, failure.attempt)
    tile = path.name.partition(".")[0]
    own = (run_dir.ledger / name for name in names[bisect_left(names, tile) : bisect_right(names, f"{tile}/")])
    since = (one for one in own if ".failed-" not in one.name)
    failed = path.stat().st_mtime_ns
    return any(one.exists() and one.stat().st_mtime_ns >= failed for one in since)


class DamagedRecordError(RunError):
    """A file of the ledger that is no record: it is as if it were not there."""


def _undamaged(paths: Iterable[Path], kind: type[R]) -> Iterator[R]:
    for path in paths:
        with suppress(DamagedRecordError):
            yield _read(path, kind)


def _path_of(run_dir: RunDir, record: TileRecord | BlockRecord | FailureRecord) -> Path:
    if isinstance(record, TileRecord):
        return run_dir.record(record.tile)
    if isinstance(record, BlockRecord):
        return run_dir.block_record(record.block, record.tile, record.round)
    return run_dir.failure(record.tile, record.attempt)


def _text(record: TileRecord | BlockRecord | FailureRecord) -> bytes:
    return json.dumps(sealed(asdict(record)), indent=1, allow_nan=False).encode()


def _read(path: Path, kind: type[R]) -> R:
    try:
        content: dict[str, Any] = json.loads(read_file(path))
        unsound = not is_sound(content) and (SEAL in content or content["schema"] == SCHEMA)
        record = kind(**unsealed(content))
    except (IsADirectoryError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DamagedRecordError(f"{path} is not a ledger record ({error})") from error
    if unsound:
        raise DamagedRecordError(f"{path} is not a ledger record ({BROKEN})")
    if record.schema not in (SCHEMA, _UNSEALED):
        raise RunError(f"{path} has schema {record.schema}, this version reads {SCHEMA}: use the version that wrote it")
    wrong = impossible_fields(record)
    # Numbers of tiles become names of files.
    if wrong or path.name != _path_of(RunDir(path.parent.parent), record).name:
        raise DamagedRecordError(f"{path} is not a ledger record (impossible: {', '.join(wrong) or 'its name'})")
    return record
