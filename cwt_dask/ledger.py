"""The ledger: one record a finished tile, written after its data. Only it says what is done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cwt_dask.atomic import write_atomically
from cwt_dask.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1


@dataclass(frozen=True)
class TileRecord:
    """What a tile did.

    Attributes
    ----------
    schema : int
        Version of this layout.
    tile : int
        Number of the tile.
    core, window : list of int
        Boxes y0, y1, x0, x1 in pixels of the map.
    settings_digest, input_digest : str
        Of the settings as resolved, and of all pixels of the window.
    n_iter : int
        Iterations after which the published core was taken.
    converged : bool
        Whether the tile stopped by its own variance (only with tile stopping).
    moments : list of [int, float, float]
        Count, mean and sum of squared deviations of the core's residual after each iteration.
    model_max : float
        Largest model value in the core, counts per pixel.
    open_islands, near_threshold, undefined : int
        Islands whose fate the window could not know; pixels of the core within rounding of the threshold; pixels of
        the core with an undefined expected error.
    chunk_digests : dict of str
        sha256 of what the tile wrote to each array of `maps.zarr` and `seams.zarr`.
    host : str
        Where it ran.
    started, seconds, peak_memory : str, float, int
        Start (UTC), wall time, largest resident size of the process in bytes.
    """

    schema: int
    tile: int
    core: list[int]
    window: list[int]
    settings_digest: str
    input_digest: str
    n_iter: int
    converged: bool
    moments: list[tuple[int, float, float]]
    model_max: float
    open_islands: int
    near_threshold: int
    undefined: int
    chunk_digests: dict[str, str]
    host: str
    started: str
    seconds: float
    peak_memory: int


def write_record(ledger: Path, record: TileRecord) -> None:
    """Publish a tile's record; a later one of the same tile replaces it."""
    text = json.dumps(asdict(record), indent=1, allow_nan=False)
    write_atomically(ledger / _name(record.tile), text.encode())


def read_records(ledger: Path) -> dict[int, TileRecord]:
    """All records by tile number.

    Raises
    ------
    RunError
        If a record is not one that this version writes.
    """
    return {record.tile: record for path in sorted(ledger.glob("tile-*.json")) for record in [_read(path)]}


def _name(tile: int) -> str:
    return f"tile-{tile:07d}.json"


def _read(path: Path) -> TileRecord:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record = TileRecord(**content)
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is not a ledger record ({error}): delete it, and its tile is done again") from error
    if record.schema != SCHEMA:
        raise RunError(f"{path} has schema {record.schema}, this version reads {SCHEMA}: use the version that wrote it")
    return record
