"""Options of a map onto which event lists are binned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cwt_dask.config.declaration import Checked, declaration, option, option_names
from cwt_dask.config.validation import Choice, Energy, Flag, Kind, Nside, Number, refuse_disorder, shown
from cwt_dask.errors import SettingsError

PROJECTIONS = ("CAR", "CEA", "MER", "AIT", "MOL", "SFL", "PAR", "TAN", "SIN", "ARC", "STG", "ZEA")
FRAMES = ("gal", "icrs")
# In degrees.
_ANGLES = {"": 1.0, "deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600}


@dataclass(frozen=True)
class Angles(Kind):
    """Angles in degrees, such as 0.1 or 6arcmin, with commas between them; or numbers from Python."""

    n: int
    wanted: str

    def check(self, name: str, value: Any) -> Any:
        """Refuse others; give degrees, of one angle a number."""
        given = value.split(",") if isinstance(value, str) else value
        given = list(given) if hasattr(given, "__len__") else [given]
        if len(given) != self.n:
            raise SettingsError(f"{name} is {shown(value)}: it must be {self.wanted}")
        angles = tuple(self._degrees(name, value, each) for each in given)
        return angles if self.n > 1 else angles[0]

    def _degrees(self, name: str, value: Any, angle: Any) -> float:
        if isinstance(angle, str):
            text = re.fullmatch(r"\s*([-+.0-9eE]*[0-9.])\s*([a-z]*)\s*", angle)
            number = None
            with suppress(ValueError):
                number = float(text[1]) if text and text[2] in _ANGLES else None
            if text is None or number is None:
                raise SettingsError(f"{name} is {shown(value)}: it must be {self.wanted}")
            angle = number * _ANGLES[text[2]]
        return float(Number().check(name, angle))


@declaration
class MapOptions(Checked):
    """The map onto which event lists are binned; where one of these is given, inputs are event lists.

    Raises
    ------
    SettingsError
        If a value is impossible.

    Examples
    --------
    >>> from cwt_dask.config.events import MapOptions
    >>> MapOptions(center="184.56,-5.78", size="8,6", pixel="6arcmin").pixel
    0.1
    """

    center: str | tuple[float, float] | None = option(
        None,
        Angles(2, "a longitude and a latitude in degrees, L,B"),
        "Of event lists: longitude and latitude of the map's centre, in degrees of `frame`.",
        metavar="L,B",
    )
    size: str | tuple[float, float] | None = option(
        None,
        Angles(2, "a width and a height in degrees, W,H"),
        "Of event lists: width and height of the map in degrees.",
        metavar="W,H",
    )
    pixel: str | float | None = option(
        None, Angles(1, "an angle such as 0.1deg or 6arcmin"), "Of event lists: size of a pixel.", metavar="DEG"
    )
    projection: str = option("CAR", Choice(PROJECTIONS), "Of event lists: projection of the map.")
    allsky: bool = option(False, Flag(), "Bin event lists onto the whole sky, HEALPix pixels of `nside`.")


@declaration
class EventOptions(MapOptions):
    """The map onto which event lists are binned, and which events are taken.

    Raises
    ------
    SettingsError
        If a value is impossible.

    Examples
    --------
    >>> from cwt_dask.config.events import EventOptions
    >>> options = EventOptions(center="184.56,-5.78", size=(8, 6), pixel="6arcmin", emin="10GeV")
    >>> options.center, options.pixel, options.emin
    ((184.56, -5.78), 0.1, 0.01)
    """

    frame: str = option("gal", Choice(FRAMES), "Coordinates of the map, Galactic or ICRS.")
    nside: int | None = option(None, Nside(), "Of the whole sky: pixels along the edge of a base cell.")
    emin: str | None = option(None, Energy(), "Lowest energy to take, such as 10GeV.", metavar="E")
    emax: str | None = option(None, Energy(), "Energy below which events are taken.", metavar="E")

    def __post_init__(self) -> None:
        """Check each value, and the energies together.

        Raises SettingsError.
        """
        super().__post_init__()
        refuse_disorder(*self.energies)

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> EventOptions:
        """Take those of all options that were given.

        Raises SettingsError.
        """
        return cls(**{name: options[name] for name in option_names(cls) if name in options})

    @property
    def energies(self) -> tuple[float | None, float | None]:
        """Lowest energy, and that below which energies are, in TeV; None where there is no bound."""
        low: Any = self.emin  # checked: in TeV
        high: Any = self.emax
        return low, high


def are_events(n_inputs: int, given: Mapping[str, Any]) -> bool:
    """Whether inputs of a call are event lists: other than one, or with an option of the map to bin them onto."""
    return n_inputs != 1 or any(given.get(name) not in (None, False) for name in option_names(MapOptions))
