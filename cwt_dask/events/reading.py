"""What a call names as its survey: a file or a store as it is, event lists binned onto a map on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cwt_dask.config.events import EventOptions, are_events
from cwt_dask.config.options import Options
from cwt_dask.events.ingest import binned_survey, source_beside
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.paths import as_path


@contextmanager
def as_survey(
    survey: Any, options: Options, progress: Reporter, near: Path | None = None
) -> Iterator[tuple[Path, Options]]:
    """Give a survey as a file or a store, as long as the block lasts, and the options with which that is read.

    Parameters
    ----------
    survey : path-like or sequence of path-like
        A file or a store; or event lists, if there are several, or options say onto which map they are binned.
    options : Options
        All options of the call. Of event lists energies choose events, no bands.
    progress : Reporter
        Receives what became of the events.
    near : Path, optional
        Directory for the file of the counts; that of the system if it is None, or not there.

    Raises
    ------
    InputError
        If event lists, or the map, cannot be used; or reading the survey fails.
    """
    given = list(survey) if isinstance(survey, list | tuple) else [survey]
    if not are_events(len(given), options.onto):
        yield as_path(given[0]), options
        return
    of_events = EventOptions.among(options.onto | options.source)
    source = source_beside(of_events, options.source)
    near = near if near is not None and near.is_dir() else None
    with binned_survey(given, of_events, source, near, progress) as (path, made):
        progress.message(made.describe())
        yield path, replace(options, source=source)
