"""Tiles iterated in blocks: no more work than needed, nothing lost between blocks, the same bits as in one go."""

import itertools
import json
import shutil
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interruptions import DiesAt, InterruptedRunError
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.blocks import Iteration
from cwt_dask.cli import main
from cwt_dask.cwt.transform import KernelSpectra
from cwt_dask.ledger import read_records
from cwt_dask.merge.pooling import LARGEST_WASTE, block_ends
from cwt_dask.tile import contradicted_pieces

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 45}
# Total and excess forwards, counts less model and background forwards; approximation, and T and E of two scales back.
FFTS_OF_A_STEP = 3 + 1 + 2 * 2


@given(st.integers(1, 200))
def test_blocks_partition_the_iterations(max_iter):
    ends = block_ends(max_iter)
    assert ends[0] == min(2, max_iter)
    assert ends[-1] == max_iter
    assert ends == sorted(set(ends))


@given(st.integers(1, 200), st.data())
def test_wherever_the_map_stops_little_was_done_in_vain(max_iter, data):
    stop = data.draw(st.integers(min(2, max_iter), max_iter))
    done = 0
    for before, end in itertools.pairwise([0, *block_ends(max_iter)]):
        done += end - before
        if stop <= end:
            done += stop - before if stop < end else 0
            break
    assert done <= (1 + LARGEST_WASTE) * stop


@pytest.fixture
def ffts(monkeypatch):
    """Counts the FFTs of images; those of kernels are done once a process."""
    counted = Counter()

    def counting(name, original):
        def count(spectra, image):
            counted[name] += 1
            return original(spectra, image)

        return count

    for name in ("forward", "backward"):
        monkeypatch.setattr(KernelSpectra, name, counting(name, getattr(KernelSpectra, name)))
    return counted


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("blocks") / "survey.fits", *poisson_sky((90, 130), seed=3))


@pytest.fixture(scope="module")
def digests_of_whole(survey, tmp_path_factory):
    """What a run that nothing happened to publishes, by its settings; each run once."""

    @cache
    def run(**settings):
        return digests(run_survey(survey, tmp_path_factory.mktemp("whole") / "run", **OPTIONS | settings))

    return run


@pytest.mark.parametrize(("tol", "stops"), [(0.5, 2), (3e-2, 3), (1.8e-2, 5), (9.5e-3, 7), (2e-3, None), (1e-9, None)])
def test_ffts_are_those_of_the_iterations_needed(survey, tmp_path, ffts, tol, stops):
    run = run_survey(survey, tmp_path / "run", tol=tol, max_iter=10, **OPTIONS)
    n_iter, n_tiles = run.certificate["n_iter"], run.certificate["n_tiles"]
    assert run.certificate["converged"] is (stops is not None)
    assert n_iter == (stops or 10)
    most = 1 + LARGEST_WASTE if stops else 1
    assert ffts.total() <= most * n_iter * n_tiles * FFTS_OF_A_STEP
    assert ffts.total() >= n_iter * n_tiles * FFTS_OF_A_STEP


def digests(run):
    return {tile: record.chunk_digests for tile, record in read_records(run.files.ledger).items()}


@pytest.mark.parametrize("tol", [0.5, 9.5e-3, 1e-9])
def test_blocks_give_the_bits_of_one_go(survey, tmp_path, tol):
    options = OPTIONS | {"margin": 80}
    blocks = run_survey(survey, tmp_path / "blocks", tol=tol, max_iter=10, **options)
    one_go = run_survey(survey, tmp_path / "one", stopping="fixed", max_iter=blocks.certificate["n_iter"], **options)
    # All that tiles publish: accumulated maps, such as the significance, too.
    assert digests(blocks) == digests(one_go)
    for tile, record in read_records(blocks.files.ledger).items():
        other = read_records(one_go.files.ledger)[tile]
        assert (record.moments, record.near_threshold, record.undefined) == (
            other.moments,
            other.near_threshold,
            other.undefined,
        )
    assert not blocks.files.checkpoints.exists()
    assert not list(blocks.files.ledger.glob("*block*"))


ISLANDS = {"significance_island_threshold": 8.0}


@pytest.mark.parametrize(
    ("settings", "stage", "item"),
    [
        ({}, "tiles, iterations 1 to 2", 3),
        ({}, "tiles, iterations 4 to 4", 0),
        ({}, "tiles, iterations 7 to 8", 5),
        ({"tol": 9.5e-3}, "publishing tiles", 2),
        (ISLANDS, "tiles, iterations 1 to 2", 2),
        (ISLANDS, "islands over seams", 1),
        (ISLANDS, "islands over seams", 4),
        (ISLANDS, "tiles, iterations 3 to 3", 1),
        (ISLANDS | {"tol": 9.5e-3}, "publishing tiles", 2),
        (ISLANDS, "publishing tiles", 4),
    ],
)
def test_a_run_that_died_goes_on_to_the_same_bits(survey, digests_of_whole, tmp_path, settings, stage, item):
    settings = {"tol": 1e-9, "max_iter": 8} | settings
    options = OPTIONS | settings
    with pytest.raises(InterruptedRunError, match=stage):
        run_survey(survey, tmp_path / "died", progress=DiesAt(stage, item), **options)
    again = run_survey(survey, tmp_path / "died", **options)
    assert digests(again) == digests_of_whole(**settings)
    assert again.certificate["tiling_exact"]


