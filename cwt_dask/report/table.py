"""The catalogue as a page holds it: the strongest sources, in columns that have a heading or that it does not know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.merge import columns
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.results import SurveyRun
from cwt_dask.trust import HARMLESS_FLAGS, SourceFlag

# Sources on the page; the catalogue has all.
MOST_SOURCES = 5000
# Columns up to this place are shown until others are chosen; positions in the map's own frame come before the score.
SHOWN_FIRST, POSITIONS = 9, 3.5
FLAG_NAMES = {flag: str(flag.name).lower().replace("_", " ") for flag in SourceFlag}
INFINITE = "\N{INFINITY}"


@dataclass(frozen=True)
class TableColumn:
    """A column of the table."""

    # Name in the catalogue, heading, unit of the values, and description.
    name: str
    title: str
    unit: str
    description: str
    text: bool  # Whether it holds text.
    shown: bool  # Whether it is, until the reader chooses.
    values: list[Any]  # Text, or numbers rounded as shown, or an infinity with its sign; None where there is none.


@dataclass(frozen=True)
class Sources:
    """The strongest sources of a catalogue, the strongest first."""

    # Sources in the whole catalogue; with a score above 5; extended; flagged, but for no harm; with an excess below 0.
    total: int
    n_strong: int
    n_extended: int
    n_flagged: int
    n_negative: int
    n_associated: int | None  # Of the whole catalogue; None where it was not matched with another.
    expected_false: float | None  # Expected rows of noise with a score of at least the least one's.
    by_flag: dict[str, int]  # Sources in the whole catalogue by name of the flag.
    columns: list[TableColumn]
    # Pixels of the page's map.
    x: list[float]
    y: list[float]
    # Columns and rows on the run's maps; on the sphere rows count on through the images of all facets.
    pixels: tuple[NDArray[np.float64], NDArray[np.float64]]
    flagged: list[int]  # 1 where it has a flag other than those that do no harm.
    # Sigma beyond the point spread function in degrees, and counts of the whole source; 0 where not known.
    extension: list[float]
    npred: list[float]

    @property
    def shown(self) -> int:
        """Number of sources on the page."""
        return len(self.x)


def read_sources(run: SurveyRun) -> Sources:
    """Read the catalogue of a run."""
    table = run.catalogue
    flags = np.asarray(table["flags"])
    # Catalogues of earlier versions have no score and no order of strength.
    strength = np.asarray(table["score" if "score" in table.colnames else "significance"])
    strongest = table[np.argsort(-strength, kind="stable")[:MOST_SOURCES]]
    known = {column.name: column.page for column in (*columns.COLUMNS, *columns.ASSOCIATIONS)}
    # Unknown columns come last, under their own names.
    pages = {name: known.get(name, (len(known), name, None)) for name in strongest.colnames}
    pages |= {name: (POSITIONS, *page[1:]) for name in _of_frame(run) if (page := pages.get(name))}
    shown = sorted(((page, name) for name, page in pages.items() if page), key=lambda column: column[0][0])
    pixels = _pixels(run, strongest)
    x, y = _places(run, strongest, pixels)
    extension, npred = (_numbers(strongest, name) for name in ("extension", "npred"))
    return Sources(
        total=len(table),
        n_strong=int(np.count_nonzero(strength > 5)),
        n_extended=int(np.count_nonzero(_numbers(table, "extension"))),
        n_flagged=int(np.count_nonzero(flags & ~HARMLESS_FLAGS)),
        n_negative=int(np.count_nonzero(np.asarray(table["excess"]) < 0)),
        n_associated=_associated(table),
        expected_false=_least(table),
        by_flag={name: n for flag, name in FLAG_NAMES.items() if (n := int(np.count_nonzero(flags & flag)))},
        columns=[
            _column(strongest[name], heading, digits, shown=place <= SHOWN_FIRST)
            for (place, heading, digits), name in shown
        ],
        x=[round(float(value), 2) for value in x],
        y=[round(float(value), 2) for value in y],
        pixels=pixels,
        flagged=[int(value & ~HARMLESS_FLAGS != 0) for value in strongest["flags"]],
        extension=extension.tolist(),
        npred=npred.tolist(),
    )


def _of_frame(run: SurveyRun) -> tuple[str, str]:
    """Names of the positions in the frame of the page's map."""
    flat = Pyramid.of(run.stored.plan.grid).plane is None
    return ("ra", "dec") if flat and run.wcs.wcs.lngtyp.strip() == "RA" else ("glon", "glat")


def _numbers(table: Any, name: str) -> NDArray[np.float64]:
    """Values of a column; 0 where there are none, as in catalogues of earlier versions."""
    if name not in table.colnames:
        return np.zeros(len(table))
    return np.nan_to_num(np.ma.filled(np.ma.asarray(table[name], np.float64), 0.0), posinf=0.0, neginf=0.0)


def _least(table: Any) -> float | None:
    """Expected false rows of the whole catalogue: those of its last one."""
    if "expected_false" not in table.colnames:
        return None
    return float(_numbers(table, "expected_false").max(initial=0.0))


def _associated(table: Any) -> int | None:
    if "assoc_name" not in table.colnames:
        return None
    return sum(bool(name) and not np.ma.is_masked(name) for name in table["assoc_name"])


def _pixels(run: SurveyRun, rows: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows of sources, as of `Sources`."""
    x, y = (next(n for n in (f"{axis}_centroid", f"{axis}_peak") if n in rows.colnames) for axis in "xy")
    grid = run.stored.plan.grid
    first = np.asarray(rows["facet"]) * grid.side if isinstance(grid, FacetGrid) else 0
    return np.asarray(rows[x], np.float64), np.asarray(rows[y], np.float64) + first


def _places(run: SurveyRun, rows: Any, pixels: tuple[Any, Any]) -> tuple[Any, Any]:
    """Columns and rows of sources on the page's map."""
    if plane := Pyramid.of(run.stored.plan.grid).plane:
        return tuple(plane.wcs.world_to_pixel(SkyCoord(rows["ra"], rows["dec"], unit="deg")))
    return pixels


def _column(column: Any, heading: str, digits: int | None, *, shown: bool) -> TableColumn:
    text = column.name == "flags" or column.dtype.kind in "USO"
    if column.name == "flags":
        values: list[Any] = [name_flags(int(value)) for value in column]
    elif text:
        values = ["" if np.ma.is_masked(value) else str(value) for value in column]
    else:
        values = [_rounded(value, digits) for value in column]
    return TableColumn(column.name, heading, str(column.unit or ""), column.description or "", text, shown, values)


def name_flags(flags: int) -> str:
    """Name the flags of a source; bits that this version does not know are given as a number."""
    names = [name for flag, name in FLAG_NAMES.items() if flags & flag]
    unknown = flags & ~sum(FLAG_NAMES)
    return ", ".join([*names, *([str(unknown)] if unknown else [])])


def _rounded(value: Any, digits: int | None) -> float | int | str | None:
    if np.ma.is_masked(value) or math.isnan(value):
        return None
    if math.isinf(value):
        # JSON has no number for it; the page sorts these beyond all others.
        return INFINITE if value > 0 else f"\N{MINUS SIGN}{INFINITE}"
    number = float(f"{value:.4g}") if digits is None else round(float(value), digits)
    return int(number) if number == int(number) else number
