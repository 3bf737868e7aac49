"""Event lists: files as they are given, directories and observation indexes opened to the tables they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from cwt_dask.config.validation import shown
from cwt_dask.errors import SurveyError
from cwt_dask.events.positions import ENERGY, Energies, Positions
from cwt_dask.events.tables import EcsvTable, FitsTable, Table, is_ecsv, read_all
from cwt_dask.events.times import Observation
from cwt_dask.storage.paths import exists, is_object, listed
from cwt_dask.survey.fits_file import FitsFile, is_event_list, is_index
from cwt_dask.survey.source import PlaneSource

# Of gamma-astro-data-formats: files and HDUs by observation, and observations.
_FILES_INDEX = ("hdu-index.fits.gz", "hdu-index.fits")
_OF_FILES = ("OBS_ID", "HDU_TYPE", "FILE_DIR", "FILE_NAME", "HDU_NAME")
_ENDINGS = (".fits", ".fits.gz", ".fit", ".fit.gz", ".ecsv")
_GTI, _EVENTS = "GTI", "EVENTS"

Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class EventList:
    """A table of events, and what is needed of it."""

    table: Table
    positions: Positions
    energies: Energies | None
    observation: Observation
    beside: tuple[Path, ...] = ()  # Other files that say something of it: indexes, good time intervals.

    @classmethod
    def of(cls, table: Table, gti: Table | None, limits: Limits, beside: tuple[Path, ...] = ()) -> EventList:
        """Find positions and energies in a table.

        Parameters
        ----------
        table : Table
        gti : Table or None
            Its good time intervals.
        limits : tuple
            As of `open_lists`.
        beside : tuple of Path, optional
            Other files that say something of it.

        Raises SurveyError if they are not there.
        """
        return cls(table, Positions.of(table), Energies.of(table, limits), Observation.of(table, gti), beside)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns to read."""
        return (*self.positions.columns, *((ENERGY,) if self.energies else ()))


@dataclass(frozen=True)
class _Place:
    """Where a table of events is, and its good time intervals if they are told."""

    path: Path
    hdu: str = ""  # Name or number; empty where it is the one that holds events.
    gti: tuple[Path, str] | None = None
    indexes: tuple[Path, ...] = ()  # Files that name it.

    @property
    def beside(self) -> tuple[Path, ...]:
        """Other files that say something of it."""
        return (*self.indexes, *([self.gti[0]] if self.gti and self.gti[0] != self.path else []))


def open_lists(given: Sequence[str | PathLike[str]], limits: Limits) -> list[EventList]:
    """Open event lists.

    Parameters
    ----------
    given : sequence of path-like
        Files, ``FILE[HDU]``, observation indexes, or directories of those.
    limits : tuple
        Lowest energy, and that below which energies are, in TeV; None for no bound.

    Raises
    ------
    SurveyError
        If one cannot be used, or is given twice.
    """
    lists = [each for name in given for place in _places(name) for each in _open(place, limits)]
    seen = set()
    for each in lists:
        key = each.table.place
        if key in seen:
            raise SurveyError(f"{each.table.where} is given twice: give each event list once")
        seen.add(key)
    return lists


def _places(given: str | PathLike[str]) -> list[_Place]:
    """What a name stands for: a file, or those of a directory, by its index if it has one."""
    source = PlaneSource.parse("events", given, "")
    path = source.path
    if is_object(path) or not path.is_dir():
        return [_Place(path, source.hdu)]
    indexes = [path / name for name in _FILES_INDEX if exists(path / name)]
    files = indexes[:1] or [file for file in listed(path, "*") if file.name.lower().endswith(_ENDINGS)]
    if not files:
        raise SurveyError(f"{path} has no event lists ({', '.join(_ENDINGS)}): give a directory that does, or files")
    return [_Place(file) for file in files]


def _open(place: _Place, limits: Limits) -> list[EventList]:
    """Open the event list of a file, or those that an index names."""
    if is_ecsv(place.path):
        return [EventList.of(EcsvTable.of(place.path), None, limits)]
    with FitsFile.open(place.path) as file:
        index = None if place.hdu else next((hdu for hdu in file.hdus if is_index(hdu)), None)
        if index is None:
            events = FitsTable.of(_find_events(file, place.hdu), file)
            return [EventList.of(events, _find_gti(place, file), limits, place.beside)]
        places = _indexed(FitsTable.of(index, file), place.path)
    return [each for inner in places for each in _open(inner, limits)]


def _indexed(index: FitsTable, path: Path, wanted: Sequence[int] | None = None) -> list[_Place]:
    """Event lists that an index of files names, of some observations or of all; one of observations has such beside."""
    if not set(_OF_FILES) <= index.units.keys():
        beside = [path.with_name(name) for name in _FILES_INDEX if exists(path.with_name(name))]
        if "OBS_ID" not in index.units or wanted is not None or not beside:
            raise SurveyError(
                f"{index.where} names no files, and there is no {_FILES_INDEX[0]} beside it that does: give the event "
                "lists, or that index"
            )
        observations = read_all(index, ("OBS_ID",))["OBS_ID"]
        with FitsFile.open(beside[0]) as file:
            tables = [FitsTable.of(hdu, file) for hdu in file.hdus if is_index(hdu)]
        named = [each for table in tables for each in _indexed(table, beside[0], observations.tolist())]
        return [replace(each, indexes=(path, *each.indexes)) for each in named]
    observed = read_all(index, _OF_FILES[:1])["OBS_ID"].tolist()
    rows = list(zip(observed, *index.texts(_OF_FILES[1:]), strict=True))
    if wanted is not None:
        rows = [row for row in rows if row[0] in set(wanted)]
    at = {(number, kind.lower()): (path.parent / folder / name, hdu) for number, kind, folder, name, hdu in rows}
    places = [
        _Place(file, hdu or _EVENTS, at.get((number, "gti")), (path,))
        for (number, kind), (file, hdu) in at.items()
        if kind == "events"
    ]
    if not places:
        raise SurveyError(f"{index.where} names no event lists: give files, or another index")
    return places


def _find_events(file: FitsFile, named: str) -> Any:
    """The HDU that holds the events: that of a name or number, else the only one that says so or has positions."""
    tables = [hdu for hdu in file.hdus if not hdu.is_image]
    found = [hdu for hdu in tables if is_event_list(hdu)]
    if named:
        found = [hdu for hdu in tables if named.upper() in (hdu.name.upper(), str(file.hdus.index(hdu)))]
    elif not found and len(tables) == 1:
        found = tables
    if len(found) == 1:
        return found[0]
    present = ", ".join(f"{number} {hdu.name or '(no name)'}" for number, hdu in enumerate(file.hdus))
    what = f"no table {shown(named)}" if named else f"{len(found) or 'no'} event list{'s' * (len(found) > 1)}"
    raise SurveyError(
        f"{file.path} has {what}; it has {present}: name the table, FILE[HDU], or for a map leave out --center, "
        "--size, --pixel and --allsky"
    )


def _find_gti(place: _Place, file: FitsFile) -> Table | None:
    """The table of good time intervals, in the same file unless an index says otherwise."""
    if place.gti and place.gti[0] != place.path:
        with FitsFile.open(place.gti[0]) as other:
            return _gti_of(other, place.gti[1])
    return _gti_of(file, place.gti[1] if place.gti else _GTI)


def _gti_of(file: FitsFile, name: str) -> Table | None:
    found = [hdu for hdu in file.hdus if not hdu.is_image and hdu.name.upper() == name.upper()]
    return FitsTable.of(found[0], file) if found else None
