"""Pixels of a core that stand out, with measurements, in a file from which candidates are found without the maps."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.buffers import borrow, give_back
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.state import State
from cwt_dask.errors import DamageError
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.tiling import Box, Tile
from cwt_dask.measure.candidates import LEAST_SIGMA
from cwt_dask.measure.centroids import find_centroids, reach_of
from cwt_dask.measure.peaks import disc_radii, disc_sums, find_peaks
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_record
from cwt_dask.storage.paths import read_file, write_atomically
from cwt_dask.survey import Survey, Window


@dataclass(frozen=True)
class Measured:
    """What is measured around pixels that may be peaks, an element each."""

    iteration: NDArray[np.uint16]  # Iteration of the largest T/E.
    # Sums over their discs.
    counts: NDArray[np.float64]
    background: NDArray[np.float64]
    # As in `Centroids`.
    y_centroid: NDArray[np.float64]
    x_centroid: NDArray[np.float64]
    y_error: NDArray[np.float64]
    x_error: NDArray[np.float64]

    def of(self, which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Select some of them, by name."""
        return {field.name: getattr(self, field.name)[which] for field in fields(Measured)}


@dataclass(frozen=True)
class Detections:
    """Pixels of one core that are in the support, or have a large S."""

    # Pixels of the map, in row-major order.
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    significance: NDArray[np.float64]  # Largest T/E.
    # Index of its scale; outside the support that of S.
    best_scale: NDArray[np.int16]
    in_support: NDArray[np.bool_]
    sigma: NDArray[np.float32]  # Largest S, 0 where it is undefined.
    sigma_scale: NDArray[np.int8]  # Index of its scale, -1 where it is undefined.
    maxima: NDArray[np.int64]  # Which of them may be peaks, as far as this core shows.
    measured: Measured  # Around these.

    def put(self, images: Mapping[str, NDArray[Any]], box: Box, turn: int | None = None) -> None:
        """Write what is known of the pixels into images of a box.

        Parameters
        ----------
        images : mapping of ndarray
            By the name of a field, images (y, x), changed in place.
        box : Box
            Of their pixels.
        turn : int, optional
            Columns of a ring.
        """
        turns = [0] if turn is None else range((box.x0 - turn + 1) // turn, box.x1 // turn + 1)
        for columns in (self.x + n * (turn or 0) for n in turns):
            inside = (box.y0 <= self.y) & (self.y < box.y1) & (box.x0 <= columns) & (columns < box.x1)
            there = self.y[inside] - box.y0, columns[inside] - box.x0
            for name, image in images.items():
                image[there] = getattr(self, name)[inside]


def detect(grid: AnyGrid, kernels: CWTKernels, tile: Tile, survey: Survey, window: Window, state: State) -> Detections:
    """Collect the pixels of a tile's core that stand out, and measure around those that may be candidates.

    Parameters
    ----------
    grid, kernels, tile, window
        The tile's window, and what it is a part of.
    survey : Survey
        Read where the window is too small.
    state : State
        After the last iteration.
    """
    core = tile.core.within(tile.box)
    shape = tile.core.shape
    support = state.joined[(..., *core)].any(axis=0)
    pixels = np.flatnonzero(support | (state.sigma > LEAST_SIGMA))
    significance, best_scale = state.significance.ravel()[pixels], state.best_scale.ravel()[pixels]
    sigma, sigma_scale = state.sigma.ravel()[pixels], state.sigma_scale.ravel()[pixels]
    in_support = support.ravel()[pixels]
    is_maximum = np.zeros(pixels.size, dtype=bool)
    image = borrow(shape)
    # A pixel joined the support by a significance.
    for values, there in ((significance, in_support), (sigma, sigma > LEAST_SIGMA)):
        image.fill(-np.inf)
        image.ravel()[pixels[there]] = values[there]
        peak_y, peak_x = find_peaks(image, 0.0)
        is_maximum[np.searchsorted(pixels, peak_y * shape[1] + peak_x)] = True
    give_back(image)
    maxima = np.flatnonzero(is_maximum)
    best_scale = np.where(in_support, best_scale, sigma_scale).astype(np.int16)
    radius, scale = disc_radii(kernels)[best_scale[maxima]], kernels.scales[best_scale[maxima]]
    reach = max(math.ceil(radius.max(initial=0)), reach_of(scale.max(initial=0)))
    around = grid.around(tile, reach)
    if around.intersection(tile.window).area == around.area:
        part = around.within(tile.box)
        images, valid = [window.counts[part], window.background[part]], window.valid[part]
    else:
        # The margin is narrower than the discs.
        images = [survey.read(name, around).astype(np.float64) for name in ("counts", "background")]
        valid = survey.read("mask", around) > 0
    y, x = np.divmod(pixels, shape[1])
    y, x = y + tile.core.y0, x + tile.core.x0
    turn = grid.width if grid.ring else None
    counts, background = disc_sums(images, around, y[maxima], x[maxima], radius, turn=turn)
    centroids = find_centroids(images[0], images[1], valid, around, y[maxima], x[maxima], scale, turn=turn)
    at = centroids.y, centroids.x, centroids.y_error, centroids.x_error
    measured = Measured(state.best_iteration.ravel()[pixels[maxima]], counts, background, *at)
    sigma = np.where(sigma_scale < 0, np.float32(0), sigma)
    return Detections(y, x, significance, best_scale, in_support, sigma, sigma_scale, maxima, measured)


# One array after the other in the file, in this order.
_PIXELS = [field.name for field in fields(Detections) if field.name != "measured"]
_MEASURED = [field.name for field in fields(Measured)]


def write_detections(path: Path, detections: Detections) -> str:
    """Write them to a file; the sha256 of what was to be written, whatever the disk has made of it."""
    file = io.BytesIO()
    for holder, names in ((detections, _PIXELS), (detections.measured, _MEASURED)):
        for name in names:
            np.save(file, getattr(holder, name))
    content = file.getvalue()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read_detections(run_dir: RunDir, tile: int) -> Detections:
    """Read what a tile detected; raises DamageError if it is not as the tile's record has it."""
    path = run_dir.detections(tile)
    content = read_file(path)
    if hashlib.sha256(content).hexdigest() != read_record(run_dir.record(tile)).chunk_digests["detections"]:
        raise DamageError(f"{path} is damaged: the run's own command does the tile again")
    file = io.BytesIO(content)
    pixels = {name: np.load(file, allow_pickle=False) for name in _PIXELS}
    return Detections(**pixels, measured=Measured(*(np.load(file, allow_pickle=False) for _ in _MEASURED)))
