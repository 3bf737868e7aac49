"""Runs checked again: by their files, by tiles made again, by the whole map."""

import json
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from skies import poisson_sky, write_survey
from work import change_run, flip

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cwt.state import Detected
from cwt_dask.inspection.recompute import WiderFilter, draw_tiles
from cwt_dask.merge.certificate import SEAL, digest_maps
from cwt_dask.pipeline.merging import write_certificate
from cwt_dask.products.files import write_candidates
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.maps import cut_history, digest_pixels
from cwt_dask.storage.sealed import sealed

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 45}
OPTIONS |= {"max_iter": 3}
N_TILES = 6


@pytest.fixture
def verify(call):
    return partial(call, "verify")


@pytest.fixture(scope="module")
def finished(survey):
    """A run with its history; to be copied, not changed."""
    return run_survey(survey, survey.with_name("run"), keep_history=True, **OPTIONS).files.path


@pytest.fixture
def run_dir(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def made(folder, sky, mask=None, *, ring=False, **options):
    survey = write_survey(folder / "survey.fits", *sky, mask, ring=ring)
    return run_survey(survey, folder / "run", **OPTIONS | options).files.path


def forge(run_dir, name, tile=4):
    """Change the middle pixel of a tile's core, and the digests with it."""
    run = SurveyRun.open(run_dir)
    core = run.stored.plan.grid.tile(tile).core
    array = zarr.open_group(run.files.maps)[name]
    y, x = (core.y0 + core.y1) // 2, (core.x0 + core.x1) // 2
    array[..., y, x] = ~array[..., y, x] if name == "support" else array[..., y, x] + 1e-3
    digests = read_records(run.files.ledger)[tile].chunk_digests
    change_record(run_dir, tile, chunk_digests=digests | {name: digest_pixels(array[(..., *core.slices)], name)})
    certificate = run.certificate | {"digest_maps": digest_maps(read_records(run.files.ledger))}
    run.files.certificate.write_text(json.dumps(sealed(certificate, SEAL)))


def change_record(run_dir, tile, **values):
    path = run_dir / f"ledger/tile-{tile:07d}.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | values)))


def lines(said, what):
    return [line for line in said.out.splitlines() if what in line]


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32))
def test_tiles_are_drawn_once_and_the_same_by_the_same_seed(n_tiles, n_wanted, seed):
    drawn = draw_tiles(n_tiles, n_wanted, seed)
    assert len(drawn) == len(set(drawn)) == min(n_tiles, n_wanted)
    assert set(drawn) <= set(range(n_tiles))
    assert draw_tiles(n_tiles, n_wanted, seed) == drawn == sorted(drawn)


def test_another_seed_draws_other_tiles(verify, finished):
    said = [verify(finished, "--recompute", 1, *seed) for seed in ((), ("--seed", 1))]
    again = [[int(tile) for tile in re.findall(r"tile (\d+) again", text.out)] for text in said]
    assert again == [draw_tiles(N_TILES, 1, seed) for seed in (0, 1)]
    assert again[0] != again[1]


def test_a_good_run_passes_and_is_left_as_it_is(verify, run_dir):
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    said = verify(run_dir, "--recompute", 99, "--against-whole")
    assert (said.status, said.err) == (0, "")
    margins = re.findall(r"^    ok  tile \d again, margin (\d+) pixels, 3 ", said.out, re.MULTILINE)
    plan = SurveyRun.open(run_dir).stored.plan
    # There are no more than there are.
    assert len(margins) == N_TILES
    assert len(lines(said, "    ok  sources of tile ")) == N_TILES
    assert lines(said, f"{N_TILES} of {N_TILES} tiles made again show")
    # Wider by twice the reach.
    assert int(margins[0]) >= plan.grid.margin + 2 * plan.kernels.reach
    assert lines(said, "the whole map as one image, 3 iterations: ")[0].startswith("    ok")
    assert lines(said, "the history ends with the model") == ["    ok  the history ends with the model"]
    assert not lines(said, "BROKEN") + lines(said, "note")
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_it_says_what_it_shows_and_what_not(verify, finished):
    mathematics = "not shown: whether the background is right, or the mathematics"
    said = verify(finished)
    assert lines(said, mathematics)
    assert lines(said, "not shown: whether maps were changed together with their digests (--recompute K")
    assert not lines(said, "made again") + lines(said, "the whole map")
    said = verify(finished, "--recompute", 1, "--against-whole")
    assert lines(said, mathematics)
    total = SurveyRun.open(finished).stored.plan.grid.n_tiles
    assert lines(said, f"1 of {total} tiles made again show whether their margins are wide enough, whether their rows")
    assert lines(said, "the whole map shows whether tiling did any harm")
    assert not lines(said, "not shown: whether maps were changed")


