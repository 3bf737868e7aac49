"""Tiled equals whole: the plain oracle of the whole map judges runs over tiles."""

import random
from collections import Counter
from functools import cache, partial

import numpy as np
import pytest
from astropy.io import fits
from cases import EVERY
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from reporters import DiesAt, InterruptedRunError, Messages
from skies import poisson_sky, write_survey
from whole import assert_equals_whole, assert_promised, whole_of
from work import digests, flip, starts

from cwt_dask import CWTKernels, run_survey
from cwt_dask.cwt.support import in_bright_islands
from cwt_dask.inspection.verify import verify_run
from cwt_dask.runtime.executors import InProcess
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.schema import HISTORY
from cwt_dask.tiles.islands import Replay
from cwt_dask.trust import Trust

# How many maps Hypothesis draws a part.
DRAWN = 12 if EVERY else 2
SMALL_TILES = {"workers": 0, "fits": "no", "tile_size": 41, "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}


KERNELS = [(1, 1.2, 1.5, False), (2, 1.0, 1.4, False), (3, 1.0, 1.3, False), (1, 1.0, 1.6, True)]

CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "shape": st.tuples(st.integers(40, 120), st.integers(40, 120)),
        "tile_size": st.integers(31, 90),
        "kernels": st.sampled_from(KERNELS),
        "threshold": st.sampled_from([2.5, 3.0, 4.0, 5.0]),
        "island_threshold": st.sampled_from([5.0, 8.0]),
        "brightest": st.sampled_from([50.0, 1e3, 1e5]),
        "stopping": st.sampled_from(["global", "global", "fixed"]),
        "tol": st.sampled_from([1e-5, 3e-3, 3e-2, 0.3]),
        "gaps": st.sampled_from(["none", "pixels", "hole"]),
        "keep_isolated": st.booleans(),
        "n_workers": st.sampled_from([0, 0, 0, 1, 2]),
    }
)


def mask_of(case):
    mask = np.ones(case["shape"], dtype=bool)
    if case["gaps"] == "pixels":
        mask = np.random.default_rng(case["seed"]).random(case["shape"]) > 0.02
    elif case["gaps"] == "hole":
        mask[10:30, 20:] = False
    return mask


def is_ambiguous(certificate, whole, tol):
    """Whether rounding alone could decide otherwise: about a pixel, an island, or where to stop."""
    changes = np.abs(np.diff(whole.variances)) / whole.variances[:-1]
    return certificate["near_threshold_pixels"] > 0 or bool(np.any(np.abs(changes - tol) < 1e-11))


@pytest.mark.parametrize("islands", [False, True], ids=["pixels", "islands"])
@pytest.mark.parametrize("ring", [False, True], ids=["plane", "ring"])
def test_tiles_equal_the_whole_map(tmp_path_factory, one_worker_client, client, ring, islands):
    """Of maps, kernels, thresholds, tolerances, tiles, gaps and numbers of workers, as Hypothesis draws them."""
    clients = {0: None, 1: one_worker_client, 2: client}
    seen = Counter()

    # A seed of its own: each part would draw the same cases.
    @seed(4 + 2 * ring + islands)
    @given(CASES)
    @settings(max_examples=DRAWN, phases=[Phase.generate])  # shrinking takes minutes here and shows little
    def check(case):
        folder = tmp_path_factory.mktemp("exact")
        n_scale, min_scale, step_scale, old = case["kernels"]
        counts, background = poisson_sky(case["shape"], case["seed"], brightest=case["brightest"])
        mask = mask_of(case)
        shared = {"n_scale": n_scale, "min_scale": min_scale, "step_scale": step_scale, "tol": case["tol"]}
        shared |= {"significance_threshold": case["threshold"]}
        shared |= {"significance_island_threshold": case["island_threshold"] if islands else None}
        of_oracle = {"old": old, "wrap": ring, "remove_isolated": not case["keep_isolated"]}
        fixed = case["stopping"] == "fixed"
        whole = whole_of(counts, background, mask=mask, fixed=fixed, **of_oracle, **shared)
        survey = write_survey(folder / "survey.fits", counts, background, mask, ring=ring)
        options = {name: case[name] for name in ("tile_size", "stopping", "keep_isolated")} | {"old_kernels": old}
        cluster = clients[case["n_workers"]]
        run = run_survey(survey, folder / "run", client=cluster, workers=0, fits="no", **options, **shared)
        seen["cases"] += 1
        seen["early stops"] += whole.converged
        if is_ambiguous(run.certificate, whole, case["tol"]):
            seen["ambiguous"] += 1
            return
        assert_equals_whole(run, whole)
        assert_promised(run)
        assert not run.model.compute()[~mask].any()

    check()
    # Excluded by rule, and so few of them that the others show what they should.
    assert seen["ambiguous"] <= seen["cases"] / 5
    assert seen["early stops"] >= seen["cases"] // 5
    assert seen["cases"] == DRAWN


FERMI = {"n_scale": 2, "min_scale": 6.0, "step_scale": 1.3}


