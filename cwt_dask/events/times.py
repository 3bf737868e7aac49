"""When events were observed: good time intervals, and whether two lists are of the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.errors import SurveyError
from cwt_dask.events.tables import Table, factor_of, read_all

_DAY = 86400.0
# Shorter overlaps, in seconds, are rounding.
_ROUNDING = 1e-3
_START_STOP = ("START", "STOP")


@dataclass(frozen=True)
class Observation:
    """When, and by what, a list of events was observed."""

    where: str  # The list, for messages.
    telescope: str  # And its instrument; empty where it is not told.
    number: str  # OBS_ID; empty where there is none.
    # (interval, 2), from and to, in seconds of TT, or whatever its time is, since MJD 0; None where there are none.
    intervals: Floats | None
    ontime: float | None  # Sum of the intervals, in seconds, else as the header has it.
    livetime: float | None  # As the header has it.

    @classmethod
    def of(cls, events: Table, gti: Table | None) -> Observation:
        """Read it from an event list, and its good time intervals.

        Raises SurveyError if these are none.
        """
        header = events.header
        intervals = None if gti is None else _read(gti, header)
        on = _number(header, "ONTIME")
        name = " ".join(str(header.get(key, "")).strip() for key in ("TELESCOP", "INSTRUME")).strip()
        number = str(header.get("OBS_ID", "")).strip()
        if intervals is not None:
            on = float(np.sum(intervals[:, 1] - intervals[:, 0]))
        return cls(events.where, name, number, intervals, on, _number(header, "LIVETIME"))


def _read(gti: Table, header: Mapping[str, Any]) -> Floats:
    if not set(_START_STOP) <= gti.units.keys():
        raise SurveyError(f"{gti.where} has no columns START and STOP: correct it, or give events without it")
    columns = read_all(gti, _START_STOP)
    both = {**header, **gti.header}
    whole = ("MJDREFI", "MJDREFF") if "MJDREFI" in both else ("MJDREF",)
    since = sum(_number(both, key) or 0.0 for key in whole) * _DAY + (_number(both, "TIMEZERO") or 0.0)
    told = str(both.get("TIMEUNIT", "")).strip() or "s"
    seconds = [columns[name] * factor_of(gti, name, "s", told, "a time") for name in _START_STOP]
    intervals = np.stack(seconds, axis=1) + since
    if not np.all(intervals[:, 0] <= intervals[:, 1]):
        raise SurveyError(f"{gti.where} has an interval that ends before it starts: correct it")
    return intervals


def _number(header: Mapping[str, Any], keyword: str) -> float | None:
    value = header.get(keyword)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)


def refuse_same_time(observations: Sequence[Observation]) -> list[str]:
    """Refuse lists that may hold the same events, because one observation's intervals overlap.

    Returns warnings about what may be so.

    Raises SurveyError.
    """
    timed = [each for each in observations if each.intervals is not None]
    for first, second, seconds in _overlaps(timed, lambda each: (each.telescope, each.number)):
        names = " and ".join(dict.fromkeys((first.where, second.where)))
        raise SurveyError(
            f"the good time intervals (GTI) of {names} overlap by {seconds:.6g} s: events may be there twice; give "
            "one of them, or cut them to different times"
        )
    warnings = [
        f"observations {first.number} and {second.number} of {first.telescope or 'unknown instruments'} overlap by "
        f"{seconds:.6g} s: events are counted twice unless they are of sub-arrays"
        for first, second, seconds in _overlaps(timed, lambda each: (each.telescope,))
    ]
    numbers: dict[tuple[str, str], str] = {}
    for each in observations:
        if each.number and each.intervals is None:
            other = numbers.setdefault((each.telescope, each.number), each.where)
            if other != each.where:
                warnings.append(
                    f"{other} and {each.where} are both of observation {each.number}, and without good time intervals: "
                    "look whether their events are the same"
                )
    return warnings


def _overlaps(observations: Sequence[Observation], key: Any) -> Iterator[tuple[Observation, Observation, float]]:
    """Of observations with the same key those that overlap, and by how long."""
    for _, group in groupby(sorted(observations, key=key), key):
        members = list(group)
        bounds = [(start, stop, n) for n, each in enumerate(members) for start, stop in each.intervals]
        last_stop, last = -np.inf, 0
        for start, stop, n in sorted(bounds):
            if min(stop, last_stop) - start > _ROUNDING:
                yield members[last], members[n], min(stop, last_stop) - start
            if stop > last_stop:
                last_stop, last = stop, n
