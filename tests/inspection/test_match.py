import shutil
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from skies import poisson_sky, write_survey
from work import flip

from cwt_dask import SurveyRun, run_survey
from cwt_dask.errors import InputError, InterruptedRun, RunError
from cwt_dask.inspection.match import associate, describe_match, match_run
from cwt_dask.inspection.verify import verify_run
from cwt_dask.pipeline.merging import write_certificate
from cwt_dask.report import report_is_current, write_report
from cwt_dask.runtime.signals import Stop
from cwt_dask.storage.paths import backend_of

LINES = ["catalogue", "columns", "radius", "associated", "found"]
OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3, "workers": 0, "fits": "no"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on a survey with a hole; to be copied, not changed."""
    mask = np.ones((90, 130), bool)
    mask[40:50, 60:70] = False
    survey = write_survey(tmp_path_factory.mktemp("match") / "survey.fits", *poisson_sky((90, 130), seed=3), mask)
    return run_survey(survey, survey.with_name("run"), significance_threshold=5.0, **OPTIONS)


@pytest.fixture
def run(finished, tmp_path):
    return SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))


def again(finished, run, **options):
    """The command of the run, given again."""
    survey = finished.files.path.with_name("survey.fits")
    return run_survey(survey, run.files.path, significance_threshold=5.0, **OPTIONS | options)


def catalogue_of(run, path, *, others=(), n_blank=0):
    """A catalogue of every second source, 0.03 degrees north of it, of others, and of some without a position."""
    sky = SkyCoord(run.catalogue["ra"], run.catalogue["dec"], unit="deg")[::2]
    positions = [*sky.directional_offset_by(0 * u.deg, 0.03 * u.deg), *others]
    columns = [[getattr(p.fk5, name).deg for p in positions] + [np.nan] * n_blank for name in ("ra", "dec")]
    table = Table(dict(zip(("RAJ2000", "DEJ2000"), columns, strict=True)))
    table["Source_Name"] = [f"S{k} " for k in range(len(table))]
    table.write(path, overwrite=True)
    return path


def test_the_nearest_within_the_radius_is_associated(run, tmp_path):
    # One in the hole of the mask, one outside the map.
    others = [run.wcs.pixel_to_world(65, 45), run.wcs.pixel_to_world(65, -400)]
    path = catalogue_of(run, tmp_path / "known.fits", others=others, n_blank=2)
    n = len(run.catalogue)
    found = match_run(run, path, 0.05)
    half = np.arange(n) % 2 == 0
    assert found.nearest.tolist() == [k // 2 if half[k] else -1 for k in range(n)]
    np.testing.assert_allclose(found.separation[half], 0.03, atol=1e-6)
    assert np.isnan(found.separation[~half]).all()
    assert found.found.tolist() == [True] * half.sum() + [False, False]
    assert found.inside.tolist() == [True] * half.sum() + [False, False]
    assert match_run(run, path, 0.02).nearest.tolist() == [-1] * n
    lines = describe_match(found)
    assert (
        lines[0]
        == f"catalogue      known.fits: {half.sum() + 2} sources, {half.sum()} inside the map; 2 more have no position"
    )
    assert lines[1] == "columns        positions of RAJ2000 and DEJ2000 (fk5), names of Source_Name"
    assert lines[3].startswith(f"associated     {half.sum()} of {n} sources; by chance 0.")


FIELDS = {
    # Of 3 x 3 deg, 60 x 60 pixels of 0.05 deg.
    "on the plane": {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRVAL1": 10.0, "CRVAL2": 0.0},
    "at the pole": {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 10.0, "CRVAL2": 90.0},
}


def field(folder, where, mask=None):
    """A run on one of them."""
    survey = write_survey(folder / "survey.fits", *poisson_sky((60, 60), seed=3), mask)
    with fits.open(survey, mode="update") as hdus:
        for hdu in hdus[1:]:
            hdu.header.update(FIELDS[where] | {"CRPIX1": 30.5, "CRPIX2": 30.5, "CDELT1": -0.05, "CDELT2": 0.05})
    return run_survey(survey, folder / "run", significance_threshold=5.0, **OPTIONS)


def strewn(run, n, rng, *, beyond=0.0):
    """Positions in the field, and so many pixels beyond its edges."""
    height, width = run.model.shape
    x, y = (rng.uniform(-0.5 - beyond, size - 0.5 + beyond, n) for size in (width, height))
    return run.wcs.pixel_to_world(x, y).icrs


def write_sky(sky, path):
    Table({"ra": sky.ra.deg, "dec": sky.dec.deg}).write(path, overwrite=True)
    return path


def take_as_found(run, sky):
    """Positions in place of the run's sources, certified."""
    write_sky(sky, run.files.catalogue)
    write_certificate(run.files, run.read_certificate())


