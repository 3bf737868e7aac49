"""From event lists to a counts map, or to a survey where there is a background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from cwt_dask.config.declaration import option_names
from cwt_dask.config.events import EventOptions
from cwt_dask.config.validation import counted, shown
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import SettingsError, SurveyError
from cwt_dask.events.binning import Tally, bin_lists
from cwt_dask.events.grid import Grid
from cwt_dask.events.lists import open_lists
from cwt_dask.events.product import write_counts
from cwt_dask.events.spool import Spool
from cwt_dask.events.times import refuse_same_time
from cwt_dask.runtime.clusters.environment import cores
from cwt_dask.storage.drafts import scratch_directory
from cwt_dask.storage.paths import drafted_file
from cwt_dask.survey.ingest import free_path, ingest
from cwt_dask.survey.source import SurveySource

_IMAGE, _STORE = ".fits", ".zarr"
# What says which image of a file is which plane; events have a table, and one plane of counts.
_OF_COUNTS = ("counts_hdu", "band")


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
        return (
            f"{self.shape[0]} x {self.shape[1]} pixels, {tally.n_binned} counts of {counted(tally.n_rows, 'event')} in "
            f"{counted(self.n_lists, 'list')}{also}"
        )


@numpys_own
def ingest_events(
    events: str | PathLike[str] | Sequence[str | PathLike[str]], out: str | PathLike[str], **options: Any
) -> EventCounts:
    """Bin event lists onto a map, in memory that depends neither on the events nor on the map.

    An event lies in the pixel that `numpy.histogramdd` puts it in by astropy's pixel positions; each is counted once,
    and those that are not on the map are told by why. Lists are read at once in threads.

    Parameters
    ----------
    events : path-like or sequence of path-like
        Event lists of Fermi (FT1) or in GADF's DL3 format, other binary tables in FITS, ECSV tables, ``FILE[TABLE]``,
        observation indexes, or directories of those.
    out : path-like
        A file that ends in .fits, for the counts, or a survey store that ends in .zarr, which takes a background.
    **options
        Fields of `cwt_dask.config.events.EventOptions`: center, size and pixel, in degrees, must be given; projection,
        frame, emin and emax may be. For a store also those of `cwt_dask.config.options.SourceOptions` that say where
        background, exposure and mask are.

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
    of_events = EventOptions(**{name: options[name] for name in option_names(EventOptions) if name in options})
    source = {name: value for name, value in options.items() if name not in option_names(EventOptions)}
    is_store = _is_store(str(out), source)
    grid = Grid.of(of_events)
    path, parent = free_path(out)
    given = [events] if isinstance(events, str | PathLike) else list(events)
    if not given:
        raise SettingsError("no event list is given: give one or more files")
    lists = open_lists(given, of_events.energies)
    warnings = refuse_same_time([each.observation for each in lists])
    with ExitStack() as stack:
        spool = Spool(grid.shape, parent or Path(gettempdir()), stack)
        binned = bin_lists(lists, grid, spool, cores())
        total = sum((each.tally for each in binned), Tally())
        _refuse_none(total, given)
        warnings += [f"{each.events.table.where} has no events" for each in binned if not each.tally.n_rows]
        target = stack.enter_context(_counts_in(path, parent, is_store=is_store))
        write_counts(target, grid, spool, binned, of_events, removed=is_store)
        if is_store:
            warnings += _make_survey(target, path, source)
    return EventCounts(grid.shape, len(lists), total, tuple(warnings))


def _is_store(out: str, source: Mapping[str, Any]) -> bool:
    """Whether a survey store is to be made, not an image of the counts.

    Raises SettingsError if `out` is neither, or the options are not of that.
    """
    for name in _OF_COUNTS:
        if name in source:
            raise SettingsError(
                f"{name} is of maps, and event lists are given: leave it out; FILE[TABLE] names a table of events"
            )
    if out.endswith(_IMAGE):
        if source:
            raise SettingsError(
                f"{out} is to hold counts only: leave out {next(iter(source))}, or make a survey, OUT{_STORE}"
            )
        return False
    if not out.endswith(_STORE):
        raise SettingsError(
            f"{out} ends neither in {_IMAGE}, for the counts, nor in {_STORE}, for a survey: choose one"
        )
    background = source.get("background") or ()
    several = background if isinstance(background, list | tuple) else [background]
    if not several:
        raise SettingsError(
            f"a survey needs a background, and events have none: give --background FILE[HDU], or write the counts "
            f"alone, to a file that ends in {_IMAGE}"
        )
    if "estimate" in map(str, several):
        raise SettingsError(
            f"no background is estimated here: write the counts alone, to a file that ends in {_IMAGE}, and give that "
            "to cwt-dask background"
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


@contextmanager
def _counts_in(path: Path, parent: Path | None, *, is_store: bool) -> Iterator[Path]:
    """Where to write the counts: for a survey they are read from there, and removed."""
    if is_store:
        with scratch_directory(parent) as scratch:
            yield scratch / "counts.fits"
    else:
        with drafted_file(path) as draft:
            yield draft


def _make_survey(counts: Path, out: Path, source: Mapping[str, Any]) -> tuple[str, ...]:
    """Make a survey store of counts and the other planes, and give its warnings."""
    try:
        return ingest(SurveySource.of(counts, **source), out).statistics.warnings
    except SurveyError as error:
        raise SurveyError(str(error).replace(str(counts), "the events")) from error
