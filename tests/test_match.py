import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from skies import poisson_sky, write_survey

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cli import main
from cwt_dask.counterparts import read_counterparts
from cwt_dask.errors import InputError
from cwt_dask.match import associate, describe_match, match_run
from cwt_dask.report import report_is_current, write_report
from cwt_dask.verify import verify_run

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3, "workers": 0, "fits": "no"}


@pytest.fixture
def run(tmp_path):
    mask = np.ones((90, 130), bool)
    mask[40:50, 60:70] = False
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((90, 130), seed=3), mask)
    return run_survey(survey, tmp_path / "run", significance_threshold=5.0, tile_size=60, **OPTIONS)


def catalogue_of(run, path, *, offset=0.03, others=()):
    """A catalogue of every second source, `offset` degrees north of it, and of others."""
    sky = SkyCoord(run.catalogue["ra"], run.catalogue["dec"], unit="deg")[::2]
    moved = sky.directional_offset_by(0 * u.deg, offset * u.deg)
    positions = [*moved, *others]
    table = Table({"Source_Name": [f"S{k} " for k in range(len(positions))]})
    table["RAJ2000"] = [p.fk5.ra.deg for p in positions]
    table["DEJ2000"] = [p.fk5.dec.deg for p in positions]
    table.write(path, overwrite=True)
    return path


def test_the_nearest_within_the_radius_is_associated(run, tmp_path):
    # One in the hole of the mask, one outside the map.
    others = [run.wcs.pixel_to_world(65, 45), run.wcs.pixel_to_world(65, -400)]
    path = catalogue_of(run, tmp_path / "known.fits", others=others)
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
    assert lines[0] == f"catalogue      known.fits: {half.sum() + 2} sources, {half.sum()} inside the map"
    assert lines[2].startswith(f"associated     {half.sum()} of {n} sources; by chance 0.")


def test_chance_is_what_sources_strewn_at_random_give(run, tmp_path):
    rng = np.random.default_rng(2)
    # As dense everywhere that the share of the sky within the radius of one is known.
    x, y = rng.uniform(-150, 280, 4000), rng.uniform(-100, 190, 4000)
    sky = run.wcs.pixel_to_world(x, y).icrs
    path = tmp_path / "strewn.ecsv"
    Table({"ra": sky.ra.deg, "dec": sky.dec.deg}).write(path)
    radius = 0.2
    expected = 1 - np.exp(-4000 / (43.0 * 29.0) * np.pi * radius**2)
    found = match_run(run, path, radius)
    assert found.chance_associated == pytest.approx(expected, abs=0.1)
    assert 0 < found.chance_found < 0.5


def test_associations_go_into_all_files_and_promises_still_hold(run, tmp_path):
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
    again = SurveyRun.open(run.files.path)
    assert again.catalogue.meta["ASSOC"] == "known.fits"
    assert not [check for check in verify_run(again) if check.fault]
    # Nothing is to be done, and another match replaces this one.
    before = run.files.certificate.read_bytes()
    run_survey(tmp_path / "survey.fits", run.files.path, significance_threshold=5.0, tile_size=60, **OPTIONS)
    assert run.files.certificate.read_bytes() == before
    associate(run, match_run(run, path, 0.01))
    assert set(np.ma.filled(np.ma.asarray(run.catalogue["assoc_name"]), "").tolist()) == {""}
    assert run.catalogue.colnames.count("assoc_name") == 1


def test_a_catalogue_that_is_made_again_has_no_associations(run, tmp_path):
    associate(run, match_run(run, catalogue_of(run, tmp_path / "known.fits"), 0.05))
    run.files.catalogue_fits.write_bytes(b"torn")
    run_survey(tmp_path / "survey.fits", run.files.path, significance_threshold=5.0, tile_size=60, **OPTIONS)
    assert "assoc_name" not in run.catalogue.colnames
    assert not run.files.associations.exists()