@pytest.mark.parametrize("where", FIELDS)
def test_chance_in_a_small_field_is_that_of_sources_strewn_at_random(tmp_path, where):
    run, rng = field(tmp_path, where), np.random.default_rng(2)
    take_as_found(run, strewn(run, 1500, rng))
    # Without an edge, any place has so many of them within 0.1 deg: pi r^2 n, of 400 in (3 + 2 x 0.1)^2 square degrees.
    n = 400 / 3.2**2
    found = match_run(run, write_sky(strewn(run, 400, rng, beyond=2), tmp_path / "known.ecsv"), 0.1)
    assert found.chance_associated == pytest.approx(1 - np.exp(-np.pi * 0.1**2 * n), rel=0.05)
    # Far more than are needed: as good as everywhere there is one.
    found = match_run(run, write_sky(strewn(run, 300, rng), tmp_path / "known.ecsv"), 0.2)
    assert found.chance_associated == pytest.approx(1 - np.exp(-np.pi * 0.2**2 * 300 / 9), abs=0.04)
    # And the other way round: four discs that do not overlap, within the field.
    quarters = (np.array([14.5, 14.5, 44.5, 44.5]), np.array([14.5, 44.5, 14.5, 44.5]))
    take_as_found(run, run.wcs.pixel_to_world(*quarters).icrs)
    found = match_run(run, write_sky(strewn(run, 20_000, rng), tmp_path / "known.ecsv"), 0.2)
    # East is all round the pole: shifted positions are not strewn evenly, and none is within 1 deg of it.
    assert found.chance_found == pytest.approx(4 * np.pi * 0.2**2 / 9, rel=0.2 if where == "at the pole" else 0.05)


def test_shifted_positions_count_where_pixels_take_part(tmp_path):
    mask = np.ones((60, 60), bool)
    mask[:, 30:] = False
    run, rng = field(tmp_path, "on the plane", mask), np.random.default_rng(2)
    # Sources everywhere in the half that takes part, none in the other.
    sky = strewn(run, 3000, rng)
    x, _ = run.wcs.world_to_pixel(sky)
    take_as_found(run, sky[x < 29.5])
    found = match_run(run, write_sky(sky, tmp_path / "known.ecsv"), 0.1)
    assert found.chance_found > 0.98
    with mock.patch.object(SurveyRun, "stored_map", autospec=True, side_effect=SurveyRun.stored_map) as read:
        match_run(run, tmp_path / "known.ecsv", 0.1)
    # Once for the catalogue, and once each for all shifts together.
    assert [call.args[1] for call in read.mock_calls].count("mask") == 3


def test_a_shift_keeps_the_distance_to_the_plane(tmp_path):
    run = field(tmp_path, "on the plane")
    # In one row; counterparts in the next one that is farther than the radius.
    take_as_found(run, run.wcs.pixel_to_world(np.arange(60), np.full(60, 10)).icrs)
    for row, share in ((10, 1.0), (13, 0.0)):
        sky = run.wcs.pixel_to_world(np.arange(60), np.full(60, row)).icrs
        assert match_run(run, write_sky(sky, tmp_path / "known.ecsv"), 0.1).chance_associated == share


def test_chance_is_unknown_where_the_map_is_narrower_than_the_shifts(tmp_path):
    run = field(tmp_path, "on the plane")
    path = write_sky(SkyCoord(run.catalogue["ra"], run.catalogue["dec"]), tmp_path / "known.ecsv")
    associate(run, match_run(run, path, 0.2))
    assert 0 <= run.catalogue.meta["ASSOCBYC"] <= 1
    found = match_run(run, path, 1.0)
    assert np.isnan(found.chance_associated)
    assert np.isnan(found.chance_found)
    lines = describe_match(found)
    for line in lines[3:]:
        assert line.endswith("by chance unknown: the map is narrower than the shifts, 4 deg or more")
    associate(run, found)
    assert (run.catalogue.meta["ASSOCRAD"], "ASSOCBYC" in run.catalogue.meta) == (1.0, False)
    assert "ASSOCBYC" not in fits.getheader(run.files.catalogue_fits, 1)
    assert Table.read(run.files.associations).meta["associated"] == lines[3]
    assert not [check for check in verify_run(SurveyRun.open(run.files.path)) if check.fault]


