import json
import math
from dataclasses import asdict, replace

import pytest

from cwt_dask.errors import RunError
from cwt_dask.storage import ledger, object_store, progress
from cwt_dask.storage.block_records import read_block_records, read_rounds
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import (
    SCHEMA,
    BlockRecord,
    TileRecord,
    begin_ledger,
    is_ledger_of,
    last_failures,
    read_all_records,
    read_finished,
    read_record,
    read_records,
    read_run_id,
    write_record,
)
from cwt_dask.storage.progress import read_progress
from cwt_dask.storage.sealed import SEAL, sealed

# fmt: off
DONE = {
    "schema": SCHEMA, "run": "r", "tile": 7, "settings_digest": "a", "algorithm_version": 3, "n_iter": 2,
    "converged": False, "moments": [[25, 0.5, 1.5], [25, 0.25, 1.25]], "attempt": 1, "host": "here",
    "processor": "some", "job": "", "started": "2026-01-01T00:00:00+00:00", "seconds": 0.5,
}
IMPOSSIBLE = (
    {"tile": 8}, {"tile": "../../x"}, {"tile": 10**9}, {"n_iter": "2"}, {"n_iter": -1}, {"seconds": math.inf},
    {"seconds": 10**400}, {"wrap": 1}, {"moments": [[25, 0.5]]}, {"moments": [[25, 0.5, math.nan]]},
    {"chunk_digests": ["model"]}, {"box": [0.5]}, {"host": None},
)
# fmt: on
BOXES = {"core": [0, 5, 0, 5], "window": [-2, 7, -2, 7], "box": [-3, 8, -3, 8], "wrap": False}
NUMBERS = {"model_max": 3.5, "empty": False, "near_threshold": 1, "undefined": 2, "peak_memory": 100}
RECORD = TileRecord(**DONE, **BOXES, **NUMBERS, input_digest="b", chunk_digests={"model": "00"})
BLOCK = BlockRecord(**DONE, block=2, round=0, checkpoint="00")


@pytest.fixture
def run_dir(tmp_path):
    files = RunDir(tmp_path)
    files.ledger.mkdir()
    files.run_id.write_text(RECORD.run)
    return files


def test_records_round_trip_and_later_ones_replace_earlier_ones(run_dir):
    for record in (RECORD, replace(RECORD, n_iter=3), replace(RECORD, tile=123456789), BLOCK):
        write_record(run_dir, record)
    records = read_records(run_dir.ledger)
    assert records.keys() == {7, 123456789}
    assert records[7] == read_record(run_dir.record(7)) == replace(RECORD, n_iter=3)


def test_records_of_blocks_come_by_tile_round_by_round(run_dir):
    assert read_progress(run_dir).block is None
    for tile, block, round_ in [(7, 2, 0), (7, 2, 1), (7, 3, 0), (1, 2, 0)]:
        write_record(run_dir, replace(BLOCK, tile=tile, block=block, round=round_))
    assert read_progress(run_dir).block == (3, 1)
    write_record(run_dir, RECORD)
    assert read_block_records(run_dir.ledger, 2) == {1: [replace(BLOCK, tile=1)], 7: [BLOCK, replace(BLOCK, round=1)]}
    assert read_block_records(run_dir.ledger, 4) == {}
    write_record(run_dir, replace(BLOCK, round=3))
    assert [record.round for record in read_rounds(run_dir, 2, 7, 5)] == [0, 1, 3]
    assert [record.round for record in read_rounds(run_dir, 2, 7, 1)] == [0]
    assert read_progress(run_dir).block == (2, 1)


def test_of_many_records_a_part_is_read_to_say_how_far_a_run_is(run_dir, monkeypatch):
    monkeypatch.setattr(progress, "MOST_READ", 3)
    for tile in range(7):
        write_record(run_dir, replace(RECORD, tile=tile, n_iter=5 + tile))
    opened = []
    monkeypatch.setattr(ledger, "read_file", lambda path: opened.append(path) or path.read_bytes())
    found = read_progress(run_dir)
    assert (found.n_done, found.iterations, len(opened)) == (7, [5, 8, 11], 3)
    run_dir.record(3).write_text("{")
    assert read_progress(run_dir).n_done == 6


