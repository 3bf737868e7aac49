"""What a user can set: settings, which decide the result, and execution, which does not."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, get_args

from astropy.units import Quantity

from cwt_dask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Raised whenever the same settings and survey give another result than before.
ALGORITHM_VERSION = 3

# The iteration at which a pixel joined the support is kept in two bytes.
MOST_ITERATIONS = 2**16 - 1

# What libraries in C take as a whole number, and as a size.
LARGEST_WHOLE = 2**31 - 1
LARGEST_SIZE = 2**63 - 1

# Of a value that cannot be, messages show so many characters.
_SHOWN = 200

Auto = Literal["auto"]
Stopping = Literal["global", "tile", "fixed"]
AutoYesNo = Literal["auto", "yes", "no"]
LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a run.

    Parameters
    ----------
    n_scale, min_scale, step_scale, old_kernels
        The kernels. `min_scale` is in pixels, or an angle as text, such as "0.6deg".
    max_iter, tol : int, float
        Largest number of iterations; relative change of the residual variance below which they stop.
    significance_threshold, significance_island_threshold : float, float or None
        Smallest T/E of a pixel, and of the largest pixel of an island, in the support.
    keep_isolated : bool
        Keep islands of one pixel.
    stopping : {"global", "tile", "fixed"}
        Stop by the pooled variance of the whole map, each tile by its own, or after exactly `max_iter`.
    tile_size, margin : int or "auto"
        Side of a tile's core, and overlap of the windows, in pixels.
    wrap : {"auto", "yes", "no"}
        Whether the first and last column of the map are neighbours.
    memory_target : int
        Bytes a worker should need at most, by which tiles are chosen where `tile_size` is auto.

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

    def __post_init__(self) -> None:
        self._set("n_scale", _whole("n_scale", self.n_scale, 1))
        self._set("max_iter", _whole("max_iter", self.max_iter, 1, MOST_ITERATIONS))
        if not isinstance(self.min_scale, str):
            self._set("min_scale", _number("min_scale", self.min_scale, above=0))
        self._set("step_scale", _number("step_scale", self.step_scale, above=1))
        self._set("tol", _number("tol", self.tol, least=0))
        for name in ("significance_threshold", "significance_island_threshold"):
            if getattr(self, name) is not None:
                self._set(name, _number(name, getattr(self, name)))
        _flag("old_kernels", self.old_kernels)
        _flag("keep_isolated", self.keep_isolated)
        _choice("stopping", self.stopping, get_args(Stopping))
        _choice("wrap", self.wrap, get_args(AutoYesNo))
        self._set("memory_target", _whole("memory_target", self.memory_target, 1, LARGEST_SIZE))
        if self.tile_size != "auto":
            self._set("tile_size", _whole("tile_size", self.tile_size, 1, or_auto=True))
        if self.margin != "auto":
            self._set("margin", _whole("margin", self.margin, 0, or_auto=True))

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


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; nothing here changes its result.

    Parameters
    ----------
    workers : int or None
        Worker processes of a local cluster; None takes one a core, 0 does everything in this process.
    threads : int
        Threads an FFT may use in each worker.
    memory_limit : int
        Bytes a worker may use.
    scheduler, scheduler_file : str or None
        Address, or name of a file with the address, of a Dask scheduler to use in place of a local cluster.
    keep_history : bool
        Keep the model of every iteration.
    fits : {"auto", "yes", "no"}
        Whether `maps.fits` is written; auto writes it for maps small enough to be handy.
    overwrite : bool
        Replace an existing run.
    quiet : bool
        Print errors only.
    log_format : {"text", "json"}
        What the command line prints while it runs: words for people, or a line of JSON an event.

    Raises
    ------
    SettingsError
        If a value is impossible.
    """

    workers: int | None = None
    threads: int = 1
    memory_limit: int = 4 * 2**30
    scheduler: str | None = None
    scheduler_file: str | None = None
    keep_history: bool = False
    fits: AutoYesNo = "auto"
    overwrite: bool = False
    quiet: bool = False
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        if self.workers is not None:
            _whole("workers", self.workers, 0)
        _whole("threads", self.threads, 1)
        _whole("memory_limit", self.memory_limit, 1, LARGEST_SIZE)
        if not isinstance(self.scheduler, str | None):
            raise SettingsError(f"scheduler is {shown(self.scheduler)}: it must be an address such as tls://host:8786")
        if not isinstance(self.scheduler_file, str | PathLike | None):
            raise SettingsError(f"scheduler_file is {shown(self.scheduler_file)}: it must be the name of a file")
        _choice("fits", self.fits, get_args(AutoYesNo))
        _flag("keep_history", self.keep_history)
        _flag("overwrite", self.overwrite)
        _flag("quiet", self.quiet)
        _choice("log_format", self.log_format, get_args(LogFormat))
        if self.scheduler and self.scheduler_file:
            raise SettingsError("scheduler and scheduler_file are both given: give one of them")


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


def shown(value: Any) -> str:
    """A value that cannot be, in a message of one line: its beginning, if it is long."""
    text = "a number of thousands of digits"
    with suppress(ValueError):  # Python does not write those
        text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _whole(name: str, value: Any, least: int, most: int = LARGEST_WHOLE, *, or_auto: bool = False) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        kind = f"a whole number of at least {least}{', or auto' if or_auto else ''}"
        raise SettingsError(f"{name} is {shown(value)}: it must be {kind}")
    number = int(value)
    if number > most:
        raise SettingsError(f"{name} is {shown(number)}: it must be at most {most}")
    return number


def _number(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> float:
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number that no float holds
            number = float(value)
    if not math.isfinite(number):
        raise SettingsError(f"{name} is {shown(value)}: it must be a finite number")
    if number < least:
        raise SettingsError(f"{name} is {number}: it must be at least {least}")
    if number <= above:
        raise SettingsError(f"{name} is {number}: it must be above {above}")
    return number


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {shown(value)}: it must be true or false")


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is {shown(value)}: it must be one of {', '.join(choices)}")
