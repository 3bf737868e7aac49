"""How far a run is, from names in its ledger and few of its files."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import FailureRecord, TileRecord, last_failures, undamaged
from cwt_dask.storage.paths import backend_of

_NAME = re.compile(r"tile-\d+(\.(block|failed|round)-\d+)*\.json")
_FIT = re.compile(r"tile-\d+\.fit-\d+\.npz")
# Records of finished tiles that are read.
MOST_READ = 1000


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    n_done: int  # Finished tiles; of many, damaged records are found in a part only.
    iterations: list[int]  # How many they made, as far as their records were read.
    # The last block of iterations that other tiles have made, by its end, and how many have; None without any.
    block: tuple[int, int] | None
    failed: dict[int, FailureRecord]  # The last failure of each tile with which nothing has succeeded since.
    n_fitted: int = 0  # Tiles whose sources have been fitted.


def read_progress(run_dir: RunDir, run_id: str = "") -> Progress:
    """See how far a run is, from names in its ledger and few of its files: soon done with however many tiles."""
    names = sorted(name for name in backend_of(run_dir.ledger).entries(run_dir.ledger) if _NAME.fullmatch(name))
    # Those of blocks and of failures have a second dot.
    done = [name for name in names if name.count(".") == 1]
    read = done[:: len(done) // MOST_READ + 1]
    records = list(undamaged((run_dir.ledger / name for name in read), TileRecord, run_id))
    others = [name.split(".") for name in names if name.count(".") > 1]
    finished = set(done if others else ())
    begun = (words[1] for words in others if words[-2] == "round-00000" and f"{words[0]}.json" not in finished)
    blocks = Counter(int(block.removeprefix("block-")) for block in begun)
    failures = last_failures(run_dir, run_id) if any(words[1].startswith("failed-") for words in others) else {}
    failed = {tile: failure for tile, failure in failures.items() if not _has_succeeded(run_dir, names, failure)}
    n_done, iterations = len(done) - len(read) + len(records), sorted({record.n_iter for record in records})
    found = backend_of(run_dir.islands).entries(run_dir.islands)
    fitted = {name.partition(".")[0] for name in found if _FIT.fullmatch(name)}
    return Progress(n_done, iterations, max(blocks.items(), default=None), failed, len(fitted))


def _has_succeeded(run_dir: RunDir, names: Sequence[str], failure: FailureRecord) -> bool:
    """Whether anything was done with a tile since it failed; `names` are those of all records, in order."""
    path = run_dir.failure(failure.tile, failure.attempt)
    tile = path.name.partition(".")[0]
    own = (run_dir.ledger / name for name in names[bisect_left(names, tile) : bisect_right(names, f"{tile}/")])
    since = (one for one in own if ".failed-" not in one.name)
    failed = path.stat().st_mtime_ns
    return any(one.exists() and one.stat().st_mtime_ns >= failed for one in since)