def test_a_single_tile_is_made_again_as_it_was(verify, tmp_path):
    """And to the same early stop, which the whole map finds, too."""
    mask = np.random.default_rng(5).random((60, 80)) > 0.03
    options = {"tile_size": 80, "significance_island_threshold": 5.0, "tol": 0.5}
    run_dir = made(tmp_path, poisson_sky((60, 80), seed=3), mask, **options)
    said = verify(run_dir, "--recompute", 1, "--against-whole")
    assert said.status == 0
    assert lines(said, "tile 0 again, no seams, 2 iterations: differences over the maximum: model 0.0e+00")
    assert lines(said, "the whole map as one image, 2 iterations: ")


def test_significance_is_not_compared_where_no_expected_error_is_precise(verify, tmp_path):
    counts = np.zeros((60, 80), int)
    counts[30, 40] = 10**6
    said = verify(made(tmp_path, (counts, np.full(counts.shape, 1e-12))), "--against-whole")
    (line,) = lines(said, "the whole map as one image")
    assert re.fullmatch(
        r" +ok  the whole map as one image, 3 .*: model \S+, approx \S+, residual \S+; .* 0 pixels", line
    )


def ridge():
    """A ridge through the map, longer than any window, with a peak of T/E 138 at one end and at most 29 elsewhere."""
    background = np.full((40, 300), 1.0)
    expected = background.copy()
    expected[18:22] += 8.0
    expected[19:21, 280:290] += 50.0
    return np.random.default_rng(1).poisson(expected), background


@pytest.mark.parametrize(("threshold", "kept"), [(60.0, True), (200.0, False)])
def test_an_island_longer_than_a_window_is_judged_as_published(verify, tmp_path, threshold, kept):
    run_dir = made(tmp_path, ridge(), tile_size=75, significance_island_threshold=threshold)
    assert SurveyRun.open(run_dir).support[0, 20].compute()[10:200].all() == kept
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert said.status == 0
    assert len(lines(said, "ok  tile ")) == 4


@pytest.mark.parametrize(
    ("shape", "tile_size", "threshold"),
    [
        *(((50, 130), 65, 6.0), ((60, 17), 30, None)),
        *(pytest.param((50, 130), *case, marks=pytest.mark.long) for case in ((65, None), (130, 6.0))),
    ],
)
def test_a_ring_passes(verify, tmp_path, shape, tile_size, threshold):
    mask = np.random.default_rng(5).random(shape) > 0.03
    sky = poisson_sky(shape, seed=12, brightest=3000, n_sources=6)
    options = {"tile_size": tile_size, "significance_island_threshold": threshold}
    run_dir = made(tmp_path, sky, mask, ring=True, **options)
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert said.status == 0
    assert len(lines(said, "again, margin")) == SurveyRun.open(run_dir).stored.plan.grid.n_tiles
    assert lines(said, "the whole ring at once, 3 iterations: ")


def test_without_a_margin_differences_are_shown_and_no_promise_is_broken(verify, tmp_path):
    run_dir = made(tmp_path, poisson_sky((90, 130), seed=3), margin=0)
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert said.status == 0
    shown = lines(said, "iterations: differences over the maximum: model ")
    assert len(shown) == N_TILES + 1
    assert all(line.startswith("  note  ") and line.endswith(": nothing was promised") for line in shown)
    assert float(re.search(r"model (\S+),", shown[-1])[1]) > 1e-3
    assert lines(said, "nothing was promised of the tiles (tiling_exact is false, see the warnings)")
    assert not lines(said, "did no harm")


