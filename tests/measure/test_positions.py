"""Figures of the catalogue, on sources that were injected: positions are unbiased, and errors mean what they say."""

import numpy as np
import pytest
from scipy.special import ndtr
from skies import write_survey

from cwt_dask import run_survey

SHAPE, PITCH, WIDTH = (420, 420), 21, 1.5
KERNELS = {"n_scale": 3, "min_scale": 1.2, "step_scale": 1.5}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Offsets in pixels and significance of what was found of a grid of sources, and the stated errors."""
    folder, rng = tmp_path_factory.mktemp("injected"), np.random.default_rng(21)
    n = SHAPE[0] // PITCH
    centres = PITCH * (np.indices((n, n)).reshape(2, -1).T + 0.5) + rng.uniform(-0.5, 0.5, (n * n, 2))
    expected, edges = np.full(SHAPE, 0.5), np.arange(SHAPE[0] + 1) - 0.5
    for k, (y, x) in enumerate(centres):
        shares = [np.diff(ndtr((edges - centre) / WIDTH)) for centre in (y, x)]
        expected += (30, 60, 200, 1000)[k % 4] * np.outer(*shares)
    survey = write_survey(folder / "survey.fits", rng.poisson(expected), np.full(SHAPE, 0.5))
    run = run_survey(survey, folder / "run", tile_size=150, workers=0, max_iter=4, fits="no", **KERNELS)
    rows = run.catalogue
    apart = np.hypot(*(rows[f"{axis}_peak"][:, np.newaxis] - centres[:, k] for k, axis in enumerate("yx")))
    nearest = apart.argmin(axis=1)
    taken = apart.min(axis=1) <= 3
    rows, at = rows[taken], centres[nearest[taken]]
    assert len(rows) > 0.9 * len(centres)
    sky = run.wcs.pixel_to_world(at[:, 1], at[:, 0]).icrs
    cos_dec = np.cos(np.radians(sky.dec.deg))
    away = np.hypot((rows["ra"] - sky.ra.deg) * cos_dec, rows["dec"] - sky.dec.deg)
    return rows, np.asarray(rows["y_centroid"] - at[:, 0]), np.asarray(rows["x_centroid"] - at[:, 1]), np.asarray(away)


def test_positions_are_unbiased(found):
    rows, dy, dx, _ = found
    clear = np.asarray(rows["significance"]) > 10
    assert clear.sum() > 200
    for offset in (dy, dx):
        assert abs(offset[clear].mean()) < 0.1
        # And far below that: within four standard deviations of the mean.
        assert abs(offset[clear].mean()) < 4 * offset[clear].std() / np.sqrt(clear.sum())


@pytest.mark.parametrize("clear", [False, True])
def test_of_the_sources_68_percent_lie_within_their_error(found, clear):
    rows, _, _, away = found
    those = (np.asarray(rows["significance"]) > 20) == clear
    share = (away[those] <= np.asarray(rows["pos_err"])[those]).mean()
    # Four standard deviations of a share of so many.
    assert share == pytest.approx(0.683, abs=4 * np.sqrt(0.683 * 0.317 / those.sum()))


def test_they_are_better_than_peak_pixels(found):
    rows, dy, dx, _ = found
    clear = np.asarray(rows["significance"]) > 20
    from_peak = np.hypot(rows["y_peak"] - (rows["y_centroid"] - dy), rows["x_peak"] - (rows["x_centroid"] - dx))
    assert np.median(np.hypot(dy, dx)[clear]) < 0.6 * np.median(from_peak[clear])
