"""Event lists as the survey of a run: binned on the way, and then a survey like any other."""

import hashlib

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from mistakes import write_events
from spreads import gtpsf, write

from cwt_dask import run_survey
from cwt_dask.results import SurveyRun

ONTO = ("--frame=icrs", "--center=83.6,22", "--size=4,3", "--pixel=0.1")
ENERGIES = ("--emin=1TeV", "--emax=10TeV")
KERNELS = ("--n-scale=1", "--min-scale=1.2", "--max-iter=2", "--workers=0", "--no-report")


def write_run(folder, number):
    """Events of one observation: some over the map, some from its middle; those of two are at the same time."""
    rng = np.random.default_rng(number)
    x, y = (np.append(rng.uniform(-1, 1, 1500) * half, rng.normal(0, 0.1, 200)) for half in (2, 1.5))
    columns = {"RA": (83.6 + x) * u.deg, "DEC": (22 + y) * u.deg, "ENERGY": 10 ** rng.uniform(-1, 2, 1700) * u.TeV}
    write_events(folder / f"run{number}.fits", columns, gti=[(100.0, 200.0)], TELESCOP="HESS", OBS_ID=number)
    return folder / f"run{number}.fits"


@pytest.fixture
def lists(tmp_path):
    """Two event lists, in a directory of their own."""
    (tmp_path / "runs").mkdir()
    return [write_run(tmp_path / "runs", number) for number in (1, 2)]


@pytest.fixture
def model(tmp_path, lists, call):
    """A background on the pixels of the map: the option that names it."""
    assert call("ingest", *lists, tmp_path / "counts.fits", *ONTO, *ENERGIES).status == 0
    with fits.open(tmp_path / "counts.fits") as hdus:
        fits.PrimaryHDU(np.full(hdus[0].shape, 0.9), hdus[0].header).writeto(tmp_path / "model.fits")
    return f"--background={tmp_path / 'model.fits'}"


def named(what, path):
    """A file as runs name it."""
    return {"what": what, "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def certificate(path):
    return SurveyRun.open(path).certificate


def test_a_run_on_event_lists_is_that_on_the_map_of_them(tmp_path, lists, model, call):
    events = ("run", lists[0].parent, tmp_path / "run", *ONTO, *ENERGIES, model, *KERNELS)
    said = call(*events)
    assert said.status == 0, said.err
    assert "counts of 3400 events in 2 lists" in said.out
    assert "reading the map of the events" in said.out
    assert call("run", tmp_path / "counts.fits", tmp_path / "of-map", model, *KERNELS).status == 0
    of_events, of_map = certificate(tmp_path / "run"), certificate(tmp_path / "of-map")
    assert of_events["digest_maps"] == of_map["digest_maps"]
    assert of_events["input_digest"] == of_map["input_digest"]
    assert [each for each in of_events["warnings"] if "observations 1 and 2 of HESS overlap by 100 s" in each]
    (counts,) = [each for each in of_events["inputs"] if each["plane"] == "counts"]
    assert counts["file"].endswith(f" of 3400 events of HDU EVENTS of {lists[0]}, HDU EVENTS of {lists[1]}")
    assert counts["energies"] == "1 TeV to 10 TeV"
    events, background = [named("events", path) for path in lists], named("survey", tmp_path / "model.fits")
    assert of_events["files"] == [*events, background]
    assert of_map["files"] == [named("survey", tmp_path / "counts.fits"), *events, background]
    # Given again, in another way, it is the same survey.
    (tmp_path / "onto.toml").write_text(
        'frame = "icrs"\ncenter = "83.6,22"\nsize = [4, 3]\npixel = 0.1\nemin = "1TeV"\nemax = "10TeV"\n'
    )
    again = call("run", *lists, tmp_path / "run", "--config", tmp_path / "onto.toml", model, *KERNELS)
    assert "nothing to do" in again.out
    assert not list(tmp_path.glob(".*"))


def test_a_background_is_estimated_from_events(tmp_path, lists, call):
    estimate = ("--background=estimate", "--background-scale=6")
    said = call("ingest", *lists, tmp_path / "survey.zarr", *ONTO, *estimate)
    assert said.status == 0, said.err
    assert "\nestimated background: smoothed at 6 pixels" in said.out
    for survey in (tmp_path / "survey.zarr", lists):
        options = {"frame": "icrs", "center": (83.6, 22), "size": (4, 3), "pixel": 0.1} if survey is lists else {}
        options |= {"background": "estimate", "background_scale": 6} if survey is lists else {}
        run = run_survey(survey, tmp_path / "run", min_scale=1.2, max_iter=1, workers=0, no_report=True, **options)
        assert run.certificate["background"].startswith("estimated background")
    plan = call("plan", *lists, *ONTO, *estimate, "--min-scale=1.2")
    assert plan.status == 0, plan.err
    assert "estimated background" in plan.out


def test_lists_that_have_come_are_processed_again(tmp_path, lists, model, call):
    earlier = ("--tile-size=20", "--margin=8", "--stopping=fixed", "--n-scale=1", "--min-scale=1.2", "--max-iter=1")
    options = (*ONTO, *ENERGIES, model, "--workers=0", "--no-report")
    assert call("run", *lists, tmp_path / "old", *options, *earlier).status == 0
    Table({"RA": [84.9], "DEC": [23.2], "ENERGY": [2.0] * u.TeV}).write(tmp_path / "more.fits")
    lists.append(tmp_path / "more.fits")
    said = call("reprocess", *lists, tmp_path / "old", tmp_path / "new", *options)
    assert said.status == 0, said.err
    dry = call("reprocess", *lists, tmp_path / "old", tmp_path / "none", "--dry-run", *options)
    assert call("run", *lists, tmp_path / "scratch", *options, *earlier).status == 0
    assert certificate(tmp_path / "new")["digest_maps"] == certificate(tmp_path / "scratch")["digest_maps"]
    assert "tiles of 4" in dry.out or "of 4 tiles" in dry.out
    assert not list(tmp_path.glob(".*"))


def test_no_list_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="event lists are binned onto a map that must be given"):
        run_survey([], tmp_path / "run")


@pytest.mark.parametrize(
    ("bound", "energies", "weighted"),
    [("--emin=1TeV", "from 1 TeV", "1 to 100 TeV"), ("--emax=10TeV", "up to 10 TeV", "0.1 to 10 TeV")],
)
def test_one_bound_of_energy_weights_the_point_spread_function(tmp_path, lists, call, bound, energies, weighted):
    write(tmp_path / "psf.fits", *gtpsf([1e5, 1e6, 1e7, 1e8], [0.2, 0.15, 0.1, 0.1]))
    words = (*ONTO, bound, "--background=estimate", "--background-scale=6")
    psf = f"--psf={tmp_path / 'psf.fits'}"
    said = call("plan", *lists, *words, psf).out
    assert f", {energies}\n" in said
    assert f", {weighted} weighted by E^-2" in said
    call("ingest", *lists, tmp_path / "survey.zarr", *words)
    assert f", {weighted} weighted by E^-2" in call("plan", tmp_path / "survey.zarr", psf).out
