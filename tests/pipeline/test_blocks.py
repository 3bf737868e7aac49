"""Tiles iterated in blocks: no more work than needed, nothing lost between blocks, the same bits as in one go."""

import itertools
import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reporters import DiesAt, InterruptedRunError, Messages
from work import FFTS_OF_A_START, FFTS_OF_A_STEP, FFTS_OF_THE_FIRST, digests, flip, starts

from cwt_dask import run_survey
from cwt_dask.cli.commands import main
from cwt_dask.cwt.stopping import FIRST_STOP
from cwt_dask.inspection.verify import verify_run
from cwt_dask.merge.stopping import FASTEST_FALL, LARGEST_WASTE, block_end, earliest_stop
from cwt_dask.pipeline.blocks import Iteration
from cwt_dask.storage.ledger import read_records
from cwt_dask.tiles.task import contradicted_labels

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 75}


def blocks(max_iter, changes, tol):
    """Ends of all blocks of a map whose variance changes so, relative, in iterations 2, 3, ..., but never stops."""
    ends = [block_end(0, max_iter, FIRST_STOP)]
    while ends[-1] < max_iter:
        earliest = earliest_stop(ends[-1], changes[ends[-1] - 2], tol)
        ends.append(block_end(ends[-1], max_iter, earliest))
    return ends


CHANGES = st.lists(st.floats(1e-12, 10), min_size=200, max_size=200)


@given(st.integers(1, 200), CHANGES, st.sampled_from([0.0, 1e-5, 1.0]))
def test_blocks_partition_the_iterations(max_iter, changes, tol):
    ends = blocks(max_iter, changes, tol)
    assert ends[0] == min(2, max_iter)
    assert ends[-1] == max_iter
    assert ends == sorted(set(ends))


@given(st.integers(1, 200), st.lists(st.floats(1 / FASTEST_FALL, 3), min_size=200, max_size=200), st.floats(1e-6, 1))
def test_wherever_the_map_stops_little_was_done_in_vain(max_iter, falls, first_change):
    tol = 1e-5
    changes = [first_change, *(first_change * np.cumprod(falls))]
    stop = next((n for n, change in enumerate(changes, start=2) if change < tol), None)
    ends = blocks(max_iter, changes, tol)
    if max_iter < 2 or stop is None or stop > max_iter:
        return
    done = 0
    for before, end in itertools.pairwise([0, *ends]):
        done += end - before
        if stop <= end:
            done += stop - before if stop < end else 0
            break
    assert done <= (1 + LARGEST_WASTE) * stop


def test_a_map_far_from_its_stop_is_done_in_few_blocks():
    assert blocks(10, [1e-2] * 10, 1e-5) == [2, 10]
    assert blocks(10, [1e-2] * 10, 1e-320) == [2, 10]
    assert blocks(10, [1e-3] * 10, 0.0) == [2, 10]
    # As measured on the Fermi map, and on a simulated one.
    assert blocks(10, [4.7e-2, 3.5e-2, 2.4e-2, 1.6e-2, 1.1e-2, 7.9e-3, 5.6e-3, 4.1e-3], 1e-5) == [2, 10]
    assert blocks(10, [3.2e-5, 4e-5, 3.9e-5, 3.9e-5, 3.8e-5, 3.8e-5, 3.7e-5, 3.7e-5], 1e-5) == [2, 4, 6, 8, 10]


@pytest.fixture(scope="module")
def digests_of_whole(survey, tmp_path_factory):
    """What a run that nothing happened to publishes, by its settings; each run once."""

    @cache
    def run(**settings):
        return digests(run_survey(survey, tmp_path_factory.mktemp("whole") / "run", **OPTIONS | settings))

    return run


@pytest.mark.parametrize(
    ("tol", "stops"),
    [
        *((0.5, 2), (9.5e-3, 7), (1e-9, None)),
        *(pytest.param(*case, marks=pytest.mark.long) for case in ((3e-2, 3), (1.8e-2, 5), (2e-3, None))),
    ],
)
def test_ffts_are_those_of_the_iterations_needed(survey, tmp_path, ffts, tol, stops):
    run = run_survey(survey, tmp_path / "run", tol=tol, max_iter=10, **OPTIONS)
    n_iter, n_tiles = run.certificate["n_iter"], run.certificate["n_tiles"]
    assert run.certificate["converged"] is (stops is not None)
    assert n_iter == (stops or 10)
    needed = n_tiles * (n_iter * FFTS_OF_A_STEP + FFTS_OF_A_START)
    assert needed <= ffts.total() <= (1.3 if stops else 1.15) * needed


