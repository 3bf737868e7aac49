"""What an estimate is worth, on seeded skies: small ones, so with bounds of a few standard errors."""

import numpy as np
import pytest

from cwt_dask.background import estimate_background

SHAPE, SCALE = (160, 200), 10.0


def truth(level):
    """A plane and a slope that the scale follows."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return level * (0.3 + np.exp(-0.5 * ((y - 80) / 40) ** 2) + x / 400)


@pytest.mark.parametrize(("level", "least"), [(0.5, 0.04), (20.0, 0.006)])
def test_the_stated_error_is_that_of_the_estimate(level, least):
    expected, rng = truth(level), np.random.default_rng(7)
    ratios, stated = [], []
    for _ in range(4):
        found = estimate_background(rng.poisson(expected), scale=SCALE)
        ratios.append(found.background / expected - 1)
        stated.append(found.estimate.error)
        assert found.estimate.ended
        assert found.excluded.mean() < 0.01
    measured = float(np.sqrt(np.mean(np.square(ratios))))
    # Four skies of some 25 parts that know nothing of each other: 7 % of the measured one; and 1 % of structure.
    assert least < np.mean(stated) < 2 * least
    assert measured == pytest.approx(np.hypot(np.mean(stated), 0.01 if level > 1 else 0), rel=0.25)
    assert abs(np.mean(ratios)) < 4 * measured / np.sqrt(100)


def test_sources_are_left_out():
    expected, rng = truth(2.0), np.random.default_rng(3)
    y, x = rng.uniform(5, SHAPE[0] - 5, 25), rng.uniform(5, SHAPE[1] - 5, 25)
    sources = np.zeros(SHAPE)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for y0, x0, counts in zip(y, x, np.geomspace(30, 1000, 25), strict=True):
        sources += counts * np.exp(-((rows - y0) ** 2 + (columns - x0) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    without, among = (estimate_background(rng.poisson(each), scale=SCALE) for each in (expected, expected + sources))
    at = np.rint(y).astype(int), np.rint(x).astype(int)
    bias = [found.background[at] / expected[at] - 1 for found in (without, among)]
    # 25 places, each with the error that is stated.
    assert abs(bias[0].mean()) < 3 * without.estimate.error / 5
    assert abs(bias[1].mean()) < 0.02 + 3 * among.estimate.error / 5
    assert among.excluded[at][10:].all()
    assert among.excluded.mean() < 0.2
