"""A catalogue of a million rows: made of what tiles found, written, digested and read, as the driver of a run does."""

from __future__ import annotations

import resource
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from common import apart, markdown, say, show

from cwt_dask import run_survey
from cwt_dask.merge import catalogue
from cwt_dask.merge.agreement import Windows
from cwt_dask.products import files
from cwt_dask.products.tables import read_ecsv
from cwt_dask.simulate import simulate
from cwt_dask.tiles.fitting import Reach

if TYPE_CHECKING:
    from collections.abc import Callable

    from astropy.table import Table

ROWS = 1_000_000
SHAPE, FINER = (200, 300), 100
OPTIONS: dict[str, Any] = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "workers": 0, "no_report": True}


def _strewn(rows: Table, n_rows: int) -> Table:
    """Copies of rows, at random pixels."""
    rows, dice = rows[np.arange(n_rows) % len(rows)], np.random.default_rng(1)
    for axis, length in zip("yx", SHAPE, strict=True):
        pixel = dice.integers(length * FINER, size=n_rows)
        rows[f"{axis}_centroid"] += pixel - rows[axis]
        rows[axis] = pixel
    rows.sort(["y", "x"])
    return rows


def measured(n_rows: int, scratch: Path) -> list[tuple[str, str, str]]:
    """Processor time of each step, and peak memory after it; the sources of a small run are taken many times."""
    steps = []

    def step(what: str, function: Callable[[], Any]) -> Any:
        say(what)
        start = time.process_time()
        value = function()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        steps.append((what, f"{time.process_time() - start:.1f}", f"{memory:.0f}"))
        return value

    with TemporaryDirectory(dir=scratch) as name:
        survey, run_dir = Path(name, "survey.fits"), Path(name, "run")
        simulate(survey, SHAPE, seed=3)
        run = run_survey(survey, run_dir, **OPTIONS)
        plan, windows = run.stored.plan, Windows(Reach.of(run.files, run.stored.plan, run.survey).margin)
        rows, levels = catalogue._measured(run.files, run.stored.run_id, plan, windows)  # noqa: SLF001 - as of tiles
        # As thinly as in a real survey, on a map with finer pixels.
        kept, wcs = [(_strewn(rows, n_rows), levels)], run.wcs.deepcopy()
        wcs.wcs.cdelt /= FINER
        del rows
        with mock.patch.object(catalogue, "_measured", lambda *_: kept.pop()):  # noqa: PT008 - nothing else holds it
            arguments = run.files, run.stored.run_id, plan, run.survey.statistics, wcs, windows
            table, *_ = step("columns", partial(catalogue.build_catalogue, *arguments))
        step("ECSV, FITS, VOTable and regions, written", partial(files.write_catalogue, run.files, table))
        del table
        step("their digests", partial(files.digest_products, run.files))
        with run.files.catalogue.open(encoding="utf-8") as file:
            step("ECSV, read", partial(read_ecsv, file))
    return steps


def tables(quick: bool, scratch: Path) -> str:
    """A row a step."""
    return markdown(
        ["step", "processor time, s", "peak memory, MiB"], apart(measured, 1000 if quick else ROWS, scratch)
    )


if __name__ == "__main__":
    show(tables, __doc__)