@pytest.mark.parametrize("tol", [9.5e-3, *(pytest.param(tol, marks=pytest.mark.long) for tol in (0.5, 1e-9))])
def test_blocks_give_the_bits_of_one_go(survey, tmp_path, tol):
    options = OPTIONS | {"margin": 80}
    blocks = run_survey(survey, tmp_path / "blocks", tol=tol, max_iter=10, **options)
    one_go = run_survey(survey, tmp_path / "one", stopping="fixed", max_iter=blocks.certificate["n_iter"], **options)
    # All that tiles publish: accumulated maps, such as the significance, too.
    assert digests(blocks) == digests(one_go)
    first, second = (
        [
            (record.moments, record.near_threshold, record.undefined)
            for record in read_records(run.files.ledger).values()
        ]
        for run in (blocks, one_go)
    )
    assert first == second
    assert not blocks.files.checkpoints.exists()
    assert not list(blocks.files.ledger.glob("*block*"))


ISLANDS = {"significance_island_threshold": 8.0}
# It would stop at iteration 7: the blocks end with 2, 4, 6 here, and with 7 where it may go on.
IN_BLOCKS = {"tol": 9.5e-3, "max_iter": 6}


@pytest.mark.parametrize(
    ("settings", "stage", "item"),
    [
        ({}, "tiles, iterations 3 to 4", 0),
        ({"max_iter": 10}, "publishing tiles", 2),
        (ISLANDS, "islands over seams", 2),
        (ISLANDS, "tiles, iterations 3 to 3", 1),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                *((ISLANDS, "tiles, iterations 1 to 2", 2), (ISLANDS, "publishing tiles", 3)),
                *((ISLANDS | {"max_iter": 10}, "publishing tiles", 2), ({}, "tiles, iterations 5 to 6", 3)),
            )
        ),
    ],
)
def test_a_run_that_died_goes_on_to_the_same_bits(survey, digests_of_whole, tmp_path, settings, stage, item):
    settings = IN_BLOCKS | settings
    options = OPTIONS | settings
    with pytest.raises(InterruptedRunError, match=stage):
        run_survey(survey, tmp_path / "died", progress=DiesAt(stage, item), **options)
    again = run_survey(survey, tmp_path / "died", **options)
    assert digests(again) == digests_of_whole(**settings)
    assert again.certificate["tiling_exact"]


def test_a_run_that_goes_on_does_not_begin_again(survey, tmp_path, ffts, capsys):
    options = OPTIONS | IN_BLOCKS
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", progress=DiesAt("tiles, iterations 3 to 4", 2), **options)
    before = ffts.total()
    assert main(["status", str(tmp_path / "run")]) == 0
    assert "0 of 4 tiles done\non the way: 3 of 4 tiles have made 4 iterations\nnot finished" in capsys.readouterr().out
    run = run_survey(survey, tmp_path / "run", **options)
    n_tiles = run.certificate["n_tiles"]
    first = n_tiles * FFTS_OF_THE_FIRST
    assert before == (n_tiles + 3) * (2 * FFTS_OF_A_STEP + FFTS_OF_A_START) + first
    assert ffts.total() == n_tiles * (6 * FFTS_OF_A_STEP + 3 * FFTS_OF_A_START) + first


def clear_header(path):
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes(20) + content[60:])


def cut(path):
    path.write_bytes(path.read_bytes()[:2000])


@pytest.fixture(scope="module")
def interrupted(survey, tmp_path_factory):
    """A run that died when all but one of its tiles had made block 6; to be copied, not changed."""
    run_dir = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(InterruptedRunError):
        run_survey(survey, run_dir, progress=DiesAt("tiles, iterations 5 to 6", 3), **OPTIONS, tol=9.5e-3)
    assert sorted(path.name for path in (run_dir / "checkpoints").iterdir()) == ["block-00004", "block-00006"]
    return run_dir


def damage_two(block):
    flip(block / "tile-0000002.round-00000.npz")
    (block / "tile-0000001.round-00000.npz").unlink()


# Each damage of the dense images; of the rest; of two; and then no block is whole any more, and all begins again.
DAMAGES = [
    *((flip, "block-00006/tile-0000002.round-00000.npy"), (Path.unlink, "block-00006/tile-0000001.round-00000.npz")),
    *((damage_two, "block-00006"), (shutil.rmtree, "block-00004")),
    *(
        pytest.param(damage, f"block-00006/tile-0000002.round-00000.{kind}", marks=pytest.mark.long)
        for damage, kind in ((clear_header, "npy"), (Path.unlink, "npy"), (cut, "npy"), (flip, "npz"))
    ),
]


@pytest.mark.parametrize(("damage", "name"), DAMAGES)
def test_damaged_checkpoints_are_made_again(survey, interrupted, digests_of_whole, tmp_path, damage, name):
    run_dir = shutil.copytree(interrupted, tmp_path / "run")
    damage(run_dir / "checkpoints" / name)
    assert digests(run_survey(survey, run_dir, **OPTIONS, tol=9.5e-3)) == digests_of_whole(tol=9.5e-3)


