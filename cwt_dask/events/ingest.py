"""From event lists to a counts map, or to a survey where there is a background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from cwt_dask.background import Means, with_estimate
from cwt_dask.config.declaration import option_names
from cwt_dask.config.events import EventOptions
from cwt_dask.config.execution import Execution
from cwt_dask.config.validation import counted, shown
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import SettingsError, SurveyError
from cwt_dask.events.binning import Tally, bin_lists
from cwt_dask.events.lists import open_lists
from cwt_dask.events.product import write_counts
from cwt_dask.events.sky import grid_of
from cwt_dask.events.spool import Spool
from cwt_dask.events.times import refuse_same_time
from cwt_dask.runtime.clusters.environment import cores
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.drafts import scratch_directory
from cwt_dask.storage.paths import drafted_file
from cwt_dask.survey.ingest import free_path, ingest
from cwt_dask.survey.source import ESTIMATE, NOT_ESTIMATED, SurveySource

_IMAGE, _STORE = ".fits", ".zarr"
# What says which image of a file is which plane; events have a table, and one plane of counts.
_OF_COUNTS = ("counts_hdu", "band", "sphere")


@dataclass(frozen=True)
class EventCounts:
    """What became of the events that were binned.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the map.
    n_lists : int
        Event lists that were read.
    tally : Tally
        The sums of all lists.
    warnings : tuple of str
        What to look at.
    background : str, optional
        How the background of a survey was estimated, if it was.
    extent : str, optional
        What the map covers, for people, where it is not flat.

    Examples
    --------
    >>> from cwt_dask.events import EventCounts, Tally
    >>> EventCounts((20, 40), 2, Tally(n_rows=7, n_binned=5, n_outside=2), ()).describe()
    '20 x 40 pixels, 5 counts of 7 events in 2 lists, 2 outside of the map'
    """

    shape: tuple[int, int]
    n_lists: int
    tally: Tally
    warnings: tuple[str, ...]
    background: str = ""
    extent: str = ""

    def describe(self) -> str:
        """Describe it in a line.

        Returns
        -------
        str
            Pixels, counts and events, and how many were left out by why.
        """
        tally = self.tally
        left = {
            "outside of the map": tally.n_outside,
            "of other energies": tally.n_other_energy,
            "without a position": tally.n_no_position,
        }
        also = "".join(f", {n} {why}" for why, n in left.items() if n)
        extent = self.extent or f"{self.shape[0]} x {self.shape[1]} pixels"
        return (
            f"{extent}, {tally.n_binned} counts of {counted(tally.n_rows, 'event')} in "
            f"{counted(self.n_lists, 'list')}{also}"
        )


@numpys_own
def ingest_events(
    events: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    progress: Reporter | None = None,
    **options: Any,
) -> EventCounts:
    """Bin event lists onto a map, in memory that depends neither on the events nor on the map.

    An event lies in the pixel that `numpy.histogramdd` puts it in by astropy's pixel positions, or of the whole sky in
    the HEALPix pixel in which cdshealpix has its position; each is counted once, and those that are not on the map are
    told by why. Lists are read at once in threads.

    Parameters
    ----------
    events : path-like or sequence of path-like
        Event lists of Fermi (FT1) or in GADF's DL3 format, other binary tables in FITS, ECSV tables, ``FILE[TABLE]``,
        observation indexes, or directories of those.
    out : path-like
        A file that ends in .fits, for the counts, or a survey store that ends in .zarr, which takes a background.
    progress : cwt_dask.runtime.progress.Reporter, optional
        Receives the progress of an estimate of the background; by default nothing is said.
    **options
        Fields of `cwt_dask.config.events.EventOptions`: center, size and pixel, in degrees, must be given, or allsky
        and nside; projection, frame, emin and emax may be. For a store also those of
        `cwt_dask.config.options.SourceOptions` that say where background, exposure and mask are.

    Returns
    -------
    EventCounts
        What became of every event that was read.

    Raises
    ------
    SettingsError
        If the map is not given, or impossible, or a store is asked for without a background.
    SurveyError
        If a list cannot be used, two may hold the same events, no event lies on the map, or `out` exists.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from astropy.table import Table
    >>> from cwt_dask.events import ingest_events
    >>> with TemporaryDirectory() as folder:
    ...     Table({"GLON": [0.0, 0.1, 9.0], "GLAT": [0.0, 0.1, 0.0]}).write(f"{folder}/events.fits")
    ...     map_ = {"center": (0, 0), "size": (4, 2), "pixel": 0.1}
    ...     made = ingest_events(f"{folder}/events.fits", f"{folder}/counts.fits", **map_)
    >>> made.shape, made.tally.n_binned, made.tally.n_outside
    ((20, 40), 2, 1)
    """
    of_events = EventOptions.among(options)
    source = source_beside(of_events, options)
    is_store = _is_store(str(out), source)
    path, parent = free_path(out)
    if not is_store:
        with drafted_file(path) as draft:
            return bin_events(events, draft, of_events, parent)
    progress = progress or Reporter()
    with binned_survey(events, of_events, source, parent, progress) as (counts, made):
        means = Means.of(Execution(), progress)
        with with_estimate(SurveySource.of(counts, **source), means) as described:
            statistics = ingest(described, path).statistics
    return replace(made, warnings=statistics.warnings, background=statistics.background)


def bin_events(
    events: str | PathLike[str] | Sequence[str | PathLike[str]],
    target: Path,
    options: EventOptions,
    near: Path | None,
    *,
    removed: bool = False,
) -> EventCounts:
    """Bin event lists, and write the file of their counts.

    Parameters
    ----------
    events : path-like or sequence of path-like
        As of `ingest_events`.
    target : Path
        The file, which is not there yet.
    options : EventOptions
        The map, and which events are taken.
    near : Path or None
        Directory for what is put aside on the way; that of the system if None.
    removed : bool, optional
        Whether the file is removed once it was read; it then says what it stands for.

    Raises
    ------
    SettingsError
        If the map is not given, or impossible.
    SurveyError
        If a list cannot be used, two may hold the same events, or no event lies on the map.
    """
    grid = grid_of(options)
    given = _listed(events)
    if not given:
        raise SettingsError("no event list is given: give one or more files")
    lists = open_lists(given, options.energies)
    warnings = refuse_same_time([each.observation for each in lists])
    with ExitStack() as stack:
        spool = Spool(grid.shape, near or Path(gettempdir()), stack)
        binned = bin_lists(lists, grid, spool, cores())
        total = sum((each.tally for each in binned), Tally())
        _refuse_none(total, given)
        warnings += [f"{each.events.table.where} has no events" for each in binned if not each.tally.n_rows]
        write_counts(target, grid, spool, binned, options, warnings if removed else None)
    return EventCounts(grid.shape, len(lists), total, tuple(warnings), extent=grid.extent)


def source_beside(of_events: EventOptions, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the other planes of a survey, of all that were given: events have their energies and their map."""
    taken = set(option_names(EventOptions)) - ({"frame"} if of_events.allsky else set())
    return {name: value for name, value in options.items() if name not in taken}


