"""What differs between two runs: sources gained, lost and changed, and the maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord

from cwt_dask.config.validation import counted
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.merge.columns import COLUMNS
from cwt_dask.products.difference import plot_difference, write_picture
from cwt_dask.products.layers import has_layer
from cwt_dask.results import SurveyRun
from cwt_dask.storage.schema import maps_in
from cwt_dask.trust import SourceFlag

if TYPE_CHECKING:
    from astropy.table import Row, Table

# Columns by which a source that is in both may have changed, beyond rounding.
MEASURED = ("significance", "scale", "counts", "background")
# And where both runs have a fit: `sqrt_ts` was another one before.
FITTED = ("sigma", "sqrt_ts", "npred", "extension")
# More sources than these are counted, not named.
MOST_NAMED = 20


@dataclass(frozen=True)
class RunComparison:
    """Two runs."""

    same_maps: bool  # Whether their `digest_maps` is the same.
    # Rows of the second run's catalogue that are not in the first, and of the first's that are not in the second; nor
    # among the candidates there.
    gained: Table
    lost: Table
    changed: list[tuple[Row, Row]]  # Rows of both catalogues that are the same source, and differ.
    # Rows of the first run and of the second that are the same source, which was a candidate and is in the catalogue
    # now; or was in the catalogue, and is a candidate: the split has moved, or the source's score.
    entered: list[tuple[Row, Row]]
    left: list[tuple[Row, Row]]
    # Largest difference of each map over its largest absolute value in the first run, NaN where only one run has it;
    # empty where the shapes differ.
    differences: dict[str, float]
    support_flips: int  # Pixels, counted once a scale, that are in one support only.


@numpys_own
def compare_runs(first: SurveyRun, second: SurveyRun) -> RunComparison:
    """Compare two finished runs.

    Two rows are the same source if each is the other's nearest and they are no farther apart than the first run's
    finest scale. A source has changed if its peak is another pixel, one of `MEASURED` or `FITTED` differs by more than
    rounding, or it has other flags but for that of seams.

    Raises InputError if a run is not finished. Raises RunError if one is damaged.
    """
    ours, theirs = first.catalogue, second.catalogue
    finest = float(first.stored.plan.kernels.scales[0]) * first.survey.statistics.pixel_scale_deg * units.deg
    pairs = _same_sources(ours, theirs, finest)
    lost = np.setdiff1d(np.arange(len(ours)), pairs[:, 0])
    gained = np.setdiff1d(np.arange(len(theirs)), pairs[:, 1])
    changed = [(ours[i], theirs[j]) for i, j in pairs.tolist() if _differ(ours[i], theirs[j])]
    left = _same_sources(ours[lost], once := _candidates(second), finest)
    entered = _same_sources(before := _candidates(first), theirs[gained], finest)
    moved_in = [(before[i], theirs[gained][j]) for i, j in entered.tolist()]
    moved_out = [(ours[lost][i], once[j]) for i, j in left.tolist()]
    lost, gained = np.delete(lost, left[:, 0]), np.delete(gained, entered[:, 1])
    same = first.certificate["digest_maps"] == second.certificate["digest_maps"]
    differences, flips = ({}, 0) if first.model.shape != second.model.shape else _map_differences(first, second)
    return RunComparison(same, theirs[gained], ours[lost], changed, moved_in, moved_out, differences, flips)


def draw(first: SurveyRun, second: SurveyRun, found: RunComparison, path: Path) -> None:
    """Draw how far the maps differ, with the sources that do, as the second run has them where it has them.

    Parameters
    ----------
    first, second : SurveyRun
        The runs.
    found : RunComparison
        Of them.
    path : Path
        As `cwt_dask.products.difference.free_picture` gives it.

    Raises InputError as `plot_difference` and `write_picture` do.
    """
    rows: dict[str, Sequence[Row]] = {"gained": found.gained, "lost": found.lost}
    for what, pairs in (("entered", found.entered), ("left", found.left), ("changed", found.changed)):
        rows[what] = [row for _, row in pairs]
    marks = {
        what: (np.array([row["ra"] for row in some]), np.array([row["dec"] for row in some]))
        for what, some in rows.items()
    }
    write_picture(plot_difference(first, second, marks), path)


def describe(found: RunComparison) -> list[str]:
    """Summarize a comparison in lines of text; of many sources the first."""
    lines = [f"maps     {'the same to the bit' if found.same_maps else 'differ'}"]
    if not found.same_maps:
        for name, value in found.differences.items():
            how = "not in both runs" if math.isnan(value) else f"at most {value:.1e} of the largest"
            lines.append(f"         {name}: {how}")
        lines += (
            [f"         support: {counted(found.support_flips, 'pixel')}"]
            if found.differences
            else ["         other shapes"]
        )
    lines += _listed("gained", [_source(row) for row in found.gained])
    lines += _listed("lost", [_source(row) for row in found.lost])
    for what, pairs in (("changed", found.changed), ("entered", found.entered), ("left", found.left)):
        lines += _listed(what, [f"{_source(row)}; now {_source(other)}" for row, other in pairs])
    return lines


def _listed(what: str, sources: list[str]) -> list[str]:
    named = [f"         {source}" for source in sources[:MOST_NAMED]]
    if left := len(sources) - len(named):
        named.append(f"         and {left} more")
    return [f"{what:8} {counted(len(sources), 'source')}", *named]


def _source(row: Row) -> str:
    what = f"{row['name']} (ra {row['ra']:.3f}, dec {row['dec']:.3f})"
    strength = f"score {row['score']:.3g}" if "score" in row.colnames else f"T/E {row['significance']:.3g}"
    return f"{what}: {strength}, excess {row['excess']:.4g}, flags {row['flags']}"


def _candidates(run: SurveyRun) -> Table:
    """What is not in a run's catalogue; runs of the version before have everything in it."""
    return run.candidates if run.files.candidates.exists() else run.catalogue[:0]


