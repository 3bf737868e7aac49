"""Tiled equals whole: the plain oracle of the whole map judges runs over tiles."""

import random

import numpy as np
import oracle
import pytest
from astropy.io import fits
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from skies import poisson_sky, rounding_of, write_survey

from cwt_dask import CWTKernels, run_survey
from cwt_dask.executors import InProcess

# The contract, over the model's maximum. What is measured is far below: see the tests.
TOLERANCE = 1e-9

SMALL_TILES = {"workers": 0, "fits": "no", "tile_size": 41, "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}


def assert_equals_whole(run, whole):
    """Compare a run with the oracle; return the model's error over its maximum."""
    certificate = run.certificate
    scale = max(whole.model.max(), 1e-30)
    error = np.abs(run.model.compute() - whole.model).max() / scale
    assert error <= TOLERANCE
    np.testing.assert_array_equal(run.support.compute(), whole.support)
    assert certificate["n_iter"] == whole.n_iter
    for name in ("approx", "residual", "significance"):
        expected = getattr(whole, name)
        np.testing.assert_allclose(run.map(name).compute(), expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    return error


def assert_promised(run):
    certificate = run.certificate
    assert certificate["tiling_exact"]
    assert certificate["coverage"] == 1.0
    assert certificate["seam_support_flips"] == 0
    assert certificate["seam_model_error"] is None or certificate["seam_model_error"] <= TOLERANCE
    assert run.promises_kept


kernel_families = st.sampled_from(
    [(1, 1.2, 1.5, False), (2, 1.0, 1.4, False), (3, 1.0, 1.3, False), (1, 1.0, 1.6, True)]
)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(40, 120), st.integers(40, 120)),
    tile_size=st.integers(31, 90),
    kernels=kernel_families,
    threshold=st.sampled_from([2.5, 3.0, 4.0, 5.0]),
    brightest=st.sampled_from([50.0, 1e3, 1e5]),
    stopping=st.sampled_from(["global", "fixed"]),
    masked=st.booleans(),
)
@settings(max_examples=25, phases=[Phase.generate])  # shrinking takes minutes here and tells little
def test_tiles_equal_the_whole_map(
    tmp_path_factory, seed, shape, tile_size, kernels, threshold, brightest, stopping, masked
):
    folder = tmp_path_factory.mktemp("exact")
    n_scale, min_scale, step_scale, old = kernels
    counts, background = poisson_sky(shape, seed, brightest=brightest)
    mask = np.random.default_rng(seed).random(shape) > 0.02 if masked else np.ones(shape, dtype=bool)
    whole = oracle.analyze(
        counts,
        background,
        n_scale=n_scale,
        min_scale=min_scale,
        step_scale=step_scale,
        old=old,
        significance_threshold=threshold,
        mask=mask,
        rounding=rounding_of(counts[mask], background[mask]),
        fixed=stopping == "fixed",
    )
    # A variance change within rounding of tol could stop either of them earlier.
    changes = -np.diff(whole.variances) / whole.variances[:-1]
    assume(np.all(np.abs(np.abs(changes) - 1e-5) > 1e-12))
    run = run_survey(
        write_survey(folder / "survey.fits", counts, background, mask),
        folder / "run",
        workers=0,
        fits="no",
        tile_size=tile_size,
        n_scale=n_scale,
        min_scale=min_scale,
        step_scale=step_scale,
        old_kernels=old,
        significance_threshold=threshold,
        stopping=stopping,
    )
    assert run.certificate["near_threshold_pixels"] == 0 or brightest == 1e5
    assert_equals_whole(run, whole)
    assert_promised(run)
    assert not run.model.compute()[~mask].any()


@pytest.fixture(scope="module")
def fermi(shared_data):
    """The real map: path, counts, background, and the oracle's answer for the tutorial's kernels."""
    path = shared_data / "fermi_survey.fits.gz"
    with fits.open(path) as hdus:
        counts, background = (hdus[name].data.astype(float) for name in ("COUNTS", "BACKGROUND"))
    whole = oracle.analyze(
        counts,
        background,
        n_scale=2,
        min_scale=6.0,
        step_scale=1.3,
        significance_threshold=2.0,
        rounding=rounding_of(counts, background),
    )
    return path, whole


@pytest.mark.parametrize("tile_size", [151, 301, 777])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_real_map_in_tiles_equals_the_whole(fermi, tile_size, n_workers, tmp_path, request):
    path, whole = fermi
    client = request.getfixturevalue({1: "one_worker_client", 2: "client"}[n_workers])
    kernels = CWTKernels(2, 6.0, 1.3)
    run = run_survey(
        path, tmp_path / "run", kernels=kernels, client=client, tile_size=tile_size, significance_threshold=2.0
    )
    # What it really is: docs/design/0004-margins.md.
    assert assert_equals_whole(run, whole) <= 1e-11
    assert_promised(run)


def test_the_real_map_as_one_tile_equals_the_whole_to_rounding(fermi, tmp_path):
    path, whole = fermi
    run = run_survey(path, tmp_path / "run", significance_threshold=2.0)
    assert run.certificate["n_tiles"] == 1
    assert assert_equals_whole(run, whole) < 1e-14
    assert_promised(run)


