"""Damaged metadata: that of maps and seams is repaired, surveys are read again from their files."""

import json
import shutil
from pathlib import Path

import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from work import digests, flip, starts

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.inspection.verify import verify_run
from cwt_dask.pipeline.repair import damaged_metadata, repair_metadata
from cwt_dask.storage.sealed import sealed
from cwt_dask.storage.zarr_io import DIGEST

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 75}
COMMAND = ("--workers=0", "--fits=no", "--n-scale=2", "--min-scale=1.2", "--step-scale=1.5", "--tile-size=75")
DESCRIBED = "maps and seams are described as planned"


@pytest.fixture(scope="module")
def finished(survey):
    """A run that stopped before its last iteration, with its history; to be copied, not changed."""
    return run_survey(survey, survey.with_name("run"), keep_history=True, tol=0.5, max_iter=9, **OPTIONS)


@pytest.fixture
def run(finished, tmp_path):
    return SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))


def again(capsys, run, survey):
    status = main(["run", str(survey), str(run.files.path), "--tol=0.5", "--max-iter=9", *COMMAND])
    return status, *capsys.readouterr()


DAMAGES = {
    "no JSON": lambda path: path.write_text("x\n"),
    "a list": lambda path: path.write_text("[]"),
    "nothing": lambda path: path.write_text("null"),
    "a flip": flip,
    "lost": Path.unlink,
}
ARRAYS = ("maps.zarr/model", "maps.zarr/support", "maps.zarr/history_model", "maps.zarr/scale", "seams.zarr/own_model")
FILES = (*(f"{name}/zarr.json" for name in ("maps.zarr", "seams.zarr", *ARRAYS)), "maps.zarr/x/c/0")


# All are read by one function: each damage of one file, and all files lost at once; `test_any_flipped_bit` flips each.
CASES = {damage: ["maps.zarr/model/zarr.json"] for damage in DAMAGES} | {"lost": FILES}


@pytest.mark.parametrize(
    "damage",
    [pytest.param(damage, marks=[pytest.mark.long] * (damage in ("a list", "nothing"))) for damage in CASES],
)
def test_metadata_of_maps_and_seams_is_repaired_before_anything_is_done(capsys, run, survey, damage):
    contents, before = {path: path.read_bytes() for path in map(run.files.path.joinpath, CASES[damage])}, starts(run)
    for path in contents:
        DAMAGES[damage](path)
    assert {found.path for found in damaged_metadata(run, run.survey)} == contents.keys()
    broken = {check.promise: check.fault for check in verify_run(run, recompute=1) if check.broken}
    assert all(f"{path}: " in broken[DESCRIBED] for path in contents)
    status, out, err = again(capsys, run, survey)
    assert (status, err) == (0, "")
    for path, content in contents.items():
        assert f"{path} was damaged (" in out
        found = path.read_bytes()
        assert json.loads(found) == json.loads(content) if path.name == "zarr.json" else found == content
    assert out.count(": written again, as the plan has it\n") == len(contents)
    assert "checked, nothing to do" in out
    assert starts(run) == before
    assert not any(check.fault for check in verify_run(run))


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_repaired_or_harmless(finished, run, name, where, bit):
    path, sound = run.files.path / name, finished.files.path / name
    content = bytearray(sound.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)
    mended = repair_metadata(run)
    assert len(mended) <= 1
    # What Zarr does not look at needs no mending.
    assert not any(check.fault for check in verify_run(SurveyRun.open(run.files.path)))
    path.write_bytes(sound.read_bytes())


@pytest.mark.parametrize("name", ["zarr.json", "model/zarr.json", "support/zarr.json"])
def test_a_reader_of_damaged_metadata_is_told_the_remedy(capsys, run, name):
    path = run.files.maps / name
    sound = path.read_bytes()
    path.write_text("x")
    assert main(["compare", str(run.files.path), str(run.files.path)]) == 1
    path.write_bytes(sound)
    said = capsys.readouterr().err
    assert said.startswith(f"cwt-dask: {run.files.maps} is damaged (")
    assert "the same run command repairs the metadata" in said


def test_no_position_is_by_a_damaged_wcs(run):
    path, sound = run.files.maps / "zarr.json", run.wcs.to_header_string()
    path.write_text(path.read_text().replace("CRVAL1  =                 10.0", "CRVAL1  =                 14.0"))
    assert SurveyRun.open(run.files.path).wcs.to_header_string() == sound


@pytest.mark.parametrize("name", ["chunk_shape", "shape"])
def test_another_layout_of_chunks_is_no_layout_of_this_run(capsys, run, survey, name):
    """Tiles that wrote by it would share chunks."""
    path = run.files.path / "maps.zarr/model/zarr.json"
    found = json.loads(path.read_text())
    # As by an earlier release; what is not as it was written is seen without a look at what it should be.
    del found["attributes"][DIGEST]
    lengths = found["shape"] if name == "shape" else found["chunk_grid"]["configuration"]["chunk_shape"]
    lengths[0] += 1
    path.write_text(json.dumps(found))
    run.files.record(1).unlink()
    status, out, _ = again(capsys, run, survey)
    assert status == 0
    assert f"{path} was damaged (it describes something else): written again" in out
    assert not any(check.fault for check in verify_run(run))


