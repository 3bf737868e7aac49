"""Tiles made again with a wider margin, and the map as a whole: both compared with what a run published."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from cwt_dask.config.validation import counted, format_bytes
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.cwt.buffers import forget
from cwt_dask.cwt.spectra import fast_length, kernel_spectra
from cwt_dask.cwt.state import Detected, State
from cwt_dask.cwt.support import in_bright_islands, in_open_islands
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.geometry.facets import AnyGrid, FacetGrid
from cwt_dask.geometry.tiling import Axis, Box, Tile, TileGrid
from cwt_dask.geometry.windows import read_box
from cwt_dask.planning.cost import PROCESS_MEMORY
from cwt_dask.planning.plan import Plan
from cwt_dask.results import SurveyRun
from cwt_dask.storage.ledger import TileRecord, read_run_id
from cwt_dask.storage.schema import spec_of
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import open_survey
from cwt_dask.tiles.checkpoint import TileState
from cwt_dask.tiles.compute import compute

# E², over the floor of rounding, from which T/E is as good as its tolerance.
PRECISE = 2.0**16


@dataclass(frozen=True)
class Comparison:
    """What was published, against the same pixels computed again."""

    # By image, the largest difference: that of model and significance over their maximum, that of the others over the
    # largest value of theirs or of the model in all pixels computed. Significance is compared where the expected error
    # was precise throughout: elsewhere T/E is good to fewer digits.
    errors: Mapping[str, float]
    support_flips: int  # Pixels, counted once a scale, whose support differs.
    n_iter: int  # Iterations made again.
    n_iter_published: tuple[int, ...]  # Iterations of the tiles that published these pixels.

    @property
    def agrees(self) -> bool:
        """Whether the differences are within what is promised."""
        # Not "error > tolerance": NaN must show.
        small = all(error <= spec_of(name).tolerance for name, error in self.errors.items())
        return small and not self.support_flips and self.n_iter_published == (self.n_iter,)

    def __str__(self) -> str:
        published = "" if self.n_iter_published == (self.n_iter,) else f" (published {_listed(self.n_iter_published)})"
        errors = ", ".join(f"{name} {error:.1e}" for name, error in self.errors.items())
        return (
            f"{counted(self.n_iter, 'iteration')}{published}: differences over the maximum: {errors}; "
            f"support differs in {counted(self.support_flips, 'pixel')}"
        )


def draw_tiles(n_tiles: int, n_wanted: int, seed: int) -> list[int]:
    """Draw tiles at random without replacement; all, where there are no more than are wanted.

    Raises SettingsError if none is wanted, or the seed is negative.

    Parameters
    ----------
    n_tiles, n_wanted : int
        How many there are and how many are wanted.
    seed : int
        Decides which.
    """
    if n_wanted < 1:
        raise SettingsError(f"recompute is {n_wanted}: it must be at least 1 tile")
    if seed < 0:
        raise SettingsError(f"seed is {seed}: it must be 0 or more")
    drawn = np.random.default_rng(seed).choice(n_tiles, size=min(n_wanted, n_tiles), replace=False)
    return sorted(drawn.tolist())


def wider_grid(plan: Plan) -> AnyGrid:
    """The run's tiles, with margins wider by twice the kernels' reach; the same grid where there are no seams."""
    grid, reach = plan.grid, plan.kernels.reach
    if isinstance(grid, FacetGrid):
        return grid.wider(grid.margin + 2 * reach, reach, fast_length)
    margin = max(grid.y.margin, grid.x.margin) + 2 * reach
    return TileGrid.plan(grid.map_box.shape, grid.core_shape, margin, reach, fast_length, ring=grid.ring)


@numpys_own
def recompute_tile(run: SurveyRun, tile_id: int, n_iter: int) -> Comparison:
    """Make a tile again with a wider margin, to the iteration at which it ended, and compare its core.

    Islands with pixels beyond the window that the tile itself had are taken as published, unless their peak decides.

    Parameters
    ----------
    run : SurveyRun
        The run.
    tile_id : int
        The tile.
    n_iter : int
        At which iteration it ended.
    """
    plan = run.stored.plan
    grid = wider_grid(plan)
    tile = grid.tile(tile_id)
    state = _iterated(run, grid, n_iter, None, _filter_of(run, grid, tile), tile)
    published, core, owned = tile.core, tile.core.within(tile.box), np.True_
    if isinstance(plan.grid, FacetGrid):
        # A facet publishes what it owns of its image, which is the middle of the wider one.
        published, side = plan.grid.tile(tile_id).core, plan.grid.side_of(tile_id)
        wider = (tile.core.shape[0] - side) // 2
        core = (slice(wider, wider + side),) * 2
        owned = _published(run, "mask", published) != 0
    scale = max(float(np.abs(image).max()) for image in (state.model, state.approx))
    return Comparison(
        errors={
            "model": _error(run, "model", published, state.model[core] * owned),
            "approx": _error(run, "approx", published, state.approx[core] * owned, scale),
        },
        support_flips=int((_published(run, "support", published) != (state.support[(..., *core)] & owned)).sum()),
        n_iter=state.iteration,
        n_iter_published=(n_iter,),
    )


@numpys_own
def recompute_whole(run: SurveyRun, records: Mapping[int, TileRecord]) -> Comparison:
    """Analyse the whole map at once, and compare it with the published maps."""
    plan = run.stored.plan
    grid = whole_grid(plan)
    precise = np.ones(grid.map_box.shape, dtype=bool)
    least = PRECISE * plan.rounding * kernel_spectra(plan.kernels, grid.box_shape).squared_sum

    def observe(state: State, _converged: bool) -> None:
        for scale, error in enumerate(state.error):
            precise[...] &= error[state.core] ** 2 > least[scale]

    stop = plan.settings.max_iter
    state = _iterated(run, grid, stop, _tol(plan), None, grid.tile(0), ring=grid.ring, observe=observe)
    everything = plan.grid.map_box
    shown = state.core
    model, approx = state.model[shown], state.approx[shown]
    residual = run.survey.read("counts", everything) - (model + approx)
    significance = np.where(np.isfinite(state.significance), state.significance, 0.0)
    scale = float(model.max())
    errors = {
        "model": _error(run, "model", everything, model),
        "approx": _error(run, "approx", everything, approx, scale),
        "residual": _error(run, "residual", everything, residual, scale),
    }
    if precise.any():
        errors["significance"] = _error(run, "significance", everything, significance, where=precise)
    return Comparison(
        errors=errors,
        support_flips=int((_published(run, "support", everything) != state.support[(..., *shown)]).sum()),
        n_iter=state.iteration,
        n_iter_published=tuple(sorted({record.n_iter for record in records.values()})),
    )


def whole_grid(plan: Plan) -> TileGrid:
    """The map as one tile. On a ring its box is the circle itself, round which convolution goes without a seam."""
    (y, x), ring = plan.grid.map_box.shape, plan.grid.ring
    if ring:
        return TileGrid(Axis.plan(y, y, 0, plan.kernels.reach, fast_length), Axis(x, x, 0, 0, x, ring=True))
    return TileGrid.plan((y, x), (y, x), 0, plan.kernels.reach, fast_length)


def refuse_what_does_not_fit(plan: Plan) -> None:
    """Refuse to analyse a map at once that is too large for this machine.

    Raises InputError if the memory that is available does not suffice.
    """
    if isinstance(plan.grid, FacetGrid):
        raise InputError(
            "the sphere has no whole map that facets could be equal to: leave out --against-whole and take "
            "--recompute K, which makes facets again with a wider margin"
        )
    # With what a tile takes, copies of the map, and T and E of every scale; measured 243 with two scales.
    per_pixel = 190 + 50 * plan.kernels.n_scale
    needed = PROCESS_MEMORY + per_pixel * math.prod(whole_grid(plan).box_shape)
    available = psutil.virtual_memory().available
    if needed > available:
        raise InputError(
            f"the whole map needs about {format_bytes(needed)} of memory, {format_bytes(available)} are available: "
            "leave out --against-whole and take --recompute K, which makes tile after tile"
        )


@dataclass(frozen=True)
class WiderFilter:
    """Decides on islands in a window that is wider than the one its tile had."""

    threshold: float  # Islands whose largest T/E is below it are dropped.
    trusted: NDArray[np.bool_]  # Pixels of the box whose T/E is as good as in the whole map (y, x).
    # Iteration at which each pixel joined the published support, 0 where it never did (scale, y, x).
    joined: NDArray[np.int32]

    def select(self, iteration: int, _joined: NDArray[np.uint16], scale: int, detected: Detected) -> NDArray[np.bool_]:
        """Which pixels join the support.

        Parameters
        ----------
        iteration, scale : int
            Iteration, and index of the scale.
        detected : Detected
            Pixels above the threshold.
        """
        trusted = self.trusted.ravel()[detected.pixels]
        joined = self.joined[scale].ravel()[detected.pixels]
        published = (joined > 0) & (joined <= iteration)
        shown = replace(detected, ratio=np.where(trusted, detected.ratio, -np.inf))
        kept = in_bright_islands(shown, self.threshold)
        kept |= published & in_open_islands(detected, self.threshold, trusted)
        return kept


def _filter_of(run: SurveyRun, grid: AnyGrid, tile: Tile) -> WiderFilter | None:
    plan = run.stored.plan
    threshold = plan.settings.significance_island_threshold
    if threshold is None or not grid.has_seams:
        return None
    trusted = np.zeros(tile.box.shape, dtype=bool)
    # What lies nearer to the edge than the margin was widened suffers from the cut as the tile's own margin did.
    trusted[grid.sound(tile, 2 * plan.kernels.reach).within(tile.box)] = True
    joined = np.zeros((plan.kernels.n_scale, *tile.box.shape), dtype=np.int32)
    seen = grid.on_map(tile.window)
    published = open_group(run.files.maps)["joined"]
    joined[(..., *seen.within(tile.box))] = read_box(published, seen, ring=grid.ring)
    return WiderFilter(threshold, trusted, joined)


def _tol(plan: Plan) -> float | None:
    return None if plan.settings.stopping == "fixed" else plan.settings.tol


def _iterated(
    run: SurveyRun,
    grid: AnyGrid,
    stop: int,
    tol: float | None,
    islands: WiderFilter | None,
    tile: Tile,
    *,
    ring: bool = False,
    observe: Callable[[State, bool], None] | None = None,
) -> State:
    """Make a tile of any grid from the start; nothing is written.

    With `ring` its box is the whole of a ring. `observe` sees T and E of every scale.
    """
    stored = run.stored
    job = replace(stored.plan.job(run.files, read_run_id(run.files), stored.survey.path), grid=grid, stop=stop, tol=tol)
    window = open_survey(job.survey, grid).read_window(tile.window, tile.box)
    begin = TileState.start(job.kernels.n_scale, tile, with_cubes=observe is not None)
    select = islands.select if islands else None
    state = compute(job, tile, window, begin, select, ring=ring, observe=observe).reached.state
    # This process may have nothing more to iterate.
    forget()
    return state


def _error(
    run: SurveyRun,
    name: str,
    box: Box,
    again: NDArray[np.float64],
    least_scale: float = 0.0,
    *,
    where: NDArray[np.bool_] | bool = True,
) -> float:
    """Largest difference of a published image (y, x) over its scale; 1 where anything differs from nothing."""
    difference = float(np.abs(_published(run, name, box) - again).max(where=where, initial=0.0))
    scale = max(float(np.abs(again).max()), least_scale)
    # Not "difference > 0": NaN must show.
    return difference / scale if scale > 0 else float(difference != 0)


def _published(run: SurveyRun, name: str, box: Box) -> NDArray[Any]:
    return np.asarray(open_group(run.files.maps)[name][(..., *box.slices)])


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
