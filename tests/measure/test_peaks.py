import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skies import poisson_sky

from cwt_dask.geometry.tiling import Box, TileGrid, on_map
from cwt_dask.geometry.windows import read_box
from cwt_dask.measure.peaks import disc_sums, find_peaks

# Few values: most pixels have equal neighbours, and plateaus are the rule; some are equal but for rounding.
levels = st.sampled_from([-np.inf, 3.0, 4.0, 4.0 * (1 + 1e-13), 5.0, 5.0 * (1 - 1e-13)])
significances = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=levels)
SCALES = np.array([0.5, 1.0, 1.2, math.sqrt(2), 2.0, 2.5, 4.0])
LARGEST = 4.0


@st.composite
def images_with_scales(draw):
    """An image of significances, and the scale of each pixel."""
    image = draw(significances)
    kinds = draw(hnp.arrays(np.int64, image.shape, elements=st.integers(0, len(SCALES) - 1)))
    return image, SCALES[kinds]


def wins(one, other, *, earlier):
    """Whether a significance is larger than another, or the earlier of two that differ by rounding at most."""
    return earlier if math.isclose(one, other, rel_tol=1e-9) else one > other


def naive_peaks(image, scale, *, ring=False):
    """Peaks by the rule; across the edge of a ring the western of two equal pixels in a row is the earlier."""
    height, width = image.shape

    def others(pixel, far):
        """Other pixels not farther off than `far` rows or columns, with all ways to them that are as short."""
        for dy, dx in product(range(-far, far + 1), repeat=2):
            y, x = pixel[0] + dy, pixel[1] + dx
            other = y, x % width if ring else x
            if 0 <= y < height and 0 <= other[1] < width and other != pixel:
                yield dy, dx, other

    def beats(pixel, dy, dx, other):
        return wins(image[pixel], image[other], earlier=(dy, dx) > (0, 0))

    maxima = {
        pixel
        for pixel in np.ndindex(image.shape)
        if np.isfinite(image[pixel]) and all(beats(pixel, *other) for other in others(pixel, 1))
    }
    return sorted(
        peak
        for peak in maxima
        if all(
            beats(peak, dy, dx, other)
            for dy, dx, other in others(peak, math.floor(LARGEST))
            if other in maxima and math.hypot(dy, dx) <= min(scale[peak], scale[other])
        )
    )


def pixels(found):
    return list(zip(*(axis.tolist() for axis in found), strict=True))


@given(images_with_scales(), st.tuples(st.integers(1, 8), st.integers(1, 14)), st.booleans())
def test_cores_with_a_rim_find_each_peak_of_the_whole_once(sky, core_shape, ring):
    image, scale = sky
    grid = TileGrid.plan(image.shape, core_shape, 0, 1, lambda length: length, ring=ring)
    found = []
    for tile in grid.tiles():
        near = grid.on_map(tile.core.grown(math.ceil(LARGEST) + 1))
        peaks = find_peaks(*(read_box(array, near, ring=ring) for array in sky), turn=image.shape[1] if ring else None)
        for y, x in pixels(peaks):
            if Box(y + near.y0, y + near.y0 + 1, x + near.x0, x + near.x0 + 1).intersection(tile.core).area:
                found.append((y + near.y0, x + near.x0))
    assert sorted(found) == naive_peaks(image, scale, ring=ring)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_on_a_narrow_ring_a_peak_does_not_fall_to_itself(width):
    image = np.full((9, width), -np.inf)
    image[4, 0] = 5.0
    assert naive_peaks(image, np.full(image.shape, 4.0), ring=True) == [(4, 0)]
    near = Box(0, 9, -5, width + 5)
    found = find_peaks(read_box(image, near, ring=True), 4.0, turn=width)
    assert [(y, x) for y, x in pixels(found) if 0 <= x + near.x0 < width] == [(4, 5)]


@pytest.mark.parametrize("ring", [False, True], ids=["image", "ring"])
@pytest.mark.parametrize("core", [Box(0, 40, 0, 50), Box(0, 12, 38, 50), Box(20, 30, 0, 25)])
@pytest.mark.parametrize("radii", [(1.0, 2.5), (7.3, 24.9), (25.0, 26.0), (45.0, 80.0)])
def test_disc_sums_are_those_of_brute_force_with_no_pixel_twice(core, radii, ring):
    # With zeros in holes.
    seen = np.random.default_rng(6).random((40, 50)) > 0.1
    images = [image * seen for image in poisson_sky(seen.shape, seed=5)]
    y = np.array([core.y0, core.y0, core.y1 - 1, core.y1 - 1, (core.y0 + core.y1) // 2])
    x = np.array([core.x0, core.x1 - 1, core.x0, core.x1 - 1, (core.x0 + core.x1) // 2])
    radius = np.array([*radii, *radii, radii[1]])
    # No more pixels than the discs need.
    near = on_map(core.grown(math.ceil(max(radii))), (40, 50), ring=ring)
    found = disc_sums(
        [read_box(image, near, ring=ring) for image in images], near, y, x, radius, turn=50 if ring else None
    )
    rows, columns = np.mgrid[:40, :50]
    for k in range(len(y)):
        apart = np.abs(columns - x[k])
        disc = np.hypot(rows - y[k], np.minimum(apart, 50 - apart) if ring else apart) <= radius[k]
        assert found[0][k] == images[0][disc].sum()
        assert found[1][k] == pytest.approx(images[1][disc].sum(), rel=1e-12)
