"""What is to be done with tiles of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cwt_dask.cwt.kernels import CWTKernels
    from cwt_dask.cwt.state import Criteria
    from cwt_dask.geometry.tiling import TileGrid
    from cwt_dask.storage.layout import RunDir


@dataclass(frozen=True)
class Job:
    """What is to be done with tiles of a run.

    Attributes
    ----------
    run_dir : RunDir
        Where maps, seams, checkpoints and records go.
    run_id : str
        Which run that is.
    survey : Path
        The survey's store.
    survey_digest : str
        Of its pixels and WCS.
    grid : TileGrid
        The tiles.
    kernels : CWTKernels
        The kernels.
    criteria : Criteria
        When pixels join the support.
    settings_digest : str
        Of the settings as resolved.
    threads : int
        Threads an FFT may use.
    keep_history : bool
        Whether to publish the model of every iteration.
    start, stop : int
        Iterations after which to begin (0, or one of which there are checkpoints) and to end.
    starts : mapping of int
        Iterations after which single tiles begin, such as look-ahead tiles; the others begin after `start`.
    tol : float or None
        The tolerance by which each tile stops on its own, where it does.
    keeps, publishes : bool
        Whether to leave a checkpoint, and whether to publish the core.
    round : int
        How often islands were decided in a block.
    decisions_block : int
        Block, by its last iteration, of which the decisions of `round` on islands hold; 0 where there are none.
    """

    run_dir: RunDir
    run_id: str
    survey: Path
    survey_digest: str
    grid: TileGrid
    kernels: CWTKernels
    criteria: Criteria
    settings_digest: str
    stop: int
    threads: int = 1
    keep_history: bool = False
    start: int = 0
    starts: Mapping[int, int] = field(default_factory=dict)
    tol: float | None = None
    keeps: bool = False
    publishes: bool = True
    round: int = 0
    decisions_block: int = 0
