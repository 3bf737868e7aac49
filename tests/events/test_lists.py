"""Event lists of all kinds, from observatories and others, indexes; and lists that may hold the same events."""

import gzip
import shutil
from hashlib import sha256

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from mistakes import CRAB, write_events

from cwt_dask.errors import SettingsError, SurveyError
from cwt_dask.events import ingest_events
from cwt_dask.survey import pixel_scale

ONTO = {"center": (83.63, 22.01), "size": (4, 3), "pixel": 0.05, "frame": "icrs"}
RUNS = ("hess_dl3_023523.fits.gz", "hess_dl3_023526.fits.gz")


def counts_of(lists, folder, name="counts.fits", **options):
    made = ingest_events(lists, folder / name, **ONTO | options)
    return made, fits.getdata(folder / name)


@pytest.fixture(scope="module")
def hess(real_data):
    """Two runs on the Crab, as H.E.S.S. published them."""
    return [real_data / name for name in RUNS]


@pytest.mark.parametrize("projection", ["CAR", "TAN"])
def test_runs_of_hess_make_the_map_of_numpy(hess, tmp_path, projection):
    made, counts = counts_of(hess, tmp_path, projection=projection, emin="0.6TeV", emax="10TeV")
    header = fits.getheader(tmp_path / "counts.fits")
    expected = np.zeros(counts.shape)
    for path in hess:
        rows = fits.getdata(path, "EVENTS")
        rows = rows[(rows["ENERGY"] >= np.float32(0.6)) & (rows["ENERGY"] < 10)]
        sky = SkyCoord(rows["RA"].astype(float), rows["DEC"].astype(float), unit="deg", frame=FK5(equinox="J2000"))
        x, y = WCS(header).world_to_pixel(sky)
        expected += np.histogramdd((y, x), [np.arange(length + 1) - 0.5 for length in counts.shape])[0]
    np.testing.assert_array_equal(counts, expected)
    assert made.tally.n_rows == 7613 + 7581
    assert not made.warnings
    assert header["ONTIME"] == 1687 + 1683
    assert header["LIVETIME"] == pytest.approx(1581.7368 + 1572.6868)
    assert header["TELESCOP"].startswith("HESS")
    times = fits.getdata(tmp_path / "counts.fits", "GTI")
    np.testing.assert_allclose(times["STOP"] - times["START"], [1687, 1683])
    # The Crab is in the middle.
    assert counts[25:35, 35:45].sum() > 5 * counts[:10, :10].sum()
    assert pixel_scale(WCS(header), counts.shape) == pytest.approx(0.05, rel=1e-3 if projection == "TAN" else 0.05)


def hdu_index(folder, name="hdu-index.fits", observations=(1, 2), kinds=("events", "gti")):
    rows = [(number, kind, "runs", f"run{number}.fits", kind.upper()) for number in observations for kind in kinds]
    columns = ("OBS_ID", "HDU_TYPE", "FILE_DIR", "FILE_NAME", "HDU_NAME")
    write_events(folder / name, Table(rows=rows, names=columns), "HDU_INDEX", HDUCLAS1="INDEX")


@pytest.fixture
def observed(tmp_path):
    """A directory of two observations, with an index of files and one of the second observation."""
    folder = tmp_path / "store"
    (folder / "runs").mkdir(parents=True)
    for number in (1, 2):
        columns = CRAB | {"EVENT_ID": number * 10 + np.arange(3)}
        times = [(1000.0 * number, 1000.0 * number + 500)]
        write_events(folder / "runs" / f"run{number}.fits", columns, gti=times, OBS_ID=number, TELESCOP="CTA")
    hdu_index(folder)
    write_events(folder / "obs-index.fits", {"OBS_ID": [2]}, "OBS_INDEX", HDUCLAS1="INDEX")
    return folder


@pytest.mark.parametrize(
    ("given", "n_lists"), [("", 2), ("hdu-index.fits", 2), ("obs-index.fits", 1), ("runs", 2), ("runs/run1.fits", 1)]
)
def test_an_index_or_a_directory_stands_for_its_lists(observed, tmp_path, given, n_lists):
    made, counts = counts_of([observed / given], tmp_path)
    assert made.n_lists == n_lists
    assert counts.sum() == made.tally.n_binned == 3 * n_lists
    assert fits.getheader(tmp_path / "counts.fits")["ONTIME"] == 500 * n_lists
    named = [f"runs/run{number}.fits" for number in ((1,) if "run1" in given else (1, 2)[-n_lists:])]
    named += ["obs-index.fits"] * ("obs" in given) + ["hdu-index.fits"] * ("runs" not in given)
    files = fits.getdata(tmp_path / "counts.fits", "INPUT_FILES")
    assert files["file"].tolist() == [str(observed / name) for name in named]
    assert files["sha256"].tolist() == [sha256((observed / name).read_bytes()).hexdigest() for name in named]


