"""The joint likelihood of one tile: its core's candidates, with those of a margin around it in the model.

A tile fits all that lies in its window; what it says of its neighbours' sources is compared with what they say
themselves (`cwt_dask.merge.agreement`), and where both differ, both are done again in wider windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.cwt.spectra import fast_length, kernel_spectra
from cwt_dask.cwt.state import Criteria, Field, State
from cwt_dask.cwt.step import step
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.candidates import SAME
from cwt_dask.measure.centroids import find_centroids
from cwt_dask.measure.likelihood import FLOOR, Fit
from cwt_dask.measure.peaks import disc_radii, disc_sums, find_peaks
from cwt_dask.measure.poisson import excess_interval
from cwt_dask.measure.shapes import Shapes
from cwt_dask.planning.plan import Plan
from cwt_dask.psf import PointSpread, kept_point_spread
from cwt_dask.psf.shapes import shapes_at
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import Survey, wcs_from_text
from cwt_dask.tiles.fitted import Fitted, Seen, write_fitted
from cwt_dask.tiles.sources import Peaks, exposure_at, flags_at, read_found
from cwt_dask.trust import SourceFlag

# Widths of extended sources that are tried, in those of the point spread function.
EXTENSIONS = (2.0, 4.0, 8.0)
# Which point spread function holds is looked up once for so many pixels along each axis, counted from the map's corner.
_CELL = 16
# S that one more source beside others must have: what a shape lacks, and noise, must not take counts of what is there.
_LEAST_BESIDE = 4.5
# T/E above which pixels join a support, where none should.
_NEVER = 1e30


@dataclass(frozen=True)
class Reach:
    """How far sources reach, in pixels to each side."""

    point: int  # A point source.
    widest: int  # The widest that is tried.
    # Around a core what a tile fits at first: some footprints, and what S needs around them; and at most, as memory is
    # planned for tiles.
    margin: int
    most: int

    @classmethod
    def of(cls, run_dir: RunDir, plan: Plan, survey: Survey) -> Reach:
        """Find it for a run.

        Parameters
        ----------
        run_dir, plan, survey
            Of the run.
        """
        spread = _point_spread(run_dir, plan.settings.psf, float(plan.kernels.scales[0]), survey.header_text)
        shapes = _shapes(spread, plan, plan.grid.map_box)[0]
        points = shapes.half.reshape(-1, len(shapes.extensions))[:, 0]
        # The tails of a point spread function reach farther than its neighbours matter.
        near = min(int(points.max()), math.ceil(6 * float(spread.sigmas.max())))
        margin = 2 * near + max(2 * near, plan.kernels.reach)
        return cls(int(points.max()), shapes.reach, margin, max(margin, plan.grid.margin or 0))


def fit_tile(run_dir: RunDir, run_id: str, plan: Plan, survey: Path, margin: int, tile_id: int) -> int:
    """Fit the candidates of a core, and keep what is found in a file.

    Parameters
    ----------
    run_dir, run_id, plan, survey
        Of a run with the candidates of all tiles; the survey's store.
    margin : int
        Pixels around the core that are fitted with it.
    tile_id : int
        Of the core; it is returned.
    """
    grid = plan.grid
    core = grid.tile(tile_id).core
    opened = Survey.open(survey, ring=grid.ring)
    window = grid.on_map(core.grown(margin))
    known = _known(run_dir, run_id, plan, window)
    pixels = opened.read_window(window, window, digest=False)
    images = pixels.counts, pixels.background, pixels.valid
    spread = _point_spread(run_dir, plan.settings.psf, float(plan.kernels.scales[0]), opened.header_text)
    shapes, node_of = _shapes(spread, plan, window)
    fit = Fit(*images, shapes, extended=plan.settings.extended)
    y_start, x_start = known["y_start"] - window.y0, known["x_start"] - window.x0
    orders = fit.select(y_start, x_start, node_of(y_start, x_start))
    fit.solve()
    beside = _Beside.nothing()
    # Without a point spread function what is left beside a source is what its shape lacks.
    if plan.settings.psf is not None and (orders >= 0).any():
        beside = _beside(plan, fit, images, margin)
        fit.select(beside.y, beside.x, node_of(beside.y, beside.x))
        fit.solve()
    _write(run_dir, run_id, plan, opened, tile_id, window, known, pixels, fit, beside, node_of)
    pixels.close()
    return tile_id


@dataclass(frozen=True)
class _Beside:
    """Maxima of S with all sources in the background, in pixels of the window."""

    y: Ints
    x: Ints
    sigma: Floats
    scale: Ints

    @classmethod
    def nothing(cls) -> _Beside:
        none = np.zeros(0, np.int64)
        return cls(none, none, np.zeros(0), none)


def _known(run_dir: RunDir, run_id: str, plan: Plan, window: Box) -> dict[str, NDArray[Any]]:
    """Candidates of a window: their pixels, those at which fits start, whose they are and their places there."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("y", "x", "y_start", "x_start", "tile", "place")}
    for tile in plan.grid.overlapping(window):
        _, peaks = read_found(run_dir, run_id, tile.id)
        turn = tile.core.x0 - plan.grid.tile(tile.id).core.x0
        y, x = peaks.y_start, peaks.x_start + turn
        inside = (window.y0 <= y) & (y < window.y1) & (window.x0 <= x) & (x < window.x1)
        found = {"y": peaks.y, "x": peaks.x + turn, "y_start": y, "x_start": x}
        found |= {"tile": np.full(y.size, tile.id), "place": np.arange(y.size)}
        for name, values in found.items():
            columns[name].append(values[inside])
    return {name: np.concatenate(values) if values else np.zeros(0, np.int64) for name, values in columns.items()}


