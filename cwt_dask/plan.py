"""The plan of a run: settings resolved for one survey, tile grid, margin, memory, disk. Nothing is run or written."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from cwt_dask.config import ALGORITHM_VERSION, Settings, digest
from cwt_dask.cwt.iterate import Criteria, rounding_level
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.transform import fast_length
from cwt_dask.errors import SettingsError
from cwt_dask.maps import IMAGES, STRIP_WIDTH
from cwt_dask.tiling import TileGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cwt_dask.survey import SurveyFacts

# Automatic tiles are chosen for these, never for what a run is given: the answer must not depend on its workers.
MEMORY_TARGET = 2**30
BALANCED_WORKERS = 8
# A map that is one small box gains nothing from being cut.
SINGLE_TILE_PIXELS = 2**20
# Python and its libraries, measured; the rest of the memory model is in `worker_memory`.
PROCESS_MEMORY = 200 * 2**20
# One iteration of one box pixel a scale, on one core; measured, and rough by the spread of today's machines.
SECONDS_PER_PIXEL_AND_SCALE = 1.5e-7


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before a run.

    Attributes
    ----------
    settings : Settings
        As given, with `min_scale` in pixels.
    grid : TileGrid
        The tiles.
    rounding : float
        Counts per pixel that are zero to rounding in this survey.
    contract_margin : int
        Least margin in pixels at which tiles are promised to do no harm.
    survey_digest : str
        Of the survey's pixels and WCS.
    warnings : tuple of str
        What the user should know.
    algorithm_version : int
        Of the mathematics that the plan was made for.
    """

    settings: Settings
    grid: TileGrid
    rounding: float
    contract_margin: int
    survey_digest: str
    warnings: tuple[str, ...]
    algorithm_version: int = ALGORITHM_VERSION

    @cached_property
    def kernels(self) -> CWTKernels:
        """The kernels."""
        return kernels_of(self.settings)

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
        """Whether the margin is at least the contract's, or there is one tile."""
        return self.grid.margin is None or self.grid.margin >= self.contract_margin

    @property
    def exact(self) -> bool:
        """Whether this plan promises that tiles do no harm."""
        return self.margin_suffices and (self.settings.stopping != "tile" or self.grid.n_tiles == 1)

    @property
    def decisive(self) -> dict[str, Any]:
        """All that decides the result, as plain data; two runs with the same give the same maps."""
        free = ("tile_size", "margin", "wrap")
        settings = {name: value for name, value in asdict(self.settings).items() if name not in free}
        return {
            **{name: value for name, value in settings.items() if value is not None},
            "rounding": self.rounding,
            "algorithm_version": self.algorithm_version,
            "grid": asdict(self.grid),
        }

    @property
    def settings_digest(self) -> str:
        """Digest of `decisive`."""
        return digest(self.decisive)

    @property
    def worker_memory(self) -> int:
        """Largest memory a worker needs, in bytes."""
        return worker_memory(self.grid, self.kernels.n_scale)

    @property
    def disk(self) -> int:
        """Largest space that survey, maps and seams can take, in bytes: without compression, without `maps.fits`."""
        n_scale = self.kernels.n_scale
        pixel = sum(_SIZES[dtype] for dtype in IMAGES.values()) + n_scale
        survey = 3 * 8 + 1
        seams = self.grid.n_tiles * 2 * 4 * STRIP_WIDTH * max(self.grid.core_shape) * (8 + n_scale)
        return (pixel + survey) * self.grid.map_box.area + seams

    @property
    def core_seconds(self) -> float:
        """Rough time of all iterations on one core, if none stops early."""
        pixels = self.grid.n_tiles * math.prod(self.grid.box_shape)
        return pixels * self.settings.max_iter * self.kernels.n_scale * SECONDS_PER_PIXEL_AND_SCALE

    def check_memory(self, limit: int) -> None:
        """Refuse a plan that does not fit.

        Raises
        ------
        SettingsError
            If a worker needs more than `limit` bytes.
        """
        if self.worker_memory > limit:
            y, x = self.grid.box_shape
            raise SettingsError(
                f"boxes of {y} x {x} pixels need {format_bytes(self.worker_memory)} a worker, the limit is "
                f"{format_bytes(limit)}: take a smaller tile_size or margin, fewer scales, or a larger memory_limit"
            )


_SIZES = {"float64": 8, "int16": 2, "uint8": 1}


