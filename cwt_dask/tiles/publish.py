"""What a tile publishes of its core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.buffers import borrow, give_back
from cwt_dask.tiles.quality import trust_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cwt_dask.cwt.state import State
    from cwt_dask.geometry.tiling import Box, Tile
    from cwt_dask.planning.job import Job
    from cwt_dask.survey import Survey, Window


def core_arrays(
    job: Job, tile: Tile, survey: Survey, window: Window, state: State
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """What a tile publishes of its core: names, and images (y, x) or cubes (scale, y, x).

    Each lasts until the next is asked for.
    """
    core = tile.core.within(tile.box)
    room, cube = borrow(tile.core.shape), borrow((job.kernels.n_scale, *tile.core.shape), np.uint16)
    for name in ("model", "approx", "transform_2d"):
        np.copyto(room, getattr(state, name)[core])
        yield name, room
    np.add(state.model[core], state.approx[core], out=room)
    yield "residual", np.subtract(window.counts[core], room, out=room)
    undefined = state.significance == -np.inf
    yield "significance", np.where(undefined, 0.0, state.significance) if undefined.any() else state.significance
    yield "best_scale", state.best_scale
    yield "best_iteration", state.best_iteration
    np.copyto(cube, state.joined[(..., *core)])
    yield "joined", cube
    yield "support", cube > 0
    yield "mask", window.valid[core].astype(np.uint8)
    yield "trust", trust_flags(job.grid, job.kernels.reach, tile, survey, state.undefined)
    give_back(room, cube)


def bounds(box: Box) -> list[int]:
    """Edges of a box as records have them: y0, y1, x0, x1."""
    return [box.y0, box.y1, box.x0, box.x1]