def test_tiles_with_stops_of_their_own_are_made_again_to_those(verify, tmp_path):
    run_dir = made(tmp_path, poisson_sky((90, 130), seed=3), stopping="tile", tol=1e-3, max_iter=6, keep_history=True)
    iterations = {record.n_iter for record in read_records(run_dir / "ledger").values()}
    assert len(iterations) > 1
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert said.status == 0
    assert lines(said, "ok  the history ends with the model")
    assert len(SurveyRun.open(run_dir).history) == max(iterations) + 1
    assert sum(line.startswith("    ok  tile") for line in lines(said, "again, margin")) == N_TILES
    whole = lines(said, "the whole map as one image")[0]
    assert whole.startswith("  note  the whole map as one image, 6 iterations (published ")
    assert f"(published {', '.join(map(str, sorted(iterations)))})" in whole


@pytest.mark.parametrize("names", [("model", "approx", "support"), ("residual",), ("significance",)])
def test_a_change_with_its_digest_is_found_by_computing_only(verify, run_dir, names):
    """One in each tile; of a tile's maps only those are compared from which the others follow."""
    # The history would show the model's.
    shutil.rmtree(run_dir / "maps.zarr" / "history_model")
    change_run(run_dir / "run.toml", "keeps_history = true", "keeps_history = false")
    for tile, record in read_records(run_dir / "ledger").items():
        record.chunk_digests.pop("history_model")
        change_record(run_dir, tile, chunk_digests=record.chunk_digests)
    for tile, name in enumerate(names):
        forge(run_dir, name, tile)
        change_record(run_dir, tile, near_threshold=7 if name == "support" else 0)
    assert verify(run_dir).status == 0
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert said.status == 1
    *tiles, whole = lines(said, "BROKEN")
    assert len(tiles) == (len(names) if "model" in names else 0)
    assert whole.startswith("BROKEN  the whole map as one image")
    for tile, name in enumerate(names):
        changed = "differs in 2 pixels" if name == "support" else rf"{name} \d\.\de-0"
        assert re.search(changed, whole)
        if tiles:
            near = "; T/E of 7 pixels is within rounding of a threshold" if name == "support" else ""
            assert re.match(f"BROKEN  tile {tile} again.*{changed}", tiles[tile])
            assert tiles[tile].endswith(f": at most model 1e-09, approx 1e-09 and no pixel are allowed{near}")


def test_a_row_that_was_changed_with_its_digests_is_found_by_measuring_again_only(verify, run_dir, monkeypatch):
    run = SurveyRun.open(run_dir)
    rows = run.candidates
    core = run.stored.plan.grid.tile(4).core
    inside = (rows["y_peak"] >= core.y0) & (rows["y_peak"] < core.y1) & (rows["x_peak"] >= core.x0)
    inside &= rows["x_peak"] < core.x1
    row = int(np.flatnonzero(inside & (rows["npred"] > 1))[0])
    rows["npred_ul"][row] *= 1.0001
    write_candidates(run.files, rows)
    write_certificate(run.files, run.certificate)
    assert verify(run_dir).status == 0
    said = verify(run_dir, "--recompute", N_TILES)
    assert said.status == 1
    again = lines(said, "sources of tile")
    assert len(again) == N_TILES
    (broken,) = (line for line in again if line.startswith("BROKEN"))
    assert "sources of tile 4 measured again" in broken
    assert f"other npred_ul of {rows['name'][row]}" in broken
    # A later version may measure otherwise.
    monkeypatch.setattr("cwt_dask.inspection.verify.ALGORITHM_VERSION", 10**6)
    assert verify(run_dir, "--recompute", N_TILES).status == 0


def test_what_tiles_have_kept_of_sources_is_looked_at(verify, run_dir):
    files = RunDir(run_dir)
    lost = next(files.islands.glob("tile-0000002.fit-*.npz"))
    lost.unlink()
    flip(files.found(1))
    said = verify(run_dir, "--recompute", 1)
    assert said.status == 1
    (broken,) = lines(said, "what tiles have found and fitted is as they wrote it")
    assert broken.startswith("BROKEN")
    assert str(lost) in broken
    assert str(files.found(1)) in broken


def test_not_a_number_is_a_difference(verify, run_dir):
    zarr.open_group(run_dir / "maps.zarr")["model"][50, 60] = np.nan
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert lines(said, "BROKEN  tile 4 again")
    assert lines(said, "BROKEN  the whole map")


