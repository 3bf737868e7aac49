"""An external catalogue: positions and names of its sources, from a table of any common format."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.errors import InputError
from cwt_dask.inspection.columns import FRAMES, Place, degrees_of, find_name, find_positions
from cwt_dask.inspection.tables import read_tables
from cwt_dask.runtime.terminal import visible

if TYPE_CHECKING:
    from astropy.table import Table

_TURN, _POLE = 360.0, 90.0
_WITH_TABLE = re.compile(r"(?P<file>.+)\[(?P<table>[^\[\]]+)\]")


@dataclass(frozen=True)
class ExternalCatalogue:
    """Sources of a catalogue that have a position."""

    label: str  # The file's name.
    place: Place  # Where the positions were.
    called: str | None  # The column with the names; None where there is none.
    names: NDArray[np.str_]  # Of each source; its row, from 1, where it has no name.
    sky: SkyCoord  # Positions, ICRS.
    table: Table  # Their rows, as they are in the catalogue.
    numbers: NDArray[np.int64]  # And numbers of these, from 1.
    # How many rows are left out: their positions are blank, masked, unreadable or none on the sky.
    n_without_position: int
    n_comments: int  # And how many because a text has them as comments.


def read_external_catalogue(catalogue: str | PathLike[str] | Table, columns: str | None = None) -> ExternalCatalogue:
    """Read a catalogue: of a file with several tables the first that has positions, or ``FILE[TABLE]``.

    Raises InputError if it cannot be read, has no positions, or several columns may be its positions.

    Parameters
    ----------
    catalogue : path-like or Table
        FITS, VOTable, ECSV or a text in columns, compressed or not; or what was read of one.
    columns : str, optional
        Those with the positions, longitude and latitude with a comma between them, and after another comma their frame
        where names and UCDs do not tell it, one of `FRAMES`; found by UCD, unit and name if not given.
    """
    wanted = tuple(name.strip() for name in columns.split(",")) if columns else ()
    frame = wanted[-1].lower() if len(wanted) > 1 and wanted[-1].lower() in FRAMES else ""
    label, named = str(catalogue), wanted[:-1] if frame else wanted
    if isinstance(catalogue, str | PathLike):
        table, places = _read(label, named, frame)
    else:
        label, table, places = "the table", catalogue, find_positions(catalogue, named, frame)
        if not places:
            raise _without_positions(label, table.colnames, named)
    if len(places) > 1:
        raise InputError(
            f"{label} has positions in {', '.join(map(str, places))}: say which to take, such as "
            f"--columns {','.join(places[0].columns)}"
        )
    (place,) = places
    try:
        with warnings.catch_warnings():
            # Such as about 60 seconds: astropy takes them as they are meant.
            warnings.simplefilter("ignore")
            lon, lat = degrees_of(table, place)
    except (ValueError, TypeError) as error:
        raise InputError(f"{place} of {label} are no positions: {shown(error)}") from error
    known = (np.abs(lon) <= _TURN) & (np.abs(lat) <= _POLE)
    if not known.any():
        raise InputError(f"{label} has no source with a position in {place}")
    called = find_name(table)
    return ExternalCatalogue(
        label=visible(label.rpartition("/")[2]),
        place=place,
        called=called,
        names=_names(table, called)[known],
        sky=SkyCoord(lon[known], lat[known], unit="deg", frame=place.frame).icrs,
        table=table[known],
        numbers=np.flatnonzero(known) + 1,
        n_without_position=int((~known).sum()),
        n_comments=table.meta.get("n_comments", 0),
    )


def _read(path: str, wanted: tuple[str, ...], frame: str) -> tuple[Table, list[Place]]:
    """The table that is meant, and where its positions may be: one place or more."""
    part = _WITH_TABLE.fullmatch(path)
    file, named = (part["file"], part["table"]) if part else (path, "")
    present, columns = [], []
    try:
        with warnings.catch_warnings():
            # What is odd in units and headers of others is no concern here.
            warnings.simplefilter("ignore")
            for number, name, table in read_tables(file):
                present.append(f"{number} {name}".rstrip())
                if named.upper() in ("", str(number), name.upper()):
                    columns += table.colnames
                    if places := find_positions(table, wanted, frame):
                        return table, places
    except Exception as error:  # each of astropy's readers has errors of its own
        # Other errors of this kind come from what is in the file.
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"{file} cannot be read ({error.strerror}): check the path") from error
        # What follows is a list of formats.
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} cannot be read as a table ({shown(reason)}): give a catalogue, or FILE[TABLE]"
        ) from error
    if named and not columns:
        tables = f"its tables are {', '.join(present) or 'none'}"
        raise InputError(f"{file} has no table {shown(named)}; {tables}: give one by number or name")
    if not present:
        raise InputError(f"{file} has no table: give a catalogue")
    raise _without_positions(path, columns, wanted)


def _without_positions(label: str, columns: list[str], wanted: tuple[str, ...]) -> InputError:
    has = f"it has {shown(', '.join(columns))}"
    if wanted:
        return InputError(f"{label} has no columns {' and '.join(wanted)}: {has}")
    return InputError(
        f"{label} has no positions: give it columns such as ra and dec, RAJ2000 and DEJ2000, GLON and GLAT, "
        f"or say which they are, --columns LON,LAT; {has}"
    )


def _names(table: Table, called: str | None) -> NDArray[np.str_]:
    given = table[called] if called else [""] * len(table)
    names = ["" if name is np.ma.masked else visible(str(name).strip()) for name in given]
    return np.array([name or str(row) for row, name in enumerate(names, start=1)])
