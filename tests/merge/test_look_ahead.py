"""Look-ahead tiles, so that the others need not stop to hear of each other."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reporters import DiesAt, InterruptedRunError
from skies import poisson_sky, write_survey
from work import FFTS_OF_A_START, FFTS_OF_A_STEP, FFTS_OF_THE_FIRST, digests

from cwt_dask import run_survey
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.merge.stopping import ONE_IN, least_change, look_ahead_tiles, scatter_by_chunk
from cwt_dask.pipeline.next_block import RunState
from cwt_dask.run import plan_survey
from cwt_dask.runtime.progress import Reporter
from cwt_dask.survey import SurveySource, ingest
from cwt_dask.survey.store import CHUNK

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 30}
OPTIONS |= {"no_report": True}
N_TILES = 8


class Stages(Reporter):
    """Keeps which stages there were of tiles that iterate, and of how many."""

    def __init__(self):
        self.tiles = []

    def track(self, items, stage, total):
        if "tiles, " in stage:
            self.tiles.append((stage, total))
        return items


def test_scatter_is_that_of_the_counts_in_each_chunk(tmp_path):
    counts, background = poisson_sky((CHUNK + 30, CHUNK + 100), seed=2)
    counts[:40, :50] += 7
    mask = np.ones(counts.shape, dtype=np.uint8)
    mask[:50, 10:200] = 0
    source = SurveySource.of(write_survey(tmp_path / "survey.fits", counts, background, mask))
    survey = ingest(source, tmp_path / "s.zarr")
    squares = np.square(counts - counts[mask > 0].mean()) * mask
    expected = [[part.sum() for part in np.split(rows, [CHUNK], axis=1)] for rows in np.split(squares, [CHUNK])]
    np.testing.assert_allclose(scatter_by_chunk(survey), expected, rtol=1e-12)


@given(
    st.tuples(st.integers(1, 2600), st.integers(1, 2600)),
    st.tuples(st.integers(200, 3000), st.integers(200, 3000)),
    st.randoms(use_true_random=False),
)
def test_few_tiles_look_ahead_and_none_has_more_scatter(shape, core, random):
    grid = TileGrid.plan(shape, core, 10, 5, lambda length: length)
    n_chunks = [-(-length // CHUNK) for length in shape]
    # Few chunks have nearly all of it.
    scatter = np.array([[random.random() ** 8 for _ in range(n_chunks[1])] for _ in range(n_chunks[0])])
    # The scatter of a chunk, spread evenly over its pixels.
    sizes = [np.minimum(CHUNK, length - np.arange(0, length, CHUNK)) for length in shape]
    spread = (scatter / np.outer(*sizes)).repeat(sizes[0], axis=0).repeat(sizes[1], axis=1)
    by_tile = np.array([spread[tile.core.slices].sum() for tile in grid.tiles()])
    look_ahead = look_ahead_tiles(grid, scatter)
    assert len(look_ahead) <= grid.n_tiles // ONE_IN
    others = np.setdiff1d(np.arange(grid.n_tiles), look_ahead)
    if look_ahead:
        assert by_tile[look_ahead].min() >= by_tile[others].max() * (1 - 1e-9)
    # No more of them than hold half, and no fewer unless they are too many.
    assert by_tile[look_ahead[:-1]].sum() <= scatter.sum() / 2 * (1 + 1e-9)
    assert len(look_ahead) == grid.n_tiles // ONE_IN or by_tile[look_ahead].sum() >= scatter.sum() / 2 * (1 - 1e-9)


def test_the_least_change_is_over_the_scatter_of_all_counts():
    records = [SimpleNamespace(moments=[(5, 1.0, 20.0), (5, 1.0, 17.0)]), SimpleNamespace(moments=[(5, 0.0, 9.0)] * 2)]
    assert least_change(records, 100.0) == pytest.approx(0.03)
    assert least_change(records, 0.0) == 0.0
    # A variance that grew says nothing of the others.
    assert least_change([SimpleNamespace(moments=[(5, 1.0, 17.0), (5, 1.0, 20.0)])], 100.0) == 0.0


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("ahead") / "survey.fits", *poisson_sky((60, 120), seed=5))


@pytest.fixture(scope="module")
def one_go(survey):
    """What tiles publish after six iterations in one go."""
    return digests(run_survey(survey, survey.with_name("one-go"), stopping="fixed", max_iter=6, **OPTIONS))


def test_far_from_the_stop_tiles_go_through_in_one_go(survey, one_go, tmp_path, ffts):
    run = run_survey(survey, tmp_path / "run", tol=1e-9, max_iter=6, **OPTIONS)
    assert run.certificate["n_tiles"] == N_TILES
    n_look_ahead = 1
    per_tile = 6 * FFTS_OF_A_STEP + FFTS_OF_THE_FIRST + FFTS_OF_A_START
    assert ffts.total() == N_TILES * per_tile + n_look_ahead * FFTS_OF_A_START
    assert digests(run) == one_go


def test_close_to_the_stop_little_is_done_in_vain(survey, tmp_path, ffts):
    run = run_survey(survey, tmp_path / "run", tol=4e-3, max_iter=10, **OPTIONS)
    assert run.certificate["n_iter"] == 5
    needed = N_TILES * (5 * FFTS_OF_A_STEP + FFTS_OF_A_START)
    assert needed <= ffts.total() <= 1.3 * needed


def test_look_ahead_tiles_go_on_while_they_see_farther(survey, tmp_path, ffts):
    stages = Stages()
    run = run_survey(survey, tmp_path / "run", tol=5e-4, max_iter=6, progress=stages, **OPTIONS)
    assert run.certificate["n_iter"] == 6
    assert stages.tiles == [
        ("look-ahead tiles, iterations 1 to 2", 1),
        ("look-ahead tiles, iterations 3 to 3", 1),
        ("look-ahead tiles, iterations 4 to 4", 1),
        ("tiles, iterations 1 to 4", N_TILES - 1),
        ("tiles, iterations 5 to 6", N_TILES),
    ]
    # No iteration is made twice; the counts are transformed at each beginning.
    beginnings = 3 + (N_TILES - 1) + N_TILES
    assert ffts.total() == N_TILES * (6 * FFTS_OF_A_STEP + FFTS_OF_THE_FIRST) + beginnings * FFTS_OF_A_START


TOO_SOON = OPTIONS | {"tol": 2.2e-3, "max_iter": 8}


@pytest.fixture(scope="module")
def stopped(survey):
    """What a run that stops at iteration 7 publishes."""
    run = run_survey(survey, survey.with_name("stopped"), **TOO_SOON)
    assert run.certificate["n_iter"] == 7
    return digests(run)


@pytest.fixture
def hasty(monkeypatch):
    """Look-ahead tiles that promise too much: all others go through in one go."""
    monkeypatch.setattr("cwt_dask.pipeline.next_block.least_change", lambda *_: 1.0)


@pytest.mark.usefixtures("hasty")
def test_a_stop_that_comes_too_soon_costs_time_but_no_bit(survey, stopped, tmp_path, ffts):
    assert digests(run_survey(survey, tmp_path / "run", **TOO_SOON)) == stopped
    assert ffts.total() <= 2 * N_TILES * (8 * FFTS_OF_A_STEP + FFTS_OF_A_START)


@pytest.mark.usefixtures("hasty")
def test_a_run_that_died_where_it_stopped_too_soon_goes_on_to_the_same_bits(survey, stopped, tmp_path):
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "died", progress=DiesAt("tiles, 7 iterations", N_TILES - 2), **TOO_SOON)
    assert digests(run_survey(survey, tmp_path / "died", **TOO_SOON)) == stopped


@pytest.mark.usefixtures("hasty")
def test_a_lost_checkpoint_of_a_look_ahead_tile_is_made_again(survey, stopped, tmp_path):
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "died", progress=DiesAt("tiles, iterations 1 to 8", 0), **TOO_SOON)
    (checkpoint,) = (tmp_path / "died" / "checkpoints" / "block-00002").glob("*.npz")
    checkpoint.unlink()
    for record in (tmp_path / "died" / "ledger").glob("tile-*[0-9].json"):
        if ".block-" not in record.name:
            record.unlink()
    assert digests(run_survey(survey, tmp_path / "died", **TOO_SOON)) == stopped


@pytest.mark.parametrize(
    ("tol", "stage", "item"),
    [
        (5e-4, "tiles, iterations 5 to 6", 5),
        pytest.param(1e-9, "tiles, iterations 1 to 6", 4, marks=pytest.mark.long),
        pytest.param(5e-4, "look-ahead tiles, iterations 3 to 3", 0, marks=pytest.mark.long),
    ],
)
def test_a_run_that_died_goes_on_from_where_tiles_were(survey, one_go, tmp_path, ffts, tol, stage, item):
    options, beginnings = OPTIONS | {"tol": tol, "max_iter": 6}, {1e-9: N_TILES + 1, 5e-4: 2 * N_TILES + 2}[tol]
    with pytest.raises(InterruptedRunError, match=stage):
        run_survey(survey, tmp_path / "died", progress=DiesAt(stage, item), **options)
    again = run_survey(survey, tmp_path / "died", **options)
    # Nothing but the tile at hand is begun again.
    once = N_TILES * (6 * FFTS_OF_A_STEP + FFTS_OF_THE_FIRST) + beginnings * FFTS_OF_A_START
    assert ffts.total() <= once + 6 * FFTS_OF_A_STEP + 2 * FFTS_OF_A_START
    assert not (tmp_path / "died" / "checkpoints").exists()
    assert digests(again) == one_go


@pytest.mark.parametrize(
    "without",
    [{"stopping": "tile"}, {"stopping": "fixed"}, {"tol": 0}, {"significance_island_threshold": 8.0}, {"max_iter": 2}],
)
def test_no_tile_looks_ahead_where_it_tells_nothing(survey, without):
    def may_look_ahead(**settings):
        plan = plan_survey(survey, **OPTIONS | {"max_iter": 3} | settings)
        return RunState(plan.settings, plan.grid.n_tiles, plan.waits, plan.decides_islands).may_look_ahead

    assert may_look_ahead()
    assert not may_look_ahead(**without)
