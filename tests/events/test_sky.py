"""Events on the whole sky are where two libraries of HEALPix have them: at poles, corners and the wrap, exactly."""

import cdshealpix
import numpy as np
import pytest
import spheres
from astropy.coordinates import Latitude, Longitude, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy_healpix import lonlat_to_healpix
from event_lists import all_over
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.config.events import EventOptions
from cwt_dask.errors import SettingsError, SurveyError
from cwt_dask.events import Tally, ingest_events, tables
from cwt_dask.events import spool as spools
from cwt_dask.events.sky import grid_of
from cwt_dask.geometry.healpix import numbers_in
from cwt_dask.results import SurveyRun
from cwt_dask.run import plan_survey, run_survey
from cwt_dask.survey import Survey, ingest

NSIDE = 32
N = 12 * NSIDE**2
SKY = {"allsky": True, "nside": NSIDE}
FRAMES = {"gal": "galactic", "icrs": "icrs"}


def numbers(sky, nside, frame):
    there = sky.transform_to(FRAMES[frame]).spherical
    return cdshealpix.nested.lonlat_to_healpix(there.lon, there.lat, nside.bit_length() - 1).astype(int)


@given(st.sampled_from(tuple(FRAMES)), st.sampled_from((1, 4, 512)), st.integers(0, 10))
def test_each_position_has_the_pixel_of_the_libraries(frame, nside, seed):
    sky = all_over(300, seed, "galactic" if seed % 2 else "icrs")
    row, column = grid_of(EventOptions(allsky=True, nside=nside, frame=frame)).pixels(None, sky)
    np.testing.assert_array_equal(row * nside + column, numbers(sky, nside, frame))
    # On edges of pixels, where round positions lie, the other library may take the neighbour.
    there = sky.transform_to(FRAMES[frame]).spherical
    other = lonlat_to_healpix(there.lon[:300], there.lat[:300], nside, order="nested")
    np.testing.assert_array_equal((row * nside + column)[:300], other)


@pytest.mark.parametrize("lon", [0.0, 360.0, -360.0, 90.0, 359.9999999999999, -1e-14])
def test_poles_and_the_wrap_are_ordinary_places(lon):
    lat = np.array([-90.0, -45.0, 0.0, 45.0, 90.0])
    row, column = grid_of(EventOptions(**SKY)).pixels(None, SkyCoord(lon, lat, unit="deg", frame="galactic"))
    wanted = cdshealpix.nested.lonlat_to_healpix(Longitude(np.full(5, lon), "deg"), Latitude(lat, "deg"), 5)
    np.testing.assert_array_equal(row * NSIDE + column, wanted)


@pytest.mark.parametrize("frame", FRAMES)
def test_lists_make_the_histogram_of_pixel_numbers(tmp_path, many, frame, monkeypatch):
    monkeypatch.setattr(spools, "_BAND_PIXELS", 1000)
    monkeypatch.setattr(tables, "_MOST_ROWS", 77)
    made = ingest_events(many.paths, tmp_path / "counts.fits", **SKY, frame=frame, emin="30GeV")
    taken = many.ENERGY >= 30000
    sky = SkyCoord(many.RA[taken], many.DEC[taken], unit="deg")
    with fits.open(tmp_path / "counts.fits") as hdus:
        counts, header = hdus["COUNTS"].data["CHANNEL1"], hdus["COUNTS"].header
        assert [header[key] for key in ("ORDERING", "NSIDE", "INDXSCHM")] == ["NESTED", NSIDE, "IMPLICIT"]
        assert header["COORDSYS"] == {"gal": "GAL", "icrs": "CEL"}[frame]
        assert header["NBINNED"] == counts.sum() == taken.sum()
        assert len(hdus["EVENT_LISTS"].data) == len(hdus["INPUT_FILES"].data) == len(many.paths)
    np.testing.assert_array_equal(counts, np.bincount(numbers(sky, NSIDE, frame), minlength=N))
    assert made.tally == Tally(len(taken), taken.sum(), 0, (~taken).sum(), 0)
    assert made.describe().startswith(f"the sky in pixels of NSIDE {NSIDE}, {taken.sum()} counts of 6200 events in 3")


@pytest.fixture
def background(tmp_path):
    values = np.full(N, 6200 / N)
    return spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", values, NSIDE, ring=True))


