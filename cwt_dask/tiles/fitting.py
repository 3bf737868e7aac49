"""The joint likelihood of one tile: its core's candidates, with those of a margin around it in the model.

A tile fits all that lies in its window; what it says of its neighbours' sources is compared with what they say
themselves (`cwt_dask.merge.agreement`), and where both differ, both are done again in wider windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.config.settings import digest
from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.cwt.buffers import release
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.candidates import SAME
from cwt_dask.measure.centroids import find_centroids
from cwt_dask.measure.false_rows import count_levels
from cwt_dask.measure.likelihood import Fit
from cwt_dask.measure.peaks import disc_radii, disc_sums
from cwt_dask.measure.poisson import excess_interval
from cwt_dask.planning.plan import Plan
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.provenance import versions
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import Survey, Window, digest_table, open_survey
from cwt_dask.survey.sphere import AREA, ASIDE
from cwt_dask.tiles.beside import Beside, distance_to, stand_out
from cwt_dask.tiles.fitted import Fitted, FittedTile, MadeOf, Seen, made_of, read_whole, write_fitted
from cwt_dask.tiles.shapes import point_spread_of, scene_in, shapes_in
from cwt_dask.tiles.sources import PLACES, Peaks, exposure_at, flags_at, read_places
from cwt_dask.trust import SourceFlag


@dataclass(frozen=True)
class Reach:
    """How far sources reach, in pixels to each side."""

    point: int  # A point source.
    widest: int  # The widest that is tried.
    # Around a core what a tile fits at first: some footprints, and what S needs around them; and at most, as memory is
    # planned for tiles.
    margin: int
    most: int

    @property
    def margins(self) -> tuple[int, ...]:
        """What a tile may fit around its core: twice as much each time that neighbours do not agree."""
        margins = [self.margin]
        while margins[-1] < self.most:
            margins.append(min(2 * margins[-1], self.most))
        return tuple(margins)

    @classmethod
    def of(cls, run_dir: RunDir, plan: Plan, survey: Survey) -> Reach:
        """Find it for a run.

        Parameters
        ----------
        run_dir, plan, survey
            Of the run.
        """
        spread = point_spread_of(run_dir, plan, survey.header_text)
        shapes = shapes_in(spread, plan, plan.grid.map_box)[0]
        points = shapes.half.reshape(-1, len(shapes.extensions))[:, 0]
        # The tails of a point spread function reach farther than its neighbours matter.
        near = min(int(points.max()), math.ceil(6 * float(spread.sigmas.max())))
        margin = 2 * near + max(2 * near, plan.kernels.reach)
        return cls(int(points.max()), shapes.reach, margin, max(margin, plan.grid.margin or 0))


def fit_tile(
    run_dir: RunDir,
    run_id: str,
    plan: Plan,
    survey: Path,
    margin: int,
    tile_id: int,
    *,
    earlier: tuple[RunDir, str] | None = None,
) -> bool:
    """Fit the candidates of a core, and keep what is found in a file, unless it is there; return whether it was fitted.

    Parameters
    ----------
    run_dir, run_id, plan, survey
        Of a run with the candidates of all tiles; the survey's store.
    margin : int
        Pixels around the core that are fitted with it.
    tile_id : int
        Of the core.
    earlier : tuple, optional
        Directory and id of a run whose fit is taken where it was made of the same.
    """
    grid = plan.grid
    window = _window(plan, margin, tile_id)
    known = _known(plan, window, lambda tile: read_places(run_dir, run_id, tile))
    candidates = digest_table(np.column_stack(list(known.values())))
    opened = open_survey(survey, grid)
    # Stores of before may lack what says where counts lie.
    known_of = [name for name in (AREA, *ASIDE) if opened.array(name) is not None]
    settings = digest([plan.settings_digest, plan.algorithm_version, opened.header_text, versions(), *known_of])
    there = made_of(run_dir, run_id, tile_id, margin)
    if there and (there.candidates, there.settings) == (candidates, settings):
        return False
    if earlier and (before := made_of(*earlier, tile_id, margin)):
        taken = MadeOf(candidates, settings, opened.digest_window(window))
        if before == taken:
            found = read_whole(*earlier, tile_id, margin)
            new = replace(found.new, **_of_maps(run_dir, plan, opened, tile_id, found.new.y, found.new.x))
            write_fitted(run_dir, run_id, tile_id, margin, replace(found, new=new), taken)
            return False
    # Buffers of the iterations fit nothing here, and memory is planned for the one or the other.
    release()
    pixels = opened.read_window(window, window)
    found = _fit(run_dir, plan, opened, tile_id, margin, known, pixels)
    write_fitted(run_dir, run_id, tile_id, margin, found, MadeOf(candidates, settings, pixels.digest))
    pixels.close()
    del pixels
    release()
    return True


def fit_again(
    run_dir: RunDir, plan: Plan, survey: Path, margin: int, tile_id: int, peaks_of: Callable[[int], Peaks]
) -> FittedTile:
    """Fit the candidates of a core, and write nothing.

    Parameters
    ----------
    run_dir, plan, survey, margin, tile_id
        As of `fit_tile`.
    peaks_of : callable
        Gives the candidates of a tile.
    """
    window, opened = _window(plan, margin, tile_id), open_survey(survey, plan.grid)
    pixels = opened.read_window(window, window, digest=False)
    known = _known(plan, window, lambda tile: vars(peaks_of(tile)))
    found = _fit(run_dir, plan, opened, tile_id, margin, known, pixels)
    pixels.close()
    return found


def _window(plan: Plan, margin: int, tile_id: int) -> Box:
    return plan.grid.around(plan.grid.tile(tile_id), margin)


def _fit(
    run_dir: RunDir,
    plan: Plan,
    survey: Survey,
    tile_id: int,
    margin: int,
    known: dict[str, NDArray[Any]],
    pixels: Window,
) -> FittedTile:
    window = _window(plan, margin, tile_id)
    images = pixels.counts, pixels.background, pixels.valid
    scene = scene_in(run_dir, plan, survey, tile_id, window, pixels)
    fit, node_of = Fit(pixels.counts, *scene[:3], extended=plan.settings.extended), scene.node_of
    y_start, x_start = known["y_start"] - window.y0, known["x_start"] - window.x0
    orders = fit.select(y_start, x_start, node_of(y_start, x_start))
    fit.solve()
    beside = Beside.nothing()
    # Without a point spread function what is left beside a source is what its shape lacks.
    if plan.settings.psf is not None and (orders >= 0).any():
        beside = stand_out(plan, fit, images)
        fit.select(beside.y, beside.x, node_of(beside.y, beside.x))
        fit.solve()
    return _columns(run_dir, plan, survey, tile_id, window, known, pixels, fit, beside, node_of)


def _known(
    plan: Plan, window: Box, places_of: Callable[[int], dict[str, NDArray[np.int64]]]
) -> dict[str, NDArray[Any]]:
    """Candidates of a window: their pixels, those at which fits start, whose they are and their places there."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in (*PLACES, "tile", "place")}
    for tile in plan.grid.overlapping(window):
        places = places_of(tile.id)
        turn = tile.core.x0 - plan.grid.tile(tile.id).core.x0
        y, x = places["y_start"], places["x_start"] + turn
        inside = (window.y0 <= y) & (y < window.y1) & (window.x0 <= x) & (x < window.x1)
        found = {"y": places["y"], "x": places["x"] + turn, "y_start": y, "x_start": x}
        found |= {"tile": np.full(y.size, tile.id), "place": np.arange(y.size)}
        for name, values in found.items():
            columns[name].append(values[inside])
    return {name: np.concatenate(values) if values else np.zeros(0, np.int64) for name, values in columns.items()}


