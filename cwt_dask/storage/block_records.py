"""Records of blocks of iterations, until the run ends: of each tile one, or one a round where islands are decided."""

from __future__ import annotations

from pathlib import Path

from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import BlockRecord, undamaged
from cwt_dask.storage.paths import exists, listed, remove


def begun_blocks(run_dir: RunDir) -> list[int]:
    """Blocks of which there are records, sound or not, by their last iterations."""
    names = (path.name for path in listed(run_dir.ledger, "tile-*.block-*.json"))
    return sorted({int(name.partition("block-")[2].partition(".")[0]) for name in names})


def recorded_rounds(run_dir: RunDir, block: int) -> dict[int, list[int]]:
    """By tile, of which rounds of a block there are records, sound or not."""
    found: dict[int, list[int]] = {}
    for path in _records_of(run_dir.ledger, block):
        tile, _, round_ = (int(word.rpartition("-")[2]) for word in path.name.split(".")[:3])
        found.setdefault(tile, []).append(round_)
    return found


def forget_block(run_dir: RunDir, block: int) -> None:
    """Remove the records of a block."""
    remove(*_records_of(run_dir.ledger, block))


def read_block_records(ledger: Path, block: int, run_id: str = "") -> dict[int, list[BlockRecord]]:
    """Records of each tile in a block, round by round.

    Parameters
    ----------
    ledger : Path
        The ledger.
    block : int
        Last iteration of the block.
    run_id : str, optional
        Which run's count; those of any unless given.
    """
    found: dict[int, list[BlockRecord]] = {}
    for record in undamaged(_records_of(ledger, block), BlockRecord, run_id):
        found.setdefault(record.tile, []).append(record)
    return found


def read_rounds(run_dir: RunDir, block: int, tile: int, most: int, run_id: str = "") -> list[BlockRecord]:
    """Records of one tile in a block, up to the first that is damaged or of another run.

    Parameters
    ----------
    run_dir, run_id
        The run; records of any if its id is not given.
    block, tile : int
        Last iteration of the block, and number of the tile.
    most : int
        Largest number of rounds.
    """
    found: list[BlockRecord] = []
    # To list the ledger once a tile would take time by the square of their number.
    for path in filter(exists, (run_dir.block_record(block, tile, round_) for round_ in range(most))):
        sound = list(undamaged([path], BlockRecord, run_id))
        if not sound:
            break
        found += sound
    return found


def _records_of(ledger: Path, block: int) -> list[Path]:
    return listed(ledger, f"tile-*.block-{block:05d}.round-*.json")
