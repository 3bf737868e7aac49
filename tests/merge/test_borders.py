"""Which of the rows of all facets are sources."""

import numpy as np
from astropy.table import Table

from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.merge.borders import settle
from cwt_dask.survey.sphere import FacetSky

GRID = FacetGrid.plan(64, 2, range(192), 12, 9, fast_length)
SKY = FacetSky(GRID, "galactic")


def rows_at(y, x, y_centroid):
    rows = Table({"y": y, "x": x, "y_centroid": y_centroid, "x_centroid": np.asarray(x, float)})
    for name in ("sigma", "score", "npred"):
        rows[name] = 10.0
    return rows


def test_what_is_fitted_beyond_the_edge_of_an_image_is_not_taken_for_a_source_of_the_next_one():
    """Images lie one above the other: the first row of one follows the last row of another, which may show its cell."""
    x = np.tile(np.arange(GRID.side), GRID.n_tiles - 1)
    first = np.repeat(np.arange(1, GRID.n_tiles) * GRID.side, GRID.side)
    in_cell_before = SKY.facets_of(SKY.vectors(x.astype(float), first + 0.2)) == first // GRID.side - 1
    assert in_cell_before.any()
    at = first[in_cell_before], x[in_cell_before]
    kept, _ = settle(rows_at(at[0] - 1, at[1], at[0] + 0.2), SKY, 1.5, 9)
    assert len(kept) == 0
    # At the middles of cells they are sources.
    middles = np.arange(GRID.n_tiles) * GRID.side + GRID.side // 2
    kept, borders = settle(rows_at(middles, np.full(GRID.n_tiles, GRID.side // 2), middles + 0.1), SKY, 1.5, 9)
    assert len(kept) == GRID.n_tiles
    assert borders.settled == borders.beyond == 0
