"""The list of columns: the documentation has the same one, and one more row is one more column everywhere."""

import re
import shutil
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from cwt_dask import SurveyRun
from cwt_dask.merge import columns
from cwt_dask.merge.agreement import Windows
from cwt_dask.merge.catalogue import build_catalogue
from cwt_dask.merge.columns import COLUMNS, Column
from cwt_dask.pipeline.merging import write_certificate
from cwt_dask.products.files import write_catalogue
from cwt_dask.report.table import read_sources

DOCS = Path(__file__).resolve().parents[2] / "docs"
# Not in the contract (../shared/interface.md), and there besides.
MORE = (
    "radius",
    "facet",
    "containment",
    "pos_err",
    "x_centroid",
    "y_centroid",
    "iteration",
    "scale_deg",
    "sqrt_ts_disc",
    "exposure",
    "photon_flux",
)


def documented(column):
    unit = {1: "of EXPOSURE", -1: "1 / that"}.get(column.exposure, f"{column.unit or ''}")
    decimals = "" if column.decimals is None else column.decimals
    return " ".join(f"| `{column.name}` | {column.dtype.__name__} | {unit} | {decimals} | {column.text} |".split())


def test_the_documentation_has_the_same_columns():
    page = (DOCS / "catalogue.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- columns: begin -->\n\n(.*)\n\n<!-- columns: end -->", page, re.DOTALL).group(1)
    head = ["| column | type | unit | decimals | what it is |", "| --- | --- | --- | --- | --- |"]
    assert table.splitlines() == [*head, *map(documented, COLUMNS)]


def test_the_contract_has_the_same_columns():
    contract = DOCS.parents[1] / "shared" / "interface.md"
    if not contract.exists():
        pytest.skip("the contract (../shared/interface.md) is not beside this checkout")
    line = next(line for line in contract.read_text().splitlines() if line.startswith("| `catalogue.ecsv`"))
    names = [column.name for column in COLUMNS if column.name not in MORE]
    first = re.findall(r"`(\w+)`", line.split("|")[2])
    assert [name for name in names if name in first] == first
    rows = contract.read_text().split("| column | meaning |")[1].splitlines()[1:]
    added = [row.split("|")[1] for row in takewhile(lambda row: row.startswith("|"), rows)]
    assert set(names) - set(first) <= set(re.findall(r"`(\w+)`", " ".join(added)))


def test_one_more_row_is_a_column_of_every_file_and_of_the_report(run, measured, tmp_path, monkeypatch):
    def values(rows):
        return (rows["counts"] - rows["background"]) / (np.pi * rows["radius"] ** 2)

    page = (6, "Excess per pixel", 1)
    row = Column("excess_per_pixel", "Excess over the area", u.ct / u.pix, decimals=3, values=values, page=page)
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, row))
    copy = SurveyRun.open(shutil.copytree(measured.files.path, tmp_path / "run"))
    built = build_catalogue(copy.files, run.stored.run_id, run.stored.plan, run.survey.statistics, run.wcs, Windows(60))
    write_catalogue(copy.files, built[0])
    write_certificate(copy.files, copy.certificate)
    area = np.pi * np.asarray(run.catalogue["radius"]) ** 2
    for file in (copy.files.catalogue, copy.files.catalogue_fits, copy.files.catalogue_votable):
        found = Table.read(file)[row.name]
        assert found.unit == row.unit
        assert found.description == row.text
        np.testing.assert_allclose(found, run.catalogue["excess"] / area, atol=0.00051)
        np.testing.assert_array_equal(found, np.round(found, 3))
    (shown,) = [column for column in read_sources(copy).columns if column.name == row.name]
    assert (shown.title, shown.unit, shown.description) == ("Excess per pixel", "ct / pix", row.text)
    assert shown.values == [round(value, 1) for value in shown.values]