def test_a_run_that_goes_on_does_not_begin_again(survey, tmp_path, ffts, capsys):
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", tol=0, progress=DiesAt("tiles, iterations 5 to 5", 3), **OPTIONS)
    before = ffts.total()
    assert main(["status", str(tmp_path / "run")]) == 0
    assert "0 of 6 tiles done\non the way: 4 of 6 tiles have made 5 iterations\nnot finished" in capsys.readouterr().out
    run = run_survey(survey, tmp_path / "run", tol=0, **OPTIONS)
    n_tiles = run.certificate["n_tiles"]
    assert before == (4 * n_tiles + 4) * FFTS_OF_A_STEP
    assert ffts.total() == 10 * n_tiles * FFTS_OF_A_STEP


def test_a_checkpoint_that_was_damaged_is_made_again(survey, digests_of_whole, tmp_path):
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", tol=0, progress=DiesAt("tiles, iterations 5 to 5", 5), **OPTIONS)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["block-00004", "block-00005"]
    damaged = checkpoints / "block-00005" / "tile-0000002.round-00000.npz"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    (checkpoints / "block-00005" / "tile-0000001.round-00000.npz").unlink()
    again = run_survey(survey, tmp_path / "run", tol=0, **OPTIONS)
    assert digests(again) == digests_of_whole(tol=0)


def test_where_no_block_is_whole_any_more_all_begins_again(survey, digests_of_whole, tmp_path):
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", tol=0, progress=DiesAt("tiles, iterations 5 to 5", 0), **OPTIONS)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "block-00004")
    assert digests(run_survey(survey, tmp_path / "run", tol=0, **OPTIONS)) == digests_of_whole(tol=0)


@pytest.mark.parametrize("settings", [{"tol": 9.5e-3}, {"tol": 9.5e-3} | ISLANDS])
def test_a_tile_lost_after_the_end_is_mended(survey, tmp_path, settings):
    run = run_survey(survey, tmp_path / "run", keep_history=True, **OPTIONS, **settings)
    before = digests(run)
    models = [maps.model.compute() for maps in run.history]
    run.files.record(2).unlink()
    again = run_survey(survey, tmp_path / "run", **OPTIONS, **settings)
    assert digests(again) == before
    assert 2 < again.certificate["n_iter"] < 10
    for maps, model in zip(again.history, models, strict=True):
        np.testing.assert_array_equal(maps.model.compute(), model)


def test_a_tile_by_itself_stops_where_its_map_stops(survey, tmp_path, ffts):
    run = run_survey(survey, tmp_path / "run", tol=9.5e-3, **OPTIONS | {"tile_size": 200})
    assert run.certificate["n_tiles"] == 1
    assert run.certificate["converged"] is True
    assert run.certificate["n_iter"] == 7
    assert ffts.total() == 7 * FFTS_OF_A_STEP


def test_the_time_of_a_tile_is_that_of_all_its_blocks(survey, tmp_path, monkeypatch):
    seconds = []
    original = Iteration._forget

    def look(self, block):
        paths = self.files.ledger.glob("tile-0000003.block-*.json")
        seconds.extend(json.loads(path.read_text())["seconds"] for path in paths)
        original(self, block)

    monkeypatch.setattr(Iteration, "_forget", look)
    run = run_survey(survey, tmp_path / "run", tol=0, **OPTIONS)
    assert len(set(seconds)) >= 5
    assert read_records(run.files.ledger)[3].seconds > max(seconds)


def test_a_damaged_checkpoint_of_a_later_round_is_made_again(survey, digests_of_whole, tmp_path, monkeypatch):
    settings = ISLANDS | {"tol": 0, "max_iter": 5}
    contradicted = contradicted_pieces

    def one_contradicts(job, tile_id):
        if (job.stop, job.round, tile_id) == (4, 1, 2):
            return [(4, 0, tile_id, 1)]
        return contradicted(job, tile_id)

    monkeypatch.setattr("cwt_dask.tile.contradicted_pieces", one_contradicts)
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", progress=DiesAt("tiles, iterations 5 to 5", 0), **OPTIONS | settings)
    checkpoints = tmp_path / "run" / "checkpoints"
    damaged = checkpoints / "block-00004" / "tile-0000002.round-00001.npz"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    again = run_survey(survey, tmp_path / "run", **OPTIONS | settings)
    assert again.certificate["tiling_exact"]
    assert digests(again) == digests_of_whole(**settings)
