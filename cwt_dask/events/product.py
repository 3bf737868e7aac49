"""The counts of event lists, an image or a HEALPix map, as a FITS file that says what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from cwt_dask.config.events import EventOptions
from cwt_dask.config.validation import counted
from cwt_dask.errors import MachineError
from cwt_dask.events.binning import Binned, Tally
from cwt_dask.events.sky import AnyGrid
from cwt_dask.events.spool import Spool
from cwt_dask.storage.checksum import input_file, sha256_of_file
from cwt_dask.survey.source import IN_MEMORY_CARD, INPUT_FILES, TOLD

_DAY = 86400.0
_MOST_INT32 = 2**31 - 1
# Lists that are named where the counts stand for them, and warnings about them.
_MOST_NAMED, _MOST_TOLD = 10, 99
# Keywords of the sums, in the order of the fields of a tally.
_KEYWORDS = {
    "NROWS": "events read",
    "NBINNED": "of these counted on the map",
    "NOUTSIDE": "outside of the map",
    "NOTHEREN": "of other energies",
    "NNOPOS": "without a position",
}


def write_counts(
    path: Path,
    grid: AnyGrid,
    spool: Spool,
    binned: Sequence[Binned],
    options: EventOptions,
    warnings: Sequence[str] | None = None,
) -> None:
    """Write the counts, int32, a band of rows at a time, and tables of the lists and their times.

    Parameters
    ----------
    path : Path
        A file that is not there yet.
    grid : Grid or SkyGrid
    spool : Spool
        The pixels of all events.
    binned : sequence of Binned
        The lists that they are of.
    options : EventOptions
    warnings : sequence of str, optional
        Of a file that is removed once it was read: what is told there. It says what it stands for.

    Raises MachineError if the map does not hold all events that were binned.
    """
    total = sum((each.tally for each in binned), Tally())
    bits = 32 if total.n_binned <= _MOST_INT32 else 64
    header = grid.hdu_header(bits)
    header.update(_summary(binned, total, options))
    of_file = {} if warnings is None else _standing_for(binned, total, warnings)
    header.update(of_file)
    if "SIMPLE" not in header:
        # What a file stands for is said at its beginning.
        at_first = {key: text for key, text in of_file.items() if key == IN_MEMORY_CARD}
        fits.PrimaryHDU(header=fits.Header(at_first)).writeto(path)
    n_written = 0
    # As text: of a Path, astropy looks for the last part only, and takes an existing file for a new one.
    with fits.StreamingHDU(str(path), header) as hdu:
        for counts in spool.bands():
            n_written += int(counts.sum())
            hdu.write(grid.stored(counts, bits))
    if n_written != total.n_binned or sum(astuple(total)[1:]) != total.n_rows:
        raise MachineError(
            f"of {total.n_rows} events {total.n_binned} were to be on the map, and {n_written} are: a disk or a memory "
            "has failed; try again"
        )
    for table in (_table_of_lists(binned), _table_of_times(binned), _table_of_files(binned)):
        if table is not None:
            fits.append(str(path), table.data, table.header)


def _summary(binned: Sequence[Binned], total: Tally, options: EventOptions) -> dict[str, Any]:
    """Cards about all lists together."""
    cards: dict[str, Any] = {"CREATOR": "cwt-dask ingest", "NLISTS": (len(binned), "event lists")}
    cards |= {key: (n, text) for (key, text), n in zip(_KEYWORDS.items(), astuple(total), strict=True)}
    low, high = options.energies
    for key, energy, text in (("EMIN", low, "lowest energy, TeV"), ("EMAX", high, "energies are below, TeV")):
        cards |= {} if energy is None else {key: (energy, text)}
    if low is not None and high is not None:
        # As Fermi's tools note it, and surveys are read.
        cards |= {"DSTYP1": "ENERGY", "DSUNI1": "TeV", "DSVAL1": f"{low!r}:{high!r}"}
    observations = [each.events.observation for each in binned]
    telescopes = {each.telescope for each in observations}
    if len(telescopes) == 1 and "" not in telescopes:
        cards["TELESCOP"] = telescopes.pop()
    for key, times, text in (
        ("ONTIME", [each.ontime for each in observations], "sum of all lists, s"),
        ("LIVETIME", [each.livetime for each in observations], "sum of all lists, s"),
    ):
        known = [time for time in times if time is not None]
        cards |= {key: (sum(known), text)} if len(known) == len(times) else {}
    return cards


def _standing_for(binned: Sequence[Binned], total: Tally, warnings: Sequence[str]) -> dict[str, str]:
    """Cards of a file that is removed once it was read: what it stands for, and what is told there."""
    lists = [each.events.table.where for each in binned]
    n_more = len(lists) - _MOST_NAMED
    named = ", ".join(lists[:_MOST_NAMED]) + (f" and {counted(n_more, 'list')} more" if n_more > 0 else "")
    told = {IN_MEMORY_CARD: _ascii(f"{total.n_binned} of {counted(total.n_rows, 'event')} of {named}")}
    return told | {f"{TOLD}{n}": _ascii(warning) for n, warning in enumerate(warnings[:_MOST_TOLD], 1)}


def _table_of_lists(binned: Sequence[Binned]) -> fits.BinTableHDU:
    """Table of what became of each list."""
    columns = [
        _text("list", [each.events.table.where for each in binned]),
        _text("obs_id", [each.events.observation.number for each in binned]),
    ]
    tallies = np.array([astuple(each.tally) for each in binned])
    columns += [fits.Column(field.name, "K", array=tallies[:, number]) for number, field in enumerate(fields(Tally))]
    for name in ("ontime", "livetime"):
        times = [getattr(each.events.observation, name) for each in binned]
        columns.append(fits.Column(name, "D", "s", array=[np.nan if time is None else time for time in times]))
    columns.append(_text("sha256", [each.digest for each in binned]))
    return fits.BinTableHDU.from_columns(columns, name="EVENT_LISTS")


def _table_of_files(binned: Sequence[Binned]) -> fits.BinTableHDU:
    """Table of the files that the lists were read from."""
    digests = {each.events.table.path: each.file_digest for each in binned}
    digests |= {path: sha256_of_file(path) for each in binned for path in each.events.beside if path not in digests}
    rows = [input_file("events", path, digest) for path, digest in digests.items()]
    return fits.BinTableHDU.from_columns(
        [_text(name, [row[name] for row in rows]) for name in rows[0]], name=INPUT_FILES
    )


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _text(name: str, values: Sequence[str]) -> fits.Column:
    encoded = [_ascii(value).encode() for value in values]
    return fits.Column(name, f"{max(*map(len, encoded), 1)}A", array=encoded)


def _table_of_times(binned: Sequence[Binned]) -> fits.BinTableHDU | None:
    """Good time intervals of all lists, by time; None where one has none."""
    intervals = [each.events.observation.intervals for each in binned]
    known = [each for each in intervals if each is not None]
    if len(known) < len(intervals) or not sum(map(len, known)):
        return None
    times = np.concatenate(known)
    times = times[np.argsort(times[:, 0], kind="stable")]
    day = int(times[0, 0] // _DAY)
    columns = [
        fits.Column(name, "D", "s", array=times[:, number] - day * _DAY)
        for number, name in enumerate(("START", "STOP"))
    ]
    header = fits.Header({"MJDREFI": day, "MJDREFF": 0.0, "TIMEUNIT": "s"})
    return fits.BinTableHDU.from_columns(columns, header, name="GTI")
