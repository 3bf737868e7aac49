"""A source of 1e7 counts beside faint ones: what rounding can do, and that it does not."""

import numpy as np
import pytest
from skies import poisson_sky, rounding_of, write_survey
from whole import assert_equals_whole, assert_promised, whole_of

from cwt_dask import CWTKernels, run_survey
from cwt_dask.cwt.spectra import kernel_spectra
from cwt_dask.cwt.state import Criteria, Field, State
from cwt_dask.cwt.step import step
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.trust import SourceFlag

KERNELS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}


@pytest.fixture(scope="module", params=[0, pytest.param(1, marks=pytest.mark.long)])
def sky(request):
    """Counts and background: one source of 1e7 counts, others of 10 to 300."""
    shape = (150, 220)
    counts, background = poisson_sky(shape, request.param, brightest=300.0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    profile = np.exp(-((y - 70) ** 2 + (x - 100) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    return counts + np.random.default_rng(request.param).poisson(1e7 * profile), background


def test_supports_do_not_flip_beside_a_source_of_ten_million_counts(sky, tmp_path):
    counts, background = sky
    whole = whole_of(counts, background, fixed=True, **KERNELS)
    # Faint sources are found beside it.
    assert whole.support[..., :30].any()
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(survey, tmp_path / "run", workers=0, fits="no", tile_size=60, stopping="fixed", **KERNELS)
    assert run.certificate["near_threshold_pixels"] == 0
    assert_equals_whole(run, whole)
    assert_promised(run)


def states(counts, background, box, criteria, n_iter):
    """The whole map in a box of its own: another box rounds otherwise."""
    inside = tuple(slice(0, n) for n in counts.shape)
    field = Field(np.zeros(box), np.zeros(box), np.zeros(box, dtype=bool))
    field.counts[inside], field.background[inside], field.valid[inside] = counts, background, True
    workspace = Workspace(field, kernel_spectra(CWTKernels(**KERNELS), box), criteria)
    state = State.start(KERNELS["n_scale"], box, with_cubes=True)
    for _ in range(n_iter):
        state = step(state, workspace)
        yield state.transform[(..., *inside)], state.error[(..., *inside)], state.support[(..., *inside)]


def test_rounding_stays_below_its_bound_in_every_iteration(sky):
    """The bound: T to `rounding_level * sum |k|`, E² to `rounding_level * sum k²` (docs/design/0005-rounding.md)."""
    counts, background = sky
    rounding = rounding_of(counts, background)
    criteria = Criteria(3.0, None, remove_isolated=True, rounding=rounding)
    spectra = kernel_spectra(CWTKernels(**KERNELS), (180, 250))
    for one, other in zip(
        *(states(counts, background, box, criteria, 10) for box in [(180, 250), (189, 243)]), strict=True
    ):
        (transform, error, support), (transform_2, error_2, support_2) = one, other
        np.testing.assert_array_equal(support, support_2)
        for i in range(KERNELS["n_scale"]):
            assert np.abs(transform[i] - transform_2[i]).max() <= rounding * spectra.abs_sum[i]
            assert np.nanmax(np.abs(error[i] ** 2 - error_2[i] ** 2)) <= rounding * spectra.squared_sum[i]


@pytest.mark.parametrize("which", ["significance_threshold", "significance_island_threshold"])
def test_pixels_that_rounding_could_move_over_a_threshold_are_counted(tmp_path, which):
    counts, background = poisson_sky((90, 130), seed=3)
    shared = KERNELS | {"max_iter": 1}
    first = whole_of(counts, background, **shared)
    ratio = first.transform / first.error
    settings = {which: float(ratio[0, 40, 60:80].max()) if which == "significance_threshold" else float(ratio[1].max())}
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(survey, tmp_path / "run", workers=0, fits="no", tile_size=45, **shared, **settings)
    assert run.certificate["near_threshold_pixels"] == 1
    plain = run_survey(survey, tmp_path / "plain", workers=0, fits="no", tile_size=45, **shared)
    assert plain.certificate["near_threshold_pixels"] == 0


@pytest.mark.parametrize("n_counts", [5, pytest.param(30, marks=pytest.mark.long)])
def test_the_floor_hides_no_source_where_there_is_no_background(tmp_path, n_counts):
    """Its own counts raise the approximation, and with it the expected error, above the floor in iteration 2.

    Without a background there is no probability: it is a candidate that only later iterations have found.
    """
    counts, background = np.zeros((90, 130), dtype=int), np.zeros((90, 130))
    background[:, :60] = 0.5
    counts[:, :60] = np.random.default_rng(1).poisson(background[:, :60])
    # The floor is that of the brightest pixel, far away.
    counts[20, 20] = 10**6
    counts[44:46, 100:103] = [[0, 1, 0], [1, n_counts - 3, 1]]
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(survey, tmp_path / "run", workers=0, fits="no", tile_size=45, keep_history=True, **KERNELS)
    assert not run.history[1].support_2d[:, 90:].any().compute()
    assert run.history[2].support_2d[45, 101].compute()
    found = run.candidates
    near = np.hypot(found["x_peak"] - 101, found["y_peak"] - 45) <= 1
    assert near.any()
    assert (found["flags"][near] & SourceFlag.LATE).all()
    assert not found["sigma"][near].any()
