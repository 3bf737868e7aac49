"""An external catalogue: positions and names of its sources, from any table that astropy reads."""

from __future__ import annotations

import math
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.utils.masked import Masked
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.errors import InputError

# As catalogues call them, in lower case; the first that are there are taken.
POSITIONS = (
    *(("ra", "dec", "icrs"), ("raj2000", "dej2000", "fk5"), ("_raj2000", "_dej2000", "fk5")),
    *(("ra_icrs", "de_icrs", "icrs"), ("radeg", "dedeg", "icrs"), ("ra_deg", "dec_deg", "icrs")),
    # VizieR's own, as FITS and CSV have them and as VOTable does.
    *(("_ra", "_de", "icrs"), ("_ra.icrs", "_de.icrs", "icrs"), ("_ra_icrs", "_de_icrs", "icrs")),
    *(("glon", "glat", "galactic"), ("l", "b", "galactic")),
)
NAMES = ("source_name", "name", "main_id", "designation", "id", "source_id")
_POLE = 90.0
_WITH_HDU = re.compile(r"(?P<file>.+)\[(?P<hdu>[^\[\]]+)\]")


@dataclass(frozen=True)
class ExternalCatalogue:
    """Sources of a catalogue that have a position."""

    label: str  # The file's name.
    names: NDArray[np.str_]  # Of each source; its row, from 1, where it has no name.
    sky: SkyCoord  # Positions, ICRS.
    # How many rows are left out: their positions are blank, masked, unreadable or none on the sky.
    n_without_position: int


def read_external_catalogue(catalogue: str | PathLike[str]) -> ExternalCatalogue:
    """Read a table of any format that astropy recognizes, of a FITS file the first, or ``FILE[HDU]``.

    Positions are columns of coordinates, or two that are named as in `POSITIONS`. Raises InputError if the table cannot
    be read, or has none.
    """
    table = _read(str(catalogue))
    sky, columns = _positions(table, str(catalogue))
    known = np.isfinite(sky.ra.deg)
    if not known.any():
        raise InputError(f"{catalogue} has no source with a position in {columns}")
    return ExternalCatalogue(str(catalogue).rpartition("/")[2], _names(table)[known], sky[known], int((~known).sum()))


def _read(path: str) -> Table:
    part = _WITH_HDU.fullmatch(path)
    try:
        with warnings.catch_warnings():
            # What is odd in units and headers of others is no concern here.
            warnings.simplefilter("ignore")
            return Table.read(path) if part is None else _read_hdu(**part.groupdict())
    except InputError:
        raise
    except Exception as error:  # each of astropy's readers has errors of its own
        # Other errors of this kind come from what is in the file.
        if isinstance(error, OSError) and error.strerror:
            file = part["file"] if part else path
            raise InputError(f"{file} cannot be read ({error.strerror}): check the path") from error
        # What follows is a list of formats.
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} cannot be read as a table ({shown(reason)}): give a catalogue, or FILE[HDU]"
        ) from error


def _read_hdu(file: str, hdu: str) -> Table:
    # Not left to Table.read: it takes the only table there is, whichever is asked for.
    with fits.open(file) as hdus:
        kinds = fits.BinTableHDU, fits.TableHDU
        tables = {number: each for number, each in enumerate(hdus) if isinstance(each, kinds)}
        for number, table in tables.items():
            if hdu.upper() in (str(number), table.name.upper()):
                return Table.read(table)
        present = ", ".join(f"{number} {table.name}".rstrip() for number, table in tables.items())
    raise InputError(
        f"{file} has no table {shown(hdu)}; its tables are {present or 'none'}: give one by number or name"
    )


def _names(table: Table) -> NDArray[np.str_]:
    columns = {str(name).lower(): name for name in table.colnames}
    called = next((columns[name] for name in NAMES if name in columns), None)
    given = ["" if name is np.ma.masked else str(name) for name in (table[called] if called else [""] * len(table))]
    return np.array([name.strip() or str(row) for row, name in enumerate(given, start=1)])


def _positions(table: Table, path: str) -> tuple[SkyCoord, str]:
    """ICRS, NaN where there is none; and what the columns are called."""
    columns = {str(name).lower(): name for name in table.colnames}
    frames: dict[tuple[str, ...], str] = {
        (columns[lon], columns[lat]): frame for lon, lat, frame in POSITIONS if lon in columns and lat in columns
    }
    # Columns of coordinates come first.
    found = [*((name,) for name in table.colnames if isinstance(table[name], SkyCoord)), *frames]
    if not found:
        names = ", ".join(f"{longitude} and {latitude}" for longitude, latitude, _ in POSITIONS)
        raise InputError(f"{path} has no positions: give it columns {names}; it has {', '.join(table.colnames)}")
    used, frame = " and ".join(found[0]), frames.get(found[0], "icrs")
    try:
        lon, lat = _degrees([table[name] for name in found[0]], frame)
    except (ValueError, TypeError, units.UnitsError) as error:
        raise InputError(f"{used} of {path} are no positions: {shown(error)}") from error
    if lon.ndim != 1 or lat.ndim != 1:
        raise InputError(f"{used} of {path} are no positions: a row has more than one")
    known = np.isfinite(lon) & (np.abs(lat) <= _POLE)
    return SkyCoord(np.where(known, lon, np.nan), np.where(known, lat, np.nan), unit="deg", frame=frame).icrs, used


def _degrees(columns: list[Any], frame: str) -> list[NDArray[np.float64]]:
    """Longitudes and latitudes, NaN where they are masked or unreadable."""
    if len(columns) == 1:
        try:
            sky = columns[0].icrs
        except Exception as error:  # some frames need a place and a time, such as the horizon's
            raise ValueError(f"frame {columns[0].frame.name} cannot be turned into ICRS") from error
        return [angle.filled(np.nan) if isinstance(angle, Masked) else angle for angle in (sky.ra.deg, sky.dec.deg)]
    # Of longitudes, only those that go with the Earth's turning are written in hours.
    sexagesimal = (units.deg if frame == "galactic" else units.hourangle, units.deg)
    return [_angles(column, unit) for column, unit in zip(columns, sexagesimal, strict=True)]


def _angles(column: Any, sexagesimal: units.Unit) -> NDArray[np.float64]:
    """Angles of a column in degrees: numbers without a unit are degrees, in text as elsewhere."""
    if column.dtype.kind in "USO" and column.ndim == 1:
        # A unit of sexagesimal text is seldom one that is known: it is "h:m:s" or the like.
        unit = column.unit if column.unit in (units.deg, units.hourangle) else None
        return np.array([_of_text(text, column.unit or units.deg, unit or sexagesimal) for text in column], np.float64)
    values = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
    return np.asarray(units.Quantity(values, column.unit or units.deg).to_value(units.deg))


def _of_text(text: Any, decimal: units.Unit, sexagesimal: units.Unit) -> float:
    if text is np.ma.masked:
        return math.nan
    try:
        number = float(str(text))
    except ValueError:
        with suppress(ValueError, units.UnitsError):
            return float(Angle(str(text), sexagesimal).deg)
        return math.nan
    return float((number * decimal).to_value(units.deg))
