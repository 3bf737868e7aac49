"""Kinds of values that users give: what each takes, and the message about what it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from types import UnionType
from typing import Any

from cwt_dask.errors import SettingsError

# What libraries in C take as a whole number, and as a size.
LARGEST_WHOLE = 2**31 - 1
LARGEST_SIZE = 2**63 - 1

# Characters of an impossible value that a message shows.
_SHOWN = 200


def shown(value: Any) -> str:
    """An impossible value, in a message of one line: its beginning, if it is long."""
    text = "a number of thousands of digits"
    with suppress(ValueError):  # Python does not write those
        text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def counted(n: float, noun: str) -> str:
    """So many of something, in the singular for one."""
    return f"{n:.10g} {noun}{'' if n == 1 else 's'}"


def format_bytes(size: float) -> str:
    """A size as users read it, in the largest unit of which there is nearly one; as Dask writes sizes."""
    for unit in (50, 40, 30, 20, 10):
        if size >= 0.9 * 2**unit:
            return f"{size / 2**unit:.2f} {'PTGMk'[5 - unit // 10]}iB"
    return f"{size} B"


def format_energy(tev: float) -> str:
    """An energy as users read it, given in TeV; in the largest unit of which there is at least one."""
    unit = next((unit for unit, size in _ENERGIES.items() if tev >= 0.999999 * size), "eV")
    return f"{tev / _ENERGIES[unit]:.4g} {unit}"


# In TeV, the largest first.
_ENERGIES = {"PeV": 1e3, "TeV": 1.0, "GeV": 1e-3, "MeV": 1e-6, "keV": 1e-9, "eV": 1e-12}


def _refusal(name: str, value: Any, wanted: str) -> SettingsError:
    return SettingsError(f"{name} is {shown(value)}: it must be {wanted}")


class Kind:
    """What values an option takes. This one takes all: they are checked where they are used."""

    def check(self, name: str, value: Any) -> Any:  # noqa: ARG002 - the others name what is wrong
        """The value in the form in which it is kept; SettingsError if it is impossible."""
        return value

    def text(self, value: Any) -> str:
        """A value as users write it."""
        return str(value)


class Several(Kind):
    """A value, or several, which on the command line come by the option given again."""


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number that a C library takes, within bounds; or auto."""

    least: int
    most: int = LARGEST_WHOLE
    auto: bool = False

    def check(self, name: str, value: Any) -> int | str:
        """Refuse other numbers and values."""
        if self.auto and isinstance(value, str) and value == "auto":
            return value
        if isinstance(value, bool) or not isinstance(value, Integral) or value < self.least:
            raise _refusal(name, value, f"a whole number of at least {self.least}{', or auto' if self.auto else ''}")
        number = int(value)
        if number > self.most:
            raise _refusal(name, number, f"at most {self.most}")
        return number


# Finer skies have 13e9 pixels and more, all of which a survey is read and digested by.
MOST_NSIDE = 2**15


@dataclass(frozen=True)
class Nside(Whole):
    """Pixels of a HEALPix map along the edge of a base cell: a power of two."""

    least: int = 1
    most: int = MOST_NSIDE

    def check(self, name: str, value: Any) -> int | str:
        """Refuse other numbers and values."""
        number = super().check(name, value)
        if isinstance(number, int) and number & (number - 1):
            raise _refusal(name, number, "a power of two, such as 512")
        return number


