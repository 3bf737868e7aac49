import json
from dataclasses import asdict, replace

import pytest

from cwt_dask.errors import RunError
from cwt_dask.ledger import SCHEMA, TileRecord, read_records, write_record

RECORD = TileRecord(
    schema=SCHEMA,
    tile=7,
    core=[0, 5, 0, 5],
    window=[-2, 7, -2, 7],
    settings_digest="a",
    input_digest="b",
    n_iter=2,
    converged=False,
    moments=[[25, 0.5, 1.5], [25, 0.25, 1.25]],
    model_max=3.5,
    open_islands=0,
    near_threshold=1,
    undefined=2,
    chunk_digests={"model": "00"},
    host="here",
    started="2026-01-01T00:00:00+00:00",
    seconds=0.5,
    peak_memory=100,
)


def test_records_round_trip_and_later_ones_replace_earlier_ones(tmp_path):
    write_record(tmp_path, RECORD)
    write_record(tmp_path, replace(RECORD, n_iter=3))
    write_record(tmp_path, replace(RECORD, tile=123456789))
    records = read_records(tmp_path)
    assert records.keys() == {7, 123456789}
    assert records[7] == replace(RECORD, n_iter=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a ledger record"),
        ("[]", "is not a ledger record"),
        ('{"schema": 1}', "is not a ledger record"),
        (json.dumps(asdict(replace(RECORD, schema=99))), "has schema 99, this version reads 1"),
    ],
)
def test_a_damaged_or_foreign_record_is_named(tmp_path, text, message):
    (tmp_path / "tile-0000001.json").write_text(text)
    with pytest.raises(RunError, match=f"tile-0000001.json {message}"):
        read_records(tmp_path)
