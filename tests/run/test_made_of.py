"""What a run was made of is in run.toml, certificate and report; why there is no photon flux is said once."""

import hashlib
import json
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import spreads
from astropy.io import fits
from astropy.table import Table
from skies import poisson_sky, sky_header

from cwt_dask.cli.commands import main
from cwt_dask.report.text import Row, setting_rows
from cwt_dask.reprocess import reprocess
from cwt_dask.results import SurveyRun
from cwt_dask.run import plan_survey, run_survey
from cwt_dask.survey import Survey, SurveySource, describe_origin, scan

KERNELS = {"n_scale": 1, "min_scale": 1.2, "max_iter": 1}
EXECUTION = {"workers": 0, "no_report": True}
OPTIONS = KERNELS | EXECUTION
SHAPE = (30, 40)


def named(what, path):
    """A file as runs name it."""
    return {"what": what, "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture
def cube(tmp_path):
    """A dataset as Gammapy writes it, of two bands and three true energies, with names behind a prefix."""
    sky = poisson_sky(SHAPE, seed=5)
    mask = np.ones((2, *SHAPE), np.uint8)
    mask[0, :5] = 0
    planes = {"counts": np.stack([sky[0]] * 2), "background": np.stack([sky[1]] * 2), "mask_safe": mask}
    planes |= {
        "exposure": np.stack([np.full(SHAPE, value) for value in (1.0, 2.0, 9.0)]),
        "psf_exposure": np.ones(SHAPE),
    }
    hdus = [fits.PrimaryHDU()]
    for name, pixels in planes.items():
        hdus.append(fits.ImageHDU(pixels, sky_header(pixels.shape[-2:]), f"crab-{name}"))
        edges, prefix = ([1, 3, 10, 20], "ENERGY_TRUE") if "exposure" in name else ([1, 3, 10], "E")
        energies = {f"{prefix}_MIN": edges[:-1], f"{prefix}_MAX": edges[1:]}
        hdus.append(fits.BinTableHDU(Table(energies, units=["TeV"] * 2), name=f"crab-{name}_bands"))
    fits.HDUList(hdus).writeto(tmp_path / "cube.fits")
    return tmp_path / "cube.fits"


def test_files_hdus_bands_and_energies_are_recorded(cube, tmp_path):
    run = run_survey(cube, tmp_path / "run", emin="1TeV", index=3, **OPTIONS)
    inputs = run.certificate["inputs"]
    digests = run.survey.statistics.planes
    measured = {"bands": "0 to 1 of 2", "energies": "1 TeV to 10 TeV"}
    assert inputs == [
        {"plane": plane, "file": str(cube), "hdu": f"CRAB-{hdu}"} | more | {"digest": digests[plane]}
        for plane, hdu, more in (
            ("counts", "COUNTS", measured),
            ("background", "BACKGROUND", measured),
            ("exposure", "EXPOSURE", measured | {"bands": "0 to 1 of 3", "energy": "true", "index": 3.0}),
            ("mask", "MASK_SAFE", measured),
        )
    ]
    assert tomllib.loads(run.files.settings.read_text())["survey"]["inputs"] == inputs
    rows = setting_rows(run)
    text = f"HDU CRAB-EXPOSURE of {cube}, bands 0 to 1 of 3, 1 TeV to 10 TeV (true energy), weighted by a power law of"
    assert any(row.what == "Exposure from" and row.value == f"{text} index 3" for row in rows)
    assert json.loads(run.files.certificate.read_text())["inputs"] == inputs
    # The same survey elsewhere resumes the run, which goes on to say where it came from.
    moved = cube.rename(tmp_path / "moved.fits")
    assert run_survey(moved, tmp_path / "run", emin="1TeV", index=3, **OPTIONS).certificate["inputs"] == inputs
    assert plan_survey(moved, emin="1TeV", index=3, **KERNELS).origins[0]["file"] == str(moved)


def test_a_band_that_the_mask_leaves_out_takes_no_part_in_the_exposure(cube):
    statistics = scan(SurveySource.of(cube, band="sum"))
    with fits.open(cube) as hdus:
        counts = hdus["CRAB-COUNTS"].data.copy()
    assert statistics.counts_sum == counts.sum() - counts[0, :5].sum()
    assert statistics.n_masked == 0


@pytest.fixture
def said(call, cube, tmp_path):
    """What `plan`, `run` and the report say of photon fluxes."""

    def of(*options):
        words = "--n-scale=1", "--min-scale=1.2", "--max-iter=1", "--band=sum", *options
        plan = call("plan", cube, *words).out
        ran = call("run", cube, tmp_path / "run", "--workers=0", "--no-report", *words)
        run = SurveyRun.open(tmp_path / "run")
        found = [re.findall("photon flux.*", text) for text in (plan, ran.out + ran.err)]
        rows = [row for row in setting_rows(run) if row.what == "Photon flux"]
        return found, rows, [warning for warning in run.certificate["warnings"] if "flux" in warning], run

    return of


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "the exposure has no unit (BUNIT): say it, --exposure-unit 'cm2 s'"),
        (("--exposure-hdu=none",), "the survey has no exposure"),
        (("--exposure=None",), "the survey has no exposure"),
    ],
)
def test_why_there_is_no_flux_is_said_once(said, options, why):
    found, rows, warnings, _ = said(*options)
    assert found == [[f"photon flux    none: {why}"], [f"photon flux: {why}"]]
    assert rows == [Row("Photon flux", "none", why)]
    assert not warnings


