"""Measure how often the upper limits of `cwt-dask measure` cover: at places of sources of known counts, or of none.

Skies of flat backgrounds, with a place in each square of 32 pixels: a source of some counts, or nothing, alone or with
a neighbour that the run finds or does not find. Whole runs, measured at all these places.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.table import Table, vstack
from common import markdown, say, show
from injected import GAUSSIAN, PSF, add_source, regular, write_survey

from cwt_dask import run_survey
from cwt_dask.inspection.measure import measure

LEVELS = 0.05, 0.3, 1.0, 3.0, 10.0
# Expected counts of sources; and of neighbours, so many pixels off.
TRUE = 0.0, 3.0, 10.0, 20.0, 50.0, 200.0
NEIGHBOURS = {"alone": (0.0, 0.0), "100 at 4 pixels": (100.0, 4.0), "500 at 6 pixels": (500.0, 6.0)}
SPACING, SHAPE = 32, (800, 1280)


def measured(folder: Path, level: float, shape: tuple[int, int], seed: int) -> Table:
    """What is measured on a sky, beside what is true."""
    rng = np.random.default_rng(seed)
    y, x = regular(shape, SPACING, rng)
    true, kind = rng.choice(TRUE, len(y)), rng.integers(len(NEIGHBOURS), size=len(y))
    expected = np.full(shape, level)
    for k in range(len(y)):
        counts, apart = list(NEIGHBOURS.values())[kind[k]]
        angle = rng.uniform(0, 2 * np.pi)
        add_source(expected, y[k], x[k], true[k], GAUSSIAN)
        add_source(expected, y[k] + apart * np.sin(angle), x[k] + apart * np.cos(angle), counts, GAUSSIAN)
    survey = write_survey(folder / f"{seed}.fits", rng.poisson(expected), np.full(shape, level))
    options = {"psf": PSF, "max_iter": 3, "fits": "no", "no_report": True, "workers": 0}
    run = run_survey(survey, folder / f"run-{seed}", **options)
    places = Table({"position": run.wcs.pixel_to_world(x, y)})
    rows = measure(run, places, workers=0)
    rows["true"], rows["neighbour"], rows["level"] = true, np.array(list(NEIGHBOURS))[kind], level
    return rows


def line(rows: Table) -> tuple[int, str, str, str]:
    """Number, share covered by the limit and by the interval with their errors, and mean counts over true ones."""
    n, true = len(rows), np.asarray(rows["true"])
    inside = (rows["npred"] - rows["npred_errn"] <= true) & (true <= rows["npred"] + rows["npred_errp"])
    shares = []
    for covered in (rows["npred_ul"] >= true, inside):
        share = float(np.mean(covered))
        shares.append(f"{100 * share:.1f} ± {100 * np.sqrt(max(share * (1 - share), 1 / n) / n):.1f}")
    error = np.std(rows["npred"] - true) / np.sqrt(n)
    return n, *shares, f"{np.mean(rows['npred'] - true):+.2f} ± {error:.2f}"


def tables(quick: bool, scratch: Path, skies: int) -> str:
    """Coverage by true counts, by neighbours, and by background."""
    with TemporaryDirectory(dir=scratch) as name:
        found = []
        for number in range(skies):
            for k, level in enumerate(LEVELS):
                say(f"sky {number + 1} of {skies}, {level} counts a pixel")
                shape = (160, 160) if quick else SHAPE
                found.append(measured(Path(name), level, shape, 9100 + number * len(LEVELS) + k))
        rows = vstack(found, metadata_conflicts="silent")
    head = ["places", "limit covers (%)", "68 % interval covers (%)", "counts less true ones"]
    some = rows[rows["true"] > 0]
    kinds = {f"{true:g}": rows[rows["true"] == true] for true in TRUE} | {"all but 0": some}
    by_true = markdown(["true counts", *head], [(name, *line(part)) for name, part in kinds.items()])
    parts = {
        f"{name}, {true}": rows[(rows["neighbour"] == name) & mine]
        for name in NEIGHBOURS
        for true, mine in (("nothing there", rows["true"] == 0), ("a source", rows["true"] > 0))
    }
    by_neighbour = markdown(["neighbour", *head], [(name, *line(part)) for name, part in parts.items()])
    levels = {f"{level:g}": some[some["level"] == level] for level in LEVELS}
    by_level = markdown(["counts a pixel, a source", *head], [(name, *line(part)) for name, part in levels.items()])
    return f"{by_true}\n{by_neighbour}\n{by_level}"


if __name__ == "__main__":
    show(tables, __doc__, skies=1)
