"""Compiled loops over pixels of facets, against the library that others use."""

import numpy as np
import pytest

from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.healpix import centres_of, numbers_at, numbers_in, order_of, places_of
from cwt_dask.geometry.projected import held_by, places_at
from cwt_dask.geometry.tiling import Box


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (10.0, 70.0, 200.0)])
@pytest.mark.parametrize("nside", [8, 512])
def test_what_facets_hold_is_what_the_library_says(nside, rotation):
    """Centres on the image of a facet, and pixels at the centres of its own, at poles, borders and corners."""
    grid, order = FacetGrid.plan(nside, 2, range(192), 20, 12, fast_length, rotation=rotation), order_of(nside)
    sky = Box(0, 12 * nside, 0, nside) if nside < 64 else Box(0, nside, nside // 2, nside)
    y, x = (each.ravel() for each in np.indices(sky.shape))
    numbers = numbers_in(y + sky.y0, x + sky.x0, nside)
    for facet in (0, 15, 70, 176):
        frame, side = grid.frame(facet), grid.side_of(facet)
        at_y, at_x = np.indices((side, side), np.float64)
        there = frame.on_sky(at_x, at_y)
        places = np.stack(places_at(frame, *np.indices((side, side)), nside))
        expected = places_of(numbers_at(frame.vectors(at_x[there], at_y[there]), order), nside)
        np.testing.assert_array_equal(places[:, there], expected)
        assert (places[:, ~there] == -1).all()
        here, held, dy, dx = held_by(frame, side, nside, sky)
        x_of, y_of = frame.pixels(centres_of(numbers, order))
        inside = (np.rint(x_of) >= 0) & (np.rint(x_of) < side) & (np.rint(y_of) >= 0) & (np.rint(y_of) < side)
        np.testing.assert_array_equal(here, np.flatnonzero(inside))
        held_y, held_x = np.divmod(held, side)
        np.testing.assert_allclose([held_y + dy, held_x + dx], [y_of[inside], x_of[inside]], atol=1e-8)
        assert max(np.abs(dy).max(initial=0), np.abs(dx).max(initial=0)) <= 0.5
