"""Which columns of a table hold positions and names, whatever they are called: by UCDs, by units, by patterns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Column, Table
from astropy.utils.masked import Masked
from numpy.typing import NDArray

from cwt_dask.config.validation import shown

# Words for longitude and latitude, the usual first, as `_plain` writes them.
_WORDS = (
    ("ra|r_a", "dec|de|decl|declination"),
    ("right_?asc(?:ension)?", "dec|de|decl|declination"),
    ("alpha", "delta"),
    ("glon", "glat"),
    ("gal(?:actic)?_?lon(?:g|gitude)?", "gal(?:actic)?_?lat(?:itude)?"),
    ("lii|gl|gal_?l|l_?gal", "bii|gb|gal_?b|b_?gal"),
    ("(?<!._)l", "(?<!._)b"),
)
_GALACTIC = 3  # From this pair on.
# What may follow them and still be the position itself: equinox, and unit.
_EQUINOX = r"(?:_?(?:[jb]?(?:2000|1950)(?:_0)?|j|icrs|fk[45]))?"
_NUMBER = r"(?<=j)d|_?deg(?:ree)?s?|_(?:h|hours?|hrs?|hour_?angle|rad(?:ian)?s?)"
_SEXAGESIMAL = r"_?(?:hms|dms|h_m_s|d_m_s|hh_mm_ss|dd_mm_ss)"
# Spellings of units that astropy does not know, or takes for others.
_UNITS = {"d": units.deg, "dd": units.deg, "dms": units.deg, "hh": units.hourangle, "hms": units.hourangle}
# Parts of names of columns that go with positions: errors, motions.
_BESIDES = re.compile(r"(e|d|pm|pmra|pmde|pmdec|plx|parallax|std|stat|sys|rms|var|cov|min|max|.*err.*|(unc|sig).*)\d*")
# In the order in which they count; those of the first kind before any name.
_UCDS = (
    *(("pos.eq.ra.main", "pos.eq.dec.main"), ("pos.galactic.lon.main", "pos.galactic.lat.main")),
    *(("pos.gal.lon.main", "pos.gal.lat.main"), ("pos.eq.ra", "pos.eq.dec"), ("pos.galactic.lon", "pos.galactic.lat")),
)
# Both in one column of text; and in parts, as CDS splits them: hours, minutes, seconds; sign, degrees, and so on.
_TOGETHER = re.compile(r"(sky_?)?coord(inate)?s?\d?(_.*)?|(sky_?)?pos(ition)?s?|ra_*de(c|cl)?")
# Frames of positions, as astropy calls them; and names of columns that are Galactic where no pair of words tells it.
FRAMES = ("icrs", "fk5", "fk4", "galactic")
_GALACTIC_NAME = re.compile(r"(.*_)?(glon|lii|gl|l)(_.*)?|.*galactic.*|(.*_)?gal(_.*)?")
_TEXT = "USO"  # Kinds of arrays.
_MINUS = "\N{MINUS SIGN}"  # Papers have that of mathematics.
_HOURS, _SIGN, _DEGREES = ("rah", "ram", "ras"), "de_", ("ded", "dem", "des")

# Names of sources, the usual first; an identifier only where there is nothing better.
_OTHERS = r"(?!.*(assoc|alt|other|ref|file|class|type|counterpart|ctpt|field|catalog|band|filter))"
_NAMES = tuple(
    map(
        re.compile,
        (
            *(r"_?(source|src)_?name", r"_?name", r"_?common_?name", r"_?main_?id", r"designation|(.*_)?iau_?name"),
            *(rf"{_OTHERS}(.*_|psr|obj|j|b)names?", r"source|object|src|obj|target|psr[jb]?"),
            *(rf"{_OTHERS}(?!(source|src)_?id)((.*_)?id|ident(ifier)?|no|num|number)", r"(source|src)_?id|seq|recno"),
        ),
    )
)


@dataclass(frozen=True, order=True)
class Place:
    """Columns that hold positions."""

    rank: tuple[int, ...]  # The lower, the likelier it is that they are meant.
    columns: tuple[str, ...]  # One of coordinates or text; longitude and latitude; or parts of them.
    frame: str  # As astropy calls it.

    def __str__(self) -> str:
        return " and ".join(self.columns)


def find_positions(table: Table, wanted: tuple[str, ...] = (), frame: str = "") -> list[Place]:
    """Where a table's positions may be: one place, or several that are as likely as each other; or none.

    Parameters
    ----------
    table : Table
        With the UCDs of its columns as `ucd` in their `meta`.
    wanted : tuple of str, optional
        Columns to take: longitude and latitude, or one of both.
    frame : str, optional
        That of these columns, one of `FRAMES`; told by their UCDs and names if not given.
    """
    places = sorted(_places(table))
    if wanted:
        if not set(wanted) <= set(table.colnames):
            return []
        named = [place for place in places if place.columns == wanted]
        galactic = "gal" in _ucd(table[wanted[0]]) or _GALACTIC_NAME.fullmatch(_plain(wanted[0])) is not None
        place = named[0] if named else Place((), wanted, _frame(wanted[0], galactic=galactic))
        return [replace(place, frame=frame or place.frame)] if named or len(wanted) <= 2 else []
    return [place for place in places if place.rank == places[0].rank]


def find_name(table: Table) -> str | None:
    """The column that holds the names of a table's sources; None where there is none."""
    columns = [name for name in table.colnames if getattr(table[name], "ndim", 0) == 1]
    main = [name for name in columns if _ucd(table[name]) in ("meta.id.main", "id.main")]
    called = [name for pattern in _NAMES for name in columns if pattern.fullmatch(_plain(name))]
    return next(iter(main + called), None)