def _columns(
    run_dir: RunDir,
    plan: Plan,
    survey: Survey,
    tile_id: int,
    window: Box,
    known: dict[str, NDArray[Any]],
    pixels: Window,
    fit: Fit,
    beside: Beside,
    node_of: Any,
) -> FittedTile:
    """What a fit says of a core, and which sources it has in the window."""
    core, grid = plan.grid.tile(tile_id).core, plan.grid
    sources, n_known = fit.sources, len(known["y"])
    by_candidate = np.full(n_known + len(beside.y), -1, np.int64)
    by_candidate[sources.candidate] = np.arange(len(sources.candidate))
    # What is found beside others at a candidate that was not accepted by itself is this candidate.
    free = np.flatnonzero(by_candidate[:n_known] < 0)
    at_free = known["y_start"][free] - window.y0, known["x_start"][free] - window.x0
    distance, nearest = distance_to(beside.y, beside.x, *at_free)
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
        seen = replace(seen, x=seen.x % grid.width)
    part = core.within(window)
    return FittedTile(peaks, fitted, seen, count_levels(pixels.background[part], pixels.valid[part]))


def _peaks_of(
    run_dir: RunDir, plan: Plan, survey: Survey, tile_id: int, window: Box, pixels: Window, beside: Beside, new: Ints
) -> Peaks:
    """Measure around what the fit alone has found in a core, as around other candidates."""
    kernels = plan.kernels
    y, x, scale = beside.y[new] + window.y0, beside.x[new] + window.x0, beside.scale[new]
    turn = plan.grid.width if plan.grid.ring else None
    counts, background = disc_sums(
        [pixels.counts, pixels.background], window, y, x, disc_radii(kernels)[scale], turn=turn
    )
    images = pixels.counts, pixels.background, pixels.valid
    centroids = find_centroids(*images, window, y, x, kernels.scales[scale], turn=turn)
    low, high = excess_interval(counts, background)
    of_maps = _of_maps(run_dir, plan, survey, tile_id, y, x)
    return Peaks(
        y=y,
        x=x,
        y_start=y,
        x_start=x,
        label=np.full(len(new), -1),
        significance=of_maps["significance"],
        best_scale=scale,
        low=low,
        high=high,
        exposure=of_maps["exposure"],
        sigma=beside.sigma[new],
        flags=of_maps["flags"],
        iteration=of_maps["iteration"],
        counts=counts,
        background=background,
        y_centroid=centroids.y,
        x_centroid=centroids.x,
        y_error=centroids.y_error,
        x_error=centroids.x_error,
    )


def _of_maps(run_dir: RunDir, plan: Plan, survey: Survey, tile_id: int, y: Ints, x: Ints) -> dict[str, NDArray[Any]]:
    """What the maps, and not the fit, say of candidates that the fit alone has found, by field of `Peaks`."""
    tile = plan.grid.tile(tile_id)
    at, maps = (y - tile.core.y0, x - tile.core.x0), open_group(run_dir.maps, whole="run")
    significance, iteration = (
        (maps[name][tile.core.slices][at] if len(y) else np.zeros(0)) for name in ("significance", "best_iteration")
    )
    return {
        "significance": np.asarray(significance, np.float64),
        "iteration": np.asarray(iteration, np.uint16),
        "exposure": exposure_at(survey, y, x),
        "flags": flags_at(run_dir, plan, tile, y, x) | SourceFlag.BESIDE,
    }
