"""What the likelihood says of sources at given positions in a core, each by itself beside the sources of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.buffers import release
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.candidates import SAME
from cwt_dask.measure.given import fit_given
from cwt_dask.measure.joint import Stars
from cwt_dask.measure.peaks import disc_radii, disc_sums
from cwt_dask.measure.poisson import excess_interval
from cwt_dask.measure.shapes import Shapes, add, patch_for
from cwt_dask.planning.plan import Plan
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import exists
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import Window, open_survey
from cwt_dask.tiles.fitted import read_fitted
from cwt_dask.tiles.fitting import Reach
from cwt_dask.tiles.shapes import Scene, point_spread_of, scene_in
from cwt_dask.tiles.sources import exposure_at, flags_at, read_found
from cwt_dask.trust import SourceFlag


@dataclass(frozen=True)
class Places:
    """Given positions, as columns."""

    # The pixels of the map that hold them, and where they are, in pixels.
    row: Ints
    column: Ints
    y: Floats
    x: Floats
    extension: Floats  # Sigma beyond the point spread function, in pixels.

    def __getitem__(self, these: Any) -> Places:
        return Places(*(values[these] for values in vars(self).values()))


class _Known(NamedTuple):
    """Sources of a run's joint model in a window, as columns, in pixels of the map."""

    y: Floats
    x: Floats
    # Where their fits began.
    y_start: Floats
    x_start: Floats
    npred: Floats
    extension: Floats
    radius: Floats  # Of their discs.

    def these(self, which: Bools) -> _Known:
        return _Known(*(values[which] for values in self))


def measure_given(
    run_dir: RunDir, run_id: str, plan: Plan, survey: Path, reach: Reach, tile_id: int, places: Places
) -> dict[str, NDArray[Any]]:
    """Measure what is at positions in a core; nothing is written.

    Parameters
    ----------
    run_dir, run_id, plan, survey
        Of a finished run; the survey's store.
    reach : Reach
        How far its sources reach.
    tile_id : int
        Of the core.
    places : Places
        Positions in it.

    Returns
    -------
    dict of ndarray
        Columns as those from which the catalogue is made (`cwt_dask.merge.columns`), a row a position; and ``seen``,
        the share of each source that the survey sees.
    """
    opened, tile = open_survey(survey, plan.grid), plan.grid.tile(tile_id)
    window = plan.grid.around(tile, _margin(run_dir, reach, tile_id))
    known = _known(run_dir, run_id, plan, reach, window)
    pixels = opened.read_window(window, window, digest=False)
    n, sigma = len(places.y), point_spread_of(run_dir, plan, opened.header_text).sigma
    fitted = np.zeros((n, 6))
    blended = np.zeros(n, np.int64)
    scale = np.abs(np.subtract.outer(np.hypot(sigma, places.extension), plan.kernels.scales)).argmin(axis=1)
    radius = disc_radii(plan.kernels)[scale]
    for extension in np.unique(places.extension):
        scene = scene_in(
            run_dir, plan, opened, tile_id, window, pixels, widths=[float(extension)] if extension > 0 else []
        )
        for j in np.flatnonzero(places.extension == extension):
            apart = np.hypot(known.y - places.y[j], known.x - places.x[j])
            # A wide source is known less well.
            alike = np.hypot(plan.kernels.scales[0], np.minimum(known.extension, extension))
            others = known.these(apart > SAME * alike)
            near = np.hypot(others.y - places.y[j], others.x - places.x[j]) <= radius[j] + others.radius
            blended[j] = SourceFlag.BLENDED if near.any() else 0
            fitted[j] = _fit(scene, pixels, window, others, places, j)
    turn = plan.grid.width if plan.grid.ring else None
    # Of a pixel that takes no part itself no map says that such are near; those of facets are many, and say nothing.
    masked = ~pixels.valid[places.row - window.y0, places.column - window.x0] & (not isinstance(plan.grid, FacetGrid))
    counts, background = disc_sums(
        [pixels.counts, pixels.background], window, places.row, places.column, radius, turn=turn
    )
    pixels.close()
    release()
    low, high = excess_interval(counts, background)
    maps = open_group(run_dir.maps, whole="run")
    at = places.row - tile.core.y0, places.column - tile.core.x0
    names = ("npred", "npred_low", "npred_high", "npred_ul", "ts", "seen")
    return {
        **{name: np.asarray(maps[name][tile.core.slices])[at] for name in ("significance", "sigma")},
        "iteration": np.asarray(maps["best_iteration"][tile.core.slices])[at],
        "y": places.row,
        "x": places.column,
        "y_fit": places.y,
        "x_fit": places.x,
        "scale": plan.kernels.scales[scale],
        "radius": radius,
        "counts": counts,
        "background": background,
        "low": low,
        "high": high,
        **dict(zip(names, fitted.T, strict=True)),
        "exposure": exposure_at(opened, places.row, places.column),
        "flags": flags_at(run_dir, plan, tile, places.row, places.column)
        | blended
        | np.where(masked, SourceFlag.MASKED_NEIGHBOUR, 0),
    }