@contextmanager
def binned_survey(
    events: Any, options: EventOptions, source: Mapping[str, Any], near: Path | None, progress: Reporter
) -> Iterator[tuple[Path, EventCounts]]:
    """Bin event lists for a survey: the file of their counts is there as long as the block lasts.

    Parameters
    ----------
    events, options, near
        As of `bin_events`.
    source : mapping
        Options of `SourceOptions` that were given, as `source_beside` gives them.
    progress : Reporter
        Is told before lists are read, after all that can be refused.

    Yields
    ------
    path : Path
        The file, which warns as the lists do where it is read.
    made : EventCounts
        What became of the events.

    Raises
    ------
    SettingsError
        As `bin_events`; if an option is of maps, or there is no background.
    SurveyError
        As `bin_events`; if reading the survey fails, the message names the events in place of the file.
    """
    _refuse_of_maps(source)
    try:
        grid_of(options)
        _refuse_no_background(source)
    except SettingsError:
        # What maps of the whole sky would lack of that is no matter.
        if options.allsky:
            open_lists(_listed(events), options.energies)
        raise
    if options.allsky and ESTIMATE in (source["background"], *_several(source["background"])):
        raise SurveyError(NOT_ESTIMATED)
    with scratch_directory(near) as scratch:
        path = scratch / "counts.fits"
        progress.message("reading event lists")
        made = bin_events(events, path, options, near, removed=True)
        try:
            yield path, made
        except SurveyError as error:
            raise SurveyError(str(error).replace(str(path), "the events")) from error


def _refuse_no_background(source: Mapping[str, Any]) -> None:
    if not source.get("background"):
        raise SettingsError(
            "a survey needs a background, and events have none: give --background FILE[HDU], or have it estimated, "
            "--background estimate --background-scale 2deg"
        )


def _listed(events: Any) -> list[Any]:
    return [events] if isinstance(events, str | PathLike) else list(events)


def _several(background: Any) -> Sequence[Any]:
    return background if isinstance(background, list | tuple) else ()


def _refuse_of_maps(source: Mapping[str, Any]) -> None:
    for name in _OF_COUNTS:
        if source.get(name) not in (None, False):
            raise SettingsError(
                f"{name} is of maps, and event lists are given: leave it out; FILE[TABLE] names a table of events"
            )


def _is_store(out: str, source: Mapping[str, Any]) -> bool:
    """Whether a survey store is to be made, not an image of the counts.

    Raises SettingsError if `out` is neither, or the options are not of that.
    """
    _refuse_of_maps(source)
    if out.endswith(_IMAGE):
        if others := [name for name in source if name not in option_names(EventOptions)]:
            raise SettingsError(f"{out} is to hold counts only: leave out {others[0]}, or make a survey, OUT{_STORE}")
        return False
    if not out.endswith(_STORE):
        raise SettingsError(
            f"{out} ends neither in {_IMAGE}, for the counts, nor in {_STORE}, for a survey: choose one"
        )
    return True


def _refuse_none(total: Tally, given: Sequence[Any]) -> None:
    if not total.n_rows:
        raise SurveyError(f"{shown(', '.join(map(str, given)))}: there are no events: give lists that have some")
    if not total.n_binned:
        raise SurveyError(
            f"none of {counted(total.n_rows, 'event')} lies on the map, {total.n_outside} are outside of it, "
            f"{total.n_other_energy} of other energies, {total.n_no_position} without a position: check center, size, "
            "frame, emin and emax"
        )
