"""Random acceptances, acceptances laid at the rounding floor, and some clipped there by hand.

Of the first two kinds ACCEPTANCES=2000 of each were run; EVERY=1 has 200 of them, CI some.
"""

import os

import numpy as np
import pytest
from cases import EVERY
from floors import assert_tiles_equal_whole, random_sky, sky_at_the_floor
from skies import rounding_of, write_survey
from whole import assert_promised

from cwt_dask import run_survey
from cwt_dask.inspection.verify import verify_run

SEEDS = range(10_000, 10_000 + int(os.environ.get("ACCEPTANCES", "200" if EVERY else "48")))


@pytest.mark.parametrize("make", [random_sky, sky_at_the_floor])
@pytest.mark.parametrize("part", range(4))
def test_tiles_equal_the_whole_map(make, part):
    # Pixels that are near a threshold anyway: few skies have one.
    assert assert_tiles_equal_whole(make, SEEDS[part::4]) < len(SEEDS) / 20


@pytest.mark.parametrize("ring", [False, True], ids=["plane", "ring"])
@pytest.mark.parametrize("clip", [1e-12, 1e-13, 3e-12, 0.0])
def test_a_background_clipped_at_the_floor_is_the_same_in_tiles_and_whole(tmp_path, clip, ring):
    # As people clip: by powers of ten, which floors are, too.
    y, x = np.mgrid[:60, :240]
    background = np.clip(5 * np.exp(-((y - 30) ** 2 + (x - 120) ** 2 / 9) / (2 * 6**2)), clip, None)
    rng = np.random.default_rng(2)
    counts = rng.poisson(background)
    counts[rng.integers(0, 60, 30), rng.integers(0, 240, 30)] += 20
    assert rounding_of(counts, background) == 1e-12
    survey = write_survey(tmp_path / "survey.fits", counts, background, ring=ring)
    settings = {"tile_size": 60, "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3}
    run = run_survey(survey, tmp_path / "run", workers=0, fits="no", significance_threshold=5.0, **settings)
    assert_promised(run)
    assert not [check for check in verify_run(run, against_whole=True) if check.fault]
