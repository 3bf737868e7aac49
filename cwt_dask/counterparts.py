"""Positions and names of the sources of somebody else's catalogue, from any table that astropy reads."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from cwt_dask.checks import shown
from cwt_dask.errors import InputError

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

# As catalogues call them, in lower case; the first that are there are taken.
POSITIONS = (
    *(("ra", "dec", "icrs"), ("raj2000", "dej2000", "fk5"), ("_raj2000", "_dej2000", "fk5")),
    *(("ra_icrs", "de_icrs", "icrs"), ("radeg", "dedeg", "icrs"), ("ra_deg", "dec_deg", "icrs")),
    *(("glon", "glat", "galactic"), ("l", "b", "galactic")),
)
NAMES = ("source_name", "name", "main_id", "designation", "id", "source_id")
_WITH_HDU = re.compile(r"(?P<file>.+)\[(?P<hdu>[^\[\]]+)\]")


@dataclass(frozen=True)
class Counterparts:
    """Sources of a catalogue that have a position.

    Attributes
    ----------
    label : str
        The file's name.
    names : ndarray of str
        Of each source; its row, from 1, where the catalogue has no names.
    sky : SkyCoord
        Positions, ICRS.
    """

    label: str
    names: NDArray[np.str_]
    sky: SkyCoord


def read_counterparts(catalogue: str | PathLike[str]) -> Counterparts:
    """Read a catalogue.

    Parameters
    ----------
    catalogue : path-like
        Table in any format that astropy tells by itself (FITS, VOTable, ECSV, CSV, ...), of a FITS file the first, or
        ``FILE[HDU]``. Positions are columns of coordinates, or two that are named as in `POSITIONS`.

    Raises
    ------
    InputError
        If it cannot be read, or has no positions.
    """
    table = _read(str(catalogue))
    sky = _positions(table, str(catalogue)).icrs
    known = np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg)
    if not known.any():
        raise InputError(f"{catalogue} has no source with a position")
    columns = {str(name).lower(): name for name in table.colnames}
    called = next((columns[name] for name in NAMES if name in columns), None)
    names = np.arange(1, len(table) + 1) if called is None else table[called]
    text = np.array([str(name).strip() for name in names])
    return Counterparts(str(catalogue).rpartition("/")[2], text[known], sky[known])


def _read(path: str) -> Table:
    part = _WITH_HDU.fullmatch(path)
    file, options = (path, {}) if part is None else (part["file"], {"hdu": _hdu(part["hdu"])})
    try:
        with warnings.catch_warnings():
            # What is odd in units and headers of others is no concern here.
            warnings.simplefilter("ignore")
            return Table.read(file, **options)
    except Exception as error:  # whatever stumbles: each of astropy's readers has errors of its own
        raise InputError(
            f"{path} cannot be read as a table ({shown(error)}): give a catalogue, or FILE[HDU]"
        ) from error


def _hdu(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _positions(table: Table, path: str) -> SkyCoord:
    for name in table.colnames:
        if isinstance(table[name], SkyCoord):
            return table[name]
    columns = {str(name).lower(): name for name in table.colnames}
    for longitude, latitude, frame in POSITIONS:
        if longitude in columns and latitude in columns:
            lon, lat = table[columns[longitude]], table[columns[latitude]]
            try:
                return SkyCoord(_angles(lon, units.hourangle), _angles(lat, units.deg), frame=frame)
            except (ValueError, TypeError, units.UnitsError) as error:
                raise InputError(f"{lon.name} and {lat.name} of {path} are no positions: {shown(error)}") from error
    known = ", ".join(f"{longitude} and {latitude}" for longitude, latitude, _ in POSITIONS)
    raise InputError(f"{path} has no positions: give it columns {known}; it has {', '.join(table.colnames)}")


def _angles(column: Any, of_text: units.Unit) -> Any:
    """Angles of a column: text is sexagesimal, numbers without a unit are degrees."""
    if column.dtype.kind in "US":
        return units.Quantity([float("nan")] * 0, units.deg) if not len(column) else _parsed(column, of_text)
    values = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
    return units.Quantity(values, column.unit or units.deg)


def _parsed(column: Any, unit: units.Unit) -> Any:
    from astropy.coordinates import Angle  # noqa: PLC0415

    return Angle([str(text) for text in column], unit)
