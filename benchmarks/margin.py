"""Measure what a margin leaves of the difference between a tile and the whole map.

A map is cut; on one side of the cut, in the core, lie faint sources only, on the other bright ones at every distance:
the worst case, since an error is relative to the core's own model. The core and its margin are iterated alone and
compared with the whole map, on the core and on the strip beyond it that neighbours compare. Differences of Gaussians
carry errors towards higher pixels, so their bright side is the lower one.

Writes docs/design/margins.ecsv, one row a case and margin, and makes the table of docs/design/0004-margins.md from it
(``--page-only``: that alone). `cwt_dask.geometry.margins` is an envelope of the file, which
tests/geometry/test_margins.py checks.
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.spectra import fast_length, kernel_spectra
from cwt_dask.cwt.state import Criteria, Field, State, rounding_level
from cwt_dask.cwt.step import step
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.geometry.margins import STRIP_WIDTH, contract_margin, growth

DESIGN = Path(__file__).parents[1] / "docs" / "design"
MEASURED = DESIGN / "margins.ecsv"
PAGE = DESIGN / "0004-margins.md"
BEGIN, END = "<!-- make bench: begin -->\n", "<!-- make bench: end -->\n"

MARGINS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
KERNELS = (
    CWTKernels(2, 6.0, 1.3),
    CWTKernels(4, 1.5, 1.6),
    CWTKernels(3, 1.2, 1.5),
    CWTKernels(1, 1.2, 1.5),
    CWTKernels(1, 1.0, 3.0),
    CWTKernels(3, 1.0, 1.3),
    CWTKernels(3, 0.8, 1.2),
    CWTKernels(3, 0.7, 1.25),
    CWTKernels(2, 3.0, 2.6, old=True),
    CWTKernels(2, 2.0, 1.5, old=True),
    CWTKernels(3, 1.2, 1.5, old=True),
    CWTKernels(1, 1.0, 1.6, old=True),
    CWTKernels(2, 0.6, 1.5, old=True),
)
ITERATIONS = (2, 5, 10, 20, 40, 100)
# What the page shows of them; the file has all.
SHOWN_ITERATIONS = (10, 40, 100)
# Boxes of wide kernels are large: what takes longer than everything else together is left out.
WIDE_REACH, WIDE_MARGIN, WIDE_ITERATIONS = 32, 8, 40
BACKGROUND = 0.3


@dataclass(frozen=True)
class Sky:
    """Bright sources of up to `brightest` counts, from `gap` pixels beyond the core, one in every 15 pixels."""

    brightest: float
    gap: int
    threshold: float
    seed: int

    def counts(self, shape: tuple[int, int], core: int) -> np.ndarray:
        """Counts (y, x) whose first `core` columns are the faint ones, on a background of `BACKGROUND`."""
        rng = np.random.default_rng(self.seed)
        expected = np.full(shape, BACKGROUND)
        y, x = np.ogrid[: shape[0], : shape[1]]
        bright = [
            (rng.uniform(0, shape[0]), x0, self.brightest * rng.uniform(0.2, 1))
            for x0 in np.arange(core + self.gap, shape[1], 15)
        ]
        faint = [(*rng.uniform(0, shape), rng.uniform(10, 100)) for _ in range(shape[0] * shape[1] // 1200)]
        for y0, x0, counts in bright + faint:
            expected += counts * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.5**2)) / (2 * np.pi * 1.5**2)
        return rng.poisson(expected).astype(float)


SKIES = (
    Sky(1e2, 5, 3.0, seed=1),
    Sky(1e4, 5, 3.0, seed=1),
    Sky(1e4, 15, 2.0, seed=3),
    Sky(1e6, 15, 3.0, seed=2),
    Sky(1e6, 15, 2.0, seed=3),
)


def analyse(
    counts: np.ndarray, kernels: CWTKernels, threshold: float, rounding: float, iterations: list[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Model (y, x) and support (scale, y, x) after each of `iterations`."""
    shape = tuple(fast_length(n + kernels.reach) for n in counts.shape)
    inside = tuple(slice(0, n) for n in counts.shape)
    field = Field(np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool))
    field.counts[inside], field.background[inside], field.valid[inside] = counts, BACKGROUND, True
    workspace = Workspace(field, kernel_spectra(kernels, shape), Criteria(threshold, None, True, rounding))
    state = State.start(kernels.n_scale, shape)
    results = {}
    for _ in range(max(iterations)):
        state = step(state, workspace)
        if state.iteration in iterations:
            results[state.iteration] = state.model[inside].copy(), state.support[:, inside[0], inside[1]]
    return results


