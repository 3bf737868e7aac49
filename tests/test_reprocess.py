"""A new version of a survey: what has not changed is reused, and the result is that of a run from scratch."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import vstack
from reporters import Messages
from skies import write_survey
from versions import HERE, SETTINGS, first_version, version
from work import digests, flip

from cwt_dask import run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.geometry.tiling import Box
from cwt_dask.inspection import compare
from cwt_dask.inspection.compare import compare_runs, describe, draw
from cwt_dask.products.difference import plot_difference
from cwt_dask.reprocess import point_to, reprocess, what_would_be_reused
from cwt_dask.results import SurveyRun
from cwt_dask.storage.sealed import sealed
from cwt_dask.tiles import fitting
from cwt_dask.tiles.fitting import Reach


@pytest.fixture(scope="module")
def corner():
    """A part of the survey: nine tiles."""
    return tuple(plane[:300, :300] for plane in first_version())


@pytest.fixture(scope="module")
def old(corner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reprocess")
    survey = write_survey(folder / "old.fits", *corner)
    return run_survey(survey, folder / "old", stopping="fixed", **SETTINGS, **HERE)


@pytest.fixture
def survey(corner, tmp_path):
    """Four tiles of it."""
    return write_survey(tmp_path / "a.fits", *(plane[:200, :200] for plane in corner))


def test_with_an_island_threshold_all_is_computed(survey, tmp_path):
    settings = SETTINGS | {"significance_island_threshold": 5.0}
    first = run_survey(survey, tmp_path / "a", **settings, **HERE)
    words = Messages()
    again = reprocess(survey, tmp_path / "a", tmp_path / "b", progress=words, **HERE)
    assert digests(again) == digests(first)
    assert any("nothing is reused from" in line for line in words.texts)
    assert "nothing can be reused" in what_would_be_reused(survey, tmp_path / "a")[0]


@pytest.fixture
def fitted(monkeypatch):
    """Tiles whose sources are fitted."""
    tiles, fit = [], fitting._fit
    monkeypatch.setattr(fitting, "_fit", lambda *given: (tiles.append(given[3]), fit(*given))[1])
    return tiles


def test_sources_that_a_changed_pixel_does_not_reach_are_not_fitted_again(old, corner, tmp_path, fitted):
    reach = Reach.of(old.files, old.stored.plan, old.survey)
    grid = old.stored.plan.grid
    for pixel in ((250, 250), (205, 150)):
        survey = version(corner, tmp_path / f"{pixel[0]}.fits", pixel)
        words = Messages()
        fitted.clear()
        new = reprocess(survey, old.files.path, tmp_path / f"new-{pixel[0]}", progress=words, **HERE)
        changed = Box(pixel[0], pixel[0] + 1, pixel[1], pixel[1] + 1)
        reached = {tile.id for tile in grid.tiles() if changed.intersection(tile.core.grown(reach.margin)) == changed}
        assert set(fitted) == reached
        assert len(reached) == {250: 1, 205: 2}[pixel[0]]
        assert f"sources of {grid.n_tiles - len(reached)} of {grid.n_tiles} tiles are reused" in words.texts
        full = run_survey(survey, tmp_path / f"full-{pixel[0]}", stopping="fixed", **SETTINGS, **HERE)
        for name in ("catalogue", "candidates"):
            assert getattr(new.files, name).read_bytes() == getattr(full.files, name).read_bytes()


def test_what_is_damaged_in_the_earlier_run_is_computed(survey, tmp_path, fitted):
    first = run_survey(survey, tmp_path / "a", stopping="fixed", **SETTINGS, **HERE)
    expected, files = digests(first), first.files
    chunk = next((files.maps / "approx" / "c" / "0").iterdir())
    chunk.write_bytes(chunk.read_bytes()[:-8])
    files.record(2).write_text("{")
    record = json.loads(files.record(3).read_text()) | {"settings_digest": "other"}
    files.record(3).write_text(json.dumps(sealed(record)))
    words = Messages()
    flip(next(files.islands.glob("tile-0000000.fit-*")))
    again = reprocess(survey, files.path, tmp_path / "b", progress=words, **HERE)
    assert digests(again) == expected
    assert fitted[4:] == [0]
    said = words.text
    assert "1 of 4 tiles are reused" in said
    for reason in ("its maps are not as they were recorded", "no sound record of it", "done under other settings"):
        assert reason in said


def test_what_cannot_be_reprocessed_is_refused(old, survey, tmp_path):
    with pytest.raises(SettingsError, match="max_iter, tol: settings are those of the earlier run, leave them out"):
        reprocess(survey, old.files.path, tmp_path / "new", tol=1, max_iter=2)
    with pytest.raises(SettingsError, match="keep_history: tiles that are reused have no history"):
        reprocess(survey, old.files.path, tmp_path / "new", keep_history=True)
    unfinished = old.files.certificate.rename(tmp_path / "certificate.json")
    try:
        with pytest.raises(InputError, match="is not finished: end it first"):
            reprocess(survey, old.files.path, tmp_path / "new")
    finally:
        unfinished.rename(old.files.certificate)
    assert not (tmp_path / "new").exists()


def test_readers_see_one_version_or_the_other(old, tmp_path):
    link = tmp_path / "current"
    link.symlink_to("nowhere")
    point_to(link, old)
    assert SurveyRun.open(link).certificate == old.certificate
    point_to(link, old)
    assert list(tmp_path.iterdir()) == [link]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is not a symbolic link: it is not replaced"):
        point_to(tmp_path / "file", old)
    with pytest.raises(InputError, match="nowhere is not a directory: create it first"):
        point_to(tmp_path / "nowhere" / "current", old)


def test_on_the_command_line(old, corner, tmp_path, capsys):
    folder = old.files.path.parent
    survey = version(corner, tmp_path / "new.fits", (250, 250), (251, 250), (250, 251), (251, 251))
    arguments = ["reprocess", str(survey), str(old.files.path), str(tmp_path / "new"), "--workers=0", "--fits=no"]
    before = sorted(folder.iterdir())
    assert main([*arguments, "--dry-run"]) == 0
    assert "8 of 9 tiles are reused" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
    assert sorted(folder.iterdir()) == before
    # What cannot be pointed from is refused before anything is computed.
    assert main([*arguments, "--current", str(survey)]) == 2
    assert not (tmp_path / "new").exists()
    assert main([*arguments, "--current", str(tmp_path / "current")]) == 0
    assert "8 of 9 tiles are reused" in capsys.readouterr().out
    assert (tmp_path / "current").resolve() == tmp_path / "new"
    picture = tmp_path / "difference.png"
    assert main(["compare", str(old.files.path), str(tmp_path / "current"), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert re.search(r"^maps     differ\n(.*\n)*gained   \d+ sources?$", capsys.readouterr().out, re.MULTILINE)


def test_runs_are_compared_source_by_source(old, corner, tmp_path):
    counts = corner[0].copy()
    # A new source, and one that is gone.
    counts[148:153, 248:253] += 20
    brightest = old.catalogue[np.argmax(old.catalogue["significance"])]
    y, x = brightest["y_peak"], brightest["x_peak"]
    counts[y - 6 : y + 7, x - 6 : x + 7] = 0
    new = reprocess(write_survey(tmp_path / "new.fits", counts, corner[1]), old.files.path, tmp_path / "new", **HERE)
    found = compare_runs(old, new)
    assert brightest["name"] in found.lost["name"]
    assert (150, 250) in zip(found.gained["y_peak"], found.gained["x_peak"], strict=True)
    ours, theirs = old.model.compute(), new.model.compute()
    assert found.differences["model"] == pytest.approx(np.abs(ours - theirs).max() / ours.max())
    assert found.support_flips == np.count_nonzero(old.support.compute() != new.support.compute())
    assert not found.same_maps
    difference = {"gained": found.gained, "lost": found.lost}
    marks = {what: (rows["ra"], rows["dec"]) for what, rows in difference.items()}
    model, sigma = plot_difference(old, new, marks | dict.fromkeys(("entered", "left", "changed"), ([], []))).subfigs
    np.testing.assert_array_equal(model.axes[0].images[0].get_array(), theirs - ours)
    assert (theirs - ours)[150, 250] > 0 > (theirs - ours)[y, x]
    assert sigma.axes[0].get_title() == "sigma: new - old"
    places = [np.mean(each.get_offsets(), axis=0) for each in model.axes[0].collections]
    np.testing.assert_allclose(places, [[np.mean(rows["ra"]), np.mean(rows["dec"])] for rows in difference.values()])
    assert len(found.changed) + len(found.lost) + len(found.gained) < len(old.catalogue) / 2


def test_of_many_sources_the_first_are_named_and_the_rest_counted(old):
    same = compare_runs(old, old)
    assert (same.same_maps, len(same.gained), len(same.lost), same.changed, same.support_flips) == (True, 0, 0, [], 0)
    assert set(same.differences.values()) == {0.0}
    assert describe(same)[:2] == ["maps     the same to the bit", "gained   0 sources"]
    lines = describe(
        replace(
            same,
            lost=vstack([old.catalogue, old.candidates], metadata_conflicts="silent")[:24],
            gained=old.catalogue[:1],
        )
    )
    assert (lines[1], lines[3]) == ("gained   1 source", "lost     24 sources")
    assert lines[24:] == ["         and 4 more", "changed  0 sources", "entered  0 sources", "left     0 sources"]


def test_sources_that_the_split_has_moved_are_neither_gained_nor_lost(survey, tmp_path):
    stricter, looser = (
        run_survey(survey, tmp_path / f"{asked:g}", false_sources=asked, **SETTINGS, **HERE) for asked in (1e-3, 20)
    )
    found = compare_runs(stricter, looser)
    assert (len(found.gained), len(found.lost), found.left) == (0, 0, [])
    n_moved = len(looser.catalogue) - len(stricter.catalogue)
    assert len(found.entered) == n_moved > 0
    assert all(row["source_id"] == other["source_id"] for row, other in found.entered)
    assert f"entered  {n_moved} source" in "\n".join(describe(found))
    assert len(compare_runs(looser, stricter).left) == n_moved


def test_a_source_whose_fit_alone_differs_has_changed(old):
    row = old.catalogue[0]
    for name, factor, changed in (("npred", 1 + 1e-5, True), ("npred", 1 + 1e-9, False), ("sqrt_ts", 1.01, True)):
        other = old.catalogue[:1].copy()
        other[name] *= factor
        assert compare._differ(row, other[0]) == changed
        other.rename_column("npred", "before")
        assert not compare._differ(row, other[0])


def test_maps_of_other_shapes_differ_but_for_their_sources(old, corner, tmp_path):
    survey = write_survey(tmp_path / "cut.fits", *(plane[:150, :150] for plane in corner))
    cut = run_survey(survey, tmp_path / "cut", stopping="fixed", **SETTINGS, **HERE)
    found = compare_runs(old, cut)
    assert found.differences == {}
    with pytest.raises(InputError, match="the maps have other shapes, .300, 300. and .150, 150.: there is no picture"):
        draw(old, cut, found, tmp_path / "difference.png")
    assert not (tmp_path / "difference.png").exists()
