"""The plan of a run: resolved settings, tiles, margin, memory, disk. Nothing is run or written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cwt_dask.config.settings import ALGORITHM_VERSION, SINCE, SPLIT, Settings, digest, kernels_of
from cwt_dask.config.validation import format_bytes
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.state import Criteria, rounding_level
from cwt_dask.errors import SettingsError
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.margins import bounded, expected_error
from cwt_dask.planning.cost import (
    deadline,
    disk,
    fit_memory,
    fit_seconds,
    run_seconds,
    tile_memory,
)
from cwt_dask.planning.job import Job
from cwt_dask.storage.layout import RunDir


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
