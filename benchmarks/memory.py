"""Peak memory of a worker, as measured and as the planner says, by tile size and scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import MIB, markdown, say, show, survey
from runs import run

if TYPE_CHECKING:
    from pathlib import Path

TILE_SIZES = (512, 1024, 1536, 2048)
SCALES = (1, 2, 4)


def tables(quick: bool, scratch: Path) -> str:
    """A row a tile size and number of scales; four tiles a run."""
    rows = []
    for tile_size in (128, 192) if quick else TILE_SIZES:
        store = survey(scratch, 2 * tile_size)
        for n_scale in SCALES:
            say(f"tiles of {tile_size} x {tile_size} pixels, {n_scale} scales")
            figures = run(store, scratch, workers=1, tile_size=tile_size, n_scale=n_scale)
            rows.append(
                (
                    f"{tile_size} x {tile_size}",
                    f"{figures.box[0]} x {figures.box[1]}",
                    n_scale,
                    f"{figures.worker / MIB:.0f}",
                    f"{figures.predicted / MIB:.0f}",
                    f"{figures.predicted / figures.worker:.2f}",
                )
            )
    return markdown(["core", "box", "scales", "measured, MiB", "planned, MiB", "planned over measured"], rows)


if __name__ == "__main__":
    show(tables, __doc__)
