"""How many rows of noise are expected, against skies of noise through whole runs, and limits that are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ndtr
from skies import write_survey

from cwt_dask import CWTKernels, run_survey
from cwt_dask.measure.false_rows import FalseRows, count_levels
from cwt_dask.measure.shapes import gaussian_shapes

KERNELS = CWTKernels(n_scale=4, min_scale=1.3, step_scale=1.5)


def of_flat(background, kernels=KERNELS, width=1.3, n_pixels=10**6):
    levels = count_levels(np.array([background]), np.array([True])) * n_pixels
    return FalseRows.of(gaussian_shapes(width), kernels, levels, n_pixels)


# Seeds were taken once, before their skies were looked at.
@pytest.mark.parametrize(("background", "asked", "seed"), [(0.02, 40, 81), (0.3, 40, 82), (5.0, 40, 83)])
def test_noise_makes_as_many_rows_as_are_expected(tmp_path, background, asked, seed):
    shape = (500, 800)
    counts = np.random.default_rng(seed).poisson(background, shape)
    survey = write_survey(tmp_path / "survey.fits", counts, np.full(shape, background))
    options = {"psf": 1.3, "false_sources": asked, "workers": 0, "fits": "no"}
    run = run_survey(survey, tmp_path / "run", **options)
    assert asked / 1.5 <= len(run.catalogue) <= asked * 1.5


def test_a_wide_source_has_fewer_maxima_by_its_area():
    # In pixels so small that the lattice does not show, what is as wide again has a quarter of the maxima.
    wide, twice = (
        of_flat(1e3 / width**2, CWTKernels(4, width, 1.5), width).expected(np.arange(3, 9)) for width in (8.0, 16.0)
    )
    assert_allclose(twice / wide, 1 / 4, rtol=0.03)


def test_no_more_rows_than_local_maxima_of_the_likelihood():
    score = np.array([4.0, 5.0])
    # Kac and Rice for a Gaussian smoothed with itself; a pixel is a twelfth of its square wide.
    maxima = 1e6 * score * np.exp(-(score**2) / 2) / (2 * np.pi) ** 1.5 / (2 * (1.3**2 + 1 / 12))
    found = of_flat(1e6).expected(score)
    assert (found < maxima).all()
    assert (found > maxima / 3).all()


def test_rows_of_parts_add_up_and_fall_with_the_score():
    one, other, both = (
        FalseRows.of(gaussian_shapes(1.3), KERNELS, levels, int(levels.sum()))
        for levels in (
            count_levels(np.array(values), np.array(values) >= 0) for values in ([0.1] * 3, [4.0], [0.1, 0.1, 4.0, 0.1])
        )
    )
    score = np.linspace(0, 12, 200)
    # Trials have six digits.
    assert_allclose(both.expected(score), one.expected(score) + other.expected(score), rtol=1e-5)
    assert (np.diff(both.expected(score)) < 0).all()


def test_pixels_without_background_are_a_trial_each():
    levels = count_levels(np.array([0.0, 1.0, 2.0]), np.array([True, False, False]))
    assert not levels.any()
    assert_allclose(FalseRows.of(gaussian_shapes(1.3), KERNELS, levels, 7).expected(3.5), 7 * ndtr(-3.5))
