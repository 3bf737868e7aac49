"""Candidates of the merged maps, found one core at a time from the detections of the tiles."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.buffers import release
from cwt_dask.geometry.tiling import Box, Tile
from cwt_dask.geometry.windows import read_box
from cwt_dask.measure.candidates import LEAST_SIGMA, Candidates, find_candidates, reach_of_candidates
from cwt_dask.measure.poisson import excess_interval
from cwt_dask.planning.plan import Plan
from cwt_dask.storage.archives import is_whole, read_sealed_archive, write_sealed_archive
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import Survey, open_survey
from cwt_dask.tiles.detections import Detections, Measured, read_detections
from cwt_dask.tiles.islands import LocalLabels, label_core
from cwt_dask.tiles.quality import near_any
from cwt_dask.trust import SourceFlag, Trust


@dataclass(frozen=True)
class Peaks(Measured):
    """Candidates of one core, as columns."""

    # Pixels of the map.
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    # Pixels of the map at which the fit starts: of a row's own turn of a ring, or the next one.
    y_start: NDArray[np.int64]
    x_start: NDArray[np.int64]
    label: NDArray[np.int64]  # Local label of the island that holds the peak, 0-based; -1 outside the support.
    significance: NDArray[np.float64]  # Largest T/E.
    best_scale: NDArray[np.int64]  # Index of its scale.
    # Interval of the excess: `cwt_dask.measure.poisson.excess_interval`.
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    exposure: NDArray[np.float64]  # Of the peak's pixel; 0 where the survey has none.
    sigma: NDArray[np.float64]  # S where the fit starts.
    flags: NDArray[np.int64]  # Values of `SourceFlag` that follow from what lies nearby.


FIELDS = tuple(field.name for field in fields(Peaks))
# Names in files are older than those here.
_STORED_AS = {name: "peak_piece" if name == "label" else f"peak_{name}" for name in FIELDS}
# Where candidates are, and where their fits start.
PLACES = ("y", "x", "y_start", "x_start")


def measure_tile(run_dir: RunDir, run_id: str, plan: Plan, survey: Path, tile_id: int) -> bool:
    """Label the islands and find the candidates of one core, and keep them in a file, unless it is there.

    Parameters
    ----------
    run_dir, run_id, plan, survey
        Of a run with the detections of all tiles; the survey's store.
    tile_id : int
        Of the core.

    Returns
    -------
    bool
        Whether it was not there.
    """
    path = run_dir.found(tile_id)
    if is_whole(path, run_id):
        return False
    labels, peaks = candidates_of(run_dir, plan, survey, tile_id)
    arrays: dict[str, Any] = labels.to_arrays() | {stored: getattr(peaks, name) for name, stored in _STORED_AS.items()}
    write_sealed_archive(path, run_id, arrays)
    release()
    return True


def candidates_of(run_dir: RunDir, plan: Plan, survey: Path, tile_id: int) -> tuple[LocalLabels, Peaks]:
    """Label the islands and find the candidates of one core.

    Parameters
    ----------
    run_dir, plan, survey, tile_id
        As of `measure_tile`.
    """
    grid = plan.grid
    tile = grid.tile(tile_id)
    core, own = tile.core, read_detections(run_dir, tile_id)
    candidates, sigma = _candidates_in(run_dir, plan, tile, own)
    y, x = candidates.y, candidates.x
    width = grid.width
    found = np.searchsorted(own.y * width + own.x, y * width + x)
    support = np.flatnonzero(own.in_support)
    flat = (own.y - core.y0) * core.shape[1] + own.x - core.x0
    label = np.full(own.y.size, -1, np.int64)
    of_pixels, labels = label_core(flat[support], core, width)
    label[support] = of_pixels - 1
    measured = own.measured.of(np.searchsorted(own.maxima, found))
    low, high = excess_interval(measured["counts"], measured["background"])
    flags = flags_at(run_dir, plan, tile, y, x)
    peaks = Peaks(
        y=y,
        x=x,
        y_start=candidates.y_start,
        x_start=candidates.x_start,
        label=label[found],
        significance=own.significance[found],
        best_scale=own.best_scale[found].astype(np.int64),
        low=low,
        high=high,
        exposure=exposure_at(open_survey(survey, grid), y, x),
        sigma=np.where(candidates.late, own.sigma[found], sigma).astype(np.float64),
        flags=flags | np.where(candidates.late, SourceFlag.LATE, 0),
        **measured,
    )
    return labels, peaks


def _candidates_in(run_dir: RunDir, plan: Plan, tile: Tile, own: Detections) -> tuple[Candidates, NDArray[np.float32]]:
    """Candidates in a core, as pixels of the map, from its detections and its neighbours'; S where their fits start."""
    grid, scales, core = plan.grid, plan.kernels.scales, tile.core
    near = grid.around(tile, reach_of_candidates(scales))
    turn = grid.width if grid.ring else None
    images = {"significance": np.full(near.shape, -np.inf), "best_scale": np.zeros(near.shape, np.int16)}
    images |= {"in_support": np.zeros(near.shape, bool), "sigma": np.full(near.shape, -np.inf, np.float32)}
    own.put(images, near, turn)
    for other in {other.id for other in grid.overlapping(near)} - {tile.id}:
        read_detections(run_dir, other).put(images, near, turn)
    images["significance"][~images["in_support"]] = -np.inf
    images["sigma"][images["sigma"] <= LEAST_SIGMA] = -np.inf
    all_near = find_candidates(
        images["significance"], scales[images["best_scale"]], images["sigma"], scales[0], turn=turn
    )
    sigma = images["sigma"][all_near.y_start, all_near.x_start]
    y, x = all_near.y + near.y0, all_near.x + near.x0
    inside = (core.y0 <= y) & (y < core.y1) & (core.x0 <= x) & (x < core.x1)
    shifts = {"y": near.y0, "y_start": near.y0, "x": near.x0, "x_start": near.x0}
    columns = {name: values + shifts[name] if name in shifts else values for name, values in vars(all_near).items()}
    return Candidates(**{name: values[inside] for name, values in columns.items()}), sigma[inside]