def test_a_warning_that_says_why_is_enough(said, cube):
    fits.setval(cube, "BUNIT", value="cm2", extname="crab-exposure")
    found, rows, warnings, _ = said()
    assert warnings == [
        "the exposure's unit cm2 (BUNIT) is none of area times time: the catalogue gives no photon flux"
    ]
    assert found == [["photon flux"], ["photon flux"]]
    assert not rows


def test_the_unit_may_be_given(said):
    found, rows, warnings, run = said("--exposure-unit=cm2 s")
    assert (found, rows, warnings) == ([[], []], [], [])
    assert run.catalogue["photon_flux"].unit == "1 / (cm2 s)"


@pytest.mark.parametrize("bad", ["cm2", "photons?"])
def test_a_unit_that_is_none_is_corrected_by_the_one_that_is_given(cube, bad):
    fits.setval(cube, "BUNIT", value=bad, extname="crab-exposure")
    statistics = scan(SurveySource.of(cube, band="sum", exposure_unit="m2 s"))
    assert (statistics.exposure_unit, statistics.warnings, statistics.no_flux) == ("m2 s", (), "")


NONE = [{"exposure_hdu": "none", "mask_hdu": "NONE"}, {"exposure_hdu": None, "mask_hdu": None}]
NONE += [{"exposure": "none", "mask": "None"}]


@pytest.mark.parametrize("options", NONE)
def test_none_leaves_out_in_all_spellings(cube, options):
    statistics = scan(SurveySource.of(cube, band="sum", **options))
    assert sorted(statistics.planes) == ["background", "counts", "mask"]
    assert not statistics.mask


