"""Settings, which decide the result of a run."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from cwt_dask.config.declaration import Checked, declaration, option
from cwt_dask.config.validation import Choice, Fitting, Flag, Number, Size, Spread, Whole, shown
from cwt_dask.cwt.limits import MOST_ITERATIONS
from cwt_dask.errors import SettingsError

if TYPE_CHECKING:
    from cwt_dask.cwt.kernels import CWTKernels

# Raised whenever the same settings and survey give another result than before.
ALGORITHM_VERSION = 8
# Versions in which settings came that are not None where they are not given.
SINCE = {"extended": 6}
# What decides nothing but which rows are in the catalogue, and which below it: it may change in a run.
SPLIT = "false_sources"
Auto = Literal["auto"]
Stopping = Literal["global", "tile", "fixed"]
AutoYesNo = Literal["auto", "yes", "no"]


@declaration
class Settings(Checked):
    """Everything that decides the result of a run.

    Raises
    ------
    SettingsError
        If a value is impossible.

    Examples
    --------
    >>> from cwt_dask.config import Settings
    >>> settings = Settings(n_scale=3, min_scale="0.5deg")
    >>> settings.in_pixels(0.25).min_scale
    2.0
    >>> Settings(step_scale=1)
    Traceback (most recent call last):
    cwt_dask.errors.SettingsError: step_scale is 1.0: it must be above 1
    """

    n_scale: int = option(2, Whole(1), "Number of scales.")
    min_scale: float | str = option(
        6.0,
        Number(above=0, or_text=True),
        "Finest scale: pixels, or an angle such as 0.6deg, which is divided by the pixel size.",
        metavar="PIXELS|DEG",
    )
    step_scale: float = option(1.3, Number(above=1), "Factor from one scale to the next, above 1.")
    psf: Any = option(
        None,
        Spread(),
        "Point spread function: the width (sigma) of a Gaussian in pixels, or an angle such as 0.12deg, or FILE or "
        "FILE[HDU]: an image on pixels of the map's size, PSFMap, PSFKernel, psf_table, psf_3gauss, psf_king, gtpsf. "
        "Scales that are not given follow from it: the finest is its sigma, the step 1.5. Unless given, it is the "
        "PSFMap in the survey's own file, if there is one; none leaves that out.",
        metavar="PIXELS|DEG|FILE",
    )
    extended: bool = option(
        False, Flag(), "Fit widths beyond the point spread function, too: 2, 4 and 8 times its own."
    )
    max_extent: float | str | None = option(
        None,
        Number(above=0, or_text=True),
        "Size in place of `n_scale`: scales go up to it; pixels, or an angle; default with `psf`: 5 times its sigma.",
        metavar="PIXELS|DEG",
    )
    old_kernels: bool = option(False, Flag(), "Differences of Gaussians as base kernels, as first published.")
    max_iter: int = option(10, Whole(1, MOST_ITERATIONS), "Largest number of iterations.")
    tol: float = option(
        1e-5, Number(least=0), "Relative change of the residual variance below which iterations stop; 0: no such stop."
    )
    significance_threshold: float = option(
        3.0, Number(), "Pixels whose T/E is above it join the support; not a number of sigmas where counts are few."
    )
    significance_island_threshold: float | None = option(
        None, Number(), "Islands whose largest T/E is below it are dropped; default: none is."
    )
    keep_isolated: bool = option(False, Flag(), "Keep islands of one pixel.")
    false_sources: float = option(
        1.0,
        Number(above=0),
        "Rows of noise to expect in the catalogue; others go to candidates.ecsv. Another number splits the rows of a "
        "finished run again.",
    )
    stopping: Stopping = option(
        "global",
        Choice(get_args(Stopping)),
        "Stop by the pooled variance of the whole map, each tile by its own, or after exactly `max_iter`.",
    )
    tile_size: int | Auto = option("auto", Whole(1, auto=True), "Side of a tile's core in pixels.")
    margin: int | Auto = option(
        "auto", Whole(0, auto=True), "Overlap of the windows in pixels; auto: what the contract requires."
    )
    wrap: AutoYesNo = option(
        "auto",
        Choice(get_args(AutoYesNo)),
        "Whether the first and last column of the map are neighbours; auto: as the WCS says.",
    )
    memory_target: int = option(
        2**30, Size(), "Memory of a worker in its iterations that automatic tiles aim at: bytes, or text such as 1GiB."
    )
    source_prefix: str = option(
        "CWT",
        # Names of sources stay short and fit files and tables.
        Fitting(
            lambda value: isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+-]{1,16}", value),
            "up to 16 letters, digits, - or +, such as CWT",
        ),
        "What the names of sources begin with.",
    )

    def in_pixels(self, pixel_scale: float) -> Settings:
        """The same settings with `min_scale` and `max_extent` in pixels, for pixels of `pixel_scale` degrees.

        Raises
        ------
        SettingsError
            If one of them is text that is not an angle.
        """
        resolved = self
        if isinstance(self.min_scale, str):
            resolved = replace(resolved, min_scale=_degrees("min_scale", self.min_scale) / pixel_scale)
        if isinstance(self.max_extent, str):
            resolved = replace(resolved, max_extent=_degrees("max_extent", self.max_extent) / pixel_scale)
        return resolved


def _degrees(name: str, text: str) -> float:
    from astropy.units import Quantity  # noqa: PLC0415 - help and checks need none

    try:
        degrees = float(Quantity(text).to_value("deg"))
    except (TypeError, ValueError):
        degrees = math.nan
    if not (math.isfinite(degrees) and degrees > 0):
        raise SettingsError(f'{name} is "{shown(text)}": it must be pixels (6.0) or an angle ("0.6deg")')
    return degrees


def digest(content: Any) -> str:
    """sha256 of the canonical JSON of plain data (dataclasses included)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=asdict, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def kernels_of(settings: Settings) -> CWTKernels:
    """Kernels of settings; their `min_scale` must be in pixels."""
    from cwt_dask.cwt.kernels import CWTKernels  # noqa: PLC0415 - with NumPy, which help and checks do without

    return CWTKernels(settings.n_scale, float(settings.min_scale), settings.step_scale, settings.old_kernels)