def test_times_may_lie_in_another_file_than_the_events(observed, tmp_path):
    rows = [(1, "events", "runs", "run1.fits", "EVENTS"), (1, "gti", "runs", "run2.fits", "GTI")]
    columns = ("OBS_ID", "HDU_TYPE", "FILE_DIR", "FILE_NAME", "HDU_NAME")
    write_events(observed / "other.fits", Table(rows=rows, names=columns), "HDU_INDEX")
    counts_of([observed / "other.fits"], tmp_path)
    assert fits.getdata(tmp_path / "counts.fits", "GTI")["START"][0] == 2000
    named = [observed / name for name in ("runs/run1.fits", "other.fits", "runs/run2.fits")]
    assert fits.getdata(tmp_path / "counts.fits", "INPUT_FILES")["file"].tolist() == list(map(str, named))


def test_an_observation_in_a_directory_and_by_name_is_one(observed, tmp_path):
    with pytest.raises(SurveyError, match="is given twice"):
        counts_of([observed, observed / "runs" / "run2.fits"], tmp_path)


SKY = SkyCoord(CRAB["RA"], CRAB["DEC"])


def other_frame(frame):
    sky = SKY.transform_to(frame)
    return {"RA": sky.ra, "DEC": sky.dec}


@pytest.mark.parametrize(
    ("columns", "cards"),
    [
        (CRAB, {}),
        ({"ra": CRAB["RA"].value, "dec": CRAB["DEC"].value}, {}),
        ({"RA": CRAB["RA"].to("rad"), "Dec": CRAB["DEC"].to("arcmin")}, {"RADESYS": "icrs"}),
        ({"GLON": SKY.galactic.l, "GLAT": SKY.galactic.b}, {}),
        ({"L": SKY.galactic.l, "B": SKY.galactic.b}, {}),
        (other_frame(FK5(equinox="J2015.5")), {"RADECSYS": "FK5", "EQUINOX": 2015.5}),
        (other_frame(FK5(equinox="J2000")), {"EQUINOX": 2000}),
        (other_frame(FK4(equinox="B1950")), {"RADESYS": "FK4"}),
        (other_frame(FK4(equinox="B1950")), {"EQUINOX": "1950"}),
    ],
)
def test_positions_of_any_frame_and_unit_are_the_same_sky(tmp_path, columns, cards):
    write_events(tmp_path / "crab.fits", CRAB)
    write_events(tmp_path / "other.fits", columns, "EVENTS", **cards)
    _, counts = counts_of(tmp_path / "crab.fits", tmp_path)
    made, other = counts_of(tmp_path / "other.fits", tmp_path, "other-counts.fits")
    assert made.tally.n_binned == 3
    np.testing.assert_array_equal(other, counts)


def test_tables_of_others_are_read(tmp_path):
    _write_kinds(tmp_path)
    _, expected = counts_of(tmp_path / "plain.fits", tmp_path, emin="0.8TeV")
    assert expected.sum() == 2
    names = ("events.ecsv", "plain.fits.gz", "scaled.fits", "several.fits[PHOTONS]", "several.fits[2]")
    for number, name in enumerate(names):
        _, counts = counts_of(tmp_path / name, tmp_path, f"of-{number}.fits", emin="0.8TeV")
        np.testing.assert_array_equal(counts, expected, err_msg=name)


def _write_kinds(folder):
    Table(CRAB).write(folder / "plain.fits")
    Table(CRAB).write(folder / "events.ecsv")
    (folder / "plain.fits.gz").write_bytes(gzip.compress((folder / "plain.fits").read_bytes()))
    # Whole numbers with a scale and a zero, and a blank.
    stored = {
        "RA": np.array([36, 37, 38, -1], np.int32),
        "DEC": [22.0] * 4,
        "ENERGY": np.array([500, 1000, 2000, 3000]),
    }
    Table(stored).write(folder / "scaled.fits")
    with fits.open(folder / "scaled.fits", mode="update") as hdus:
        hdus[1].header.update({"TSCAL1": 0.1, "TZERO1": 80, "TNULL1": -1, "TUNIT3": "GeV"})
    tables = [fits.BinTableHDU(Table({"a": [1]}), name="EVENTS"), fits.BinTableHDU(Table(CRAB), name="PHOTONS")]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(folder / "several.fits")


