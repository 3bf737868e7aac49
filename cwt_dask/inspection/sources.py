"""Sources of a run: whether what tiles have kept of them is whole, and tiles measured again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from astropy.table import Row, Table, vstack

from cwt_dask.config.validation import counted
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import RunError
from cwt_dask.merge.agreement import Windows, differing, until_they_agree
from cwt_dask.merge.catalogue import OF_ALL_TILES, rows_of_tile
from cwt_dask.merge.columns import COLUMNS, Column
from cwt_dask.pipeline.reuse import MOST_NAMED
from cwt_dask.results import SurveyRun
from cwt_dask.storage.archives import is_whole
from cwt_dask.storage.paths import backend_of
from cwt_dask.storage.zarr_io import DAMAGE
from cwt_dask.survey.sphere import is_on_sphere
from cwt_dask.tiles.fitted import damaged
from cwt_dask.tiles.fitting import Reach, fit_again
from cwt_dask.tiles.sources import Peaks, candidates_of

# Version of the algorithm whose runs keep what tiles have found and fitted.
KEPT_SINCE = 7


@dataclass(frozen=True)
class Agreement:
    """How tiles of a finished run were fitted, and which of them do not agree on sources."""

    windows: Windows
    differing: dict[int, list[int]]


def agreement_of(run: SurveyRun, certificate: Mapping[str, Any]) -> tuple[Agreement | None, str]:
    """How tiles agree on sources, by what they have kept of them; None where that is damaged, and what is wrong then.

    Parameters
    ----------
    run : SurveyRun
        The run.
    certificate : mapping
        Its certificate: the version before has kept nothing, and says nothing of it. Runs without seals have no
        name, by which to know what they have kept.
    """
    plan = run.stored.plan
    # A certificate that is damaged says nothing, either.
    kept = "sources_exact" in certificate or plan.algorithm_version >= KEPT_SINCE
    if not (kept and run.stored.run_id):
        return None, ""
    try:
        reach = Reach.of(run.files, plan, run.survey)
        look = partial(damaged, run.files, run.stored.run_id, reach.margins)
        if lost := [path for tile in range(plan.grid.n_tiles) for path in look(tile)]:
            return None, f"damaged or lost: {_listed(list(map(str, lost)), 'file')}; the run's own command mends that"
        compare = partial(differing, run.files, run.stored.run_id, plan, reach)
        found = until_they_agree(
            plan,
            reach,
            lambda _margin, _tiles: None,
            lambda windows: {tile: compare(windows, tile) for tile in range(plan.grid.n_tiles)},
        )
    except (RunError, *DAMAGE) as error:
        # Which files there should be, does not show without the survey.
        return None, "; ".join([str(error), *_listed_damage(run)])
    return Agreement(*found), ""


def _listed_damage(run: SurveyRun) -> list[str]:
    """Files with candidates and fits that are there, and not as they were written."""
    folder = run.files.islands
    with suppress(OSError):
        kept = sorted(name for name in backend_of(folder).entries(folder) if _KEPT.fullmatch(name))
        return [f"{folder / name} is damaged" for name in kept if not is_whole(folder / name, run.stored.run_id)]
    return []


_KEPT = re.compile(r"tile-\d+(\.fit-\d+)?\.npz")


def _listed(names: list[str], what: str) -> str:
    """The first of many."""
    left = len(names) - MOST_NAMED
    return "; ".join([*names[:MOST_NAMED], *([f"and {counted(left, f'more {what}')}"] if left > 0 else [])])


@dataclass(frozen=True)
class SourceComparison:
    """Rows of a tile in catalogue and candidates, against the same tile measured again."""

    n_rows: int  # That were measured again.
    margin: int  # Pixels around the core that were fitted with it.
    # Pixels (y, x) at which only one of both has a row, and rows with the columns that differ.
    alone: list[tuple[int, int]]
    others: list[str]

    @property
    def agrees(self) -> bool:
        """Whether all rows are as recorded."""
        return not (self.alone or self.others)

    def __str__(self) -> str:
        """What was measured."""
        return f"{counted(self.n_rows, 'row')}, margin {self.margin} pixels"

    @property
    def fault(self) -> str:
        """What differs; empty if nothing does."""
        faults = [f"a row at pixel y {y}, x {x} is in one of both only" for y, x in self.alone]
        faults += [f"other {row}" for row in self.others]
        return _listed(faults, "row")


def recorded_rows(run: SurveyRun) -> Table:
    """Rows of catalogue and candidates."""
    return vstack([run.catalogue, run.candidates], metadata_conflicts="silent")


@numpys_own
def measure_again(run: SurveyRun, tile_id: int, agreement: Agreement, recorded: Table) -> SourceComparison:
    """Find the candidates of a tile again and fit them, and compare with the rows that its core has.

    Where neighbours agree on all sources the window is twice as wide, which must not matter; else as it was.

    Parameters
    ----------
    run : SurveyRun
        The run.
    tile_id : int
        The tile.
    agreement : Agreement
        How it was fitted.
    recorded : astropy.table.Table
        All rows of the run.
    """
    files, plan, survey = run.files, run.stored.plan, run.survey
    margin = agreement.windows[tile_id] * (1 if agreement.differing or not plan.grid.has_seams else 2)

    @cache
    def peaks_of(tile: int) -> Peaks:
        return candidates_of(files, plan, survey.path, tile)[1]

    found = fit_again(files, plan, survey.path, margin, tile_id, peaks_of)
    again = rows_of_tile(files, plan, survey.statistics, run.wcs, peaks_of(tile_id), found)
    core = plan.grid.tile(tile_id).core
    y, x = recorded["y_peak"], recorded["x_peak"]
    if is_on_sphere(run.wcs):
        own = recorded[recorded["facet"] == tile_id]
        # A facet finds sources beyond its cell, too, which are others' rows.
        places = set(zip(own["y_peak"].tolist(), own["x_peak"].tolist(), strict=True))
        again = again[[(int(row["y_peak"]), int(row["x_peak"])) in places for row in again]]
    else:
        own = recorded[(core.y0 <= y) & (y < core.y1) & (core.x0 <= x) & (x < core.x1)]
    ours, theirs = ({(int(row["y_peak"]), int(row["x_peak"])): row for row in table} for table in (own, again))
    compared = [column for column in COLUMNS if column.name in again.colnames]
    differ = [
        f"{', '.join(names)} of {ours[place]['name']}"
        for place in sorted(ours.keys() & theirs.keys())
        if (names := [column.name for column in compared if not _agree(column, ours[place], theirs[place])])
    ]
    return SourceComparison(len(again), margin, sorted(ours.keys() ^ theirs.keys()), differ)


def _agree(column: Column, one: Row, other: Row) -> bool:
    if column.name == "flags":
        return not (int(one["flags"]) ^ int(other["flags"])) & ~OF_ALL_TILES
    return column.is_same(one, other)