def _margin(run_dir: RunDir, reach: Reach, tile_id: int) -> int:
    """How far beyond its core a tile was fitted last: as far as it was ever."""
    wider = (margin for margin in reversed(reach.margins[1:]) if exists(run_dir.fitted(tile_id, margin)))
    return next(wider, reach.margin)


def _known(run_dir: RunDir, run_id: str, plan: Plan, reach: Reach, window: Box) -> _Known:
    """Sources of the joint model, as the tiles in whose cores they are have them."""
    found = []
    for tile in plan.grid.overlapping(window):
        before = read_found(run_dir, run_id, tile.id)[1]
        new, fitted, _ = read_fitted(run_dir, run_id, tile.id, _margin(run_dir, reach, tile.id))
        turn = tile.core.x0 - plan.grid.tile(tile.id).core.x0
        start = {name: np.append(getattr(before, name), getattr(new, name)) for name in ("y_start", "x_start")}
        radius = disc_radii(plan.kernels)[np.append(before.best_scale, new.best_scale)]
        columns = fitted.y_fit, fitted.x_fit + turn, start["y_start"], start["x_start"] + turn
        known = _Known(*columns, fitted.npred, fitted.extension, radius)
        inside = (window.y0 <= known.y) & (known.y < window.y1) & (window.x0 <= known.x) & (known.x < window.x1)
        found.append(known.these(fitted.accepted & inside))
    return _Known(*(np.concatenate(columns).astype(np.float64) for columns in zip(*found, strict=True)))


def _fit(scene: Scene, pixels: Window, window: Box, known: _Known, places: Places, j: Any) -> tuple[float, ...]:
    """Fit one position: sources whose footprints overlap with its own are fitted again, others stay as they are."""
    y, x, shapes = places.y[j] - window.y0, places.x[j] - window.x0, scene.shapes
    n_widths = len(shapes.extensions)

    def shape_of(at_y: Floats, at_x: Floats, extension: Floats) -> Ints:
        pixel = (
            np.clip(np.rint(at), 0, n - 1).astype(np.int64) for at, n in zip((at_y, at_x), window.shape, strict=True)
        )
        width = np.abs(np.subtract.outer(extension, shapes.extensions[1:])).argmin(axis=1) + 1 if n_widths > 1 else 0
        return np.asarray(scene.node_of(*pixel) * n_widths + np.where(extension > 0, width, 0))

    others = known._replace(
        y=known.y - window.y0,
        x=known.x - window.x0,
        y_start=known.y_start - window.y0,
        x_start=known.x_start - window.x0,
    )
    shape = int(shape_of(np.array([y]), np.array([x]), places.extension[[j]])[0])
    their_shapes = shape_of(others.y_start, others.x_start, others.extension)
    half, reach = shapes.half[their_shapes], _room(shapes, their_shapes)
    # Where they are may be at the end of the room that their fit had.
    off = np.maximum(np.abs(others.y - others.y_start), np.abs(others.x - others.x_start))
    reach = np.maximum(reach, off)
    apart = np.maximum(np.abs(others.y - y), np.abs(others.x - x))
    free = apart <= half + reach + shapes.half[shape] + 1
    extent = [
        (np.append(at[free], own), np.append((half + reach)[free], shapes.half[shape]), n)
        for at, own, n in zip((others.y, others.x), (y, x), window.shape, strict=True)
    ]
    # All pixels of these sources.
    y0, x0 = (max(0, math.floor((at - far).min()) - 1) for at, far, _ in extent)
    y1, x1 = (min(n, math.ceil((at + far).max()) + 2) for at, far, n in extent)
    cut = slice(y0, y1), slice(x0, x1)
    if shapes.centres.size:
        shapes = shapes._replace(centres=shapes.centres[:, y0:y1, x0:x1].copy())
    background, patch = scene.background[cut].copy(), patch_for(shapes)
    for k in np.flatnonzero(~free):
        add(background, shapes, their_shapes[k], others.y[k] - y0, others.x[k] - x0, others.npred[k], patch)
    these = others.these(free)
    stars = Stars(
        their_shapes[free],
        np.column_stack([these.npred, these.y - y0, these.x - x0]),
        np.column_stack([these.y_start - y0, these.x_start - x0]),
        reach[free],
    )
    return fit_given(pixels.counts[cut], background, scene.seen[cut], shapes, stars, (y - y0, x - x0), shape)


def _room(shapes: Shapes, shape: Ints) -> Floats:
    """How far sources of some shapes go from where their fits begin, as `select_forward` has it."""
    point = shapes.sigma[shape - shape % len(shapes.extensions)]
    return np.asarray(np.ceil(64 * np.maximum(np.maximum(1.0, 1.5 * point), shapes.sigma[shape] / 2)) / 64)