def measure(kernels: CWTKernels, sky: Sky) -> list[tuple]:
    """Rows of the file: all margins and iterations of one map."""
    reach = kernels.reach
    wide = reach > WIDE_REACH
    margins = [m for m in MARGINS if not wide or m <= WIDE_MARGIN]
    iterations = [n for n in ITERATIONS if not wide or n <= WIDE_ITERATIONS]
    core = max(2 * reach, 80)
    shape = max(4 * reach, 160), core + max(margins) * reach + max(2 * reach, 40)
    counts = sky.counts(shape, core)
    side = -1 if kernels.old else 1
    rounding = rounding_level(counts.max())
    columns = (
        kernels.n_scale,
        kernels.min_scale,
        kernels.step_scale,
        kernels.old,
        reach,
        kernels.gain,
        growth(kernels),
    )

    whole = analyse(counts[:, ::side], kernels, sky.threshold, rounding, iterations)
    rows = []
    for reaches in margins:
        part = analyse(counts[:, : core + reaches * reach][:, ::side], kernels, sky.threshold, rounding, iterations)
        for n in iterations:
            # Whichever side the bright sources are on, the core comes first here.
            model, expected = (image[n][0][:, ::side][:, : core + STRIP_WIDTH] for image in (part, whole))
            support, expected_support = (image[n][1][..., ::side][..., : core + STRIP_WIDTH] for image in (part, whole))
            flips = np.count_nonzero(support != expected_support)
            rows.append(
                (
                    *columns,
                    sky.threshold,
                    n,
                    counts.max(),
                    reaches,
                    reaches * reach,
                    error(model, expected, core),
                    flips,
                )
            )
    return rows


def error(model: np.ndarray, expected: np.ndarray, core: int) -> float:
    """Largest difference in the core over the core's maximum or on the strip over the maximum of both, as at seams."""
    difference = np.abs(model - expected)
    largest = np.maximum(model, expected)
    return max(difference[:, :core].max() / largest[:, :core].max(), difference[:, core:].max() / largest.max())


def bench() -> Table:
    """Measure all cases; says how far it is."""
    names = ["n_scale", "min_scale", "step_scale", "old", "reach", "gain", "growth", "threshold"]
    names += ["n_iter", "brightest", "margin_reaches", "margin", "error", "flips"]
    started = time.perf_counter()
    rows = []
    cases = list(itertools.product(KERNELS, SKIES))
    for i, (kernels, sky) in enumerate(cases, 1):
        rows += measure(kernels, sky)
        print(f"{i} of {len(cases)}, {time.perf_counter() - started:.0f} s: {kernels}, {sky}")
        sys.stdout.flush()
    table = Table(rows=rows, names=names)
    for name, form in {"gain": "%.3f", "growth": "%.4f", "error": "%.1e"}.items():
        table[name].info.format = form
        # What is written is what is meant: the page is made from the file, and must not depend on hidden digits.
        table[name] = [float(form % value) for value in table[name]]
    table["margin"].info.unit = "pixel"
    table["reach"].info.unit = "pixel"
    return table


def markdown(table: Table) -> str:
    """The page's table: of each case the worst over all maps."""
    margins = sorted(set(table["margin_reaches"]))
    head = ["kernels", "reach", "gain", "growth", "iterations", *(f"{m} h" for m in margins), "contract"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for kernels, n_iter in itertools.product(KERNELS, SHOWN_ITERATIONS):
        rows = table[_of(table, kernels) & (table["n_iter"] == n_iter)]
        if len(rows):
            contract = contract_margin(kernels, n_iter, float(rows["brightest"].max())) / kernels.reach
            old = ", old" if kernels.old else ""
            name = f"({kernels.n_scale}, {kernels.min_scale}, {kernels.step_scale}{old})"
            columns = [name, kernels.reach, f"{kernels.gain:.3f}", f"{growth(kernels):.3f}", n_iter]
            errors = [_worst(rows[rows["margin_reaches"] == m]) for m in margins]
            lines.append(f"| {' | '.join(map(str, [*columns, *errors, f'{contract:.1f} h']))} |")
    return "\n".join(lines) + "\n"


def page(text: str, table: Table) -> str:
    """The text of the page with its table replaced."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + markdown(table) + "\n" + END + rest.split(END)[1]


def _of(table: Table, kernels: CWTKernels) -> np.ndarray:
    names = ("n_scale", "min_scale", "step_scale", "old")
    return np.logical_and.reduce([table[name] == getattr(kernels, name) for name in names])


def _worst(rows: Table) -> str:
    if not len(rows):
        return ""
    flips = rows["flips"].max()
    return f"{rows['error'].max():.0e}{f' ({flips})' if flips else ''}"


def main() -> None:
    """Measure, unless only the page is asked for, and write file and page."""
    if sys.argv[1:] != ["--page-only"]:
        bench().write(MEASURED, format="ascii.ecsv", overwrite=True)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), Table.read(MEASURED)), encoding="utf-8")


if __name__ == "__main__":
    main()
