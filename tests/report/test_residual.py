"""The residual in standard deviations."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from cwt_dask.report.residual import count_residuals, smooth


@pytest.fixture(scope="module")
def noise():
    """A level of Poisson noise on a background that falls to the side, with a stripe that is masked."""
    used = np.ones((400, 600), np.uint32)
    used[:, 60:70] = 0
    background = used * np.linspace(1.5, 9.0, 600)
    counts = np.random.default_rng(8).poisson(background).astype(float)
    return {"counts": counts, "background": background, "model": np.zeros_like(counts), "used": used}


@pytest.mark.parametrize("width", [0.5, 1.2, 3.0])
def test_noise_is_standard_normal_to_its_tails_and_at_masked_pixels(noise, width):
    level = smooth(noise, width)
    found = count_residuals(level)
    assert found.pixels.sum() == found.expected.sum() == np.count_nonzero(noise["used"])
    # Neighbours are alike: fewer pixels are independent.
    few = np.sqrt(4 * np.pi * width**2 / noise["used"].sum())
    assert found.mean == pytest.approx(0, abs=4 * few)
    assert found.width == pytest.approx(1, abs=4 * few)
    for sigma in (1.0, 2.0):
        for side in (1, -1):
            share = np.mean(side * level.residual[level.own] > sigma)
            assert share == pytest.approx(norm.sf(sigma), abs=4 * few * norm.sf(sigma) ** 0.5)
    assert not level.residual[:, 60:70].any()


def test_a_source_stands_out_by_its_counts_and_a_hole_the_other_way(noise):
    changed = noise["counts"].copy()
    changed[40, 150] += 60
    changed[90:110, 150:170] = 0
    level = smooth(noise | {"counts": changed}, 1.2)
    mean = noise["background"][40, 150]
    # Of a kernel with weights w the excess w0 n has the variance sum of w^2 b.
    assert level.residual[40, 150] > 0.5 * 60 * (4 * np.pi * 1.44) ** 0.5 / (2 * np.pi * 1.44) / mean**0.5
    assert level.residual[95:105, 155:165].max() < -3
    expected = gaussian_filter(changed, 1.2, mode="constant") / gaussian_filter(
        noise["used"].astype(float), 1.2, mode="constant"
    )
    there = noise["used"] > 0
    np.testing.assert_allclose(level.counts[there], expected[there], rtol=0.01)
    # What the model holds is no excess.
    held = smooth(noise | {"counts": changed, "model": changed - noise["counts"]}, 1.2)
    assert abs(held.residual[40, 150]) < 4


def test_copies_of_pixels_count_for_nothing(noise):
    own = noise["used"] * (np.random.default_rng(1).random(noise["used"].shape) < 0.7)
    copied = smooth(noise | {"own": own}, 1.2)
    alone = smooth({name: values * (own > 0) for name, values in noise.items()}, 1.2)
    np.testing.assert_array_equal(copied.residual[own > 0], alone.residual[own > 0])


def test_the_columns_of_a_ring_are_neighbours(noise):
    shifted = {name: np.roll(values, 90, axis=1) for name, values in noise.items()}
    np.testing.assert_allclose(
        np.roll(smooth(noise, 1.2, ring=True).residual, 90, axis=1), smooth(shifted, 1.2, ring=True).residual, atol=1e-5
    )
