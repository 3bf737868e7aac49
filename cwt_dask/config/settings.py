"""Settings, which decide the result of a run."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from astropy.units import Quantity

from cwt_dask.config.validation import LARGEST_SIZE, as_number, as_whole, check_choice, check_flag, shown
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.state import MOST_ITERATIONS
from cwt_dask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Raised whenever the same settings and survey give another result than before.
ALGORITHM_VERSION = 4
# Names of sources stay short and fit files and tables.
_LONGEST_PREFIX = 16
_PREFIX = re.compile(rf"[A-Za-z0-9+-]{{1,{_LONGEST_PREFIX}}}")
Auto = Literal["auto"]
Stopping = Literal["global", "tile", "fixed"]
AutoYesNo = Literal["auto", "yes", "no"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a run.

    Parameters
    ----------
    n_scale : int
        Number of scales.
    min_scale : float or str
        Finest scale in pixels, or an angle as text, such as "0.6deg", which is divided by the pixel size.
    step_scale : float
        Factor from one scale to the next, above 1.
    old_kernels : bool
        Differences of Gaussians as base kernels, as first published.
    max_iter : int
        Largest number of iterations.
    tol : float
        Relative change of the residual variance below which they stop; 0 means that they never do.
    significance_threshold : float
        Pixels whose T/E is above it join the support.
    significance_island_threshold : float or None
        Islands whose largest T/E is below it are dropped. None: no island is.
    keep_isolated : bool
        Keep islands of one pixel.
    stopping : {"global", "tile", "fixed"}
        Stop by the pooled variance of the whole map, each tile by its own, or after exactly `max_iter`.
    tile_size : int or "auto"
        Side of a tile's core in pixels.
    margin : int or "auto"
        Overlap of the windows in pixels; auto takes what the contract asks for.
    wrap : {"auto", "yes", "no"}
        Whether the first and last column of the map are neighbours; auto does as the WCS says.
    memory_target : int
        Bytes a worker should need at most, by which tiles are chosen where `tile_size` is auto.
    source_prefix : str
        What the names of sources begin with.

    Raises
    ------
    SettingsError
        If a value is impossible.
    """

    n_scale: int = 2
    min_scale: float | str = 6.0
    step_scale: float = 1.3
    old_kernels: bool = False
    max_iter: int = 10
    tol: float = 1e-5
    significance_threshold: float = 3.0
    significance_island_threshold: float | None = None
    keep_isolated: bool = False
    stopping: Stopping = "global"
    tile_size: int | Auto = "auto"
    margin: int | Auto = "auto"
    wrap: AutoYesNo = "auto"
    memory_target: int = 2**30
    source_prefix: str = "CWT"

    def __post_init__(self) -> None:
        self._set("n_scale", as_whole("n_scale", self.n_scale, 1))
        self._set("max_iter", as_whole("max_iter", self.max_iter, 1, MOST_ITERATIONS))
        if not isinstance(self.min_scale, str):
            self._set("min_scale", as_number("min_scale", self.min_scale, above=0))
        self._set("step_scale", as_number("step_scale", self.step_scale, above=1))
        self._set("tol", as_number("tol", self.tol, least=0))
        for name in ("significance_threshold", "significance_island_threshold"):
            if getattr(self, name) is not None:
                self._set(name, as_number(name, getattr(self, name)))
        check_flag("old_kernels", self.old_kernels)
        check_flag("keep_isolated", self.keep_isolated)
        check_choice("stopping", self.stopping, get_args(Stopping))
        check_choice("wrap", self.wrap, get_args(AutoYesNo))
        self._set("memory_target", as_whole("memory_target", self.memory_target, 1, LARGEST_SIZE))
        if not (isinstance(self.source_prefix, str) and _PREFIX.fullmatch(self.source_prefix)):
            raise SettingsError(
                f"source_prefix is {shown(self.source_prefix)}: it must be up to {_LONGEST_PREFIX} letters, digits, "
                "- or +, such as CWT"
            )
        if self.tile_size != "auto":
            self._set("tile_size", as_whole("tile_size", self.tile_size, 1, or_auto=True))
        if self.margin != "auto":
            self._set("margin", as_whole("margin", self.margin, 0, or_auto=True))

    def _set(self, name: str, value: float) -> None:
        # 3, 3.0 and numpy's 3.0 are one setting: they must have one digest.
        object.__setattr__(self, name, value)

    def in_pixels(self, pixel_scale: float) -> Settings:
        """The same settings with `min_scale` in pixels, for pixels of `pixel_scale` degrees.

        Raises
        ------
        SettingsError
            If `min_scale` is text that is not an angle.
        """
        if not isinstance(self.min_scale, str):
            return self
        try:
            degrees = float(Quantity(self.min_scale).to_value("deg"))
        except (TypeError, ValueError):
            degrees = math.nan
        if not (math.isfinite(degrees) and degrees > 0):
            raise SettingsError(
                f'min_scale is "{shown(self.min_scale)}": it must be pixels (6.0) or an angle ("0.6deg")'
            )
        return replace(self, min_scale=degrees / pixel_scale)


def refuse_unknown(names: Iterable[str], given: Mapping[str, Any]) -> None:
    """Refuse options that nobody knows.

    Raises
    ------
    SettingsError
        Naming the first unknown option and the nearest known one.
    """
    names = list(names)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(names)}"
            raise SettingsError(f"unknown option {shown(name)}: {hint}")


def option_names(*kinds: type) -> list[str]:
    """Names of the fields of dataclasses, in their order."""
    return [field.name for kind in kinds for field in fields(kind)]


def read_toml(path: Path) -> dict[str, Any]:
    """Options in a TOML file.

    Raises
    ------
    SettingsError
        If the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def digest(content: Any) -> str:
    """sha256 of the canonical JSON of plain data (dataclasses included)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=asdict, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def kernels_of(settings: Settings) -> CWTKernels:
    """Kernels of settings whose `min_scale` is in pixels."""
    return CWTKernels(settings.n_scale, float(settings.min_scale), settings.step_scale, settings.old_kernels)