def test_none_in_a_file_of_settings_leaves_out(cube, tmp_path, capsys):
    (tmp_path / "c.toml").write_text(
        'exposure_hdu = "none"\nmask_hdu = "none"\nband = "sum"\nn_scale = 1\nmin_scale = 1.2\n'
        f"background = {[str(cube)] * 2}\n"
    )
    assert main(["plan", str(cube), f"--config={tmp_path / 'c.toml'}"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall("^made of +background", out, re.MULTILINE)) == 2
    assert "exposure:" not in out
    assert "pixels used" not in out
    words = [f"--background={cube}[crab-background]"] * 3
    assert main(["plan", str(cube), f"--config={tmp_path / 'c.toml'}", *words]) == 0
    assert len(re.findall("^made of +background", capsys.readouterr().out, re.MULTILINE)) == 3


def test_a_store_says_what_it_was_made_of_and_one_of_before_says_nothing(cube, tmp_path, call):
    call("ingest", cube, tmp_path / "s.zarr", "--emin=3TeV")
    run = run_survey(tmp_path / "s.zarr", tmp_path / "run", **OPTIONS)
    assert run.certificate["inputs"][0]["energies"] == "3 TeV to 10 TeV"
    statistics = Survey.open(tmp_path / "s.zarr").statistics
    before = statistics.to_dict()
    assert run.certificate["files"] == [named("survey", cube)]
    del before["origins"], before["files"]
    earlier = type(statistics).from_dict(before)
    assert (earlier.origins, earlier.files, earlier.facts_digest) == ((), (), statistics.facts_digest)


def test_a_single_image_needs_no_name_unless_it_is_called_after_another_plane(tmp_path):
    counts, background = poisson_sky(SHAPE, seed=5)
    header = fits.Header(sky_header(SHAPE))
    fits.writeto(tmp_path / "counts.fits", counts, header)
    fits.writeto(tmp_path / "model.fits", background, header)
    source = SurveySource.of(tmp_path / "counts.fits", background=tmp_path / "model.fits")
    statistics = scan(source)
    assert statistics.counts_sum == counts.sum()
    assert describe_origin(statistics.origins[0]) == f"counts: HDU PRIMARY of {tmp_path / 'counts.fits'}"
    fits.setval(tmp_path / "counts.fits", "EXTNAME", value="EXPOSURE")
    with pytest.raises(Exception, match="has no HDU COUNTS; it has 0 EXPOSURE: name the one to use"):
        scan(source)


def test_a_dataset_in_memory_is_called_that(tmp_path):
    counts, background = poisson_sky(SHAPE, seed=5)
    maps = {"counts": fits.ImageHDU(counts, sky_header(SHAPE)), "background": background}
    run = run_survey(maps, tmp_path / "run", **OPTIONS)
    assert {each["file"] for each in run.certificate["inputs"]} == {"(in memory)"}
    assert "files" not in run.certificate


def test_every_file_is_named_with_its_digest(cube, tmp_path):
    """Those of all planes, once each, and that of the point spread function; a run that takes over has them, too."""
    counts, background = poisson_sky(SHAPE, seed=5)
    header = fits.Header(sky_header(SHAPE))
    fits.writeto(tmp_path / "counts.fits", counts, header)
    fits.writeto(tmp_path / "one.fits.gz", background / 2, header)
    spreads.write(tmp_path / "psf.fits", *spreads.gtpsf([1e5, 1e6], [0.12, 0.1]))
    asked = {
        "background": [tmp_path / "one.fits.gz", tmp_path / "one.fits.gz"],
        "exposure": f"{cube}[crab-psf_exposure]",
    }
    run = run_survey(tmp_path / "counts.fits", tmp_path / "run", **asked, psf=tmp_path / "psf.fits", **OPTIONS)
    expected = [named("survey", tmp_path / name) for name in ("counts.fits", "one.fits.gz", "cube.fits")]
    expected.append(named("point spread function", tmp_path / "psf.fits"))
    assert run.certificate["files"] == expected
    assert tomllib.loads(run.files.settings.read_text())["survey"]["files"] == expected
    assert [Row(f"File, {each['what']}", each["file"], f"SHA-256 {each['sha256']}") for each in expected] == [
        row for row in setting_rows(run) if row.what.startswith("File")
    ]
    (tmp_path / "psf.fits").unlink()
    new = reprocess(tmp_path / "counts.fits", tmp_path / "run", tmp_path / "new", **asked, **EXECUTION)
    assert new.certificate["files"] == expected


def test_of_many_files_the_report_names_the_first(cube, tmp_path):
    run = run_survey(cube, tmp_path / "run", band="sum", **OPTIONS)
    stored = run.stored
    files = stored.plan.files * 23
    vars(run)["stored"] = replace(stored, plan=replace(stored.plan, files=files))
    rows = [row for row in setting_rows(run) if row.what.startswith("File")]
    assert (len(rows), rows[-1]) == (21, Row("Files", "and 3 files more: certificate.json"))
