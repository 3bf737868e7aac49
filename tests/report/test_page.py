import re
import shutil
from itertools import pairwise

import numpy as np
import pytest
from reports import Parsed, data_of, page_of
from skies import poisson_sky, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.pipeline.merging import write_certificate
from cwt_dask.report import write_report
from cwt_dask.report.table import read_sources
from cwt_dask.report.text import NOT_COVERED
from cwt_dask.trust import SourceFlag


def test_the_pages_figures_are_those_of_the_run(finished, page):
    catalogue, certificate = finished.catalogue, finished.certificate
    expected = [
        f"sources {len(catalogue)}",
        f"of them expected to be noise {catalogue['expected_false'].max():.2g}",
        f"extended {np.count_nonzero(catalogue['extension'])}",
        f"with a score above 5 {np.count_nonzero(catalogue['score'] > 5)}",
        f"with a flag that asks for a look {np.count_nonzero(catalogue['flags'] & ~(1 | 2 | 32))}",
        f"with negative excess {np.count_nonzero(catalogue['excess'] < 0)}",
        "The tiles did no harm",
        *NOT_COVERED,
        "Few counts per kernel: on 100 % of the map",
        "within the kernels' reach of the map's edge",
        "within the kernels' reach of masked pixels",
        certificate["digest_maps"],
        str(finished.files.certificate),
    ]
    assert [text for text in expected if text not in page.content] == []
    data = data_of(page_of(finished))
    assert [list(catalogue["name"])] == [column["values"] for column in data["columns"] if column["name"] == "name"]
    assert data["x"] == [round(float(x), 2) for x in catalogue["x_centroid"]]
    assert len([tag for tag, _ in page.elements if tag == "tr"]) >= min(len(catalogue), 50)


def test_the_page_needs_nothing_else(finished, page):
    assert finished.files.report.stat().st_size < 4e6
    for _, attributes in page.elements:
        assert not attributes.keys() & {"src", "srcset", "data", "background", "poster"}
        assert attributes.get("href", "#").startswith("#")
    # The browser would refuse what a style names, too.
    (policy,) = (a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_page_can_be_read_without_seeing_it(finished, page):
    assert ("html", {"lang": "en"}) in page.elements
    assert any(tag == "title" and finished.files.path.name in text for tag, text in page.texts)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    charts = [attributes for _, attributes in page.elements if attributes.get("class") == "chart"]
    labels = {chart["aria-label"] for chart in charts}
    assert len(charts) == len(labels) == 12
    assert all(len(label.split()) > 5 for label in labels)
    # A chart holds buttons, so it is no picture.
    assert {chart["role"] for chart in charts} == {"group"}
    tags = [tag for tag, _ in page.elements]
    assert tags.count("select") + tags.count("input") <= tags.count("label")


def test_names_are_text_and_of_many_sources_the_strongest_are_shown(finished, page, tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.report.table.MOST_SOURCES", 3)
    name = "<b onclick=x>&\"'"
    run = SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / name))
    catalogue = run.catalogue
    catalogue["name"] = [f"</script><script>{i}" for i in range(len(catalogue))]
    catalogue["note"] = "<!--"
    catalogue.write(run.files.catalogue, format="ascii.ecsv", overwrite=True)
    write_certificate(run.files, run.certificate)
    write_report(run)
    after = Parsed(page_of(run))
    assert {tag for tag, _ in after.elements} == {tag for tag, _ in page.elements}
    assert len([tag for tag, _ in after.elements if tag == "script"]) == 7
    assert name in after.content
    columns = {column["name"]: column for column in data_of(page_of(run))["columns"]}
    assert columns["name"]["values"][0].startswith("</script><script>")
    assert columns["note"]["values"] == ["<!--"] * 3
    assert f"Of {len(catalogue)} sources the 3 with the largest scores are on this page. All are in" in after.content


def test_columns_that_come_from_elsewhere_and_associations_are_shown(run):
    catalogue = run.catalogue
    strongest = int(np.argmax(catalogue["score"]))
    own = np.arange(len(catalogue)) == strongest
    catalogue["sqrt_ts_disc"] = np.where(np.arange(len(catalogue)) == 1, np.nan, 4.0)
    catalogue["sqrt_ts_disc"][strongest] = np.inf
    catalogue["assoc_name"], catalogue["assoc_sep"] = np.where(own, "3FHL J1", ""), np.where(own, 0.1, np.nan)
    catalogue["note"] = 7.25
    catalogue["flags"] = SourceFlag.CROSSES_SEAM
    catalogue.write(run.files.catalogue, format="ascii.ecsv", overwrite=True)
    write_certificate(run.files, run.certificate)
    sources = read_sources(run)
    columns = {column.name: column for column in sources.columns}
    assert columns["assoc_name"].values[:2] == ["3FHL J1", ""]
    assert columns["assoc_sep"].values[:2] == [0.1, None]
    assert columns["note"].values[0] == 7.25
    assert columns["sqrt_ts_disc"].values[0] == "∞"
    assert set(columns["sqrt_ts_disc"].values) == {4, None, "∞"}
    assert columns["flags"].values[0] == "crosses seam"
    assert not any([sources.n_flagged, *sources.flagged])


ALL_SKY = {"CTYPE1": "GLON-AIT", "CTYPE2": "GLAT-AIT", "CDELT1": -4.0, "CDELT2": 4.0}
MAPS = {
    "a ring": (poisson_sky((40, 90), seed=1), {"ring": True}, ["a ring: its columns close the circle"]),
    "a sky with corners off it": (poisson_sky((45, 90), seed=2), ALL_SKY, ["off the sky"]),
    "nothing to find": ((np.zeros((40, 60)), np.ones((40, 60))), {}, ["No source was found.", "Counts are 0 on all"]),
    "a single row": (poisson_sky((1, 300), seed=1), {}, ["The figures need a script"]),
}


@pytest.mark.parametrize("kind", MAPS)
def test_every_kind_of_map_has_a_report(options, tmp_path, kind):
    planes, cards, expected = MAPS[kind]
    survey = write_survey(tmp_path / "survey.fits", *planes, **cards)
    options = options | {"significance_threshold": 3.0 if planes[0].any() else 50.0}
    run = run_survey(survey, tmp_path / "run", tile_size=45, **options)
    write_report(run)
    page = page_of(run)
    assert [text for text in expected if text not in Parsed(page).content] == []
    if cards is ALL_SKY:
        assert f"{run.certificate['off_sky_pixels']} off the sky" in Parsed(page).content
        assert data_of(page)["sky"]["directions"][:3] == [0, 0, 0]