def test_bits_and_arrays_of_fermis_photons_are_passed_over(tmp_path):
    """FT1 has columns of bits and of several numbers a row, and a blank OBS_ID."""
    columns = [
        fits.Column("CALIB_VERSION", "3I", array=np.zeros((3, 3))),
        fits.Column("RA", "E", "deg", array=[83.6] * 3),
    ]
    columns += [fits.Column("EVENT_CLASS", "32X", array=np.ones((3, 32), bool))]
    columns += [
        fits.Column("DEC", "E", "deg", array=[22.0] * 3),
        fits.Column("ENERGY", "E", "MeV", array=[9e3, 2e4, 3e4]),
    ]
    cards = fits.Header({"TELESCOP": "GLAST", "OBS_ID": " ", "RADECSYS": "FK5", "EQUINOX": 2000.0})
    fits.BinTableHDU.from_columns(columns, cards, name="EVENTS").writeto(tmp_path / "ft1.fits")
    made, counts = counts_of([tmp_path / "ft1.fits"], tmp_path, emin="10GeV")
    assert (counts.sum(), made.tally.n_other_energy) == (2, 1)


def test_a_long_text_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.events.tables._TEXT_ROWS", 7)
    lon = np.ma.masked_equal(np.arange(50) % 5 / 10.0, 0.4)
    Table({"GLON": lon, "GLAT": np.zeros(50), "name": ["a b"] * 50}).write(tmp_path / "events.ecsv")
    with (tmp_path / "events.ecsv").open("a") as file:
        file.write("\n" * 20)
    made = ingest_events(tmp_path / "events.ecsv", tmp_path / "c.fits", center=(0.2, 0), size=(1, 1), pixel=0.1)
    assert (made.tally.n_rows, made.tally.n_binned, made.tally.n_no_position) == (50, 40, 10)


@pytest.mark.parametrize("content", ["0.1 x\n", "0.1\n"])
def test_a_damaged_text_is_refused(tmp_path, content):
    Table({"GLON": np.zeros(3), "GLAT": np.zeros(3)}).write(tmp_path / "events.ecsv")
    with (tmp_path / "events.ecsv").open("a") as file:
        file.write(content)
    with pytest.raises(SurveyError, match="events.ecsv"):
        counts_of(tmp_path / "events.ecsv", tmp_path, center=(0, 0), frame="gal")


def test_columns_of_text_are_no_positions(tmp_path):
    Table({"GLON": ["a"], "GLAT": ["b"]}).write(tmp_path / "events.ecsv")
    with pytest.raises(SurveyError, match="column GLON of .* does not hold a number a row"):
        counts_of(tmp_path / "events.ecsv", tmp_path)
    write_events(tmp_path / "text.fits", CRAB | {"RA": ["83.6", "83.7", "83.8"]})
    with pytest.raises(SurveyError, match="column RA of .* does not hold a number a row"):
        counts_of(tmp_path / "text.fits", tmp_path)


def test_an_index_may_leave_out_names_and_does_not_name_itself(observed, tmp_path):
    rows = [(1, "events", "runs", "run1.fits", "")]
    columns = ("OBS_ID", "HDU_TYPE", "FILE_DIR", "FILE_NAME", "HDU_NAME")
    write_events(observed / "nameless.fits", Table(rows=rows, names=columns), "HDU_INDEX")
    assert counts_of([observed / "nameless.fits"], tmp_path)[0].n_lists == 1
    rows = [(1, "events", ".", "circle.fits", "")]
    write_events(observed / "circle.fits", Table(rows=rows, names=columns), "HDU_INDEX")
    with pytest.raises(SurveyError, match="circle.fits has no table EVENTS; it has 0 PRIMARY, 1 HDU_INDEX"):
        counts_of([observed / "circle.fits"], tmp_path, "none.fits")


def test_tables_that_are_not_read_in_rows_are_refused(tmp_path):
    write_events(tmp_path / "packed.fits", CRAB, ZTABLE=True)
    with pytest.raises(SurveyError, match="is a compressed table: unpack it with funpack"):
        counts_of(tmp_path / "packed.fits", tmp_path)
    text = fits.TableHDU.from_columns([fits.Column(name, "F8.3", array=CRAB[name].value) for name in ("RA", "DEC")])
    text.writeto(tmp_path / "text.fits")
    with pytest.raises(SurveyError, match="is a table of text"):
        counts_of(tmp_path / "text.fits", tmp_path)
    write_events(tmp_path / "short.fits", CRAB)
    content = (tmp_path / "short.fits").read_bytes()
    (tmp_path / "short.fits").write_bytes(content.replace(b"TFORM2  = 'D ", b"TFORM2  = 'E "))
    with pytest.raises(SurveyError, match="has rows of 24 bytes, but its columns take 20"):
        counts_of(tmp_path / "short.fits", tmp_path)


