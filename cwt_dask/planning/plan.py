"""The plan of a run: settings resolved for one survey, tile grid, margin, memory, disk. Nothing is run or written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cwt_dask.config.settings import ALGORITHM_VERSION, SINCE, SPLIT, Settings, digest, kernels_of
from cwt_dask.config.validation import format_bytes
from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.cwt.state import Criteria, rounding_level
from cwt_dask.errors import SettingsError
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.margins import bounded, contract_margin, expected_error, growth
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.planning.cost import (
    automatic_facets,
    automatic_grid,
    deadline,
    disk,
    fit_memory,
    fit_seconds,
    run_seconds,
    tile_memory,
)
from cwt_dask.planning.job import Job
from cwt_dask.planning.scales import ALL_GIVEN, TUTORIALS, with_scales
from cwt_dask.psf import PointSpread
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import SurveyStatistics

# Growth an iteration that a run would show: a tenth in a hundred of them.
UNSTABLE = 1.001
# Number of times that each pixel may be computed, by tiles that a user chooses, before that is warned about.
MOST_REPETITION = 25
# Counts of background in the finest kernel's disc below which noise alone has T/E far above 5.
FEW_COUNTS = 5.0


@dataclass(frozen=True)
class Plan:
    """All that is decided before a run."""

    settings: Settings  # As given, with `min_scale` in pixels.
    grid: AnyGrid  # The tiles.
    brightest: float  # Largest pixel of counts or background in this survey.
    contract_margin: int  # Least margin in pixels at which tiles are promised to do no harm.
    survey_digest: str  # Of the survey's pixels and WCS.
    survey_facts: str  # Of all that is known of the survey: `SurveyStatistics.facts_digest`.
    warnings: tuple[str, ...]  # What the user should know.
    # As of `SurveyStatistics`.
    used: str = ""
    no_flux: str = ""
    origins: tuple[dict[str, Any], ...] = ()
    # With the point spread function's.
    files: tuple[dict[str, str], ...] = ()
    psf: str = ""  # What the point spread function is, and what the scales cover; empty where none is given.
    background: str = ""
    algorithm_version: int = ALGORITHM_VERSION  # Of the mathematics that the plan was made for.

    @cached_property
    def kernels(self) -> CWTKernels:
        """The kernels."""
        return kernels_of(self.settings)

    @property
    def rounding(self) -> float:
        """Counts per pixel that are zero to rounding in this survey."""
        return rounding_level(self.brightest)

    @property
    def criteria(self) -> Criteria:
        """When a pixel joins the support."""
        return Criteria(
            significance_threshold=self.settings.significance_threshold,
            significance_island_threshold=self.settings.significance_island_threshold,
            remove_isolated=not self.settings.keep_isolated,
            rounding=self.rounding,
        )

    @property
    def margin_suffices(self) -> bool:
        """Whether the margin is at least the contract's, or there is no seam."""
        return self.grid.margin is None or self.grid.margin >= self.contract_margin

    @property
    def bounded(self) -> bool:
        """Whether a margin can bound what tiles do, or there is no seam."""
        return self.grid.margin is None or bounded(self.kernels, self.settings.max_iter, self.brightest)

    @property
    def expected_error(self) -> float | None:
        """Largest model error that the margin lets one expect, over a tile's model maximum; None without a bound.

        0 where there is no seam.
        """
        if self.grid.margin is None:
            return 0.0
        return expected_error(self.kernels, self.settings.max_iter, self.brightest, self.grid.margin)

    @property
    def exact(self) -> bool:
        """Whether this plan promises that tiles do no harm."""
        own_stops = self.settings.stopping == "tile" and self.grid.n_tiles > 1
        return self.margin_suffices and self.bounded and not own_stops

    @property
    def waits(self) -> bool:
        """Whether tiles wait for each other, to stop where the whole map does; no change is below a tolerance of 0."""
        return self.settings.stopping == "global" and self.grid.n_tiles > 1 and self.settings.tol > 0

    @property
    def decides_islands(self) -> bool:
        """Whether tiles decide on islands together: one may reach from tile to tile, or round a ring."""
        return self.settings.significance_island_threshold is not None and self.grid.has_seams

    @property
    def decisive(self) -> dict[str, Any]:
        """All that decides the result, as plain data; two runs with the same give the same maps."""
        free = {"tile_size", "margin", "wrap", "memory_target", SPLIT}
        # What came later decided nothing.
        free |= {name for name, version in SINCE.items() if version > self.algorithm_version}
        settings = {name: value for name, value in asdict(self.settings).items() if name not in free}
        return {
            **{name: value for name, value in settings.items() if value is not None},
            "rounding": self.rounding,
            "algorithm_version": self.algorithm_version,
            # Facets of runs from before images had sizes of their own.
            "grid": {name: value for name, value in asdict(self.grid).items() if (name, value) != ("smaller", ())},
        }

    @property
    def settings_digest(self) -> str:
        """Digest of `decisive`."""
        return digest(self.decisive)

    @property
    def worker_memory(self) -> int:
        """Largest memory a worker needs, in bytes: for iterations, or to fit sources and to compile what does so."""
        return max(tile_memory(self.grid, self.kernels.n_scale), self.fit_memory)

    @property
    def disk(self) -> int:
        """Largest space that survey, maps, seams and checkpoints can take, in bytes, without compression.

        Without `maps.fits`, and without the history.
        """
        islands = self.settings.significance_island_threshold is not None
        return disk(self.grid, self.kernels.n_scale, checkpoints=self.waits or islands, islands=islands)

    @property
    def core_seconds(self) -> float:
        """Rough time of the whole run on one core, if no iteration is saved."""
        return run_seconds(self.grid, self.kernels.n_scale, self.settings.max_iter)

    @property
    def deadline(self) -> float:
        """Seconds that a task of a tile may take before it is late: generous, for the slowest of machines."""
        return deadline(self.grid, self.kernels.n_scale, self.settings.max_iter)

    @property
    def fit_memory(self) -> int:
        """Memory that the first worker of a machine needs to fit sources, in bytes: later ones need less."""
        return fit_memory(self.grid)

    @property
    def fit_seconds(self) -> tuple[float, float]:
        """Rough time of candidates and fits on one core, as usual, and where there are 10^4 sources in 10^6 pixels."""
        return fit_seconds(self.grid)

    def job(self, run_dir: RunDir, run_id: str, survey: Path) -> Job:
        """What tiles are to do under this plan: all iterations, from the start.

        Parameters
        ----------
        run_dir : RunDir
            Where results go.
        run_id : str
            Which run that is.
        survey : Path
            The survey's store.
        """
        return Job(
            run_dir=run_dir,
            run_id=run_id,
            survey=survey,
            survey_digest=self.survey_digest,
            survey_facts=self.survey_facts,
            grid=self.grid,
            kernels=self.kernels,
            criteria=self.criteria,
            settings_digest=self.settings_digest,
            stop=self.settings.max_iter,
        )

    def check_memory(self, limit: int) -> None:
        """Raise SettingsError if a worker needs more than `limit` bytes."""
        if self.worker_memory > limit:
            y, x = self.grid.box_shape
            raise SettingsError(
                f"boxes of {y} x {x} pixels need {format_bytes(self.worker_memory)} a worker, the limit is "
                f"{format_bytes(limit)}: take a smaller tile_size, memory_target or margin, fewer scales, or a larger "
                "memory_limit"
            )


