"""Runs that are given a point spread function: their scales, the column of containment, and what they keep."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from skies import poisson_sky, write_survey
from spreads import psf_map, psf_table, share, write

from cwt_dask import CWTKernels, SurveyRun, run_survey
from cwt_dask.errors import InputError, RunError, SettingsError
from cwt_dask.inspection.verify import verify_run
from cwt_dask.reprocess import reprocess, what_would_be_reused
from cwt_dask.run import plan_survey
from cwt_dask.storage.sealed import sealed
from cwt_dask.survey import SurveySource, ingest

SHAPE = (60, 80)
QUICK = {"max_iter": 2, "significance_threshold": 5, "workers": 0, "fits": "no"}
TUTORIALS = "the scales, 6, 7.8 pixels, are the tutorial's, not those of these data: give the point spread function"


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("psf") / "survey.fits", *poisson_sky(SHAPE, seed=4, n_sources=12))


@pytest.fixture
def spread(tmp_path):
    """Narrow in the east, at large x, and wide in the west."""
    return write(tmp_path / "psf.fits", *psf_map([[0.12, 0.12], [0.24, 0.24]]))


def scales(survey, **options):
    return plan_survey(survey, **options).kernels.scales


def test_the_scales_follow(survey, spread):
    np.testing.assert_allclose(scales(survey, psf="0.16deg"), [1.6, 2.4, 3.6, 5.4, 8.1])
    # Of the narrowest in the field.
    np.testing.assert_allclose(scales(survey, psf=spread), 1.2 * 1.5 ** np.arange(5), rtol=1e-3)
    # A scale below a pixel sees nothing.
    np.testing.assert_allclose(scales(survey, psf=0.3), 1.5 ** np.arange(5))
    np.testing.assert_allclose(scales(survey, psf=1.6, max_extent=4), [1.6, 2.4, 3.6])
    np.testing.assert_allclose(scales(survey, psf=1.6, max_extent="0.54deg"), [1.6, 2.4, 3.6, 5.4])
    np.testing.assert_allclose(scales(survey, psf=1.6, max_extent=0.1), [1.6])
    np.testing.assert_allclose(scales(survey, psf=1.6, n_scale=2, step_scale=1.2), [1.6, 1.92])
    np.testing.assert_allclose(scales(survey, psf=1.6, min_scale=2, n_scale=2), [2, 3])
    np.testing.assert_allclose(scales(survey, psf=1.6, n_scale=2, min_scale=3, step_scale=1.3), [3, 3.9])
    # Without one it is the number of scales that the extent gives.
    np.testing.assert_allclose(scales(survey, min_scale=1.2, step_scale=1.5, max_extent=2.7), [1.2, 1.8, 2.7])


def test_what_makes_no_scales_is_refused(survey):
    with pytest.raises(SettingsError, match="^max_extent and n_scale are both given: give one of them$"):
        plan_survey(survey, psf=1.6, n_scale=2, max_extent=5)
    with pytest.raises(SettingsError, match='^max_extent is "5m": it must be pixels'):
        plan_survey(survey, psf=1.6, max_extent="5m")
    with pytest.raises(SettingsError, match=r"^n_scale is 100: it must be at most 32"):
        plan_survey(survey, psf=1.6, n_scale=100, step_scale=1.001)


def test_plan_and_run_say_it(call, survey, spread, tmp_path):
    said = call("plan", survey, "--psf", spread).out
    text = f"PSFMap of HDU PSF of {spread}, 0.1 to 10 TeV weighted by E^-2; sigma 1.2 to 2.4 pixels (0.12 deg); scales "
    assert f"\npsf            {text}" in said
    said = call("plan", survey, "--psf=0.12deg")
    text = (
        "Gaussian; sigma 1.2 pixels (0.12 deg); scales 1.2, 1.8, 2.7, 4.05, 6.075 pixels, which cover sources of up to "
        "6.08 pixels (0.608 deg) in sigma"
    )
    assert f"psf            {text}\n" in said.out
    options = ("--workers=0", "--max-iter=2", "--psf=0.12deg", "--fits=no")
    for _ in ("begun", "finished"):
        assert f"psf: {text}\n" in call("run", survey, tmp_path / "run", *options).out
    stored = (tmp_path / "run" / "run.toml").read_text()
    assert "psf = 1.2\n" in stored
    assert "max_extent" not in stored
    # It is the earlier run's, of whose file only the content is known.
    again = call("reprocess", survey, tmp_path / "run", tmp_path / "again", "--workers=0", "--fits=no").out
    assert f"psf: {text}\n" in again


def test_without_one_the_tutorials_scales_are_warned_about_once(call, survey, tmp_path):
    (warning,) = (each for each in plan_survey(survey).warnings if "tutorial" in each)
    assert warning.startswith(TUTORIALS)
    assert call("plan", survey).out.count(TUTORIALS) == 1
    said = call("run", survey, tmp_path / "run", "--workers=0", "--max-iter=1")
    assert (said.out + said.err).count(TUTORIALS) == 1
    for options in ({"min_scale": 6}, {"psf": 1.2}, {"psf": 1.2, "n_scale": 2}):
        assert not [each for each in plan_survey(survey, **options).warnings if "tutorial" in each]
    run = run_survey(survey, tmp_path / "kernels", kernels=CWTKernels(1, 2.0, 1.5), **QUICK)
    assert not [each for each in run.certificate["warnings"] if "tutorial" in each]


def test_settings_of_runs_without_one_stay_what_they_are(survey):
    plan = plan_survey(survey, min_scale=2)
    assert not {"psf", "max_extent"} & plan.decisive.keys()
    assert plan.psf == ""
    same = plan_survey(survey, min_scale=2, psf=1.2, n_scale=2, step_scale=1.3)
    assert {**same.decisive, "psf": None} == {**plan.decisive, "psf": None}
    assert asdict(same.settings)["psf"] == 1.2


def test_the_catalogue_has_what_the_discs_hold(survey, spread, tmp_path):
    run = run_survey(survey, tmp_path / "run", psf=spread, **QUICK)
    rows = run.catalogue
    assert len(rows) > 1
    # Longitude 9 lies between the two profiles, at 8 and 10 deg.
    sigma = np.where(rows["x_peak"] > 49.5, 1.2, 2.4)
    assert len(set(sigma)) == 2
    np.testing.assert_allclose(rows["containment"], share(np.asarray(rows["radius"]), sigma), atol=1e-3)
    again = run.psf.containment(rows["radius"], rows["x_peak"], rows["y_peak"])
    np.testing.assert_array_equal(rows["containment"], again.round(4))
    for file in ("catalogue.fits", "catalogue.vot"):
        np.testing.assert_array_equal(Table.read(run.files.path / file)["containment"], rows["containment"])
    without = run_survey(survey, tmp_path / "without", min_scale=1.2, **QUICK)
    assert "containment" not in without.catalogue.colnames
    assert without.psf is None


@pytest.mark.usefixtures("reported")
def test_the_report_shows_it(survey, tmp_path):
    run = run_survey(survey, tmp_path / "run", psf=1.3, n_scale=1, **QUICK)
    page = run.files.report.read_text()
    assert "Containment" in page
    assert "Gaussian; sigma 1.3 pixels" in page


def broken(run):
    return [check.promise for check in verify_run(run) if check.broken]


def test_the_file_is_not_needed_any_more(survey, spread, tmp_path):
    run = run_survey(survey, tmp_path / "run", psf=spread, **QUICK)
    expected = np.asarray(run.catalogue["containment"])
    spread.unlink()
    run = SurveyRun.open(run.files.path)
    assert not broken(run)
    np.testing.assert_allclose(run.psf.kernel(60, 30, 9).sum(), share(4.5, 1.2), atol=0.03)
    assert what_would_be_reused(survey, run.files.path)
    again = reprocess(survey, run.files.path, tmp_path / "again", workers=0, fits="no")
    np.testing.assert_array_equal(again.catalogue["containment"], expected)
    assert again.stored.plan.settings == run.stored.plan.settings
    assert not broken(again)


def test_what_is_damaged_is_found_and_mended_by_the_same_call(survey, spread, tmp_path):
    options = {"psf": spread, **QUICK}
    run = run_survey(survey, tmp_path / "run", **options)
    kept = run.files.psf.read_bytes()
    other = json.dumps(sealed(json.loads(kept) | {"kind": "x"})).encode()
    for damaged in (None, kept[:-100], kept.replace(b"PSFMap", b"PSFmap"), other):
        run.files.psf.unlink() if damaged is None else run.files.psf.write_bytes(damaged)
        assert broken(run) == ["the point spread function is as the run read it"]
        with pytest.raises(RunError, match=r"psf\.json is damaged or lost: give the run's own command again"):
            _ = run.psf
        run_survey(survey, run.files.path, **options)
        assert run.files.psf.read_bytes() == kept
        assert not broken(run)


def test_another_one_is_another_run(survey, spread, tmp_path):
    run_survey(survey, tmp_path / "run", psf=spread, **QUICK)
    write(spread, *psf_map([[0.12, 0.12], [0.25, 0.25]]))
    with pytest.raises(SettingsError, match=r"psf was PSFMap sha256:\w+, is PSFMap sha256:\w+\. Choose another"):
        run_survey(survey, tmp_path / "run", psf=spread, **QUICK)
    with pytest.raises(SettingsError, match=r"psf was PSFMap sha256:\w+, is 1\.2\W"):
        run_survey(survey, tmp_path / "run", psf=1.2, **QUICK)


def test_a_store_will_do(survey, spread, tmp_path):
    store = ingest(survey, tmp_path / "survey.zarr").path
    one, other = (run_survey(each, tmp_path / str(n), psf=spread, **QUICK) for n, each in enumerate((survey, store)))
    assert one.stored.plan.settings == other.stored.plan.settings
    np.testing.assert_array_equal(one.catalogue["containment"], other.catalogue["containment"])


def test_a_file_of_settings_may_name_it(call, survey, spread, tmp_path):
    (tmp_path / "psf.toml").write_text(f'psf = "{spread}[PSF]"\nmax_extent = "0.3deg"\n')
    assert "PSFMap of HDU PSF" in call("plan", survey, "--config", tmp_path / "psf.toml").out


@pytest.mark.parametrize("given", [1.5, 0.15 * u.deg, np.exp(-(np.hypot(*np.mgrid[-9:10, -9:10]) ** 2) / 4.5)])
def test_from_python(survey, given):
    plan = plan_survey(survey, psf=given)
    assert plan.kernels.min_scale == pytest.approx(1.5, rel=0.02)
    with pytest.raises(InputError, match="^psf is a list: it must be a width"):
        plan_survey(survey, psf=["a", "b"])


def test_photons_by_their_spectrum(survey, tmp_path):
    file = write(tmp_path / "psf.fits", psf_table())
    soft, hard = (plan_survey(survey, psf=file, index=index) for index in (3, 1.5))
    assert soft.kernels.min_scale > 1.1 * hard.kernels.min_scale
    assert "weighted by E^-3;" in soft.psf


@pytest.fixture
def dataset(tmp_path):
    """A survey with a point spread function in its own file, as Gammapy writes datasets."""
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky(SHAPE, seed=4))
    return append(survey, psf_map([[0.12, 0.12], [0.24, 0.24]]))


def append(survey, more):
    with fits.open(survey, mode="append") as hdus:
        for hdu in more:
            hdus.append(hdu)
    return survey


def test_that_of_the_surveys_own_file_is_taken(call, dataset):
    named = [plan_survey(dataset, psf=given) for given in (f"{dataset}[PSF]", dataset)]
    assert named[0].kernels.min_scale == pytest.approx(1.2, rel=1e-3)
    assert {plan.settings_digest for plan in (*named, plan_survey(dataset))} == {named[0].settings_digest}
    own = f"PSFMap of HDU PSF of {dataset}, 0.1 to 10 TeV weighted by E^-2, the survey's own (--psf none leaves it out)"
    assert f"\npsf            {own}; sigma 1.2 to 2.4 pixels" in call("plan", dataset).out
    for left_out in ({"psf": None}, {"psf": "none"}):
        plan = plan_survey(dataset, **left_out)
        assert not plan.psf
        assert any(each.startswith(TUTORIALS) for each in plan.warnings)
    assert "sigma 1.2 pixels" in call("plan", dataset, "--psf=0.12deg").out
    assert "\npsf " not in call("plan", dataset, "--psf=none").out


def test_that_of_the_surveys_own_file_is_none_of_runs_and_stores_without(dataset, tmp_path):
    without = run_survey(dataset, tmp_path / "run", psf=None, **QUICK)
    # As a run of an earlier release is gone on with, which knew of none.
    again = run_survey(dataset, tmp_path / "run", **QUICK)
    new = reprocess(dataset, tmp_path / "run", tmp_path / "new", workers=0, fits="no")
    for run in (again, new):
        assert run.stored.plan.settings == without.stored.plan.settings
        assert run.psf is None
    store = ingest(dataset, tmp_path / "survey.zarr").path
    assert not plan_survey(store).psf
    taken = run_survey(dataset, tmp_path / "taken", **QUICK)
    assert "containment" in taken.catalogue.colnames
    assert run_survey(dataset, tmp_path / "taken", **QUICK).certificate == taken.certificate


def damaged(hdus):
    """With a text for an energy."""
    columns = [column for column in hdus[1].columns if column.name != "ENERGY_TRUE_MIN"]
    text = fits.Column("ENERGY_TRUE_MIN", "5A", array=["low"] * len(hdus[1].data))
    return [hdus[0], fits.BinTableHDU.from_columns([*columns, text], name="PSF_BANDS")]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (damaged(psf_map([[0.2, 0.2]])), "PSF cannot be read"),
        (psf_map([[1e-5, 1e-5]]), r"HDU PSF of .*survey\.fits holds no point spread function at these energies"),
        (
            psf_map([[0.2, 0.2]]) + psf_map([[0.2, 0.2]], name="OTHER"),
            r".*survey\.fits holds 2 point spread functions: name one, --psf",
        ),
    ],
)
def test_what_is_of_no_use_in_the_surveys_own_file_is_left_out_with_a_warning(survey, tmp_path, more, why):
    dataset = append(write_survey(tmp_path / "survey.fits", *poisson_sky(SHAPE, seed=4)), more)
    plan = plan_survey(dataset, min_scale=1.2)
    assert plan.settings_digest == plan_survey(survey, min_scale=1.2).settings_digest
    (warning,) = (each for each in plan.warnings if "own" in each)
    assert re.match(f"the point spread function of the survey's own file is left out: {why}", warning)
    run = run_survey(dataset, tmp_path / "run", min_scale=1.2, **QUICK)
    assert warning in run.certificate["warnings"]


@pytest.fixture
def cube(tmp_path):
    """Counts at 0.1 to 1 and 1 to 10 TeV."""
    counts, background = poisson_sky(SHAPE, seed=4)
    write_survey(tmp_path / "cube.fits", *(np.stack([plane] * 2) for plane in (counts, background)))
    with fits.open(tmp_path / "cube.fits", mode="append") as hdus:
        for name in ("COUNTS", "BACKGROUND"):
            columns = (("E_MIN", [0.1, 1]), ("E_MAX", [1, 10]))
            bands = [fits.Column(each, "D", unit="TeV", array=values) for each, values in columns]
            hdus.append(fits.BinTableHDU.from_columns(bands, name=f"{name}_BANDS"))
    return tmp_path / "cube.fits"


def test_the_energies_of_the_counts_count(cube, tmp_path):
    file = write(tmp_path / "psf.fits", psf_table())
    widths = [
        plan_survey(cube, psf=file, **bands).kernels.min_scale
        for bands in ({"emax": "1TeV"}, {"band": "sum"}, {"emin": "1TeV"})
    ]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 3
    assert "1 to 10 TeV weighted by E^-2;" in plan_survey(cube, psf=file, emin="1TeV").psf
    store = ingest(SurveySource.of(cube, emin="1TeV"), tmp_path / "cube.zarr").path
    of_store = plan_survey(store, psf=file, index=2.5)
    assert of_store.settings == plan_survey(cube, psf=file, emin="1TeV", index=2.5).settings
    with pytest.raises(SettingsError, match="is a store, its planes were chosen when it was ingested: leave out index"):
        plan_survey(store, min_scale=1.2, index=2.5)
