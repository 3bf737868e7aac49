"""Peaks of the merged maps, found and measured one core at a time.

A peak is a pixel of the support (at any scale) whose significance no pixel of its 3 x 3 neighbourhood in the support
exceeds; of two peaks no farther apart than the finest scale only the more significant counts (the earlier in row-major
order, where they are equal). Counts and background are summed over the pixels whose centres lie within sqrt(2) kernel
widths of the peak, at the scale of its largest significance: the disc on which that kernel is positive. Discs of
neighbouring peaks may overlap.

On a ring the edge of the map does not show: of two equal pixels in a row the western one is the earlier across it, too.
Where the ring is narrower than a neighbourhood or a disc, no pixel competes with itself or is summed twice.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
import scipy.spatial
import zarr

from cwt_dask.atomic import write_atomically
from cwt_dask.maps import SIDES
from cwt_dask.pieces import Pieces, find_pieces
from cwt_dask.survey import Survey
from cwt_dask.windows import read_box

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cwt_dask.cwt.kernels import CWTKernels
    from cwt_dask.layout import RunDir
    from cwt_dask.plan import Plan
    from cwt_dask.tiling import Box


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


def measure_tile(run_dir: RunDir, plan: Plan, survey_path: Path, tile_id: int) -> int:
    """Find the island pieces and peaks of one core in the merged maps, measure them, and keep them in a file."""
    grid = plan.grid
    core = grid.tile(tile_id).core
    maps = zarr.open_group(run_dir.maps, mode="r")
    radii = disc_radii(plan.kernels)
    finest = float(plan.kernels.scales[0])
    near = grid.on_map(core.grown(math.ceil(finest) + 1))
    support = np.any(read_box(maps["support"], near, ring=grid.ring), axis=0)
    labels, pieces = find_pieces(support[core.within(near)], core, grid.x.length)

    significance = read_box(maps["significance"], near, ring=grid.ring)
    y, x = find_peaks(np.where(support, significance, -np.inf), finest, turn=grid.x.length if grid.ring else None)
    y, x = y + near.y0, x + near.x0
    inside = (core.y0 <= y) & (y < core.y1) & (core.x0 <= x) & (x < core.x1)
    y, x = y[inside], x[inside]
    in_core = y - core.y0, x - core.x0
    best_scale = maps["best_scale"][core.slices][in_core].astype(np.int64)
    counts, background = _disc_sums(Survey.open(survey_path, ring=grid.ring), core, y, x, radii[best_scale])
    peaks = Peaks(
        y=y,
        x=x,
        piece=labels[in_core].astype(np.int64) - 1,
        significance=maps["significance"][core.slices][in_core],
        best_scale=best_scale,
        counts=counts,
        background=background,
        flags=maps["trust"][core.slices][in_core].astype(np.int64),
    )
    _write_found(run_dir, tile_id, pieces, peaks)
    return tile_id


def disc_radii(kernels: CWTKernels) -> NDArray[np.float64]:
    """Radius in pixels, by scale, of the disc in which counts are summed: where a Mexican hat is positive."""
    radii: NDArray[np.float64] = np.sqrt(2) * kernels.widths
    return radii


def find_peaks(
    significance: NDArray[np.float64], separation: float, *, turn: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Peaks of an image (y, x) that is -inf outside the support, by the rule of this module: rows and columns.

    Peaks within `separation` + 1 of the image's edge are right only where that is the map's edge. On a ring the image
    may hold columns several times, `turn` columns apart.
    """
    # Of equal neighbours the first in row-major order wins: it must exceed those before it and not be below the others.
    # A ring of one column is its own neighbour.
    before = np.array([[1, 1, 1], [turn != 1, 0, 0], [0, 0, 0]], dtype=bool)
    filtered = {
        name: scipy.ndimage.maximum_filter(significance, footprint=footprint, mode="constant", cval=-np.inf)
        for name, footprint in (("before", before), ("after", before[::-1, ::-1]))
    }
    is_peak = (significance > filtered["before"]) & (significance >= filtered["after"]) & np.isfinite(significance)
    y, x = np.nonzero(is_peak)
    if len(y) == 0:
        return y, x
    pairs = scipy.spatial.cKDTree(np.column_stack([y, x])).query_pairs(separation, output_type="ndarray")
    if turn is not None:
        dy, dx = (axis[pairs[:, 1]] - axis[pairs[:, 0]] for axis in (y, x))
        pairs = pairs[(dy != 0) | (dx % turn != 0)]
    # Pairs come as i < j and peaks in row-major order: on equality the second falls.
    values = significance[y, x]
    falls = np.where(values[pairs[:, 0]] < values[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    kept = np.ones(len(y), dtype=bool)
    kept[falls] = False
    return y[kept], x[kept]


def _disc_sums(
    survey: Survey, core: Box, y: NDArray[np.int64], x: NDArray[np.int64], radius: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts and background within `radius` of each peak, pixels of the map that take part only, each once."""
    reach = math.ceil(radius.max(initial=0))
    near = core.grown(reach)
    window = survey.read_window(near, near)
    counts, background = np.zeros(len(y)), np.zeros(len(y))
    for size in np.unique(radius):
        offsets = np.arange(-math.floor(size), math.floor(size) + 1)
        dy, dx = (d.ravel() for d in np.meshgrid(offsets, offsets, indexing="ij"))
        disc = dy**2 + dx**2 <= size**2
        if survey.ring:
            # Of a pixel that the disc holds several times, the copy nearest to the peak.
            width = survey.shape[1]
            disc &= (-width < 2 * dx) & (2 * dx <= width)
        for k in np.nonzero(radius == size)[0]:
            pixels = y[k] - near.y0 + dy[disc], x[k] - near.x0 + dx[disc]
            counts[k] = window.counts[pixels].sum()
            background[k] = window.background[pixels].sum()
    return counts, background


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
    with np.load(_found_file(run_dir, tile_id), allow_pickle=False) as arrays:
        faces = {side: arrays[f"face_{side}"] for side in SIDES}
        pieces = Pieces(arrays["n_pixels"], arrays["first"], faces)
        return pieces, Peaks(**{name: arrays[f"peak_{name}"] for name in COLUMNS})
