"""Shapes of every kind of point spread function against those of the same Gaussian."""

import dataclasses

import numpy as np
import pytest
from spreads import TARGET, king_share, share

from cwt_dask.measure.shapes import gaussian_shapes
from cwt_dask.psf import PointSpread
from cwt_dask.psf.places import Places
from cwt_dask.psf.shapes import shapes_at

SIZE, SIGMA = (61, 61), 1.3
WIDTHS = [1.3, 5.2]


def of_profile():
    return dataclasses.replace(PointSpread.gaussian(SIGMA), kind="psf_table")


def of_image():
    return PointSpread.of_image(gaussian_shapes(SIGMA).draw(0, 9, 8, (19, 17)))


@pytest.mark.parametrize(("make", "accuracy"), [(of_profile, 2e-4), (of_image, 1e-3)])
def test_whatever_it_was_read_as_it_is_the_same_shape(make, accuracy):
    shapes, _ = shapes_at(make(), [0], [0], WIDTHS)
    expected = gaussian_shapes(SIGMA, WIDTHS)
    for y, x in np.random.default_rng(2).uniform(29.5, 30.5, (5, 2)):
        for shape in (0, 1, *shapes.tried):
            drawn, right = (each.draw(shape, y, x, SIZE) for each in (shapes, expected))
            np.testing.assert_allclose(drawn, right, atol=accuracy * right.max())
            assert drawn.sum() == pytest.approx(right.sum(), abs=2e-6)


def test_of_a_gaussian_it_is_exact():
    shapes, node = shapes_at(PointSpread.gaussian(SIGMA), [0, 3], [0, 9], WIDTHS)
    np.testing.assert_allclose(shapes.draw(0, 30.2, 30.7, SIZE), gaussian_shapes(SIGMA).draw(0, 30.2, 30.7, SIZE))
    assert node.tolist() == [0, 0]


def test_tails_are_kept_as_far_as_there_are_pixels():
    radius = np.append(0, np.geomspace(0.01, 3000, 800))
    spread = PointSpread("psf_king", radius, king_share(radius, 1.0, 2.5)[np.newaxis])
    shapes, _ = shapes_at(spread, [0], [0])
    half = int(shapes.half[0])
    drawn = shapes.draw(0, half, half, (2 * half + 1, 2 * half + 1))
    assert king_share(half + 0.5, 1.0, 2.5) < drawn.sum() < 1
    # Far out a pixel holds the density.
    density = (1 - 1 / 2.5) / (2 * np.pi) * (1 + 20**2 / 5) ** -2.5
    assert drawn[half, half + 20] == pytest.approx(density, rel=0.03)


def test_an_image_that_is_not_round_and_too_coarse_for_its_spline_stays_a_probability():
    image = np.zeros((5, 7))
    image[2, 2:5] = [0.2, 0.5, 0.3]
    shapes, _ = shapes_at(PointSpread.of_image(image), [0], [0])
    np.testing.assert_allclose(shapes.draw(0, 10, 10, (21, 21))[8:13, 7:14], image, atol=1e-6)
    drawn = shapes.draw(0, 10.4, 10.3, (21, 21))
    assert drawn.min() >= 0
    assert drawn.sum() == pytest.approx(1, abs=0.01)


def test_the_nearest_node_counts_and_no_other_is_made():
    places = Places.around(np.array([0.0, 0.0, 90.0]), np.array([0.0, 60.0, 0.0]))
    radius = np.linspace(0, 30, 3001)
    within = share(radius, np.array([[1.0], [2.0], [3.0]]))
    spread = PointSpread("PSFMap", radius, within, places, TARGET.wcs)
    x, y = np.array([0, 79]), np.array([0, 59])
    shapes, node = shapes_at(spread, x, y, [4.0])
    used = np.unique(spread.nearest(x, y))
    assert len(shapes.half) == len(used) * len(shapes.extensions)
    np.testing.assert_allclose(shapes.sigma[node * len(shapes.extensions)], spread.sigmas[spread.nearest(x, y)])