def test_associations_go_into_all_files_and_promises_still_hold(finished, run, tmp_path):
    path = catalogue_of(run, tmp_path / "known.fits")
    associate(run, match_run(run, path, 0.05))
    n = len(run.catalogue)
    for file in (run.files.catalogue, run.files.catalogue_fits, run.files.catalogue_votable):
        rows = Table.read(file)
        names = [str(name) for name in np.ma.filled(rows["assoc_name"], "")]
        assert names == [f"S{k // 2}" if k % 2 == 0 else "" for k in range(n)]
        assert rows["assoc_sep"].unit == u.deg
    pairs = Table.read(run.files.associations)
    assert pairs["source_id"].tolist() == list(range(1, n + 1, 2))
    assert pairs.meta["catalogue"].startswith("catalogue      known.fits")
    opened = SurveyRun.open(run.files.path)
    assert opened.catalogue.meta["ASSOC"] == "known.fits"
    assert not [check for check in verify_run(opened) if check.fault]
    # Nothing is to be done, and another match replaces this one.
    before = run.files.certificate.read_bytes()
    again(finished, run)
    assert run.files.certificate.read_bytes() == before
    associate(run, match_run(run, path, 0.01))
    assert set(np.ma.filled(np.ma.asarray(run.catalogue["assoc_name"]), "").tolist()) == {""}
    assert run.catalogue.colnames.count("assoc_name") == 1


def test_names_beyond_ascii_are_kept_but_in_fits(run, tmp_path):
    sky = SkyCoord(run.catalogue["ra"][0], run.catalogue["dec"][0], unit="deg")
    known = tmp_path / "Ω.ecsv"
    Table({"name": ["Ω Cen"], "ra": [sky.ra.deg], "dec": [sky.dec.deg]}).write(known)
    associate(run, match_run(run, known, 0.01))
    for file in (run.files.catalogue, run.files.catalogue_votable):
        assert Table.read(file)["assoc_name"][0] == "Ω Cen"
    table = Table.read(run.files.catalogue_fits)
    assert (table["assoc_name"][0], table.meta["ASSOC"]) == (r"\u03a9 Cen", r"\u03a9.ecsv")
    descriptions = [run.catalogue[name].description for name in table.colnames[:-2]]
    assert [table[name].description for name in table.colnames[:-2]] == descriptions


def test_names_that_steer_a_terminal_leave_every_file_readable(run, tmp_path):
    sky = run.catalogue["ra", "dec"][:3]
    hostile = ["a\x1b]0;b\x07", "c\x00d", "e\u202ef\x9b"]
    with (tmp_path / "a\x1bb.csv").open("w", encoding="utf-8") as file:
        file.write("name,ra,dec\n")
        file.writelines(f"{name},{ra},{dec}\n" for name, (ra, dec) in zip(hostile, sky, strict=True))
    associate(run, match_run(run, tmp_path / "a\x1bb.csv", 0.01))
    files = run.files
    names = ["a\\x1b]0;b\\x07", "c\\x00d", "e\\u202ef\\x9b"]
    for path in (files.catalogue, files.catalogue_votable, files.catalogue_fits, files.associations):
        assert list(Table.read(path)["assoc_name"][:3]) == names, path
    assert not {*"\x00\x07\x1b\x9b\u202e"} & {*files.catalogue_regions.read_text(encoding="utf-8")}


@pytest.mark.parametrize("name", ["catalogue", "candidates", "maps_fits"])
def test_what_is_damaged_is_not_certified_by_a_match(finished, tmp_path, name):
    run = SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))
    again(finished, run, fits="yes")
    path, known = getattr(run.files, name), catalogue_of(run, tmp_path / "known.fits")
    found = match_run(run, known, 0.05)
    flip(path)
    if name == "catalogue":
        with pytest.raises(RunError, match="catalogue"):
            associate(run, found)
    else:
        associate(run, found)
    (broken,) = [check for check in verify_run(SurveyRun.open(run.files.path)) if check.broken]
    assert broken.fault == f"{path} differs"


