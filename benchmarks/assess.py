"""Measure how well `cwt-dask assess` measures: false rows obtained over asked, and completeness beside other skies.

Four skies: flat backgrounds, and one with a plane and clouds. Each is analysed and assessed. Beside it stand skies that
the package had no part in: other noise, the true sources, and others injected by the same law.

python benchmarks/assess.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.table import Table, vstack
from common import markdown, say, show
from injected import GAUSSIAN, PSF, add_source, background_of, write_survey
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cwt_dask import SurveyRun, run_survey
from cwt_dask.assess import assess
from cwt_dask.assess.summary import poisson_interval
from cwt_dask.measure.false_rows import FalseRows

LEVELS: tuple[float | str, ...] = 0.05, 0.3, 3.0, "structured"
# Of one false row asked for in each there are as many as null skies: eight would tell 1 from 1.5 badly.
SHAPE, SEED, NULLS = (700, 1000), 9600, 8
OPTIONS = {"psf": PSF, "max_iter": 5, "fits": "no", "no_report": True, "workers": 0, "threads": 1}
# As the package injects: one in a square of so many widths, so many times as bright as the noise beneath.
APART, FAINTEST, BRIGHTEST = 40.0, 1.5, 30.0
Floats = NDArray[np.float64]


def inject(background: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Draw places and counts."""
    n = round(background.size / (APART * PSF) ** 2)
    y, x = (rng.uniform(-0.5, length - 0.5, n) for length in background.shape)
    noise = 4 * np.pi * PSF**2 * background[np.rint(y).astype(int), np.rint(x).astype(int)]
    over = np.exp(rng.uniform(np.log(FAINTEST), np.log(BRIGHTEST), n))
    return y, x, over**2 / 2 + over * np.sqrt(over**2 / 4 + noise)


def other_skies(
    folder: Path, run: SurveyRun, expected: Floats, known: Floats, background: Floats, skies: int, seed: int
) -> Table:
    """Injected sources of other skies, and whether they are in the catalogue: counts and found."""
    false_rows = FalseRows.from_dict(run.certificate["expected_false"])
    least, found = false_rows.score_of(run.stored.plan.settings.false_sources), []
    for number in range(skies):
        # With [seed, 0] it would draw what `seed` alone does: the sources that are there, once more.
        rng = np.random.default_rng([seed, number + 1])
        y, x, counts = inject(background, rng)
        sky = expected.copy()
        for each in zip(y, x, counts, strict=True):
            add_source(sky, *each, GAUSSIAN)
        survey = write_survey(folder / "other.fits", rng.poisson(sky), background)
        settings = OPTIONS | {"stopping": "fixed", "max_iter": run.certificate["n_iter"]}
        other = run_survey(survey, folder / "other", **settings, overwrite=True)
        rows = vstack([other.catalogue, other.candidates], metadata_conflicts="silent")
        rows = rows[rows["score"] >= least]
        at = np.column_stack([np.asarray(axis) for axis in run.wcs.world_to_pixel_values(rows["glon"], rows["glat"])])
        # A row is that of the source which is the nearest to it, injected or not.
        apart, nearest = cKDTree(np.concatenate([np.column_stack([x, y]), known])).query(at)
        mine = np.isin(np.arange(len(counts)), nearest[apart <= max(2 * PSF, 2)])
        found.append(Table({"counts": counts, "found": mine}))
    return vstack(found)


def line(folder: Path, level: float | str, skies: int, shape: tuple[int, int], seed: int) -> list[str]:
    """One sky: false rows obtained over asked, and how far completeness is from that of other skies."""
    rng = np.random.default_rng(seed)
    background = background_of(level, shape, rng)
    expected = background.copy()
    y, x, counts = inject(background, rng)
    for each in zip(y, x, counts, strict=True):
        add_source(expected, *each, GAUSSIAN)
    survey = write_survey(folder / "sky.fits", rng.poisson(expected), background)
    run = run_survey(survey, folder / "run", **OPTIONS, overwrite=True)
    table = assess(run.files.path, nulls=NULLS * skies, injections=skies, seed=seed, workers=0, threads=1)
    ratios = []
    for asked in (1, 10, 100):
        row = table[(table["quantity"] == "false rows") & (table["low"] == asked)]
        if not len(row):
            ratios.append("")
            continue
        n, of = int(row["n"][0]), float(row["expected"][0])
        low, high = (end / of for end in poisson_interval(n))
        ratios.append(f"{n / of:.2f} ({low:.2f} to {high:.2f}), {n}")
    mine = table[(table["quantity"] == "completeness") & (table["of"] == "counts") & (table["region"] == "all")]
    others = other_skies(folder, run, expected, np.column_stack([x, y]), background, skies, seed)
    chi2, n_bins, shares = 0.0, 0, []
    for row in mine:
        here = others["found"][(row["low"] <= others["counts"]) & (others["counts"] < row["high"])]
        if min(len(here), row["n"]) < 10:
            continue
        one, two = float(row["value"]), float(np.mean(here))
        both = (one * row["n"] + two * len(here)) / (row["n"] + len(here))
        variance = both * (1 - both) * (1 / row["n"] + 1 / len(here))
        if variance > 0:
            chi2, n_bins = chi2 + (one - two) ** 2 / variance, n_bins + 1
            shares.append(f"{one:.2f} {two:.2f}")
    numbers = str(int(mine["n"].sum())), str(len(others)), f"{chi2:.1f} of {n_bins}"
    return [str(level), *ratios, *numbers, ", ".join(shares)]


def tables(quick: bool, scratch: Path, skies: int) -> str:
    """A line a sky."""
    lines = []
    with TemporaryDirectory(dir=scratch) as name:
        for k, level in enumerate(LEVELS[:1] if quick else LEVELS):
            say(f"sky with {level} counts a pixel")
            lines.append(line(Path(name), level, skies, (120, 160) if quick else SHAPE, SEED + k))
    head = "counts a pixel", "false rows over expected, 1 asked", "10 asked", "100 asked", "injected", "in other skies"
    return markdown([*head, "chi² of completeness, of bins", "shares found, here and there"], lines)


if __name__ == "__main__":
    show(tables, __doc__, skies=8)