def make_plan(settings: Settings, facts: SurveyFacts) -> Plan:
    """Resolve settings for a survey.

    Parameters
    ----------
    settings : Settings
        As the user gave them.
    facts : SurveyFacts
        What was measured of the survey.

    Raises
    ------
    SettingsError
        If the settings are impossible for this survey.
    """
    settings = settings.in_pixels(facts.pixel_scale_deg)
    kernels = kernels_of(settings)
    if settings.wrap == "yes":
        raise SettingsError(
            "wrap is yes: tiling a map as a ring is not there yet; use wrap no, its ends are borders then"
        )
    contract = contract_margin(kernels, settings.max_iter, facts.brightest)
    margin = contract if settings.margin == "auto" else settings.margin
    if settings.tile_size == "auto":
        grid = automatic_grid(facts.shape, margin, kernels)
    else:
        grid = TileGrid.plan(facts.shape, (settings.tile_size,) * 2, margin, kernels.reach, fast_length)
    plan = Plan(settings, grid, rounding_level(facts.brightest), contract, facts.digest, ())
    return replace(plan, warnings=(*facts.warnings, *_warnings(plan, facts)))


def kernels_of(settings: Settings) -> CWTKernels:
    """Kernels of settings whose `min_scale` is in pixels."""
    return CWTKernels(settings.n_scale, float(settings.min_scale), settings.step_scale, settings.old_kernels)


def contract_margin(kernels: CWTKernels, n_iter: int, brightest: float) -> int:
    """Least margin, in pixels, that leaves a model error of 1e-9 of the tile's own model maximum.

    An envelope of the table that `benchmarks/margin.py` measures (docs/design/0004-margins.md): influence falls by
    about three decades a reach, and travels the further the more iterations carry it on, the larger the gain, and the
    brighter its source. The promise holds on the strips beyond the core, too, where neighbours are compared.
    """
    gentle = kernels.reach > 32 and kernels.gain < 0.2
    reaches = 3.0 if gentle else 4.0
    reaches += (0.75 if gentle else 1.25 + max(0.0, kernels.gain - 0.8)) * max(0.0, math.log2(n_iter / 10))
    reaches += (0.2 if gentle else 0.6) * math.log10(max(brightest / 10, 1.0))
    return math.ceil(reaches * kernels.reach) + STRIP_WIDTH


def worker_memory(grid: TileGrid, n_scale: int) -> int:
    """Largest memory a worker needs for a tile of this grid, in bytes (tests measure it)."""
    # A box pixel holds two states, field, spectra of kernels and images, and temporaries of a step.
    per_pixel = 190 + 50 * n_scale
    return PROCESS_MEMORY + per_pixel * math.prod(grid.box_shape)


def automatic_grid(map_shape: tuple[int, int], margin: int, kernels: CWTKernels) -> TileGrid:
    """The grid that costs eight workers least, among those that fit the memory target.

    The cost is the area of the boxes, rounded up to full rounds of the workers. Where nothing fits the target, it is
    doubled until something does.
    """
    whole = TileGrid.plan(map_shape, map_shape, margin, kernels.reach, fast_length)
    if math.prod(whole.box_shape) <= SINGLE_TILE_PIXELS:
        return whole
    candidates = [(worker_memory(grid, kernels.n_scale), grid) for grid in _grids(map_shape, margin, kernels.reach)]
    targets = (MEMORY_TARGET * 2**doublings for doublings in itertools.count())
    fitting = next(fit for target in targets if (fit := [grid for memory, grid in candidates if memory <= target]))
    return min(fitting, key=_cost)


def _grids(map_shape: tuple[int, int], margin: int, reach: int) -> Iterator[TileGrid]:
    longest = max(map_shape)
    seen = set()
    # Cores of equal size, whatever remainder the map leaves.
    for n_longest in range(1, -(-longest // 32) + 1):
        core = -(-longest // n_longest)
        equal = tuple(-(-length // -(-length // core)) for length in map_shape)
        if equal not in seen:
            seen.add(equal)
            yield TileGrid.plan(map_shape, (equal[0], equal[1]), margin, reach, fast_length)


def _cost(grid: TileGrid) -> int:
    rounds = -(-grid.n_tiles // BALANCED_WORKERS)
    return rounds * math.prod(grid.box_shape)


def _warnings(plan: Plan, facts: SurveyFacts) -> list[str]:
    margin, reach = plan.grid.margin, plan.kernels.reach
    found = []
    if not plan.margin_suffices:
        bound = "no bound exists for its error" if (margin or 0) < reach else "its error may exceed 1e-9 of the model"
        found.append(
            f"the margin of {plan.settings.margin} pixels is below the contract's {plan.contract_margin}: {bound}"
        )
    if plan.settings.stopping == "tile" and plan.grid.n_tiles > 1:
        found.append("stopping is tile: tiles stop at iterations of their own, the model has steps at their seams")
    if facts.wraps:
        found.append("the map closes the circle, but its first and last column are treated as borders")
    if plan.settings.significance_island_threshold is not None and plan.grid.n_tiles > 1:
        found.append(
            "islands longer than the margin are judged by what one tile sees of them; any such case is counted"
        )
    return found