def test_records_of_another_run_count_as_none(run_dir):
    for record in (RECORD, BLOCK, replace(BLOCK, round=1, run="other"), replace(RECORD, tile=8, run="other")):
        run_dir.run_id.write_text(record.run)
        write_record(run_dir, record)
    assert read_records(run_dir.ledger, RECORD.run) == {7: RECORD}
    assert read_block_records(run_dir.ledger, 2, RECORD.run) == {7: [BLOCK]}
    assert read_rounds(run_dir, 2, 7, 5, RECORD.run) == [BLOCK]
    records, damaged = read_all_records(run_dir.ledger, RECORD.run)
    assert (len(records), len(damaged)) == (2, 2)
    assert damaged[1] == f"{run_dir.record(8)} is a record of another run"
    assert read_progress(run_dir, RECORD.run).n_done == 1
    assert is_ledger_of(run_dir, "other")
    assert not is_ledger_of(run_dir, "a third")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\0" * 100])
def test_what_is_damaged_is_no_record(run_dir, text):
    write_record(run_dir, RECORD)
    write_record(run_dir, BLOCK)
    for path in (run_dir.record(1), run_dir.block_record(2, 1, 0), run_dir.failure(1, 1)):
        path.write_text(text)
    assert read_records(run_dir.ledger) == {7: RECORD}
    assert read_block_records(run_dir.ledger, 2) == {7: [BLOCK]}
    assert read_rounds(run_dir, 2, 1, 5) == []
    assert last_failures(run_dir) == {}
    with pytest.raises(RunError, match="tile-0000001.json is not a ledger record"):
        read_record(run_dir.record(1))


def test_a_folder_in_the_place_of_a_record_is_none(run_dir):
    run_dir.record(1).mkdir(parents=True)
    with pytest.raises(RunError, match=r"tile-0000001.json is not a ledger record \(.*Is a directory"):
        read_record(run_dir.record(1))


@pytest.mark.parametrize("changes", IMPOSSIBLE)
def test_a_record_that_cannot_be_or_lies_in_anothers_place_is_none(run_dir, changes):
    run_dir.record(7).write_text(json.dumps(asdict(replace(RECORD, schema=3)) | changes))
    assert read_records(run_dir.ledger) == {}
    with pytest.raises(RunError, match=r"tile-0000007.json is not a ledger record \(impossible: .+\)"):
        read_record(run_dir.record(7))


@pytest.mark.parametrize("name", [*asdict(RECORD), SEAL])
def test_no_field_of_a_record_can_change_unseen(run_dir, name):
    write_record(run_dir, RECORD)
    write_record(run_dir, BLOCK)
    write_record(run_dir, replace(RECORD, tile=8))
    path = run_dir.record(7)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {name: json.loads(path.with_name("tile-0000008.json").read_text())["seal"]}))
    assert read_records(run_dir.ledger).keys() == {8}
    records, damaged = read_all_records(run_dir.ledger)
    assert len(records) == 2
    assert damaged[0].startswith(f"{path} is not a ledger record (")


def test_of_a_finished_run_a_record_that_is_damaged_or_lost_is_named(run_dir):
    for tile in range(2):
        write_record(run_dir, replace(RECORD, tile=tile))
    assert read_finished(run_dir, RECORD.run, 2) == read_records(run_dir.ledger)
    with pytest.raises(RunError, match=rf"{run_dir.record(2)} is lost: the run's own command does its tile again"):
        read_finished(run_dir, RECORD.run, 3)
    run_dir.record(1).write_text("{}")
    with pytest.raises(RunError, match=rf"{run_dir.record(1)} is not a ledger record .*: the run's own command does"):
        read_finished(run_dir, RECORD.run, 2)


def test_a_record_of_another_version_is_named(run_dir):
    run_dir.record(1).write_text(json.dumps(sealed(asdict(replace(RECORD, schema=99)))))
    with pytest.raises(RunError, match=f"tile-0000001.json has schema 99, this version reads {SCHEMA}"):
        read_records(run_dir.ledger)


def test_of_two_that_write_one_record_at_once_one_is_refused(bucket, monkeypatch):
    files = RunDir(bucket / "run")
    begin_ledger(files)
    record = replace(RECORD, run=read_run_id(files))
    write_record(files, record)
    seen = object_store.version_of(files.record(7))
    object_store.replace(files.record(7), b"of another", seen)
    monkeypatch.setattr(object_store, "version_of", lambda _: seen)
    with pytest.raises(FileExistsError, match="another process has written it meanwhile"):
        write_record(files, record)
    assert files.record(7).read_bytes() == b"of another"
    with pytest.raises(FileExistsError):
        object_store.replace(files.record(7), b"new", None)
