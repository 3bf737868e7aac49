"""Shapes at any position against exact integrals over pixels."""

import numpy as np
import pytest
from scipy.special import ndtr

from cwt_dask.measure.shapes import gaussian_shapes, patch_for, render

SIZE = (81, 91)


def exact(sigma, y, x, size=SIZE):
    along = [np.diff(ndtr((np.arange(n + 1) - 0.5 - at) / sigma)) for n, at in zip(size, (y, x), strict=True)]
    return np.outer(*along)


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0])
def test_a_gaussian_and_its_widths_are_integrals_over_pixels_wherever_they_lie(sigma):
    shapes = gaussian_shapes(sigma, [sigma, 2 * sigma])
    np.testing.assert_allclose(shapes.extensions[[0, *shapes.tried]], [0, sigma, 2 * sigma])
    assert np.all(np.diff(shapes.extensions[1:]) <= 0.2 * shapes.extensions[1:-1])
    for y, x in np.random.default_rng(1).uniform(39.5, 40.5, (9, 2)):
        for shape, extension in enumerate(shapes.extensions):
            expected = exact(np.hypot(sigma, extension), y, x)
            drawn = shapes.draw(shape, y, x, SIZE)
            np.testing.assert_allclose(drawn, expected, atol=5e-5 * expected.max())
            assert drawn.sum() == pytest.approx(expected.sum(), abs=1e-6)
            # The spline's error goes with the shape: tails are as good as the core.
            far = expected < 1e-3 * expected.max()
            np.testing.assert_allclose(drawn[far], expected[far], atol=1e-6 * expected.max())


def test_whole_pixels_move_a_shape_by_whole_pixels():
    shapes = gaussian_shapes(1.3)
    one, other = (shapes.draw(0, 20.25 + by, 30.625 + by, SIZE) for by in (0, 7))
    np.testing.assert_array_equal(one[:-7, :-7], other[7:, 7:])


@pytest.mark.parametrize("beside", [False, True])
def test_derivatives_are_those_of_what_is_drawn(beside):
    shapes = gaussian_shapes(1.3, [2.6])
    if beside:
        shapes = shapes._replace(centres=np.random.default_rng(1).uniform(-0.5, 0.5, (2, *SIZE)))
    patch = patch_for(shapes)

    def planes(y, x):
        render(shapes, 3, y, x, 2, patch)
        return patch.planes.copy()

    here, step = planes(40.2, 40.9), 1e-5
    by_y = (planes(40.2 + step, 40.9) - planes(40.2 - step, 40.9)) / (2 * step)
    by_x = (planes(40.2, 40.9 + step) - planes(40.2, 40.9 - step)) / (2 * step)
    for made, expected in ((by_y[0], 1), (by_x[0], 2), (by_y[1], 3), (by_x[2], 4), (by_y[2], 5)):
        np.testing.assert_allclose(made, here[expected], atol=1e-8)


def test_at_the_edge_of_an_image_the_rest_is_cut():
    shapes = gaussian_shapes(1.3)
    whole, part = shapes.draw(0, 42.0, 41.3, SIZE), shapes.draw(0, 2.0, 1.3, (20, 20))
    np.testing.assert_allclose(part, whole[40:60, 40:60], atol=1e-15)


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.3, 3.0])
def test_counts_beside_the_middles_of_pixels_are_expected_where_they_lie(sigma):
    rng, size = np.random.default_rng(1), (40, 50)
    # Of an image that was taken to the sphere they may lie beyond their pixel.
    centres = rng.uniform(-0.9, 0.9, (2, *size))
    shapes = gaussian_shapes(sigma, [2 * sigma])._replace(centres=centres)
    off = 1e-4 * shapes.draw(0, 20, 30, size).max()
    # In the middle, and at a corner, of which the image has a part.
    for y, x in ((20.3, 30.4), (-1.2, 50.1)):
        along = np.indices(size) + centres - np.array([y, x])[:, np.newaxis, np.newaxis]
        expected = np.prod(ndtr((along + 0.5) / sigma) - ndtr((along - 0.5) / sigma), axis=0)
        np.testing.assert_allclose(shapes.draw(0, y, x, size), expected, atol=off)
    # All of them by as much: as if the source lay elsewhere.
    moved = shapes._replace(centres=np.broadcast_to([[[0.125]], [[-0.25]]], (2, *size)).copy())
    same = gaussian_shapes(sigma, [2 * sigma]).draw(1, 20.175, 30.65, size)
    np.testing.assert_allclose(moved.draw(1, 20.3, 30.4, size), same, atol=1e-4 * same.max())