def test_a_store_of_events_is_that_of_their_map(tmp_path, many, background, call):
    words = ("--allsky", f"--nside={NSIDE}")
    said = call("ingest", *many.paths, tmp_path / "survey.zarr", *words, f"--background={background}")
    assert said.status == 0, said.err
    assert "6200 counts of 6200 events in 3 lists" in said.out
    ingest_events(many.paths, tmp_path / "counts.fits", **SKY)
    of_map = ingest(tmp_path / "counts.fits", tmp_path / "of-map.zarr", background=background)
    survey = Survey.open(tmp_path / "survey.zarr")
    assert survey.statistics.digest == of_map.statistics.digest
    counts = np.bincount(numbers(SkyCoord(many.RA, many.DEC, unit="deg"), NSIDE, "gal"), minlength=N)
    at = numbers_in(np.arange(12 * NSIDE)[:, np.newaxis], np.arange(NSIDE), NSIDE)
    np.testing.assert_array_equal(survey.array("counts")[:], counts[at])


def test_a_run_of_events_names_them_and_is_resumed(tmp_path, many):
    # What the background lacks is masked: few facets are left.
    pixels = spheres.cap(NSIDE, [0, 0, 1], 12)
    values = np.full(N, 6200 / N)
    background = spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", values, NSIDE, pixels=pixels))
    inside = np.isin(numbers(SkyCoord(many.RA, many.DEC, unit="deg"), NSIDE, "gal"), pixels).sum()
    options = {"n_scale": 1, "min_scale": 1.5, "psf": 1.5, "max_iter": 1, "stopping": "fixed", "workers": 0}
    options |= SKY | {"background": background}
    assert plan_survey(many.paths, **options).grid.nside == NSIDE
    run = run_survey(many.paths, tmp_path / "run", **options, no_report=True)
    assert run.certificate["facets"]["counts_in_cells"] == inside > 0
    files = {each["file"]: each["what"] for each in run.certificate["files"]}
    assert {path for path, what in files.items() if what == "events"} == {str(path) for path in many.paths}
    assert files[str(background)] == "survey"
    (origin,) = [each for each in run.stored.plan.origins if each["plane"] == "counts"]
    assert origin["file"].startswith("6200 of 6200 events of HDU EVENTS of ")
    run_survey(many.paths, tmp_path / "run", **options, no_report=True)
    assert SurveyRun.open(tmp_path / "run").stored.run_id == run.stored.run_id


def test_warnings_about_lists_come_with_their_survey(tmp_path, background):
    events = Table({"GLON": [0.0, 1.0], "GLAT": [90.0, 89.0]})
    lists = [tmp_path / "some.fits", tmp_path / "none.fits"]
    for path, rows in zip(lists, (events, events[:0]), strict=True):
        rows.write(path)
    ingest_events(lists, tmp_path / "s.zarr", **SKY, background=background)
    assert any("none.fits has no events" in text for text in Survey.open(tmp_path / "s.zarr").statistics.warnings)


def test_the_frame_holds_for_a_background_that_does_not_say_its_own(tmp_path, many):
    values = spheres.table("BACKGROUND", np.full(N, 1.0), NSIDE, COORDSYS=None)
    path = spheres.write(tmp_path / "b.fits", values)
    ingest_events(many.paths, tmp_path / "s.zarr", **SKY, frame="icrs", background=path)
    assert Survey.open(tmp_path / "s.zarr").wcs.frame == "icrs"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allsky": True}, "allsky needs the pixels that events are binned onto: add --nside N"),
        ({"allsky": True, "nside": 8, "size": (1, 1)}, "allsky and size are both given"),
        ({"allsky": True, "nside": 8, "projection": "AIT"}, "allsky and projection are both given"),
        ({"nside": 8, "center": (0, 0)}, "nside is 8, and event lists are binned onto a map: add --allsky"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, options, message):
    with pytest.raises(SettingsError, match=message):
        ingest_events(tmp_path / "none.fits", tmp_path / "c.fits", **options)


def test_events_beyond_the_poles_have_no_position(tmp_path):
    Table({"GLON": [0.0, 1.0, 2.0], "GLAT": [91.0, -90.0, 90.0]}).write(tmp_path / "events.fits")
    made = ingest_events(tmp_path / "events.fits", tmp_path / "c.fits", **SKY)
    assert made.tally == Tally(3, 2, 0, 0, 1)
    Table({"GLON": [0.0], "GLAT": [91.0]}).write(tmp_path / "beyond.fits")
    with pytest.raises(SurveyError, match="none of 1 event lies on the map, .* 1 without a position"):
        ingest_events(tmp_path / "beyond.fits", tmp_path / "d.fits", **SKY)
