"""Peaks of the merged maps, found one core at a time from what the tiles kept of the support."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.atomic import write_atomically
from cwt_dask.detections import read_detections
from cwt_dask.maps import SIDES
from cwt_dask.peaks import find_peaks
from cwt_dask.pieces import Pieces, find_pieces
from cwt_dask.stores import open_group

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cwt_dask.layout import RunDir
    from cwt_dask.plan import Plan


@dataclass(frozen=True)
class Peaks:
    """Peaks of one core, as columns.

    Attributes
    ----------
    y, x : ndarray of int64
        Pixels of the map.
    piece : ndarray of int64
        Which of the core's island pieces holds the peak, 0-based.
    significance : ndarray of float64
        Largest T/E.
    best_scale : ndarray of int64
        Index of its scale.
    counts, background : ndarray of float64
        Sums over the disc.
    flags : ndarray of int64
        Trust flags.
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    piece: NDArray[np.int64]
    significance: NDArray[np.float64]
    best_scale: NDArray[np.int64]
    counts: NDArray[np.float64]
    background: NDArray[np.float64]
    flags: NDArray[np.int64]


COLUMNS = tuple(field.name for field in fields(Peaks))


def measure_tile(run_dir: RunDir, plan: Plan, tile_id: int) -> int:
    """Find the island pieces and peaks of one core, and keep them in a file."""
    grid = plan.grid
    core = grid.tile(tile_id).core
    finest = float(plan.kernels.scales[0])
    near = grid.on_map(core.grown(math.ceil(finest) + 1))
    turn = grid.x.length if grid.ring else None
    own = read_detections(run_dir.detections(tile_id))
    image = np.full(near.shape, -np.inf)
    own.put(image, near, turn)
    for other in {other.id for other in grid.overlapping(near)} - {tile_id}:
        read_detections(run_dir.detections(other)).put(image, near, turn)
    y, x = find_peaks(image, finest, turn=turn)
    y, x = y + near.y0, x + near.x0
    inside = (core.y0 <= y) & (y < core.y1) & (core.x0 <= x) & (x < core.x1)
    y, x = y[inside], x[inside]

    width = grid.x.length
    found = np.searchsorted(own.y * width + own.x, y * width + x)
    of_maximum = np.searchsorted(own.maxima, found)
    labels, pieces = find_pieces((own.y - core.y0) * core.shape[1] + own.x - core.x0, core, width)
    in_core = y - core.y0, x - core.x0
    peaks = Peaks(
        y=y,
        x=x,
        piece=labels[found].astype(np.int64) - 1,
        significance=own.significance[found],
        best_scale=own.best_scale[found].astype(np.int64),
        counts=own.counts[of_maximum],
        background=own.background[of_maximum],
        flags=open_group(run_dir.maps)["trust"][core.slices][in_core].astype(np.int64),
    )
    _write_found(run_dir, tile_id, pieces, peaks)
    return tile_id


def _found_file(run_dir: RunDir, tile_id: int) -> Path:
    return run_dir.islands / f"tile-{tile_id:07d}.npz"


def _write_found(run_dir: RunDir, tile_id: int, pieces: Pieces, peaks: Peaks) -> None:
    arrays = {f"peak_{name}": getattr(peaks, name) for name in COLUMNS}
    arrays |= {f"face_{side}": pieces.faces[side] for side in SIDES}
    content = io.BytesIO()
    np.savez(content, n_pixels=pieces.n_pixels, first=pieces.first, **arrays)
    write_atomically(_found_file(run_dir, tile_id), content.getvalue())


def read_found(run_dir: RunDir, tile_id: int) -> tuple[Pieces, Peaks]:
    """What `measure_tile` found in a core."""
    with _found_file(run_dir, tile_id).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        faces = {side: arrays[f"face_{side}"] for side in SIDES}
        pieces = Pieces(arrays["n_pixels"], arrays["first"], faces)
        return pieces, Peaks(**{name: arrays[f"peak_{name}"] for name in COLUMNS})