class Shuffled(InProcess):
    """Items in an order of its own."""

    def map(self, function, items):
        items = list(items)
        random.Random(5).shuffle(items)  # noqa: S311 - any order will do
        return super().map(function, items)


def test_neither_workers_nor_their_order_change_a_bit(client, one_worker_client, tmp_path, monkeypatch):
    counts, background = poisson_sky((201, 307), seed=8, brightest=2000)
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    options = {"fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 83}
    runs = [
        run_survey(survey, tmp_path / "two", client=client, **options),
        run_survey(survey, tmp_path / "one", client=one_worker_client, **options),
        run_survey(survey, tmp_path / "here", workers=0, **options),
        run_survey(survey, tmp_path / "threads", workers=0, threads=2, **options),
    ]
    monkeypatch.setattr("cwt_dask.run.InProcess", Shuffled)
    runs.append(run_survey(survey, tmp_path / "shuffled", workers=0, **options))
    assert len({run.certificate["digest_maps"] for run in runs}) == 1
    for run in runs[1:]:
        assert (run.catalogue == runs[0].catalogue).all()

    whole = oracle.analyze(
        counts, background, n_scale=2, min_scale=1.2, step_scale=1.5, rounding=rounding_of(counts, background)
    )
    assert_equals_whole(runs[0], whole)
    assert_promised(runs[0])


def test_an_early_stop_is_that_of_the_whole_map(tmp_path):
    counts, background = poisson_sky((120, 160), seed=2, n_sources=1, level=0.1)
    whole = oracle.analyze(
        counts, background, n_scale=2, min_scale=1.2, step_scale=1.5, tol=1e-2, rounding=rounding_of(counts, background)
    )
    assert 2 <= whole.n_iter < 10
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(survey, tmp_path / "run", tol=1e-2, **SMALL_TILES)
    assert run.certificate["converged"] is True
    assert_equals_whole(run, whole)
    assert_promised(run)


def test_a_margin_of_zero_does_harm_and_says_so(tmp_path):
    counts, background = poisson_sky((120, 160), seed=4, brightest=1e4)
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(survey, tmp_path / "run", margin=0, **SMALL_TILES)
    certificate = run.certificate
    assert certificate["margin"] == certificate["margin_effective"] == 0
    assert certificate["tiling_exact"] is False
    assert "no bound exists" in " ".join(certificate["warnings"])
    # No promise was made, so none is broken.
    assert run.promises_kept


def test_a_margin_below_the_contract_shows_at_the_seams(tmp_path):
    counts, background = poisson_sky((120, 160), seed=4, brightest=1e4)
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(survey, tmp_path / "run", margin=6, **SMALL_TILES)
    assert run.certificate["seam_model_error"] > TOLERANCE
    assert run.certificate["tiling_exact"] is False


def test_tiles_that_stop_on_their_own_are_not_called_exact(tmp_path):
    counts, background = poisson_sky((120, 160), seed=2, n_sources=3, level=0.2)
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    options = SMALL_TILES | {"tol": 1e-3, "stopping": "tile"}
    run = run_survey(survey, tmp_path / "run", **options)
    assert run.certificate["tiling_exact"] is False
    assert "tiles stop at iterations of their own" in " ".join(run.certificate["warnings"])
    single = run_survey(survey, tmp_path / "single", **options | {"tile_size": 160})
    assert single.certificate["tiling_exact"] is True


def test_an_island_longer_than_a_margin_is_counted_as_open(tmp_path):
    shape = (60, 400)
    rng = np.random.default_rng(1)
    background = np.full(shape, 1.0)
    expected = background.copy()
    expected[28:32] += 3.0
    expected[29:31, 380:390] += 100.0
    counts = rng.poisson(expected)
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    options = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "significance_island_threshold": 20.0, "max_iter": 3}
    run = run_survey(survey, tmp_path / "run", workers=0, tile_size=60, **options)
    assert run.certificate["open_islands"] > 0
    assert run.certificate["tiling_exact"] is False
    assert not run.promises_kept
    single = run_survey(survey, tmp_path / "single", tile_size=400, workers=0, **options)
    assert single.certificate["open_islands"] == 0
    assert single.certificate["tiling_exact"] is True


def test_islands_shorter_than_a_margin_are_judged_as_in_the_whole_map(tmp_path):
    counts, background = poisson_sky((150, 220), seed=11, brightest=500)
    whole = oracle.analyze(
        counts,
        background,
        n_scale=1,
        min_scale=1.2,
        step_scale=1.5,
        significance_island_threshold=6.0,
        rounding=rounding_of(counts, background),
    )
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(
        survey,
        tmp_path / "run",
        workers=0,
        tile_size=51,
        n_scale=1,
        min_scale=1.2,
        step_scale=1.5,
        significance_island_threshold=6.0,
    )
    assert_equals_whole(run, whole)
    assert run.certificate["open_islands"] == 0
    assert_promised(run)