def exposure_at(survey: Survey, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float64]:
    """Exposure of pixels of the map, where it has a unit; else 0.

    Parameters
    ----------
    survey : Survey
        The survey.
    y, x : ndarray
        Pixels of the map.
    """
    if not (survey.statistics.exposure_unit and y.size):
        return np.zeros(y.size)
    box = Box(int(y.min()), int(y.max()) + 1, int(x.min()), int(x.max()) + 1)
    return survey.read("exposure", box)[y - box.y0, x - box.x0].astype(np.float64)


def flags_at(run_dir: RunDir, plan: Plan, tile: Tile, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Trust flags of pixels of a core, and whether the error is undefined near them.

    Parameters
    ----------
    run_dir, plan
        Of the run.
    tile : Tile
        Whose core it is.
    y, x : ndarray
        Pixels of the map.
    """
    if not y.size:
        return np.zeros(0, np.int64)
    reach = plan.kernels.reach
    near = plan.grid.around(tile, reach)
    trust = read_box(open_group(run_dir.maps, whole="run")["trust"], near, ring=plan.grid.ring)
    at = y - near.y0, x - near.x0
    flags = trust[at].astype(np.int64)
    if (undefined := (trust & np.uint8(Trust.ERROR_UNDEFINED)) != 0).any():
        flags[near_any(undefined, reach)[at]] |= SourceFlag.BLIND_NEARBY
    return flags


def read_found(run_dir: RunDir, run_id: str, tile_id: int) -> tuple[LocalLabels, Peaks]:
    """What `measure_tile` found in a core.

    Parameters
    ----------
    run_dir, run_id, tile_id
        As of `measure_tile`.
    """
    arrays = read_sealed_archive(run_dir.found(tile_id), run_id)
    return LocalLabels.from_arrays(arrays), Peaks(**{name: arrays[stored] for name, stored in _STORED_AS.items()})


def read_places(run_dir: RunDir, run_id: str, tile_id: int) -> dict[str, NDArray[np.int64]]:
    """Of what `read_found` reads the `PLACES` alone: tiles ask for those of all around them.

    Parameters
    ----------
    run_dir, run_id, tile_id
        As of `measure_tile`.
    """
    arrays = read_sealed_archive(run_dir.found(tile_id), run_id)
    return {name: arrays[_STORED_AS[name]] for name in PLACES}