def test_another_name_for_people_is_no_damage(run):
    path = run.files.path / "maps.zarr/residual/zarr.json"
    found = json.loads(path.read_text())
    del found["attributes"][DIGEST]
    found["attributes"]["long_name"] = "as an earlier release called it"
    path.write_text(json.dumps(found))
    assert not damaged_metadata(run, run.survey)
    found["attributes"]["units"] = "deg"
    path.write_text(json.dumps(found))
    assert [each.path for each in damaged_metadata(run, run.survey)] == [path]


def test_lost_stores_are_made_again(capsys, run, survey, finished):
    shutil.rmtree(run.files.maps)
    shutil.rmtree(run.files.seams)
    assert again(capsys, run, survey)[0] == 0
    # With the history, though the call does not ask for it.
    assert digests(SurveyRun.open(run.files.path)) == digests(finished)


def test_a_history_that_was_not_cut_yet_is_as_planned(run):
    path = run.files.maps / "history_model" / "zarr.json"
    found = json.loads(path.read_text())
    assert found["shape"][0] == run.certificate["n_iter"] < 9
    found["shape"][0] = 9
    del found["attributes"][DIGEST]
    path.write_text(json.dumps(found))
    assert not damaged_metadata(run, run.survey)
    run.files.certificate.unlink()
    path.write_text("x")
    repair_metadata(run)
    assert json.loads(path.read_text())["shape"][0] == 9


OF_THE_SURVEY = (
    *("zarr.json", "counts/zarr.json", "background/c/0/0"),
    *("counts_moments/c/0/0/0", "chunk_checksums/c/0/0/0"),
)
ONE_OF_EACH = [*((name, flip) for name in OF_THE_SURVEY[:3]), ("counts_moments/c/0/0/0", Path.unlink)]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        # The store, what describes an array, what it holds; and what is derived from it is lost.
        pytest.param(name, damage, marks=[pytest.mark.long] * ((name, damage) not in ONE_OF_EACH))
        for name in OF_THE_SURVEY
        for damage in (flip, Path.unlink)
    ],
)
def test_a_survey_is_read_again_from_the_file_that_the_command_names(capsys, run, survey, name, damage):
    path, before = run.files.survey / name, starts(run)
    content = path.read_bytes()
    damage(path)
    checks = {check.promise: check.fault for check in verify_run(run) if check.broken}
    assert str(run.files.survey if name == "zarr.json" else path) in checks["the survey can be read"]
    status, out, err = again(capsys, run, survey)
    assert (status, err) == (0, "")
    assert f": the survey was read again from {survey}" in out
    assert path.read_bytes() == content
    assert starts(run) == before
    assert not any(check.fault for check in verify_run(SurveyRun.open(run.files.path)))


def test_a_survey_behind_a_link_is_not_replaced(capsys, run, survey):
    elsewhere = run.files.path.with_name("elsewhere.zarr")
    run.files.survey.rename(elsewhere)
    run.files.survey.symlink_to(elsewhere)
    flip(elsewhere / "counts/zarr.json")
    status, _, err = again(capsys, run, survey)
    assert (status, err.count(f"{elsewhere}/counts/zarr.json is damaged (")) == (2, 1), err
    assert elsewhere.exists()


def test_what_is_damaged_is_named_and_its_sound_neighbour_left_alone(capsys, run, survey):
    path = run.files.survey / "zarr.json"
    path.write_text(path.read_text().replace("CRVAL1  =                 10.0", "CRVAL1  =                 14.0"))
    sound = (run.files.maps / "zarr.json").read_bytes()
    checks = {check.promise: check.fault for check in verify_run(SurveyRun.open(run.files.path)) if check.broken}
    assert checks["the survey can be read"].startswith(f"{path} is damaged (it is not as it was written)")
    assert DESCRIBED not in checks
    with fits.open(survey) as hdus:
        hdus["COUNTS"].data[0, 0] += 1
        hdus.writeto(survey.with_name("other.fits"))
    run.files.record(1).unlink()
    # What is not the same survey proves nothing.
    assert again(capsys, run, survey.with_name("other.fits"))[0] == 2
    assert not SurveyRun.open(run.files.path).files.record(1).exists()
    assert (run.files.maps / "zarr.json").read_bytes() == sound


def test_a_store_of_the_same_pixels_that_says_otherwise_is_not_the_survey(capsys, run, survey):
    path, before = run.files.survey / "zarr.json", starts(run)
    content = json.loads(path.read_text())
    content["attributes"]["facts"]["n_valid"] -= 1
    content["attributes"] = sealed(content["attributes"])
    path.write_text(json.dumps(content))
    checks = {check.promise: check.fault for check in verify_run(SurveyRun.open(run.files.path)) if check.broken}
    assert f"{run.files.survey} is not the survey that it began with" in checks["the survey can be read"]
    status, out, err = again(capsys, run, survey)
    assert (status, err, starts(run)) == (0, "", before)
    assert f"{path} is damaged (it is of another survey): the survey was read again from {survey}" in out
    assert not any(check.fault for check in verify_run(SurveyRun.open(run.files.path)))


def test_a_survey_that_is_no_group_is_a_broken_promise(capsys, run):
    (run.files.survey / "zarr.json").write_text("x")
    assert main(["verify", str(run.files.path), "--recompute=1", "--against-whole"]) == 1
    out = capsys.readouterr().out
    assert f"BROKEN  the survey can be read: {run.files.survey}/zarr.json is damaged (" in out
    assert "BROKEN  the survey is as the tiles read it: other pixels in the window of tiles 0, 1" in out
    assert "BROKEN  the certificate follows from the files: input_digest is None, not " in out
