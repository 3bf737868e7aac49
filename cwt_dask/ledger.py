"""The ledger: one record a finished tile or block of iterations, written after its data. Only it says what is done."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cwt_dask.atomic import write_atomically
from cwt_dask.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from cwt_dask.layout import RunDir

R = TypeVar("R", bound="Record")

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a tile did.

    Attributes
    ----------
    schema : int
        Version of this layout.
    tile : int
        Number of the tile.
    settings_digest : str
        Of the settings as resolved.
    n_iter : int
        Iterations made.
    converged : bool
        Whether the tile stopped by its own variance (only where it may).
    moments : list of [int, float, float]
        Count, mean and sum of squared deviations of the core's residual after each iteration.
    host : str
        Where it ran.
    started, seconds : str, float
        Start (UTC) of the last task, and wall time of all.
    """

    schema: int
    tile: int
    settings_digest: str
    n_iter: int
    converged: bool
    moments: list[tuple[int, float, float]]
    host: str
    started: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TileRecord(Record):
    """A finished tile.

    Attributes
    ----------
    core, window : list of int
        Boxes y0, y1, x0, x1 in pixels of the map.
    input_digest : str
        Of all pixels of the window.
    model_max : float
        Largest model value in the core, counts per pixel.
    near_threshold, undefined : int
        Pixels of the core within rounding of a threshold; pixels of the core with an undefined expected error.
    chunk_digests : dict of str
        sha256 or CRC32C of what the tile wrote to each array of `maps.zarr` and `seams.zarr`, and of its detections.
    peak_memory : int
        Largest resident size of the process in bytes.
    """

    core: list[int]
    window: list[int]
    input_digest: str
    model_max: float
    near_threshold: int
    undefined: int
    chunk_digests: dict[str, str]
    peak_memory: int


@dataclass(frozen=True, kw_only=True)
class BlockRecord(Record):
    """A tile at the end of a block of iterations.

    Attributes
    ----------
    block : int
        Last iteration of the block.
    round : int
        How often fates of islands had been told.
    checkpoint : str
        What tells whether the checkpoint is as it was written.
    """

    block: int
    round: int
    checkpoint: str


def write_record(run_dir: RunDir, record: TileRecord | BlockRecord) -> None:
    """Publish a record; a later one of the same kind replaces it."""
    path = (
        run_dir.record(record.tile)
        if isinstance(record, TileRecord)
        else run_dir.block_record(record.block, record.tile, record.round)
    )
    write_atomically(path, json.dumps(asdict(record), indent=1, allow_nan=False).encode())


def read_records(ledger: Path) -> dict[int, TileRecord]:
    """Records of finished tiles by number.

    Raises
    ------
    RunError
        If a record is not one that this version writes.
    """
    paths = (path for path in sorted(ledger.glob("tile-*.json")) if ".block-" not in path.name)
    return {record.tile: record for path in paths for record in [_read(path, TileRecord)]}


def read_record(path: Path) -> TileRecord:
    """One record of a finished tile.

    Raises
    ------
    RunError
        If it is not one that this version writes.
    """
    return _read(path, TileRecord)


def read_block_records(ledger: Path, block: int) -> dict[int, list[BlockRecord]]:
    """Records of each tile in a block of iterations, round by round.

    Raises
    ------
    RunError
        If a record is not one that this version writes.
    """
    found: dict[int, list[BlockRecord]] = {}
    for path in sorted(ledger.glob(f"tile-*.block-{block:05d}.round-*.json")):
        record = _read(path, BlockRecord)
        found.setdefault(record.tile, []).append(record)
    return found


def read_rounds(run_dir: RunDir, block: int, tile: int, most: int) -> list[BlockRecord]:
    """Records of one tile in a block of iterations, of at most so many rounds.

    Raises
    ------
    RunError
        If a record is not one that this version writes.
    """
    # To list the ledger once a tile would take time by the square of their number.
    paths = (run_dir.block_record(block, tile, round_) for round_ in range(most))
    return [_read(path, BlockRecord) for path in paths if path.exists()]


def latest_block(ledger: Path, done: Container[int] = ()) -> tuple[int, int] | None:
    """The last block of iterations that tiles have made that are not `done`, by its end, and how many have.

    None without such tiles.
    """
    names = (path.name.removeprefix("tile-") for path in ledger.glob("tile-*.block-*.round-00000.json"))
    parts = (name.partition(".block-") for name in names)
    blocks = Counter(int(block[:5]) for tile, _, block in parts if int(tile) not in done)
    return max(blocks.items(), default=None)


def _read(path: Path, kind: type[R]) -> R:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record = kind(**content)
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is not a ledger record ({error}): delete it, and its tile is done again") from error
    if record.schema != SCHEMA:
        raise RunError(f"{path} has schema {record.schema}, this version reads {SCHEMA}: use the version that wrote it")
    return record
