"""What is to be done with tiles of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.state import Criteria
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.storage.layout import RunDir


@dataclass(frozen=True)
class Job:
    """What is to be done with tiles of a run."""

    run_dir: RunDir  # Where maps, seams, checkpoints and records go.
    run_id: str  # Which run that is.
    survey: Path  # The survey's store.
    # Of its pixels and WCS, and of all that is known of it.
    survey_digest: str
    survey_facts: str
    grid: AnyGrid  # The tiles.
    kernels: CWTKernels  # The kernels.
    criteria: Criteria  # When pixels join the support.
    settings_digest: str  # Of the settings as resolved.
    stop: int
    threads: int = 1  # Threads an FFT may use.
    keep_history: bool = False  # Whether to publish the model of every iteration.
    # Iterations after which to begin (0, or one of which there are checkpoints) and to end.
    start: int = 0
    # Iterations after which single tiles begin, such as look-ahead tiles; the others begin after `start`.
    starts: Mapping[int, int] = field(default_factory=dict)
    tol: float | None = None  # The tolerance by which each tile stops on its own, where it does.
    # Whether to leave a checkpoint, and whether to publish the core.
    keeps: bool = False
    publishes: bool = True
    round: int = 0  # How often islands were decided in a block.
    # Block, by its last iteration, of which the decisions of `round` on islands hold; 0 where there are none.
    decisions_block: int = 0
    replays: bool = False  # Whether pixels join the support when they did before, whatever islands there are.

    @property
    def decides_islands(self) -> bool:
        """Whether tiles decide on islands together."""
        return self.criteria.significance_island_threshold is not None and self.grid.has_seams