def holds_both(name: str) -> bool:
    """Whether a column of text with this name may hold longitude and latitude."""
    return _TOGETHER.fullmatch(_plain(name)) is not None


def angle_unit(text: str) -> Any:
    """The unit of angles that a text names, as `Degrees`, `RA (h)` and `h:m:s` do; None where it names none."""
    words = re.findall(r"[a-z]+|°", text.lower())
    # 15 deg, as VOTables spell hours, is a unit as a whole.
    for word in (text, *words, *(word.removesuffix("s") for word in words)):
        with suppress(ValueError, TypeError):
            unit = _UNITS.get(word) or units.Unit(word)
            if unit == units.hour or unit.physical_type == "angle":
                return units.hourangle if unit in (units.hour, units.hourangle) else unit
    return None


def degrees_of(table: Table, place: Place) -> list[NDArray[np.float64]]:
    """Longitudes and latitudes, NaN where they are masked or unreadable.

    Raises ValueError if the columns hold no angles.
    """
    columns = [table[name] for name in place.columns]
    if any(column.ndim != 1 for column in columns):
        raise ValueError("a row has more than one")
    if isinstance(columns[0], SkyCoord):
        return _of_coordinates(columns[0])
    if len(columns) > 2:
        return _of_parts({_plain(column.name): column for column in columns})
    if len(columns) == 1:
        halves = [_halves(text) for text in columns[0]]
        columns = [Column([half[k] for half in halves], columns[0].name) for k in (0, 1)]
    # Of longitudes, only those that go with the Earth's turning are written in hours.
    sexagesimal = (units.deg if place.frame == "galactic" else units.hourangle, units.deg)
    return [_angles(column, unit) for column, unit in zip(columns, sexagesimal, strict=True)]


def _places(table: Table) -> Iterator[Place]:
    """All columns that may hold positions."""
    plain = {name: _plain(name) for name in table.colnames}
    for name in table.colnames:
        if isinstance(table[name], SkyCoord):
            yield Place((-2,), (name,), "icrs")
        elif holds_both(name) and table[name].dtype.kind in _TEXT:
            yield Place((4,), (name,), "icrs")
    for k, ucds in enumerate(_UCDS):
        found = [[name for name in plain if _ucd(table[name]) == ucd] for ucd in ucds]
        if [len(names) for names in found] == [1, 1]:
            rank = (-1 if ucds[0].endswith("main") else 6, k)
            yield Place(rank, (*found[0], *found[1]), "galactic" if "gal" in ucds[0] else _frame(*found[0]))
    for k, words in enumerate(_WORDS):
        lon, lat = (_called(word, plain) for word in words)
        for manner in lon.keys() & lat.keys():
            for (x, unit_of_x), (y, unit_of_y) in product(lon[manner], lat[manner]):
                yield Place((*_rank(k, *manner), unit_of_x + unit_of_y), (x, y), _frame(x, galactic=k >= _GALACTIC))
    parts = {plain[name]: name for name in plain}
    if {_HOURS[0], _DEGREES[0]} <= parts.keys():
        yield Place((3,), tuple(parts[part] for part in (*_HOURS, _SIGN, *_DEGREES) if part in parts), "icrs")