@pytest.fixture(scope="module")
def fermi(shared_data):
    """The real map: path, and the oracle's answer for the tutorial's kernels, each once."""
    path = shared_data / "fermi_survey.fits.gz"
    with fits.open(path) as hdus:
        sky = [hdus[name].data.astype(float) for name in ("COUNTS", "BACKGROUND")]
    return path, cache(partial(whole_of, *sky, significance_threshold=2.0, **FERMI))


ISLANDS = {"significance_island_threshold": 5.0}


@pytest.mark.parametrize(
    ("tile_size", "n_workers", "options", "n_iter"),
    [
        *((151, 2, {}, 10), (151, 2, ISLANDS | {"tol": 1.1e-3}, 2)),
        *(pytest.param(*case, 10, marks=pytest.mark.long) for case in ((777, 2, {}), (333, 1, ISLANDS))),
    ],
)
def test_the_real_map_in_tiles_equals_the_whole(fermi, tile_size, n_workers, options, n_iter, tmp_path, request):
    path, whole_of_it = fermi
    client = request.getfixturevalue({1: "one_worker_client", 2: "client"}[n_workers])
    whole = whole_of_it(**options)
    assert whole.n_iter == n_iter
    options = options | FERMI | {"significance_threshold": 2.0, "fits": "no"}
    run = run_survey(path, tmp_path / "run", client=client, tile_size=tile_size, **options)
    # What it really is: docs/design/0004-margins.md.
    assert assert_equals_whole(run, whole) <= 1e-11
    assert_promised(run)


def test_the_real_map_as_one_tile_equals_the_whole_to_rounding(fermi, tmp_path):
    path, whole_of_it = fermi
    run = run_survey(path, tmp_path / "run", kernels=CWTKernels(2, 6.0, 1.3), significance_threshold=2.0, fits="no")
    assert run.certificate["n_tiles"] == 1
    assert assert_equals_whole(run, whole_of_it()) < 1e-14
    assert_promised(run)


class Shuffled(InProcess):
    """Items in an order of its own."""

    def map(self, function, items):
        items = list(items)
        random.Random(5).shuffle(items)  # noqa: S311 - any order will do
        return super().map(function, items)


def test_neither_workers_nor_their_order_change_a_bit(client, one_worker_client, tmp_path, monkeypatch):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((131, 203), seed=8, brightest=2000))
    options = {"fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 67, "max_iter": 3}
    runs = [
        run_survey(survey, tmp_path / "two", client=client, **options),
        run_survey(survey, tmp_path / "one", client=one_worker_client, **options),
        run_survey(survey, tmp_path / "here", workers=0, **options),
        run_survey(survey, tmp_path / "threads", workers=0, threads=2, **options),
    ]
    monkeypatch.setattr("cwt_dask.runtime.workers.InProcess", Shuffled)
    runs.append(run_survey(survey, tmp_path / "shuffled", workers=0, **options))
    assert len({run.certificate["digest_maps"] for run in runs}) == 1
    assert len({run.certificate["digest_catalogue"] for run in runs}) == 1
    assert_promised(runs[0])


def test_tiles_that_stop_on_their_own_are_not_called_exact(tmp_path):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((120, 160), seed=2, n_sources=3, level=0.2))
    options = SMALL_TILES | {"tol": 1e-3, "stopping": "tile"}
    run = run_survey(survey, tmp_path / "run", **options)
    assert run.certificate["tiling_exact"] is False
    assert "tiles stop at iterations of their own" in " ".join(run.certificate["warnings"])
    single = run_survey(survey, tmp_path / "single", **options | {"tile_size": 160})
    assert single.certificate["tiling_exact"] is True


RIDGE = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "significance_island_threshold": 100.0, "max_iter": 6}


@pytest.fixture
def ridge(tmp_path):
    """A ridge through all tiles that rises to its peak in the east: survey file, counts and background."""
    shape = (60, 400)
    background = np.full(shape, 1.0)
    expected = background.copy()
    expected[28:32] += np.linspace(4, 40, shape[1])
    counts = np.random.default_rng(1).poisson(expected)
    return write_survey(tmp_path / "ridge.fits", counts, background), counts, background


@pytest.mark.parametrize("stopping", ["global", pytest.param("fixed", marks=pytest.mark.long)])
def test_a_ridge_through_the_whole_survey_is_judged_by_its_peak(ridge, tmp_path, stopping):
    survey, counts, background = ridge
    whole = whole_of(counts, background, fixed=stopping == "fixed", tol=0.09, **RIDGE)
    # In the west only what lies several windows away can have saved it.
    assert whole.n_iter == {"global": 5, "fixed": 6}[stopping]
    assert whole.support[:, 28:32, :50].any()
    run = run_survey(survey, tmp_path / "run", workers=0, tile_size=60, stopping=stopping, tol=0.09, **RIDGE)
    assert_equals_whole(run, whole)
    assert run.certificate["open_islands"] == 0
    assert_promised(run)


