"""HEALPix numbers, centres and the image of a sky, against a second implementation."""

import numpy as np
import pytest
from astropy import units as u
from astropy_healpix import HEALPix

from cwt_dask.geometry.healpix import (
    centres_of,
    edges_of,
    lon_lat_of,
    nested_of,
    numbers_at,
    numbers_in,
    order_of,
    places_of,
    ring_of,
)


@pytest.mark.parametrize("nside", [1, 2, 8, 64])
def test_numbers_and_centres_are_those_of_another_implementation(nside):
    numbers, other = np.arange(12 * nside**2), HEALPix(nside, "nested")
    lon, lat = lon_lat_of(centres_of(numbers, order_of(nside)))
    of_other = [angle.to_value(u.deg) for angle in other.healpix_to_lonlat(numbers)]
    np.testing.assert_allclose([lon, lat], of_other, atol=1e-11)
    np.testing.assert_array_equal(numbers_at(centres_of(numbers, order_of(nside)), order_of(nside)), numbers)
    of_ring = HEALPix(nside, "ring").lonlat_to_healpix(lon * u.deg, lat * u.deg)
    np.testing.assert_array_equal(ring_of(numbers, order_of(nside)), of_ring)
    np.testing.assert_array_equal(nested_of(of_ring, order_of(nside)), numbers)


@pytest.mark.parametrize("nside", [1, 4, 32])
def test_the_image_of_a_sky_has_each_pixel_once_and_neighbours_side_by_side(nside):
    image = numbers_in(np.arange(12 * nside)[:, np.newaxis], np.arange(nside), nside)
    np.testing.assert_array_equal(np.sort(image, axis=None), np.arange(12 * nside**2))
    rows, columns = places_of(image, nside)
    np.testing.assert_array_equal([rows[:, 0], columns[:, 0]], [np.arange(12 * nside), np.zeros(12 * nside)])
    base = centres_of(image[:nside].ravel(), order_of(nside)).reshape(nside, nside, 3)
    apart = [np.linalg.norm(np.diff(base, axis=axis), axis=2) for axis in (0, 1)]
    assert all(each.max(initial=0) < 2.2 / nside for each in apart)


def test_edges_are_around_their_pixel():
    edges, centre = edges_of(np.array([77]), 2), centres_of(np.array([77]), 2)
    near = centre[0] + 0.999 * (edges[0] - centre[0])
    assert set(numbers_at(near / np.linalg.norm(near, axis=1, keepdims=True), 2)) == {77}


@pytest.mark.parametrize("nside", [0, -4, 3, 96, 2**30])
def test_what_is_no_power_of_two_has_no_order(nside):
    with pytest.raises(ValueError, match=f"nside is {nside}: it must be a power of two"):
        order_of(nside)