def _called(words: str, plain: dict[str, str]) -> dict[tuple[str, str, str], list[tuple[str, int]]]:
    """Columns that are called so, by what else is in their names; and whether these say a unit: 0 if of numbers."""
    pattern = re.compile(rf"(_|.*_|)(?:{words})({_EQUINOX})(?:({_NUMBER})|({_SEXAGESIMAL})|)({_EQUINOX})([_\d].*|)")
    found: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
    for name, text in plain.items():
        if match := pattern.fullmatch(text):
            before, equinox, number, sexagesimal, after, rest = match.groups()
            if not any(_BESIDES.fullmatch(part) for part in f"{before}_{rest}".split("_")):
                manner = before, (equinox or after).strip("_"), rest
                found.setdefault(manner, []).append((name, 0 if number else 2 if sexagesimal else 1))
    return found


def _rank(k: int, before: str, equinox: str, rest: str) -> tuple[int, ...]:
    # ra_xray, best_ra: one as likely as another.
    if before not in ("", "_") or rest:
        return 5, k >= _GALACTIC
    # VizieR adds an underscore to those that it computes from the others.
    order = (k, before == "_", "icrs" in equinox, bool(equinox))
    return (2 if "1950" in equinox else 1 if k >= _GALACTIC else 0, *order)


def _plain(name: str) -> str:
    """A column's name in lower case, with underscores for all but letters and digits, of which none at the end."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).lower()
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=.)[\W_]*$", "", text)) + ("_" if text == "de-" else "")


def _ucd(column: Any) -> str:
    """Of either version: pos.eq.ra;meta.main and POS_EQ_RA_MAIN are pos.eq.ra.main."""
    ucd = (column.info.meta or {}).get("ucd", "")
    return str(ucd).lower().replace("_", ".").replace(";meta", "")


def _frame(longitude: str, *, galactic: bool = False) -> str:
    text = _plain(longitude)
    return "galactic" if galactic else "fk4" if "1950" in text else "fk5" if "2000" in text or "fk5" in text else "icrs"


def _of_coordinates(sky: SkyCoord) -> list[NDArray[np.float64]]:
    try:
        icrs = sky.icrs
    except Exception as error:  # some frames need a place and a time, such as the horizon's
        raise ValueError(f"frame {sky.frame.name} cannot be turned into ICRS") from error
    return [angle.filled(np.nan) if isinstance(angle, Masked) else angle for angle in (icrs.ra.deg, icrs.dec.deg)]


def _of_parts(parts: dict[str, Any]) -> list[NDArray[np.float64]]:
    hours, degrees = (
        np.sum([_numbers(parts[name]) / 60**k for k, name in enumerate(names) if name in parts], axis=0)
        for names in (_HOURS, _DEGREES)
    )
    signs = parts.get(_SIGN, [""] * len(hours))
    minus = [str(sign).strip() in ("-", _MINUS) for sign in signs]
    return [15 * hours, np.where(minus, -degrees, degrees)]


def _halves(text: Any) -> tuple[str, str]:
    """Longitude and latitude of a text that has both: 05:34:31 +22:00:52, 83.63 22.01, 05 34 31 +22 00 52."""
    words = [] if text is np.ma.masked else str(text).replace(",", " ").split()
    middle = len(words) // 2 if len(words) % 2 == 0 else 0
    return " ".join(words[:middle]), " ".join(words[middle:])


def _angles(column: Any, sexagesimal: Any) -> NDArray[np.float64]:
    """Angles of a column in degrees: numbers without a unit are degrees, in text as elsewhere."""
    said = str(column.unit or "")
    has_unit = re.search(r"\w", said) is not None
    unit = angle_unit(said if has_unit else _plain(column.name))
    numbers = _numbers(column)
    if np.isfinite(numbers).any():
        if has_unit and unit is None:
            raise ValueError(f"{shown(said)} is no unit of angles")
        numbers = units.Quantity(numbers, unit or units.deg).to_value(units.deg)
    if column.dtype.kind not in _TEXT:
        return numbers
    # The unit of sexagesimal text is seldom one that is known.
    written = unit if unit in (units.deg, units.hourangle) else sexagesimal
    return np.array(
        [_of_text(text, written) if np.isnan(number) else number for text, number in zip(column, numbers, strict=True)],
        np.float64,
    )


def _numbers(column: Any) -> NDArray[np.float64]:
    """Numbers of a column, NaN where they are masked or text that is none."""
    if column.dtype.kind in _TEXT:
        return np.array([_number(_written(text)) for text in column], np.float64)
    return np.asarray(np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan))


def _number(text: str) -> float:
    with suppress(ValueError):
        return float(text)
    return math.nan


def _of_text(text: Any, unit: Any) -> float:
    """Degrees of a sexagesimal text, NaN if it is none."""
    with suppress(ValueError, units.UnitsError):
        return float(Angle(_written(text), unit).deg)
    return math.nan


def _written(text: Any) -> str:
    return "" if text is np.ma.masked else str(text).replace(_MINUS, "-").strip()