@dataclass(frozen=True)
class Number(Kind):
    """A finite number, within bounds; or text, which is checked where it is used."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    or_text: bool = False

    def check(self, name: str, value: Any) -> float | str:
        """Refuse other numbers and values."""
        if self.or_text and isinstance(value, str):
            return value
        number = math.nan
        if isinstance(value, Real) and not isinstance(value, bool):
            with suppress(OverflowError):  # a whole number that no float holds
                number = float(value)
        if not math.isfinite(number):
            raise _refusal(name, value, "a finite number")
        if number < self.least:
            raise _refusal(name, number, f"at least {self.least:g}")
        if number > self.most:
            raise _refusal(name, number, f"at most {self.most:g}")
        if number <= self.above:
            raise _refusal(name, number, f"above {self.above}")
        return number


@dataclass(frozen=True)
class Spread(Number):
    """A width above 0, or text or an object that is read where it is used; none is none at all."""

    above: float = 0.0
    or_text: bool = True

    def check(self, name: str, value: Any) -> Any:
        """Refuse numbers that are no width, and what is nothing of the kind; paths become text."""
        if isinstance(value, Real) and not isinstance(value, bool):
            return super().check(name, value)
        if isinstance(value, str) and value.strip().lower() == "none":
            return None
        known = isinstance(value, str | PathLike | list | tuple) or any(hasattr(value, each) for each in _SPREADS)
        if not known:
            raise _refusal(name, value, SPREAD)
        return str(value) if isinstance(value, PathLike) else value


SPREAD = "a width in pixels, an angle such as 0.12deg, a file, an image (y, x), or a PSFMap or PSFKernel of Gammapy"
# What quantities, arrays, and maps of Gammapy have.
_SPREADS = ("to_value", "__array__", "to_hdulist", "psf_kernel_map")


class Size(Kind):
    """A number of bytes, or text such as 4GiB."""

    def check(self, name: str, value: Any) -> int | str:
        """Refuse what is no size; give bytes."""
        try:
            size = _bytes(value)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _refusal(name, value, "a size such as 4GiB") from error
        return Whole(1, LARGEST_SIZE).check(name, size)

    def text(self, value: Any) -> str:
        """A size in GiB."""
        return f"{value // 2**30}GiB"


def _bytes(value: Any) -> int:
    if isinstance(value, bool):
        # Dask takes true for one byte.
        raise TypeError(value)
    if isinstance(value, Integral):
        return int(value)
    from dask.utils import parse_bytes  # noqa: PLC0415 - help, and calls without sizes, do without Dask

    return int(parse_bytes(value))


class Seconds(Kind):
    """A time in seconds, or text such as 10min."""

    def check(self, name: str, value: Any) -> float:
        """Refuse what is no time above 0; give seconds."""
        text = re.fullmatch(r"\s*([0-9.]+)\s*(s|min|h|d)\s*", value) if isinstance(value, str) else None
        with suppress(ValueError):
            if text:
                value = float(text[1]) * _SECONDS[text[2]]
            elif isinstance(value, str):
                value = float(value)
        if isinstance(value, str):
            raise _refusal(name, value, "a time such as 10min, in s, min, h or d")
        return float(Number(above=0).check(name, value))


_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


class Energy(Kind):
    """An energy above 0 with its unit, such as 10GeV, or one of astropy's quantities."""

    def check(self, name: str, value: Any) -> float:
        """Refuse what is no energy; give TeV."""
        text = re.fullmatch(r"\s*([-+.0-9eE]*[0-9.])\s*([a-zA-Z]+)\s*", value) if isinstance(value, str) else None
        energy = math.nan
        with suppress(ValueError, OverflowError):
            if text and text[2] in _ENERGIES:
                energy = float(text[1]) * _ENERGIES[text[2]]
            elif hasattr(value, "to_value"):
                energy = float(value.to_value("TeV"))
        if not 0 < energy < math.inf:
            raise _refusal(name, value, f"an energy with its unit such as 10GeV, in {', '.join(_ENERGIES)}")
        return energy


class Extent(Kind):
    """A length above 0 on the map: pixels, or an angle."""

    def check(self, name: str, value: Any) -> float | str:
        """Refuse what is none; give pixels as a number, an angle as text in degrees."""
        angle = (
            re.fullmatch(r"\s*([-+.0-9eE]*[0-9.])\s*(deg|arcmin|arcsec)\s*", value) if isinstance(value, str) else None
        )
        number = math.nan
        with suppress(ValueError, TypeError, OverflowError):
            if angle:
                number = float(angle[1]) * _DEGREES[angle[2]]
            elif hasattr(value, "to_value"):
                number = float(value.to_value("deg"))
            elif not isinstance(value, bool):
                number = float(value)
        if not 0 < number < math.inf:
            raise _refusal(name, value, "above 0: pixels, such as 20, or an angle, such as 2deg")
        return f"{number!r}deg" if angle or hasattr(value, "to_value") else number


_DEGREES = {"deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600}


def refuse_disorder(emin: float | None, emax: float | None) -> None:
    """Raise SettingsError unless the first of two energies, in TeV, is below the second, where there are both."""
    if emin is not None and emax is not None and emin >= emax:
        raise SettingsError(f"emin is {format_energy(emin)} and emax {format_energy(emax)}: emin must be below emax")


@dataclass(frozen=True)
class Choice(Kind):
    """One of some words."""

    words: tuple[str, ...]

    def check(self, name: str, value: Any) -> Any:
        """Refuse other words and values."""
        if value not in self.words:
            raise _refusal(name, value, f"one of {', '.join(self.words)}")
        return value


@dataclass(frozen=True)
class Fitting(Kind):
    """A value that passes a test; messages call it `wanted`."""

    fits: Callable[[Any], Any]
    wanted: str

    def check(self, name: str, value: Any) -> Any:
        """Refuse other values."""
        if not self.fits(value):
            raise _refusal(name, value, self.wanted)
        return value


def instance(kind: type | UnionType, wanted: str) -> Fitting:
    """A value of some type of Python's."""
    return Fitting(lambda value: isinstance(value, kind), wanted)


class Flag(Fitting):
    """True or false."""

    def __init__(self) -> None:
        super().__init__(lambda value: isinstance(value, bool), "true or false")