def test_an_empty_list_among_others_is_told(tmp_path):
    write_events(tmp_path / "a.fits", CRAB)
    write_events(tmp_path / "b.fits", {name: column[:0] for name, column in CRAB.items()})
    write_events(tmp_path / "c.fits", {name: column[:0] for name, column in CRAB.items()})
    made, _ = counts_of([tmp_path / f"{name}.fits" for name in "abc"], tmp_path)
    assert made.warnings == tuple(f"HDU EVENTS of {tmp_path / name}.fits has no events" for name in "bc")


def test_no_list_is_no_call(tmp_path):
    with pytest.raises(SettingsError, match="no event list is given"):
        counts_of([], tmp_path)


def write_two(folder, second, **cards):
    """Two observations, the second of them at these times."""
    for name, gti, number in (("a", [(0.0, 100.0)], 1), ("b", second, 2)):
        columns = CRAB | {"EVENT_ID": number * 10 + np.arange(3)}
        write_events(folder / f"{name}.fits", columns, gti=gti, **{"TELESCOP": "CTA", "OBS_ID": number} | cards)
    return [folder / "a.fits", folder / "b.fits"]


def test_observations_at_the_same_time_are_told_since_sub_arrays_may_be(tmp_path):
    made, _ = counts_of(write_two(tmp_path, [(50.0, 150.0)]), tmp_path)
    assert made.warnings == (
        "observations 1 and 2 of CTA overlap by 50 s: events are counted twice unless they are of sub-arrays",
    )


def test_times_that_touch_do_not_overlap(tmp_path):
    made, _ = counts_of(write_two(tmp_path, [(100.0, 150.0), (150.0, 151.0)], OBS_ID=7), tmp_path)
    assert not made.warnings


def test_times_count_from_the_reference_of_their_file(tmp_path):
    paths = write_two(tmp_path, [(0.0, 100.0)], OBS_ID=7, MJDREFI=51910)
    with fits.open(paths[1], mode="update") as hdus:
        hdus["EVENTS"].header["MJDREFI"] = 51911
    made, _ = counts_of(paths, tmp_path)
    assert not made.warnings
    assert fits.getdata(tmp_path / "counts.fits", "GTI")["START"].tolist() == [0, 86400]


def test_times_may_be_in_days(tmp_path):
    write_events(tmp_path / "days.fits", CRAB, gti=[(58000.0, 58000.25)], gti_unit="d")
    counts_of([tmp_path / "days.fits"], tmp_path)
    with fits.open(tmp_path / "counts.fits") as hdus:
        assert hdus[0].header["ONTIME"] == 21600
        assert hdus["GTI"].data["STOP"].tolist() == [21600]
        assert hdus["GTI"].header["MJDREFI"] == 58000


def test_an_observation_twice_without_times_is_told(tmp_path):
    paths = write_two(tmp_path, None, OBS_ID=7)
    shutil.copy(paths[1], tmp_path / "c.fits")
    with fits.open(tmp_path / "c.fits", mode="update") as hdus:
        hdus["EVENTS"].data["EVENT_ID"] += 100
    made, _ = counts_of([*paths, tmp_path / "c.fits"], tmp_path)
    (warning,) = made.warnings
    assert "are both of observation 7, and without good time intervals" in warning
    assert "ONTIME" not in fits.getheader(tmp_path / "counts.fits")


def test_times_without_start_are_none(tmp_path):
    write_events(tmp_path / "a.fits", CRAB, gti=[(0.0, 1.0)])
    with fits.open(tmp_path / "a.fits", mode="update") as hdus:
        hdus["GTI"].columns["START"].name = "BEGIN"
    with pytest.raises(SurveyError, match="has no columns START and STOP"):
        counts_of(tmp_path / "a.fits", tmp_path)


def test_several_lists_in_a_file_need_a_name(tmp_path):
    tables = [fits.BinTableHDU(Table(CRAB), name="EVENTS") for _ in range(2)]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "two.fits")
    with pytest.raises(SurveyError, match="has 2 event lists; it has 0 PRIMARY, 1 EVENTS, 2 EVENTS: name the table"):
        counts_of(tmp_path / "two.fits", tmp_path)
    with pytest.raises(SurveyError, match="hold the same events"):
        counts_of([tmp_path / "two.fits[1]", tmp_path / "two.fits[2]"], tmp_path)


def test_units_of_energies_are_those_of_the_header_where_the_column_has_none(tmp_path):
    write_events(tmp_path / "a.fits", CRAB | {"ENERGY": CRAB["ENERGY"].value}, EUNIT="TeV")
    made, _ = counts_of(tmp_path / "a.fits", tmp_path, emin=u.Quantity(800, "GeV"))
    assert made.tally.n_binned == 2
