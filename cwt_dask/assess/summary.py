"""What all trials say together: the rows of `assessment.ecsv`, and a summary for the certificate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import betaincinv, gammaincinv, ndtr

from cwt_dask.assess.trial import Found
from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.measure.candidates import LEAST_SIGMA
from cwt_dask.measure.false_rows import FalseRows

# How many false rows are asked for, beside the number that the run has asked for.
ASKED = (1.0, 10.0, 100.0)
# Bins of counts and flux a factor of ten, and of the score.
_BINS_A_DECADE = 4
_SCORES = (3.5, 4.0, 4.5, 5.0, 6.0, 8.0, np.inf)
_QUARTILES = 4
# Means and widths of fewer have no error that is worth its name.
_FEWEST = 10
# Share of sources within `pos_err`; ends of a 68 % interval.
_WITHIN = 0.68
_LOW, _HIGH = float(ndtr(-1.0)), float(ndtr(1.0))
_DIGITS = 6


@dataclass(frozen=True)
class Line:
    """One number that is measured."""

    quantity: str
    of: str  # What `low` and `high` are.
    region: str
    low: float
    high: float
    n: int  # Rows or sources that it is measured by.
    value: float
    value_low: float  # Ends of its 68 % interval.
    value_high: float
    expected: float = math.nan  # What it should be.


_UNITS_AND_TEXTS = {
    "quantity": "What is measured",
    "of": "What low and high are",
    "region": "Where: everywhere, or on pixels of a quarter of the backgrounds of injected sources",
    "low": "Least of the rows or sources that are taken",
    "high": "Most of them, not included; the same as low where it is one number",
    "n": "How many rows or sources",
    "value": "What comes out",
    "value_low": "Lower end of its 68 % interval",
    "value_high": "Upper end of it",
    "expected": "What it should be, if that is known",
}


@dataclass(frozen=True)
class Outcome:
    """All trials of an assessment, by kind."""

    nulls: Sequence[Found]
    injections: Sequence[Found]

    def of(self, name: str, kind: str = "injections") -> NDArray[Any]:
        """A column of all of them."""
        columns = [found[name] for found in getattr(self, kind)]
        return np.concatenate(columns) if columns else np.zeros(0)

    @property
    def pixels(self) -> tuple[Ints, int]:
        """Pixels of the null trials by background, as of `count_levels`, and how many there are."""
        levels = np.sum([found["levels"] for found in self.nulls], axis=0, dtype=np.int64)
        return np.asarray(levels), sum(int(found["n_used"]) for found in self.nulls)


def table_of(outcome: Outcome, run: FalseRows, trials: FalseRows | None, asked: float, flux_unit: str) -> Table:
    """Make the table.

    Parameters
    ----------
    outcome : Outcome
        What the trials have shown.
    run : FalseRows
        Rows of noise that the run expects in its survey, by score.
    trials : FalseRows, optional
        The same of the null trials; without it there are none.
    asked : float
        False rows that the run's catalogue was asked to have.
    flux_unit : str
        Of the photon flux; empty where there is none.
    """
    lines = list(_false_rows(outcome, run, trials, asked)) if trials else []
    if outcome.injections:
        least = run.score_of(asked)
        lines += _completeness(outcome, least, flux_unit)
        lines += _reliability(outcome)
        lines += _measurements(outcome, least)
    rows = [astuple(line) for line in lines]
    names = list(_UNITS_AND_TEXTS)
    table = Table(rows=rows, names=names) if rows else Table(names=names)
    for name in ("low", "high", "value", "value_low", "value_high", "expected"):
        table[name] = [float(f"{value:.{_DIGITS}g}") for value in table[name]]
    for name, text in _UNITS_AND_TEXTS.items():
        table[name].description = text
    return table


def _false_rows(outcome: Outcome, run: FalseRows, trials: FalseRows, asked: float) -> Iterator[Line]:
    score = outcome.of("row_score", "nulls")
    for number in sorted({*ASKED, asked}):
        least = run.score_of(number)
        if least < LEAST_SIGMA:
            # Rows begin there: there cannot be as many.
            continue
        n, expected = int((score >= least).sum()), float(trials.expected(least))
        low, high = poisson_interval(n)
        yield Line("false rows", "rows asked for", "all", number, number, n, n, low, high, expected)


def _completeness(outcome: Outcome, least: float, flux_unit: str) -> Iterator[Line]:
    counts, exposure = outcome.of("source_counts"), outcome.of("source_exposure")
    found, background = outcome.of("source_score_found") >= least, outcome.of("source_background")
    for region, here in _regions(background):
        yield from _by_bins("completeness", "counts", region, counts[here], found[here])
        if flux_unit and (exposed := here & (exposure > 0)).any():
            flux = counts[exposed] / exposure[exposed]
            yield from _by_bins("completeness", f"flux ({flux_unit})", region, flux, found[exposed])


def _reliability(outcome: Outcome) -> Iterator[Line]:
    score, is_true = outcome.of("row_score"), outcome.of("row_is_true") > 0
    for low, high in pairwise(_SCORES):
        here = (low <= score) & (score < high)
        if here.any():
            yield _share("reliability", "score", "all", low, high, is_true[here])


def _measurements(outcome: Outcome, least: float) -> Iterator[Line]:
    found = outcome.of("source_score_found") >= least
    counts, npred = outcome.of("source_counts")[found], outcome.of("source_npred_found")[found]
    below = npred < counts
    errors = (outcome.of(f"source_npred_err{side}_found")[found] for side in "pn")
    above, beneath = errors
    pull = (npred - counts) / np.where(below, above, beneath)
    extension = outcome.of("source_extension")[found]
    point, edges = extension == 0, _edges(counts)
    bins = [(low, high, (low <= counts) & (counts < high)) for low, high in pairwise(edges)]
    for low, high, here in [*bins, (0.0, np.inf, np.ones(len(counts), bool))]:
        for kind, which in (("point sources", here & point), ("extended sources", here & ~point)):
            if which.sum() >= _FEWEST:
                yield _mean(f"counts over true, {kind}", low, high, npred[which] / counts[which], 1.0)
                yield _mean(f"pull of counts, {kind}", low, high, pull[which], 0.0)
                yield _spread(f"width of the pull, {kind}", low, high, pull[which])
    apart, radius = outcome.of("source_off_found")[found], outcome.of("source_pos_err_found")[found]
    for kind, which in (("point sources", point), ("extended sources", ~point)):
        if which.any():
            within = _share(f"within pos_err, {kind}", "counts", "all", 0.0, np.inf, (apart <= radius)[which])
            yield replace(within, expected=_WITHIN)
    if (~point).any():
        wide = outcome.of("source_extension_found")[found][~point]
        yield _share("found to be extended", "counts", "all", 0.0, np.inf, wide > 0)
        if (wide > 0).sum() >= _FEWEST:
            ratio = wide[wide > 0] / extension[~point][wide > 0]
            yield _mean("extension over true", 0.0, np.inf, ratio, 1.0)


def _regions(background: Floats) -> Iterator[tuple[str, Bools]]:
    yield "all", np.ones(len(background), bool)
    edges = np.quantile(background, np.linspace(0, 1, _QUARTILES + 1)) if len(background) else np.zeros(1)
    if len(np.unique(edges)) > _QUARTILES:
        place = np.clip(np.searchsorted(edges, background, side="right"), 1, _QUARTILES)
        for quarter in range(1, _QUARTILES + 1):
            low, high = edges[quarter - 1], edges[quarter]
            yield f"background {low:.3g} to {high:.3g}", place == quarter


def _edges(values: Floats) -> Floats:
    if not len(values):
        return np.zeros(0)
    first = math.floor(math.log10(values.min()) * _BINS_A_DECADE)
    last = math.ceil(math.log10(values.max()) * _BINS_A_DECADE)
    return np.asarray(10 ** (np.arange(first, max(last, first + 1) + 1) / _BINS_A_DECADE))


def _by_bins(quantity: str, of: str, region: str, values: Floats, found: Bools) -> Iterator[Line]:
    edges = _edges(values)
    for low, high in pairwise(edges):
        here = (low <= values) & (values < high)
        if here.any():
            yield _share(quantity, of, region, low, high, found[here])


def _share(quantity: str, of: str, region: str, low: float, high: float, which: Bools) -> Line:
    n, k = len(which), int(which.sum())
    return Line(quantity, of, region, low, high, n, k / n, *share_interval(k, n))


def _mean(quantity: str, low: float, high: float, values: Floats, expected: float) -> Line:
    mean, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
    return Line(quantity, "counts", "all", low, high, len(values), mean, mean - error, mean + error, expected)


def _spread(quantity: str, low: float, high: float, values: Floats) -> Line:
    width = float(values.std(ddof=1))
    error = width / math.sqrt(2 * (len(values) - 1))
    return Line(quantity, "counts", "all", low, high, len(values), width, width - error, width + error, 1.0)


def poisson_interval(n: int) -> tuple[float, float]:
    """68 % interval of the mean of which n were counted (Garwood)."""
    return float(gammaincinv(n, _LOW)) if n else 0.0, float(gammaincinv(n + 1, _HIGH))


def share_interval(k: int, n: int) -> tuple[float, float]:
    """68 % interval of the share of which k of n were counted (Clopper and Pearson)."""
    low = float(betaincinv(k, n - k + 1, _LOW)) if k else 0.0
    return low, float(betaincinv(k + 1, n - k, _HIGH)) if k < n else 1.0


def summary_of(table: Table) -> dict[str, Any]:
    """What the certificate says of an assessment."""
    found: dict[str, Any] = {name.lower(): table.meta[name] for name in ("NULLS", "INJECT", "SEED", "SHARE")}
    of_noise = table[table["quantity"] == "false rows"]
    found["false_rows"] = [
        {"asked": row["low"], "expected": row["expected"], "obtained": int(row["n"])} for row in of_noise
    ]
    complete = (table["quantity"] == "completeness") & (table["of"] == "counts") & (table["region"] == "all")
    found["counts_at_completeness"] = {f"{share:g}": _reached(table[complete], share) for share in (0.5, 0.9)}
    return found


def _reached(complete: Table, share: float) -> float | None:
    """Counts from which on so many sources are found, between the middles of bins; None where they lie beyond these."""
    middle, value = np.sqrt(complete["low"] * complete["high"]), np.asarray(complete["value"])
    below = np.flatnonzero(value < share)
    first = below[-1] + 1 if below.size else 0
    if first in (0, len(value)):
        return None
    part = (share - value[first - 1]) / (value[first] - value[first - 1])
    return float(f"{middle[first - 1] * (middle[first] / middle[first - 1]) ** part:.3g}")


def describe(table: Table) -> list[str]:
    """Say in lines of text what an assessment has shown."""
    found, lines = summary_of(table), []
    for rows in found["false_rows"]:
        of = f"{rows['obtained']} where {rows['expected']:.3g} were expected ({rows['asked']:g} in the survey)"
        ends = [end / rows["expected"] if rows["expected"] else math.nan for end in poisson_interval(rows["obtained"])]
        lines.append(f"false rows     {of}: {ends[0]:.2f} to {ends[1]:.2f} times as many")
    for share, counts in found["counts_at_completeness"].items():
        if counts is not None:
            lines.append(f"completeness   {float(share):.0%} of sources of {counts:g} counts")
    for row in table[(table["low"] == 0) & (table["of"] == "counts")]:
        interval = f"{row['value_low']:.3g} to {row['value_high']:.3g}"
        lines += [f"{row['quantity']}: {row['value']:.3g} ({interval}), of {row['n']}"]
    return lines
