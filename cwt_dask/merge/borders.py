"""Sources at the borders of facets: which of neighbours has a source, and how far they agree on those both see.

A source belongs to the facet in whose cell it lies. By the pixels of two facets it may lie in the cell of both, or of
none: each offers what it finds in its cell and a little beyond, and of two offers for one source that one is kept which
lies in its own facet's cell, else the better one. So none is lost, and none comes twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.survey.sphere import FacetSky

if TYPE_CHECKING:
    from astropy.table import Table

# Pixels beyond its cell in which a facet offers sources.
BEYOND = 2.0
# Neighbours are compared by sources with an S above.
CERTAIN = 6.0
# Rows that are looked at together.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Borders:
    """What was found where facets meet."""

    settled: int = 0  # Sources that two facets offered, of which one was kept.
    beyond: int = 0  # Sources kept of a facet in whose cell they do not lie, since no other has them.
    # Sources of a certain S that lie in the image of a neighbour, too, farther from its edge than kernels reach; how
    # many of them it has found, and the median of its counts over the owner's.
    compared: int = 0
    agreed: int = 0
    counts_ratio: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a certificate has it."""
        return asdict(self)


def settle(rows: Table, sky: FacetSky, apart: float, reach: int) -> tuple[NDArray[np.int64], Borders]:
    """Find which rows are sources.

    Parameters
    ----------
    rows : Table
        Candidates of all facets, with ``x_centroid``, ``y_centroid``, ``sigma``, ``score``, ``npred``, and the pixels
        ``x``, ``y`` of their peaks.
    sky : FacetSky
        Sky coordinates of the facets' pixels.
    apart : float
        Pixels within which two are one source.
    reach : int
        The kernels', in pixels: nearer to the edge of an image neighbours need not agree.

    Returns
    -------
    kept : ndarray of int
        Indices of the rows that are kept, ascending.
    borders : Borders
        What was found.
    """
    from scipy.spatial import cKDTree  # noqa: PLC0415 - see find_peaks

    grid = sky.grid
    facet = np.asarray(rows["y"]) // grid.side
    vectors = places_of(rows, sky)
    owned = sky.facets_of(vectors) == facet
    offered = owned | _near_cells(rows, sky, facet, ~owned)
    # The best first; of equals one that does not depend on the order of facets.
    rank = np.lexsort((np.asarray(rows["x"]), facet, -np.asarray(rows["score"]), ~owned))
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    tree = cKDTree(vectors)
    pairs = tree.query_pairs(apart * grid.pixel, output_type="ndarray")
    pairs = pairs[(facet[pairs[:, 0]] != facet[pairs[:, 1]]) & offered[pairs].all(axis=1)]
    by_rank = np.sort(place[pairs], axis=1)
    dropped = np.zeros(len(rows), bool)
    for better, worse in rank[by_rank[np.lexsort(by_rank.T[::-1])]]:
        dropped[worse] |= not dropped[better]
    kept = np.flatnonzero(offered & ~dropped)
    compared, agreed, ratio = _agreement(rows, sky, facet, vectors, kept, tree, apart, reach)
    return kept, Borders(int(dropped.sum()), int(np.count_nonzero(~owned[kept])), compared, agreed, ratio)


def places_of(rows: Table, sky: FacetSky) -> Floats:
    """Unit vectors (n, 3) of rows' centroids; of their peaks where they have none."""
    x, y = (np.array(rows[f"{axis}_centroid"], np.float64) for axis in "xy")
    vectors = _in_own_image(rows, sky, x, y)
    lost = ~np.isfinite(vectors).all(axis=1)
    vectors[lost] = sky.vectors(*(np.asarray(rows[axis], np.float64)[lost] for axis in "xy"))
    return vectors


def _near_cells(rows: Table, sky: FacetSky, facet: Ints, which: Bools) -> Bools:
    """Which of some rows lie a little beyond their own facet's cell."""
    near = np.zeros(len(rows), bool)
    some = rows[which]
    x, y = (np.asarray(some[f"{axis}_centroid"], np.float64) for axis in "xy")
    for angle in np.arange(8) * np.pi / 4:
        there = _in_own_image(some, sky, x + BEYOND * np.cos(angle), y + BEYOND * np.sin(angle))
        near[which] |= sky.facets_of(there) == facet[which]
    return near


def _in_own_image(rows: Table, sky: FacetSky, x: Floats, y: Floats) -> Floats:
    """Unit vectors (n, 3) of positions near rows; what is beyond their image lies at its edge, not in the next one."""
    facet = np.asarray(rows["y"]) // sky.grid.side
    first, sides = facet * sky.grid.side, np.array([sky.grid.side_of(number) for number in range(sky.grid.n_tiles)])
    return sky.vectors(x, np.clip(y, first - 0.499, first + sides[facet] - 0.501))


def _agreement(
    rows: Table,
    sky: FacetSky,
    facet: Ints,
    vectors: Floats,
    kept: Ints,
    tree: Any,
    apart: float,
    reach: int,
) -> tuple[int, int, float | None]:
    grid, certain = sky.grid, kept[np.asarray(rows["sigma"])[kept] > CERTAIN]
    centres = np.array([grid.frame(number).centre for number in range(grid.n_tiles)])
    # No pixel of an image is farther from its centre.
    nearest = np.cos(min(np.pi, 2 * np.arcsin(min(1.0, grid.side * grid.pixel / np.sqrt(2) / 2))))
    npred, compared, ratios = np.asarray(rows["npred"]), 0, []
    for start in range(0, len(certain), _AT_ONCE):
        some = certain[start : start + _AT_ONCE]
        for row, other in zip(*np.nonzero(vectors[some] @ centres.T >= nearest), strict=True):
            source = some[row]
            if other == facet[source]:
                continue
            x, y = grid.frame(int(other)).pixels(vectors[source])
            side = grid.side_of(int(other))
            if not (reach <= x < side - reach and reach <= y < side - reach):
                continue
            compared += 1
            found = [
                near for near in tree.query_ball_point(vectors[source], apart * grid.pixel) if facet[near] == other
            ]
            if found:
                best = max(found, key=lambda near: rows["sigma"][near])
                ratios.append(float(npred[best] / npred[source]) if npred[source] else 1.0)
    return compared, len(ratios), float(np.median(ratios)) if ratios else None