def test_the_command(run, tmp_path, capsys):
    write_report(run)
    path = catalogue_of(run, tmp_path / "known.fits")
    assert main(["match", str(run.files.path), str(path), "--radius", "0.05"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["catalogue", "radius", "associated", "found", "written"]
    # The report shows them, and is as the certificate now is.
    assert report_is_current(run)
    assert "assoc_name" in run.files.report.read_text()
    assert main(["match", str(run.files.path), str(tmp_path / "no.fits")]) == 2
    assert "cannot be read as a table" in capsys.readouterr().err


@pytest.mark.parametrize("radius", [0.0, -1.0, 90.0, np.nan])
def test_a_radius_that_is_none_is_refused(run, radius):
    with pytest.raises(InputError, match="it must be an angle above 0 and below 90 deg"):
        match_run(run, "any", radius)


def test_no_sources_no_matches(tmp_path):
    survey = write_survey(tmp_path / "survey.fits", np.zeros((60, 70), int), np.full((60, 70), 0.5))
    run = run_survey(survey, tmp_path / "run", **OPTIONS)
    sky = run.wcs.pixel_to_world(30, 30).icrs
    Table({"ra": [sky.ra.deg], "dec": [sky.dec.deg]}).write(tmp_path / "known.ecsv")
    found = match_run(run, tmp_path / "known.ecsv", 0.1)
    assert found.inside.tolist() == [True]
    associate(run, found)
    assert run.catalogue.colnames[-2:] == ["assoc_name", "assoc_sep"]


COLUMNS = {
    "icrs": {"RA": [10.0, 20.0], "Dec": [5.0, -5.0]},
    "units": {"ra": np.radians([10.0, 20.0]) * u.rad, "dec": [5.0, -5.0] * u.deg},
    "text": {"RAJ2000": ["00 40 00", "01 20 00"], "DEJ2000": ["+05 00 00", "-05 00 00"]},
    "sky": {"where": SkyCoord([10.0, 20.0], [5.0, -5.0], unit="deg")},
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_positions_are_found_in_columns_of_all_kinds(tmp_path, kind):
    Table(COLUMNS[kind]).write(tmp_path / "c.ecsv")
    found = read_counterparts(tmp_path / "c.ecsv")
    assert SkyCoord([10.0, 20.0], [5.0, -5.0], unit="deg").separation(found.sky).max() < 0.1 * u.arcsec
    assert found.names.tolist() == ["1", "2"]
    assert found.label == "c.ecsv"


def test_galactic_positions_names_and_gaps(tmp_path):
    Table({"GLON": [10.0, np.nan, 30.0], "GLAT": [1.0, 2.0, 3.0], "ID": ["a", "b", "c"]}).write(tmp_path / "c.fits")
    found = read_counterparts(tmp_path / "c.fits")
    np.testing.assert_allclose(found.sky.galactic.l.deg, [10, 30])
    assert found.names.tolist() == ["a", "c"]


def test_a_table_of_a_file_may_be_named(tmp_path):
    tables = [fits.table_to_hdu(Table({"ra": [ra], "dec": [0.0]})) for ra in (10.0, 20.0)]
    tables[1].name = "SECOND"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "c.fits")
    for part, ra in (("", 10.0), ("[1]", 10.0), ("[2]", 20.0), ("[SECOND]", 20.0)):
        assert read_counterparts(f"{tmp_path / 'c.fits'}{part}").sky.ra.deg == pytest.approx([ra])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0]}, "has no positions: give it columns ra and dec"),
        ({"ra": [np.nan], "dec": [1.0]}, "has no source with a position"),
        ({"ra": [1.0], "dec": [91.0]}, "ra and dec of .* are no positions"),
        ({"ra": [1.0] * u.m, "dec": [1.0]}, "ra and dec of .* are no positions"),
        ({"ra": ["x"], "dec": ["y"]}, "ra and dec of .* are no positions"),
    ],
)
def test_catalogues_without_positions_are_refused(tmp_path, columns, message):
    Table(columns).write(tmp_path / "c.ecsv")
    with pytest.raises(InputError, match=message):
        read_counterparts(tmp_path / "c.ecsv")


def test_3fhl_on_the_fermi_map(shared_data, tmp_path):
    kernels = OPTIONS | {"n_scale": 3, "max_iter": 10}
    run = run_survey(shared_data / "fermi_survey.fits.gz", tmp_path / "run", significance_threshold=5.0, **kernels)
    found = match_run(run, shared_data / "gll_psch_v13.fit.gz", 0.35)
    # Peaks simply taken from the significance found 60 with 69 peaks.
    assert len(found.nearest) == 70
    assert (found.found & found.inside).sum() >= 60
    assert (found.nearest >= 0).sum() == 53
    assert found.chance_associated < 0.1