def _same_sources(ours: Table, theirs: Table, radius: units.Quantity) -> np.ndarray:
    """Pairs of rows, shape (n, 2)."""
    if len(ours) == 0 or len(theirs) == 0:
        return np.empty((0, 2), dtype=np.int64)
    here, there = (SkyCoord(table["ra"], table["dec"], unit="deg") for table in (ours, theirs))
    nearest, distance, _ = here.match_to_catalog_sky(there)
    back, _, _ = there.match_to_catalog_sky(here)
    own = np.arange(len(ours))
    mutual = (back[nearest] == own) & (distance <= radius)
    return np.column_stack([own[mutual], nearest[mutual]])


def _differ(row: Row, other: Row) -> bool:
    if (row["x_peak"], row["y_peak"]) != (other["x_peak"], other["y_peak"]):
        return True
    if (row["flags"] ^ other["flags"]) & ~SourceFlag.CROSSES_SEAM:
        return True
    names = MEASURED + (FITTED if "npred" in row.colnames and "npred" in other.colnames else ())
    return any(not column.is_same(row, other) for column in COLUMNS if column.name in names)


def _map_differences(first: SurveyRun, second: SurveyRun) -> tuple[dict[str, float], int]:
    """Largest relative differences, and flips; one core of the first run at a time is held."""
    names = [spec.name for spec in maps_in("compare")]
    compared = [name for name in names if has_layer(first, name) and has_layer(second, name)]
    ours, theirs = ({name: run.stored_map(name) for name in (*compared, "support")} for run in (first, second))
    largest, difference = dict.fromkeys(compared, 0.0), dict.fromkeys(compared, 0.0)
    flips = 0
    scales = min(ours["support"].shape[0], theirs["support"].shape[0])
    for tile in first.stored.plan.grid.tiles():
        for name in compared:
            pixels = ours[name][tile.core.slices]
            largest[name] = max(largest[name], float(np.abs(pixels).max()))
            difference[name] = max(difference[name], float(np.abs(pixels - theirs[name][tile.core.slices]).max()))
        where = (slice(scales), *tile.core.slices)
        flips += int(np.count_nonzero(ours["support"][where] != theirs["support"][where]))
    # Runs of earlier releases lack some.
    return {name: difference[name] / (largest[name] or 1.0) for name in compared} | dict.fromkeys(
        (name for name in names if name not in compared), math.nan
    ), flips
