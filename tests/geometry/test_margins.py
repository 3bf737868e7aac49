"""What margins promise, against what `make bench` measured."""

import functools
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table, unique
from hypothesis import given
from hypothesis import strategies as st
from skies import write_survey

from cwt_dask import run_survey
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.geometry.margins import STRIP_WIDTH, TOLERANCE, bounded, contract_margin, expected_error, growth

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "margin.py"
SETTINGS = ("n_scale", "min_scale", "step_scale", "old")
# Not in the table for its size: the table's formula must not need it.
WIDE = CWTKernels(2, 20.0, 1.3)
KERNELS = (
    CWTKernels(2, 6.0, 1.3),
    CWTKernels(3, 1.2, 1.5),
    CWTKernels(3, 0.7, 1.25),
    CWTKernels(2, 0.6, 1.5, old=True),
    WIDE,
)


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("margin_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks for its own module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measured(benchmark):
    """Rows of the committed file with what `cwt_dask.geometry.margins` says of them."""
    kernels_of = functools.cache(CWTKernels)
    cases = []
    for row in Table.read(benchmark.MEASURED):
        kernels = kernels_of(*(row[name].item() for name in SETTINGS))
        case = kernels, row["n_iter"].item(), row["brightest"].item()
        cases.append((case, row, expected_error(*case, row["margin"].item())))
    return cases


def test_no_measured_error_is_above_the_expected_and_the_contract_holds(measured):
    kept, contract = 0, functools.cache(contract_margin)
    for case, row, expected in measured:
        named = f"{case}, margin {row['margin']}"
        if row["error"] > 1e-13 and bounded(*case):
            assert row["error"] <= expected, named
        if row["margin"] >= contract(*case):
            assert row["error"] <= TOLERANCE, named
            assert row["flips"] == 0, named
            kept += 1
    assert kept > len(measured) / 8


def test_the_file_has_the_true_figures_of_the_kernels(measured):
    for (kernels, *_), row, _ in measured:
        assert row["reach"] == kernels.reach
        assert row["gain"] == pytest.approx(kernels.gain, abs=6e-4)
        assert row["growth"] == pytest.approx(growth(kernels), abs=6e-5)
        assert row["margin"] == row["margin_reaches"] * kernels.reach


def test_the_file_has_every_case_of_the_benchmark(benchmark):
    table = Table.read(benchmark.MEASURED)
    assert len(unique(table, SETTINGS)) == len(benchmark.KERNELS)
    assert len(unique(table, [*SETTINGS, "threshold", "brightest"])) >= len(benchmark.KERNELS) * 5


def test_the_page_shows_what_the_file_holds(benchmark):
    text = benchmark.PAGE.read_text(encoding="utf-8")
    assert benchmark.page(text, Table.read(benchmark.MEASURED)) == text


iterations = st.integers(1, 200)
brightest = st.floats(0, 4e7)


@given(st.sampled_from(KERNELS), iterations, brightest, st.integers(0, 1000))
def test_the_expected_error_falls_as_the_margin_grows(kernels, n_iter, brightest, margin):
    narrow, wide = (expected_error(kernels, n_iter, brightest, m) for m in (margin, margin + 1))
    assert narrow is None or 1e-15 <= wide <= narrow <= 1
    assert narrow is None or margin >= kernels.reach


@given(st.sampled_from(KERNELS), iterations, brightest, st.integers(-3, 3))
def test_the_contract_is_the_least_margin_with_an_expected_error_of_1e_9(kernels, n_iter, brightest, more):
    contract = contract_margin(kernels, n_iter, brightest)
    expected = expected_error(kernels, n_iter, brightest, contract + more)
    if expected is not None:
        assert (expected <= TOLERANCE) == (more >= 0)


@given(st.sampled_from(KERNELS), iterations, brightest)
def test_the_contract_grows_with_iterations_and_brightness_within_what_can_matter(kernels, n_iter, brightest):
    contract = contract_margin(kernels, n_iter, brightest)
    assert kernels.reach <= contract <= n_iter * (kernels.reach + 1) + STRIP_WIDTH
    assert contract_margin(kernels, n_iter + 1, brightest) >= contract
    assert contract_margin(kernels, n_iter, 2 * brightest) >= contract


def test_growth_of_a_wave_is_what_an_iteration_does_to_it():
    """Against powers of the plain recursion in a periodic box, where waves are what the FFT says."""
    kernels = CWTKernels(2, 0.6, 1.5, old=True)
    size = 64
    base_hat, approx_hat = np.zeros((2, size, size), dtype=complex)
    kinds = [*((base_hat, kernel) for kernel in kernels.kern_base.values()), (approx_hat, kernels.kern_approx)]
    for total, kernel in kinds:
        shift = -((len(kernel) - 1) // 2)
        total += np.fft.fft2(np.roll(np.pad(kernel, (0, size - len(kernel))), (shift, shift), axis=(0, 1)))  # noqa: PLW2901
    before = after = np.ones((size, size), dtype=complex)
    for _ in range(400):
        before, after = after, (1 - base_hat) * after + base_hat * approx_hat * before
    assert np.abs(after).max() ** (1 / 400) == pytest.approx(growth(kernels), rel=5e-3)


@pytest.mark.parametrize(
    ("kernels", "n_iter", "brightest", "promised"),
    [
        (CWTKernels(2, 6.0, 1.3), 200, 1e6, True),
        (CWTKernels(3, 0.8, 1.2), 200, 1e6, True),
        (CWTKernels(2, 0.6, 1.5, old=True), 40, 1e6, True),
        # 1.389 to the power 100 times 1e6 counts leaves nothing of 16 digits.
        (CWTKernels(2, 0.6, 1.5, old=True), 100, 1e6, False),
        # A tile of ten counts next to 1e8: rounding alone is 1e-9 of it.
        (CWTKernels(2, 6.0, 1.3), 10, 1e8, False),
    ],
)
def test_where_rounding_alone_can_spoil_a_tile_nothing_is_promised(kernels, n_iter, brightest, promised):
    assert bounded(kernels, n_iter, brightest) is promised
    expected = expected_error(kernels, n_iter, brightest, 10_000)
    assert (expected is not None) is promised
    assert expected_error(kernels, n_iter, brightest, kernels.reach) == (1.0 if promised else None)
    assert contract_margin(kernels, n_iter, brightest) > kernels.reach


@pytest.mark.parametrize(
    ("kernels", "n_iter", "brightest", "margin"),
    [
        (CWTKernels(2, 6.0, 1.3), 10, 200.0, 151),
        (CWTKernels(3, 1.2, 1.5), 10, 200.0, 77),
        (CWTKernels(2, 0.6, 1.5, old=True), 40, 7e4, 92),
        # Nothing can cross more than the reach, the strip and a pixel.
        (CWTKernels(2, 6.0, 1.3), 1, 1e6, 44),
    ],
)
def test_what_is_promised_does_not_change_unnoticed(kernels, n_iter, brightest, margin):
    # `auto` resolves to it, and it is in every run's digest.
    assert contract_margin(kernels, n_iter, brightest) == margin


def test_errors_that_drifting_kernels_carry_stop_within_the_margin(tmp_path):
    """Bright sources on the lower side of faint tiles, kernels off their own centre, many iterations."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:40, :260]
    background = np.full(x.shape, 0.3)
    sources = sum(7e4 * np.exp(-((y - 20) ** 2 + (x - x0) ** 2) / 4.5) / (4.5 * np.pi) for x0 in (20, 35, 50))
    survey = write_survey(tmp_path / "survey.fits", rng.poisson(background + sources), background)
    settings = {"n_scale": 2, "min_scale": 0.6, "step_scale": 1.5, "old_kernels": True, "max_iter": 40}
    settings |= {"stopping": "fixed", "tile_size": 60, "workers": 0, "fits": "no"}
    promised = run_survey(survey, tmp_path / "promised", **settings).certificate
    assert promised["tiling_exact"]
    assert promised["seam_model_error"] < 1e-12
    narrow = run_survey(survey, tmp_path / "narrow", margin=30, **settings).certificate
    assert narrow["seam_model_error"] > TOLERANCE
