import csv
import io

import numpy as np
import pytest
from astropy.io.votable import from_table, parse_single_table
from astropy.table import MaskedColumn, Table
from astropy.utils.diff import report_diff_values

from cwt_dask.products import tables

PLAIN = {
    "number": [0.1, -np.inf, np.nan, 1e22, 5e-324],
    "short": np.array([0.1, 1e30, np.nan, 1, -2.5], "float32"),
    "whole": MaskedColumn([1, 2, 3, -4, 2**62], mask=[0, 1, 0, 0, 0], unit="ct", description="of what"),
    "text": ["a", "a b", 'q"a', "", "<&>"],
    "lacking": MaskedColumn(["x", "y", "z", "ü", "v"], mask=[1, 0, 0, 1, 0]),
    "either": [True, False, True, True, False],
}
OTHERS = {"arrays": np.arange(10).reshape(5, 2)}


@pytest.fixture
def table(monkeypatch):
    """One that takes several parts."""
    monkeypatch.setattr(tables, "ROWS", 2)
    return Table(PLAIN, meta={"FROM": "here", "N": 3})


def as_astropy_writes(table):
    table.write(text := io.StringIO(), format="ascii.ecsv")
    return text.getvalue()


@pytest.mark.parametrize(("n", "more"), [(5, {}), (4, {}), (0, {}), (5, OTHERS)])
def test_ecsv_is_what_astropy_writes_and_reads(table, more, n):
    for name, values in more.items():
        table[name] = values
    table = table[:n]
    tables.write_ecsv(table, file := io.BytesIO())
    text = as_astropy_writes(table)
    assert file.getvalue().decode() == text
    read, expected = tables.read_ecsv(io.StringIO(text)), Table.read(text, format="ascii.ecsv")
    assert report_diff_values(read, expected, fileobj=io.StringIO())
    assert (read.meta, read.info("attributes", out=None)["dtype"].tolist()) == (
        expected.meta,
        expected.info("attributes", out=None)["dtype"].tolist(),
    )
    for column, other in zip(read.itercols(), expected.itercols(), strict=True):
        assert (column.unit, column.description, column.format) == (other.unit, other.description, other.format)
        np.testing.assert_array_equal(np.ma.getmaskarray(column), np.ma.getmaskarray(other))


@pytest.mark.parametrize(
    ("before", "after"), [("-4", "4.5"), ("True", "yes"), ('"a b"', "a b"), ('"a b"', '"a b'), ("number", "numbers")]
)
def test_a_damaged_file_is_no_table(table, before, after):
    text = as_astropy_writes(table)
    head, names, rows = text.partition("number short")
    text = head + (names + rows).replace(before, after, 1)
    with pytest.raises((ValueError, KeyError, csv.Error)):
        tables.read_ecsv(io.StringIO(text))


@pytest.mark.parametrize("more", [False, True], ids=["plain", "arrays"])
def test_votable_holds_the_rows(table, more):
    whole = table["number", "whole", "text", "either"]
    whole["text"][0] = "nan"
    if more:
        whole["arrays"] = OTHERS["arrays"]
    tables.write_votable(from_table, whole, file := io.BytesIO())
    read = parse_single_table(io.BytesIO(file.getvalue()), verify="exception").to_table()
    for name in ("number", "text", "either"):
        np.testing.assert_array_equal(np.asarray(read[name]), np.asarray(whole[name]))
    assert read["whole"].tolist() == [1, None, 3, -4, 2**62]


@pytest.mark.parametrize("names", [["number", "short", "either"], ["number", "whole"], ["number", "arrays"]])
@pytest.mark.parametrize("n", [5, 0])
def test_fits_is_what_astropy_writes(table, names, n):
    table["arrays"] = OTHERS["arrays"]
    part = table[names][:n]
    part["name"] = np.array(["a", "bcd", "", "e", "f"])[:n]
    part.write(expected := io.BytesIO(), format="fits")
    tables.write_fits(part, file := io.BytesIO())
    assert file.getvalue() == expected.getvalue()