def test_a_model_where_there_is_none_is_a_difference(verify, tmp_path):
    counts = np.random.default_rng(1).poisson(1.0, (60, 80))
    run_dir = made(tmp_path, (counts, np.ones((60, 80))), significance_threshold=50.0)
    assert verify(run_dir, "--recompute", 9, "--against-whole").status == 0
    forge(run_dir, "model", tile=0)
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert said.status == 1
    assert all("model 1.0e+00" in line for line in lines(said, "BROKEN"))


def test_a_forged_stop_is_found_by_the_whole_map(verify, run_dir):
    for tile in range(N_TILES):
        change_record(run_dir, tile, n_iter=2)
    said = verify(run_dir, "--recompute", 1, "--against-whole")
    assert said.status == 1
    assert lines(said, "BROKEN  the whole map as one image, 3 iterations (published 2)")


def test_files_that_cannot_be_read_are_a_fault_and_a_tile_without_a_record_is_one(verify, run_dir):
    (run_dir / "ledger" / "tile-0000002.json").unlink()
    (run_dir / "maps.zarr/approx/c/1/1").write_bytes(b"abc")
    said = verify(run_dir, "--recompute", 9, "--against-whole")
    assert said.status == 1
    assert lines(said, "BROKEN  tile 4 again, margin ")[0].count("files cannot be read (") == 1
    assert lines(said, "BROKEN  the whole map as one image: files cannot be read (")
    assert lines(said, "BROKEN  tile 2 again, margin ")[0].endswith(": no record says how many iterations it made")
    assert len(lines(said, "ok  tile ")) == N_TILES - 2
    assert [line[:4] for line in map(str.strip, lines(said, ": unknown without the records"))] == ["note", "note"]


def cut(path):
    cut_history(RunDir(path.parents[1]), 2)


def change(path):
    zarr.open_array(path)[2, 50, 60] += 1e-6


def tear(path):
    (path / "c/2/0/0").write_bytes(b"abc")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [(change, "another model in tile 4"), (cut, "it has 2 iterations, not 3"), (tear, "files cannot be read (")],
)
def test_a_history_that_does_not_end_with_the_model_is_found(verify, run_dir, damage, fault):
    damage(run_dir / "maps.zarr/history_model")
    said = verify(run_dir)
    assert said.status == 1
    *others, history = lines(said, "BROKEN")
    assert history.startswith(f"BROKEN  the history ends with the model: {fault}")
    # It is not what the tiles wrote; and a length that no run leaves is one of a damaged description.
    assert len(others) == 1 + (damage is cut)
    assert all("history_model" in line for line in others)


def test_a_map_that_does_not_fit_is_refused(verify, finished, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * 2**20))
    said = verify(finished, "--against-whole")
    assert (said.status, said.out) == (2, "")
    assert re.fullmatch(
        r"cwt-dask: the whole map needs about \d+\.\d+ MiB of memory, 100.00 MiB are available: leave out "
        r"--against-whole and take --recompute K, which makes tile after tile\n",
        said.err,
    )
    assert verify(finished, "--recompute", 1).status == 0


def test_islands_that_leave_the_trusted_pixels_are_judged_as_published():
    candidates = np.zeros((7, 12), dtype=bool)
    candidates[[0, 2, 4, 6]] = True
    candidates[:3, 6] = False
    candidates[1:3] = candidates[2] = False
    candidates[2, 3:6] = True
    ratio = np.where(candidates, 4.0, 0.0)
    trusted = np.zeros_like(candidates)
    trusted[:, 2:10] = True
    ratio[0, 11] = 9.0  # reaches the threshold where nothing is trusted
    ratio[4, 5] = 9.0
    joined = np.zeros((1, *candidates.shape), dtype=np.int32)
    joined[0, 0, 7:] = 2
    joined[0, 6] = 3
    islands = WiderFilter(8.0, trusted, joined)
    expected = np.zeros_like(candidates)
    expected[0, 7:] = True
    expected[4] = True
    nothing = np.zeros((1, *candidates.shape), dtype=np.uint16)
    pixels = np.flatnonzero(candidates)
    detected = Detected(candidates.shape, pixels, ratio.ravel()[pixels])
    np.testing.assert_array_equal(islands.select(2, nothing, 0, detected), expected.ravel()[pixels])
    expected[6] = True
    np.testing.assert_array_equal(islands.select(3, nothing, 0, detected), expected.ravel()[pixels])
