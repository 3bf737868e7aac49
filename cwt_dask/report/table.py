"""The catalogue as a page holds it: the strongest sources, in columns that have a heading or that it does not know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord

from cwt_dask.merge import columns
from cwt_dask.report.pyramid import Pyramid
from cwt_dask.results import SurveyRun
from cwt_dask.trust import HARMLESS_FLAGS, SourceFlag

# Sources on the page; the catalogue has all.
MOST_SOURCES = 5000
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
    values: list[Any]  # Text, or numbers rounded as shown, or an infinity with its sign; None where there is none.


@dataclass(frozen=True)
class Sources:
    """The strongest sources of a catalogue, the strongest first."""

    # Sources in the whole catalogue; with a score above 5; flagged, but for no harm; with an excess below 0.
    total: int
    n_strong: int
    n_flagged: int
    n_negative: int
    by_flag: dict[str, int]  # Sources in the whole catalogue by name of the flag.
    columns: list[TableColumn]
    # Pixels of the map.
    x: list[float]
    y: list[float]
    flagged: list[int]  # 1 where it has a flag other than those that do no harm.

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
    shown = sorted(((page, name) for name, page in pages.items() if page), key=lambda column: column[0][0])
    x, y = _places(run, strongest)
    return Sources(
        total=len(table),
        n_strong=int(np.count_nonzero(strength > 5)),
        n_flagged=int(np.count_nonzero(flags & ~HARMLESS_FLAGS)),
        n_negative=int(np.count_nonzero(np.asarray(table["excess"]) < 0)),
        by_flag={name: n for flag, name in FLAG_NAMES.items() if (n := int(np.count_nonzero(flags & flag)))},
        columns=[_column(strongest[name], heading, digits) for (_, heading, digits), name in shown],
        x=[round(float(value), 2) for value in x],
        y=[round(float(value), 2) for value in y],
        flagged=[int(value & ~HARMLESS_FLAGS != 0) for value in strongest["flags"]],
    )


def _places(run: SurveyRun, rows: Any) -> tuple[Any, Any]:
    """Columns and rows of sources on the page's map."""
    if plane := Pyramid.of(run.stored.plan.grid).plane:
        return tuple(plane.wcs.world_to_pixel(SkyCoord(rows["ra"], rows["dec"], unit="deg")))
    x, y = (next(n for n in (f"{axis}_centroid", f"{axis}_peak") if n in rows.colnames) for axis in "xy")
    return rows[x], rows[y]


def _column(column: Any, heading: str, digits: int | None) -> TableColumn:
    text = column.name == "flags" or column.dtype.kind in "USO"
    if column.name == "flags":
        values: list[Any] = [name_flags(int(value)) for value in column]
    elif text:
        values = ["" if np.ma.is_masked(value) else str(value) for value in column]
    else:
        values = [_rounded(value, digits) for value in column]
    return TableColumn(column.name, heading, str(column.unit or ""), column.description or "", text, values)


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