@pytest.mark.parametrize("times", [2, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("at", ["write_associations", "cover"])
def test_one_that_is_killed_is_given_again(run, tmp_path, monkeypatch, at, times):
    known = catalogue_of(run, tmp_path / "known.fits")
    for _ in range(times):
        found = match_run(run, known, 0.05)
        with monkeypatch.context() as patched:
            patched.setattr(f"cwt_dask.inspection.match.{at}", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                associate(run, found)
        assert "assoc_name" not in run.catalogue.colnames
    associate(run, match_run(run, known, 0.05))
    assert "assoc_name" in run.catalogue.colnames
    assert not any(check.fault for check in verify_run(run))
    assert not run.files.catalogue_before.exists()


def test_a_catalogue_that_is_made_again_has_no_associations(finished, run, tmp_path):
    associate(run, match_run(run, catalogue_of(run, tmp_path / "known.fits"), 0.05))
    run.files.catalogue_fits.write_bytes(b"torn")
    again(finished, run)
    assert "assoc_name" not in run.catalogue.colnames
    assert not run.files.associations.exists()


def test_a_run_that_another_process_holds_is_not_changed(run, tmp_path):
    found = match_run(run, catalogue_of(run, tmp_path / "known.fits"), 0.05)
    before = run.files.certificate.read_bytes()
    with backend_of(run.files.path).hold(run.files, Stop().ask), pytest.raises(InputError, match="is in use by"):
        associate(run, found)
    assert run.files.certificate.read_bytes() == before
    associate(run, found)
    assert "assoc_name" in run.catalogue.colnames


def test_a_run_that_is_lost_to_another_process_is_not_changed(run, tmp_path, monkeypatch):
    @contextmanager
    def lose(_files, lost):
        lost()
        yield

    found, before = match_run(run, catalogue_of(run, tmp_path / "known.fits"), 0.05), run.files.certificate.read_bytes()
    monkeypatch.setattr("cwt_dask.inspection.match.backend_of", lambda _: SimpleNamespace(hold=lose))
    with pytest.raises(InterruptedRun):
        associate(run, found)
    assert run.files.certificate.read_bytes() == before
    assert not run.files.associations.exists()


def test_the_command(run, tmp_path, call):
    write_report(run)
    path = catalogue_of(run, tmp_path / "known.fits")
    status, out, _ = call("match", run.files.path, path, "--radius", "0.05")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == [*LINES, "written"]
    # The report shows them, and is as the certificate now is.
    assert report_is_current(run)
    assert "assoc_name" in run.files.report.read_text()
    run.files.report.unlink()
    again = call("match", run.files.path, path, "--radius", "3arcmin", "--columns", "RAJ2000,DEJ2000")
    assert again.out == out


@pytest.mark.parametrize("radius", [0.0, 10.01, np.nan, "0deg", "11deg", "-1", "nan", "1 pixel", "far", "", None])
def test_a_radius_that_is_none_is_refused(finished, radius):
    with pytest.raises(InputError, match="it must be an angle above 0 and of at most 10 deg, such as 0.1 or 6arcmin"):
        match_run(finished, "any", radius)


def test_no_sources_no_matches(tmp_path):
    survey = write_survey(tmp_path / "survey.fits", np.zeros((60, 70), int), np.full((60, 70), 0.5))
    run = run_survey(survey, tmp_path / "run", **OPTIONS)
    sky = run.wcs.pixel_to_world(30, 30).icrs
    Table({"ra": [sky.ra.deg], "dec": [sky.dec.deg]}).write(tmp_path / "known.ecsv")
    found = match_run(run, tmp_path / "known.ecsv", 0.1)
    assert found.inside.tolist() == [True]
    assert [line.rpartition("; ")[2] for line in describe_match(found)[3:]] == ["by chance 0.0", "by chance 0.0"]
    associate(run, found)
    assert run.catalogue.colnames[-2:] == ["assoc_name", "assoc_sep"]
    galactic = sky.galactic
    Table({"lon": [galactic.l.deg], "lat": [galactic.b.deg]}).write(tmp_path / "other.ecsv")
    with pytest.raises(InputError, match=r"^other.ecsv has no source inside the map, by lon and lat \(icrs\): if"):
        associate(run, match_run(run, tmp_path / "other.ecsv", 0.1, "lon,lat"))
    assert match_run(run, tmp_path / "other.ecsv", 0.1, "lon,lat,galactic").inside.tolist() == [True]