def make_plan(
    settings: Settings,
    statistics: SurveyStatistics,
    spread: PointSpread | None = None,
    given: frozenset[str] = ALL_GIVEN,
    doubts: tuple[str, ...] = (),
) -> Plan:
    """Resolve settings for a survey.

    Parameters
    ----------
    settings : Settings
        As given.
    statistics : SurveyStatistics
        Of the survey.
    spread : PointSpread, optional
        The point spread function, where one is given.
    given : frozenset of str, optional
        Names of the settings that the user gives; default: all.
    doubts : tuple of str, optional
        More warnings.

    Raises
    ------
    SettingsError
        If they are impossible for the survey.
    """
    pixel_deg = statistics.pixel_scale_deg
    settings = with_scales(settings, given, spread, statistics.shape, pixel_deg)
    kernels = kernels_of(settings)
    # A single column is no neighbour of itself.
    ring = (statistics.wraps if settings.wrap == "auto" else settings.wrap == "yes") and statistics.shape[1] > 1
    contract = contract_margin(kernels, settings.max_iter, statistics.brightest)
    margin = contract if settings.margin == "auto" else settings.margin
    grid: AnyGrid
    if statistics.sphere:
        of_user, target = settings.tile_size, settings.memory_target
        grid = automatic_facets(
            statistics.sphere, margin, kernels, settings.max_iter, memory_target=target, tile_size=of_user
        )
    elif settings.tile_size == "auto":
        grid = automatic_grid(
            statistics.shape, margin, kernels, settings.max_iter, memory_target=settings.memory_target, ring=ring
        )
    else:
        grid = TileGrid.plan(statistics.shape, (settings.tile_size,) * 2, margin, kernels.reach, fast_length, ring=ring)
    plan = Plan(settings, grid, statistics.brightest, contract, statistics.digest, statistics.facts_digest, ())
    warnings = (*statistics.warnings, *doubts, *_warnings(plan, statistics))
    if spread is None and "min_scale" not in given:
        warnings += (TUTORIALS.format(scales=_in_words(kernels.scales)),)
    psf = "" if spread is None else _described(spread, kernels, statistics)
    return replace(
        plan,
        warnings=warnings,
        used=statistics.used,
        background=statistics.background,
        no_flux=statistics.no_flux,
        origins=statistics.origins,
        files=(*statistics.files, *(spread.files if spread else ())),
        psf=psf,
    )