@pytest.mark.parametrize("settings", [{"tol": 9.5e-3} | ISLANDS, pytest.param({"tol": 9.5e-3}, marks=pytest.mark.long)])
def test_a_tile_lost_after_the_end_is_mended(survey, tmp_path, settings):
    run = run_survey(survey, tmp_path / "run", keep_history=True, **OPTIONS, **settings)
    before = digests(run)
    models = [maps.model.compute() for maps in run.history]
    run.files.record(2).unlink()
    run.files.record_copy(2).unlink(missing_ok=True)
    again = run_survey(survey, tmp_path / "run", **OPTIONS, **settings)
    assert digests(again) == before
    assert 2 < again.certificate["n_iter"] < 10
    for maps, model in zip(again.history, models, strict=True):
        np.testing.assert_array_equal(maps.model.compute(), model)


def test_a_tile_without_what_it_had_decided_has_all_tiles_decide_again(survey, tmp_path):
    options = OPTIONS | ISLANDS | {"max_iter": 2, "stopping": "fixed"}
    run = run_survey(survey, tmp_path / "run", **options)
    before = digests(run)
    for path in run.files.copies(run.files.joined(1)):
        path.unlink()
    again = run_survey(survey, tmp_path / "run", progress=(words := Messages()), **options)
    assert digests(again) == before
    assert any("are joined" in text for text in words.texts)


def test_a_record_of_a_tile_that_has_decided_on_islands_has_a_copy(survey, tmp_path):
    options = OPTIONS | ISLANDS | {"max_iter": 2, "stopping": "fixed"}
    run = run_survey(survey, tmp_path / "run", **options)
    before, record, copy = starts(run), run.files.record(2), run.files.record_copy(2)
    for path, damage in itertools.product((record, copy), (flip, Path.unlink)):
        damage(path)
        said = "; ".join(check.fault for check in verify_run(run) if check.broken)
        # A copy that is not there is none that says otherwise.
        assert (str(path) in said or "tile 2" in said) is (path.exists() or path == record), said
        again = run_survey(survey, tmp_path / "run", progress=(words := Messages()), **options)
        other = record if path == copy else copy
        assert f"{path} was damaged or lost: written again, as {other} has it" in words.texts
        assert starts(again) == before
        assert not any(check.fault for check in verify_run(again))


def test_what_a_block_has_shown_is_published_from_where_it_begins(survey, tmp_path, ffts):
    # It stops at 14 within the block 14 to 15, and the next block would be the last.
    options = OPTIONS | {"tol": 1.248e-3, "max_iter": 16}
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", progress=DiesAt("publishing tiles", 2), **options)
    before = ffts.total()
    run = run_survey(survey, tmp_path / "run", **options)
    assert run.certificate["n_iter"] == 14
    assert ffts.total() - before == (run.certificate["n_tiles"] - 3) * (FFTS_OF_A_STEP + FFTS_OF_A_START)


def test_a_tile_by_itself_stops_where_its_map_stops(survey, tmp_path, ffts):
    run = run_survey(survey, tmp_path / "run", tol=9.5e-3, **OPTIONS | {"tile_size": 200})
    assert run.certificate["n_tiles"] == 1
    assert run.certificate["converged"] is True
    assert run.certificate["n_iter"] == 7
    assert ffts.total() == FFTS_OF_A_START + 7 * FFTS_OF_A_STEP + FFTS_OF_THE_FIRST


def test_the_time_of_a_tile_is_that_of_all_its_blocks(survey, tmp_path, monkeypatch):
    seconds = []
    original = Iteration._forget

    def look(self, block):
        paths = self.files.ledger.glob("tile-0000003.block-*.json")
        seconds.extend(json.loads(path.read_text())["seconds"] for path in paths)
        original(self, block)

    monkeypatch.setattr(Iteration, "_forget", look)
    # A clock that goes on by one each time that it is read: a block reads it as it begins, keeps and records.
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    for module in ("task", "publish"):
        monkeypatch.setattr(f"cwt_dask.tiles.{module}.time", clock)
    run = run_survey(survey, tmp_path / "run", **OPTIONS | IN_BLOCKS)
    assert set(seconds) == {2, 3}
    assert read_records(run.files.ledger)[3].seconds == 3


@pytest.mark.parametrize("with_record", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_damaged_checkpoint_of_a_later_round_is_made_again(
    survey, digests_of_whole, tmp_path, monkeypatch, with_record
):
    settings = ISLANDS | {"tol": 0, "max_iter": 5}
    contradicted = contradicted_labels

    def one_contradicts(job, tile_id):
        if (job.stop, job.round, tile_id) == (4, 1, 2):
            return [(4, 0, tile_id, 1)]
        return contradicted(job, tile_id)

    monkeypatch.setattr("cwt_dask.tiles.task.contradicted_labels", one_contradicts)
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", progress=DiesAt("tiles, iterations 5 to 5", 0), **OPTIONS | settings)
    checkpoints = tmp_path / "run" / "checkpoints"
    damaged = checkpoints / "block-00004" / "tile-0000002.round-00001.npz"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    if with_record:
        flip(tmp_path / "run" / "ledger" / "tile-0000002.block-00004.round-00001.json")
    again = run_survey(survey, tmp_path / "run", **OPTIONS | settings)
    assert again.certificate["tiling_exact"]
    assert digests(again) == digests_of_whole(**settings)