@pytest.mark.parametrize(
    "settings", [{"tol": 0.09}, pytest.param({"stopping": "tile", "tol": 0.1}, marks=pytest.mark.long)]
)
def test_tiles_of_it_that_are_damaged_are_done_again_alone(ridge, tmp_path, monkeypatch, settings):
    options = {"workers": 0, "tile_size": 60, "fits": "no"} | RIDGE | settings
    run = run_survey(ridge[0], tmp_path / "run", keep_history=True, **options)
    before, first, damaged = digests(run), starts(run), run.stored.plan.grid.tile(3)
    history = run.files.maps / HISTORY / "c" / "1" / str(damaged.row) / str(damaged.column)
    files = run.files.joined(0), run.files.copies(run.files.joined(1))[1], run.files.detections(2), history
    for path in files:
        flip(path)
    said = "; ".join(check.fault for check in verify_run(run) if check.broken)
    assert all(str(path if path != history else run.files.maps / HISTORY) in said for path in files), said
    select, differing = Replay.select, set()

    def selected(self, iteration, joined, scale, detected):
        found = select(self, iteration, joined, scale, detected)
        fresh = joined[scale].ravel()[detected.pixels] == 0
        differing.add(bool((found != in_bright_islands(detected, 100.0))[fresh].any()))
        return found

    monkeypatch.setattr(Replay, "select", selected)
    again = run_survey(ridge[0], tmp_path / "run", progress=(words := Messages()), **options)
    assert digests(again) == before
    assert {tile for tile, start in starts(again).items() if start != first[tile]} == {0, 1, 2, 3}
    assert not any("are joined" in text for text in words.texts)
    # By their windows alone they would have decided otherwise, where they had waited for others.
    assert (True in differing) is ("stopping" not in settings)
    assert not any(check.fault for check in verify_run(again))


def test_without_the_rounds_a_ridge_is_left_open_and_named(ridge, tmp_path, monkeypatch):
    survey, counts, background = ridge
    monkeypatch.setattr("cwt_dask.pipeline.blocks.ISLAND_ROUNDS", 0)
    run = run_survey(survey, tmp_path / "run", workers=0, tile_size=60, **RIDGE)
    certificate = run.certificate
    assert certificate["open_islands"] == len(certificate["open_islands_named"]) > 0
    first = certificate["open_islands_named"][0]
    assert first["iteration"] == 1
    assert 25 <= first["y"] <= 35
    assert first["significance"] >= 100.0
    assert certificate["tiling_exact"] is False
    assert f"{certificate['open_islands']} islands left open" in certificate["not_exact_because"]
    assert not run.promises_kept
    flagged = (run.map("trust").compute() & Trust.OPEN_ISLAND) != 0
    assert flagged[28:32].any(axis=0).mean() > 0.9
    assert not flagged[:15].any()
    assert not np.array_equal(run.support.compute(), whole_of(counts, background, **RIDGE).support)


def test_tiles_that_stop_on_their_own_leave_islands_open(ridge, tmp_path):
    options = {"workers": 0, "tile_size": 100, "stopping": "tile", "tol": 0.1} | RIDGE | {"max_iter": 3}
    run = run_survey(ridge[0], tmp_path / "run", **options)
    assert run.certificate["open_islands"] > 0
    assert run.certificate["tiling_exact"] is False
    # Tiles that each stop by themselves were promised nothing.
    assert run.promises_kept
    with pytest.raises(InterruptedRunError):
        run_survey(ridge[0], tmp_path / "died", progress=DiesAt("islands left open", 1), **options)
    again = run_survey(ridge[0], tmp_path / "died", **options)
    assert again.certificate["open_islands_named"] == run.certificate["open_islands_named"]
    np.testing.assert_array_equal(again.map("trust").compute(), run.map("trust").compute())
    first = min(again.files.islands.glob("open-block-*.json"))
    before, folders = starts(again), (again.files.islands, again.files.ledger)
    for folder in (*folders, None):
        # One copy of each list and file of pixels; then both of one list.
        files = sorted(folder.glob("open-block-*")) if folder else again.files.copies(first)
        assert folder is None or {path.suffix for path in files} == {".json", ".npy"}
        for path in files:
            flip(path)
        said = "; ".join(check.fault for check in verify_run(again) if check.broken)
        assert all(f"{path} is damaged or lost (" in said for path in files)
        again = run_survey(ridge[0], tmp_path / "died", **options)
        assert (starts(again) == before) is (folder is not None)
        assert not any(check.broken for check in verify_run(again))
        assert again.certificate["open_islands_named"] == run.certificate["open_islands_named"]


def test_a_tile_without_a_valid_pixel_has_nothing_to_wait_for(tmp_path):
    counts, background = poisson_sky((41, 123), seed=2)
    mask = np.ones(counts.shape, dtype=bool)
    mask[:, 41:82] = False
    survey = write_survey(tmp_path / "survey.fits", counts, background, mask)
    run = run_survey(survey, tmp_path / "run", **SMALL_TILES | {"stopping": "tile", "tol": 0.5})
    assert [record.n_iter for record in read_records(run.files.ledger).values()] == [2, 1, 2]
    assert run.certificate["converged"] is True