def _described(spread: PointSpread, kernels: CWTKernels, statistics: SurveyStatistics) -> str:
    """What the point spread function is, and what the scales cover."""
    pixel_deg, scales = statistics.pixel_scale_deg, kernels.scales
    sigmas = spread.sigmas_on(statistics.shape)
    narrowest, widest = sigmas.min(), sigmas.max()
    sigma = f"{narrowest:.3g}" if widest < 1.005 * narrowest else f"{narrowest:.3g} to {widest:.3g}"
    return (
        f"{spread.origin or spread.kind}; sigma {sigma} pixels ({narrowest * pixel_deg:.3g} deg); scales "
        f"{_in_words(scales)} pixels, which cover sources of up to {scales[-1]:.3g} pixels "
        f"({scales[-1] * pixel_deg:.3g} deg) in sigma"
    )


def _in_words(scales: Floats) -> str:
    return ", ".join(f"{scale:.4g}" for scale in scales)


def _warnings(plan: Plan, statistics: SurveyStatistics) -> list[str]:
    found = []
    if not plan.bounded:
        found.append(
            f"no margin bounds what tiles do with these kernels, {plan.settings.max_iter} iterations and pixels of "
            f"{plan.brightest:g} counts: nothing is promised; take fewer iterations, coarser scales or one tile"
        )
    elif not plan.margin_suffices:
        error = plan.expected_error
        bound = "no bound exists for its error" if error is None else f"its error may reach {error:.0e} of the model"
        found.append(
            f"the margin of {plan.settings.margin} pixels is below the contract's {plan.contract_margin}: {bound}"
        )
    # The finest kernel is positive on a disc of that many pixels.
    disc_area = 2 * math.pi * plan.kernels.widths[0] ** 2
    in_disc = disc_area * statistics.background_sum / max(statistics.n_valid, 1)
    if in_disc < FEW_COUNTS:
        found.append(
            f"few counts: the finest kernel's disc is expected to hold {in_disc:.2g} of background on average: T/E is "
            "no number of sigmas, and noise alone makes tens to thousands of islands above 5 a million pixels "
            '(on the page "What to know about the outputs"): go by the score and expected_false of the catalogue'
        )
    # Twice the radius of the disc on which the coarsest kernel is positive.
    widest = 2 * math.sqrt(2) * plan.kernels.widths[-1]
    if widest > min(statistics.shape):
        found.append(
            f"the coarsest kernel is {widest:.0f} pixels wide, and the map {min(statistics.shape)}: most of what it "
            "sees is beyond the map, which counts as empty sky; take fewer or finer scales"
        )
    box, core = plan.grid.box_shape, plan.grid.core_shape
    repetition = math.prod(box) / math.prod(core)
    if plan.settings.tile_size != "auto" and repetition > MOST_REPETITION:
        found.append(
            f"tiles of {core[0]} x {core[1]} pixels are computed in boxes of {box[0]} x {box[1]}, each pixel "
            f"{repetition:.0f} times: choose a larger tile_size, or auto"
        )
    if growth(plan.kernels) > UNSTABLE:
        found.append(
            f"with these kernels the model can grow {growth(plan.kernels):.2f}-fold an iteration, also without tiles: "
            "take fewer iterations or a coarser finest scale"
        )
    if plan.settings.stopping == "tile" and plan.grid.n_tiles > 1:
        found.append("stopping is tile: tiles stop at iterations of their own, the model has steps at their seams")
        if plan.settings.significance_island_threshold is not None:
            found.append("stopping is tile: islands that leave a tile's window are decided by what it sees of them")
    island_threshold = plan.settings.significance_island_threshold
    if island_threshold is not None and island_threshold <= plan.settings.significance_threshold:
        found.append(
            f"significance_island_threshold {island_threshold:g} is not above significance_threshold: it has no effect"
        )
    if plan.grid.ring and not statistics.wraps:
        found.append(
            "wrap is yes, but by its WCS the map does not close the circle: it is assumed that its columns show the "
            "whole circle, each part once, so that the last is the neighbour of the first"
        )
    if statistics.wraps and not plan.grid.ring:
        found.append("wrap is no, but by its WCS the map closes the circle: its first and last column are borders")
    return found
