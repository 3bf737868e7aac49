"""Work is counted, not timed: what a tile reads, writes and computes, and how many tasks a run is."""

import math
from collections import Counter

import pytest
from skies import poisson_sky, write_survey
from work import FFTS_OF_A_START, FFTS_OF_THE_FIRST

from cwt_dask import run_survey
from cwt_dask.cwt.spectra import KernelSpectra
from cwt_dask.runtime.executors import InProcess, name_of
from cwt_dask.storage.schema import maps_from
from cwt_dask.storage.zarr_io import DurableStore
from cwt_dask.survey import SurveySource, ingest
from cwt_dask.survey.store import CHUNK
from cwt_dask.tiles import compute
from cwt_dask.tiles.fitting import Reach

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "stopping": "fixed"}
N_ITER = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    survey = write_survey(folder / "survey.fits", *poisson_sky((1100, 1300), seed=4, n_sources=30))
    return ingest(SurveySource.of(survey), folder / "survey.zarr").path


@pytest.fixture(scope="module")
def counted_run(store):
    """A run, and what it did: chunks read and written by array, FFTs, steps and tasks."""
    counted = Counter()

    def counting(owner, name, what):
        original = getattr(owner, name)

        def count(*arguments, **keywords):
            for key, n in what(*arguments, **keywords):
                counted[key] += n
            return original(*arguments, **keywords)

        patched.setattr(owner, name, count)

    def chunk(verb):
        def of(_store, key, *_arguments, **_keywords):
            return [((verb, key.split("/c/")[0]), 1)] if "/c/" in key else []

        return of

    with pytest.MonkeyPatch.context() as patched:
        counting(DurableStore, "get", chunk("read"))
        counting(DurableStore, "set", chunk("written"))
        for name in ("forward", "backward"):
            counting(KernelSpectra, name, lambda _spectra, *half, **_keywords: [("ffts", len(half))])
        counting(InProcess, "map", lambda _executor, function, items: [(f"tasks {name_of(function)}", len(items))])
        counting(compute, "step", lambda *_: [("steps", 1)])
        return run_survey(store, store.with_name("run"), tile_size=700, max_iter=N_ITER, **OPTIONS), counted


def test_a_run_does_what_its_tiles_ask_for_and_no_more(counted_run):
    run, work = counted_run
    n_tiles = run.stored.plan.grid.n_tiles
    assert n_tiles == 4
    assert work["steps"] == n_tiles * N_ITER
    # Seven an iteration, and the counts' spectrum.
    assert work["ffts"] == n_tiles * (7 * N_ITER + FFTS_OF_A_START + FFTS_OF_THE_FIRST)
    # The iterations, the seams, the sources; nothing is to be flagged.
    tasks = {key: n for key, n in work.items() if str(key).startswith("tasks")}
    assert tasks == {
        "tasks run_tile": 4,
        "tasks compare_seams": 4,
        "tasks measure_tile": 4,
        "tasks fit_tile": 4,
        "tasks differing": 4,
    }


def chunks(box):
    sides = (box.y0, box.y1), (box.x0, box.x1)
    return math.prod(len(range(start // CHUNK, (stop - 1) // CHUNK + 1)) for start, stop in sides)


def test_a_window_is_read_once_and_each_map_is_written_once(counted_run):
    run, work = counted_run
    grid = run.stored.plan.grid
    needed = sum(chunks(grid.on_map(tile.window)) for tile in grid.tiles())
    # The window of the iterations, and that of the fit.
    margin = Reach.of(run.files, run.stored.plan, run.survey).margin
    fitted = sum(chunks(grid.on_map(tile.core.grown(margin))) for tile in grid.tiles())
    assert work["read", "counts"] == work["read", "background"] == needed + fitted
    # Nothing is masked: the mask need not be read.
    assert work["read", "mask"] == work["read", "exposure"] == 0
    beside = [grid.overlapping(grid.on_map(tile.core.grown(run.stored.plan.kernels.reach))) for tile in grid.tiles()]
    for name in (spec.name for spec in maps_from("tile")):
        assert work["written", name] == grid.n_tiles
        # Sources are found from what tiles kept of their support, and need the flags only, theirs and those nearby.
        assert work["read", name] == (sum(len(list(tiles)) for tiles in beside) if name == "trust" else 0)


def test_maps_take_no_more_room_than_was_planned_and_supports_hardly_any(store, counted_run):
    run, _ = counted_run
    n_pixels = run.stored.plan.grid.map_box.area

    def taken(*names):
        return sum(path.stat().st_size for name in names for path in (run.files.maps / name).rglob("*"))

    assert taken("approx", "residual", "significance") <= 3 * 8.1 * n_pixels
    assert taken("support", "joined", "mask", "trust", "best_scale", "model", "transform_2d") <= n_pixels
    whole = sum(path.stat().st_size for path in run.files.path.rglob("*"))
    survey = sum(path.stat().st_size for path in store.rglob("*"))
    assert whole + survey <= run.stored.plan.disk
