"""The survey's pixels around sources, block by block: chunks of a flat map, images of facets of the sphere.

Each is read once, and none that no source is near; what they hold adds up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.tiling import Box
from cwt_dask.report.pyramid import reduced
from cwt_dask.results import SurveyRun
from cwt_dask.survey import open_survey
from cwt_dask.survey.facets import FacetSurvey


@dataclass(frozen=True)
class Block:
    """Some pixels, combined as those of a level of the pyramid, and the sources around them.

    It holds until the next one is asked for.
    """

    # Sums of counts and of background, and how many used pixels of the survey there are, (y, x).
    counts: NDArray[Any]
    background: NDArray[Any]
    used: NDArray[Any]
    # How far along y and x these lie from the middles of the pixels, on average; None where nowhere.
    aside: tuple[Floats, Floats] | None
    # Numbers of the sources, and where they are in these pixels; near the edge of a ring one may be here twice.
    source: Ints
    x: Floats
    y: Floats
    counted: Bools  # Whether what is around them is to be counted here; those of other facets are seen only.
    turn: float  # Of a ring, how many of these pixels there are around it: of what is there twice the nearer counts.


def blocks_around(run: SurveyRun, x: Floats, y: Floats, factor: int, reach: int) -> Iterator[Block]:
    """Read what is around sources.

    Parameters
    ----------
    run : SurveyRun
        Finished.
    x, y : ndarray
        Columns and rows of the sources on the run's maps; on the sphere rows count on through the images of all facets.
    factor : int
        Pixels of the survey along one of a block.
    reach : int
        Pixels of blocks that are looked at on each side of a source.
    """
    grid = run.stored.plan.grid
    survey = open_survey(run.survey.path, grid)
    places = _on_facets(run, grid, x, y) if isinstance(grid, FacetGrid) else _on_map(survey, x, y, factor)
    far = (reach + 1) * factor
    for box, source, at_x, at_y, counted in places:
        (height, width), turn = box.shape, survey.shape[1]
        copies = (-turn, 0, turn) if grid.ring else (0,)
        near = [
            (np.abs(at_y - height / 2) < height / 2 + far) & (np.abs(at_x + copy - width / 2) < width / 2 + far)
            for copy in copies
        ]
        if not any(counted[each].any() for each in near):
            continue
        window = survey.read_window(box, box, digest=False)
        level = reduced({"counts": window.counts, "background": window.background}, factor)
        yield Block(
            level["counts"],
            level["background"],
            *_used(survey, box, window.valid, factor),
            np.concatenate([source[each] for each in near]),
            np.concatenate([(at_x[each] + copy + 0.5) / factor - 0.5 for each, copy in zip(near, copies, strict=True)]),
            np.concatenate([(at_y[each] + 0.5) / factor - 0.5 for each in near]),
            np.concatenate([counted[each] for each in near]),
            turn / factor if grid.ring else np.inf,
        )
        window.close()


_Places = Iterator[tuple[Box, Ints, Floats, Floats, Bools]]


def _on_map(survey: Any, x: Floats, y: Floats, factor: int) -> _Places:
    """Boxes of whole chunks, and where all sources are in them."""
    chunks = survey.array("counts").chunks
    # No pixel of a level may be in two blocks.
    steps = [-(-chunk // factor) * factor for chunk in chunks]
    starts = (range(0, length, step) for length, step in zip(survey.shape, steps, strict=True))
    for y0, x0 in product(*starts):
        y1, x1 = (min(at + step, n) for at, step, n in zip((y0, x0), steps, survey.shape, strict=True))
        yield Box(y0, y1, x0, x1), np.arange(len(x)), x - x0, y - y0, np.ones(len(x), bool)


def _on_facets(run: SurveyRun, grid: FacetGrid, x: Floats, y: Floats) -> _Places:
    """Images of facets that have sources, and where all sources are in them."""
    facets, vectors = np.floor((y + 0.5) / grid.side).astype(np.int64), run.wcs.vectors(x, y)
    for facet in np.unique(facets).tolist():
        at_x, at_y = grid.frame(facet).pixels(vectors)
        yield grid.tile(facet).core, np.arange(len(x)), at_x, at_y, facets == facet


def _used(survey: Any, box: Box, valid: Bools, factor: int) -> tuple[NDArray[Any], tuple[Floats, Floats] | None]:
    """How many of the survey's pixels are used, and how far aside they lie, as of `Block`."""
    if not isinstance(survey, FacetSurvey):
        return reduced({"used": valid}, factor)["used"], None
    # A facet's pixel may hold none of the survey's, or two.
    used, (off_y, off_x) = survey.coverage(box.y0 // survey.grid.side)
    level = reduced({"used": used, "y": used * off_y, "x": used * off_x}, factor)
    n = np.where(level["used"] > 0, level["used"], 1) * factor
    return level["used"], (level["y"] / n, level["x"] / n)
