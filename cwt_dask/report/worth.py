"""What simulations say of the catalogue, for the page: `assessment.ecsv` in rows, and completeness as curves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.results import SurveyRun

if TYPE_CHECKING:
    from astropy.table import Table

# Of all sources, and on darkest and brightest ground.
_MOST_CURVES = 3


@dataclass(frozen=True)
class Worth:
    """What the page says of an assessment; empty where there is none."""

    skies: str = ""  # How many were simulated.
    rows: list[tuple[str, str, str]] = field(
        default_factory=list
    )  # What was measured, the value, and what it should be.
    # Completeness: name, middles of bins, values and ends of their intervals.
    curves: list[dict[str, Any]] = field(default_factory=list)
    axis: str = ""  # What the bins are of.


def read_worth(run: SurveyRun) -> Worth:
    """Read it.

    Parameters
    ----------
    run : SurveyRun
        The run.
    """
    # One that was killed before the certificate covered it counts as none.
    if not run.files.assessment.exists() or run.files.assessment.name not in run.certificate["digest_products"]:
        return Worth()
    table = run.assessment
    skies = f"{table.meta['NULLS']} skies of noise, {table.meta['INJECT']} with injected sources"
    if table.meta["SHARE"] < 1:
        skies += f", each of them {table.meta['SHARE']:.0%} of the survey, chosen at random"
    of = list(dict.fromkeys(table["of"][table["quantity"] == "completeness"]))
    axis = str(of[-1]) if of else ""
    curves = table[(table["quantity"] == "completeness") & (table["of"] == axis)]
    regions = list(dict.fromkeys(curves["region"]))
    return Worth(
        skies,
        [_false_rows(row) for row in table[table["quantity"] == "false rows"]]
        + [_measured(row) for row in table[(table["of"] == "counts") & (table["low"] == 0)]]
        + [_reliable(row) for row in table[table["quantity"] == "reliability"]],
        [_curve(curves[curves["region"] == region], str(region)) for region in _chosen(regions)],
        axis,
    )


def _chosen(regions: list[Any]) -> list[Any]:
    return regions if len(regions) <= _MOST_CURVES else [regions[0], regions[1], regions[-1]]


def _false_rows(row: Any) -> tuple[str, str, str]:
    low, high = row["value_low"], row["value_high"]
    what = f"False rows where {row['low']:g} are expected in the survey"
    return what, f"{row['n']} in all skies ({low:.3g} to {high:.3g})", f"{row['expected']:.3g}"


def _measured(row: Any) -> tuple[str, str, str]:
    what = f"{str(row['quantity']).capitalize()} ({row['n']} found)"
    expected = "" if np.isnan(row["expected"]) else f"{row['expected']:g}"
    return what, f"{row['value']:.3g} ({row['value_low']:.3g} to {row['value_high']:.3g})", expected


def _reliable(row: Any) -> tuple[str, str, str]:
    above = f"from {row['low']:g}" + (f" to {row['high']:g}" if np.isfinite(row["high"]) else " on")
    what = f"Rows with a score {above} that are at a source ({row['n']} rows)"
    return what, f"{row['value']:.1%} ({row['value_low']:.1%} to {row['value_high']:.1%})", ""


def _curve(rows: Table, region: str) -> dict[str, Any]:
    middle = np.sqrt(np.asarray(rows["low"]) * np.asarray(rows["high"]))
    name = "everywhere" if region == "all" else f"{region} counts a pixel"
    return {"name": name, "x": middle.tolist()} | {
        axis: np.asarray(rows[column]).tolist()
        for axis, column in (("y", "value"), ("low", "value_low"), ("high", "value_high"))
    }