@lru_cache(maxsize=2)
def _point_spread(run_dir: RunDir, setting: Any, finest: float, header_text: str) -> PointSpread:
    """That of a run; where it has none a Gaussian as wide as the finest scale."""
    return kept_point_spread(run_dir, setting, wcs_from_text(header_text)) or PointSpread.gaussian(finest)


@lru_cache(maxsize=2)
def _same_everywhere(spread: PointSpread, extensions: tuple[float, ...]) -> Shapes:
    return shapes_at(spread, [0.0], [0.0], extensions)[0]


def _shapes(spread: PointSpread, plan: Plan, window: Box) -> tuple[Shapes, Any]:
    """Shapes in a window, and a function that gives their nodes at pixels of it."""
    extensions = tuple(spread.sigma * factor for factor in EXTENSIONS) if plan.settings.extended else ()
    if spread.places is None:
        return _same_everywhere(spread, extensions), lambda y, _x: np.zeros(len(y), np.int64)
    # Cells of the map, so that all windows have the same.
    rows = np.arange(window.y0 // _CELL, -(-window.y1 // _CELL))
    columns = np.arange(window.x0 // _CELL, -(-window.x1 // _CELL))
    x, y = np.meshgrid((columns + 0.5) * _CELL, (rows + 0.5) * _CELL)
    if plan.grid.ring:
        x %= plan.grid.x.length
    shapes, node = shapes_at(spread, x.ravel(), y.ravel(), extensions)
    nodes = node.reshape(len(rows), len(columns))

    def node_of(y: Ints, x: Ints) -> Ints:
        return np.asarray(nodes[(y + window.y0) // _CELL - rows[0], (x + window.x0) // _CELL - columns[0]])

    return shapes, node_of


def _beside(plan: Plan, fit: Fit, images: tuple[Floats, Floats, Bools], margin: int) -> _Beside:
    """Maxima of S at the finest scale that the joint model leaves, but for those at its own sources."""
    counts, background, valid = images
    # What lies beside others is seen best by the finest kernel; what the widest leave of a shape is no source.
    shape, kernels = counts.shape, replace(plan.kernels, n_scale=1)
    # All tiles in one box; a rim of zeros against the circular convolution.
    sides = (full + 2 * margin + kernels.reach for full in plan.grid.core_shape)
    box = tuple(fast_length(max(side, length + kernels.reach)) for side, length in zip(sides, shape, strict=True))
    rim = [(0, side - length) for side, length in zip(box, shape, strict=True)]
    # Not where the fit takes a floor for the background: without one there is no S.
    sources_there = np.maximum(fit.expected - np.maximum(background, FLOOR), 0.0)
    expected = np.where(valid, background + sources_there, 0.0)
    field = Field(np.pad(counts, rim), np.pad(expected, rim), np.pad(valid, rim))
    spectra = kernel_spectra(kernels, (box[0], box[1]))
    criteria = Criteria(_NEVER, None, remove_isolated=False, rounding=plan.rounding)
    workspace = Workspace(field, spectra, criteria)
    state = State.start(kernels.n_scale, (box[0], box[1]), (slice(0, shape[0]), slice(0, shape[1])))
    state = step(state, workspace)
    sigma, scale = state.sigma.copy(), state.sigma_scale.copy()
    workspace.close()
    state.close()
    y, x = find_peaks(np.where(sigma > _LEAST_BESIDE, sigma, -np.inf), SAME * kernels.scales[0])
    sources = fit.sources
    apart = _distance(y, x, np.rint(sources.y), np.rint(sources.x))[0] > SAME * kernels.scales[0]
    return _Beside(y[apart], x[apart], sigma[y, x][apart].astype(np.float64), scale[y, x][apart].astype(np.int64))


def _distance(y: NDArray[Any], x: NDArray[Any], of_y: NDArray[Any], of_x: NDArray[Any]) -> tuple[Floats, Ints]:
    """Distance of positions to the nearest of others, and which that is; infinite where there are none."""
    if not len(of_y) or not len(y):
        return np.full(len(y), np.inf), np.zeros(len(y), np.int64)
    from scipy.spatial import cKDTree  # noqa: PLC0415 - see find_peaks

    distance, nearest = cKDTree(np.column_stack([of_y, of_x])).query(np.column_stack([y, x]))
    return np.asarray(distance), np.asarray(nearest)


def _write(
    run_dir: RunDir,
    run_id: str,
    plan: Plan,
    survey: Survey,
    tile_id: int,
    window: Box,
    known: dict[str, NDArray[Any]],
    pixels: Any,
    fit: Fit,
    beside: _Beside,
    node_of: Any,
) -> None:
    core, grid = plan.grid.tile(tile_id).core, plan.grid
    sources, n_known = fit.sources, len(known["y"])
    by_candidate = np.full(n_known + len(beside.y), -1, np.int64)
    by_candidate[sources.candidate] = np.arange(len(sources.candidate))
    # What is found beside others at a candidate that was not accepted by itself is this candidate.
    free = np.flatnonzero(by_candidate[:n_known] < 0)
    at_free = known["y_start"][free] - window.y0, known["x_start"][free] - window.x0
    distance, nearest = _distance(beside.y, beside.x, *at_free)
    key_y = np.append(known["y"], beside.y + window.y0)
    key_x = np.append(known["x"], beside.x + window.x0)
    beside_sigma, is_new = np.zeros(n_known), np.ones(len(beside.y), bool)
    for j in np.flatnonzero(distance <= SAME * plan.kernels.scales[0]):
        is_new[j] = False
        k = free[nearest[j]]
        if by_candidate[n_known + j] >= 0 and by_candidate[k] < 0:
            by_candidate[k], by_candidate[n_known + j] = by_candidate[n_known + j], -1
            beside_sigma[k] = beside.sigma[j]
    key = np.zeros(len(sources.candidate), np.int64)
    key[by_candidate[by_candidate >= 0]] = np.flatnonzero(by_candidate >= 0)
    half = fit.shapes.half[sources.node * len(fit.shapes.extensions) + sources.width]
    off = sources.y + window.y0 - key_y[key], sources.x + window.x0 - key_x[key]
    seen = Seen(key_y[key], key_x[key], half, sources.amplitude, sources.ts, *off)

    mine = np.flatnonzero(known["tile"] == tile_id)
    # On a ring a wide window may hold a core several times.
    mine = mine[(core.x0 <= known["x"][mine]) & (known["x"][mine] < core.x1)]
    mine = mine[np.argsort(known["place"][mine])]
    new = np.flatnonzero(is_new & (by_candidate[n_known:] >= 0))
    y, x = beside.y[new] + window.y0, beside.x[new] + window.x0
    new = new[(core.y0 <= y) & (y < core.y1) & (core.x0 <= x) & (x < core.x1)]
    rows = np.append(mine, n_known + new)
    starts = (
        np.append(known["y_start"][mine] - window.y0, beside.y[new]),
        np.append(known["x_start"][mine] - window.x0, beside.x[new]),
    )
    which = by_candidate[rows]
    single = fit.single(*starts, node_of(*starts))
    accepted = which >= 0

    def column(name: str, of_single: Floats | float) -> Floats:
        values = np.broadcast_to(np.asarray(of_single, np.float64), which.shape).copy()
        values[accepted] = getattr(sources, name)[which[accepted]]
        return values

    fitted = Fitted(
        accepted=accepted,
        ts=column("ts", single.ts),
        ts_ext=column("ts_ext", 0.0),
        extension=column("extension", 0.0),
        npred=column("amplitude", single.amplitude),
        npred_low=column("amplitude_low", single.amplitude_low),
        npred_high=column("amplitude_high", single.amplitude_high),
        npred_ul=column("upper_limit", single.upper_limit),
        y_fit=column("y", np.nan) + window.y0,
        x_fit=column("x", np.nan) + window.x0,
        y_fit_error=column("y_err", np.nan),
        x_fit_error=column("x_err", np.nan),
        sigma_beside=np.append(beside_sigma[mine], beside.sigma[new]),
    )
    peaks = _peaks_of(run_dir, plan, survey, tile_id, window, pixels, beside, new)
    if grid.ring:
        seen = replace(seen, x=seen.x % grid.x.length)
    write_fitted(run_dir, run_id, tile_id, peaks, fitted, seen)


def _peaks_of(
    run_dir: RunDir, plan: Plan, survey: Survey, tile_id: int, window: Box, pixels: Any, beside: _Beside, new: Ints
) -> Peaks:
    """Measure around what the fit alone has found in a core, as around other candidates."""
    tile, kernels = plan.grid.tile(tile_id), plan.kernels
    y, x, scale = beside.y[new] + window.y0, beside.x[new] + window.x0, beside.scale[new]
    turn = plan.grid.x.length if plan.grid.ring else None
    counts, background = disc_sums(
        [pixels.counts, pixels.background], window, y, x, disc_radii(kernels)[scale], turn=turn
    )
    images = pixels.counts, pixels.background, pixels.valid
    centroids = find_centroids(*images, window, y, x, kernels.scales[scale], turn=turn)
    low, high = excess_interval(counts, background)
    at = y - tile.core.y0, x - tile.core.x0
    maps = open_group(run_dir.maps, whole="run")
    significance, iteration = (
        (maps[name][tile.core.slices][at] if len(new) else np.zeros(0)) for name in ("significance", "best_iteration")
    )
    return Peaks(
        y=y,
        x=x,
        y_start=y,
        x_start=x,
        label=np.full(len(new), -1),
        significance=np.asarray(significance, np.float64),
        best_scale=scale,
        low=low,
        high=high,
        exposure=exposure_at(survey, y, x),
        sigma=beside.sigma[new],
        flags=flags_at(run_dir, plan, tile, y, x) | SourceFlag.BESIDE,
        iteration=np.asarray(iteration, np.uint16),
        counts=counts,
        background=background,
        y_centroid=centroids.y,
        x_centroid=centroids.x,
        y_error=centroids.y_error,
        x_error=centroids.x_error,
    )
