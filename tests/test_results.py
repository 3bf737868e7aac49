import json
import shutil

import numpy as np
import pytest
from skies import poisson_sky, sky_header, write_survey

import cwt_dask
from cwt_dask import CWTKernels, SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import InputError, RunError, SettingsError
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.zarr_io import open_group

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3, "tile_size": 40, "workers": 0}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("results") / "survey.fits", *poisson_sky((70, 90), seed=8))


@pytest.fixture(scope="module")
def run(survey):
    return run_survey(survey, survey.with_name("run"), fits="no", **OPTIONS)


@pytest.fixture
def unfinished(survey, tmp_path, monkeypatch):
    def stop(*_):
        raise ValueError("no number")

    monkeypatch.setattr("cwt_dask.pipeline.blocks.run_tile", stop)
    with pytest.raises(
        RunError, match=r"tiles, iterations 1 to 2: 6 of 6 tiles failed \(0, 1, 2, 3, 4, 5\); tile 0: ValueError"
    ):
        run_survey(survey, tmp_path / "run", **OPTIONS)
    return SurveyRun.open(tmp_path / "run")


def test_maps_are_dask_arrays_whose_chunks_are_the_cores(run):
    for name in ("model", "approx", "residual", "significance"):
        array = getattr(run, name)
        assert array.shape == (70, 90)
        assert array.dtype == np.float64
        assert array.chunks == ((40, 30), (40, 40, 10))
    assert run.support.shape == (2, 70, 90)
    assert run.support.dtype == bool
    assert run.support.chunks == ((2,), (40, 30), (40, 40, 10))
    assert run.support.any().compute()
    np.testing.assert_array_equal(run.map("trust").compute(), run.map("trust")[:].compute())


def test_residual_is_counts_minus_model_and_approximation(run):
    residual = run.survey.counts - (run.model + run.approx)
    np.testing.assert_array_equal(residual.compute(), run.residual.compute())


def test_a_run_is_opened_again_as_it_was(run):
    again = SurveyRun.open(str(run.files.path))
    assert again.certificate == run.certificate
    assert again.stored == run.stored
    assert list(again.catalogue["name"]) == list(run.catalogue["name"])
    assert repr(again) == f"SurveyRun('{run.files.path}': 6 of 6 tiles done)"
    assert again.promises_kept


def test_a_notebook_shows_runs_and_certificates_as_tables(run):
    shown = run._repr_html_()
    assert f"<tr><th>directory</th><td>{run.files.path}</td></tr>" in shown
    assert "<tr><th>tiles</th><td>6 of 6 done, cores of 40 x 40 pixels</td></tr>" in shown
    assert f"<tr><th>sources</th><td>{len(run.catalogue)}</td></tr>" in shown
    certificate = run.certificate
    assert isinstance(certificate, dict)
    assert json.loads(run.files.certificate.read_text()) == certificate
    assert certificate._repr_html_().startswith("<p><strong>the tiles did no harm</strong></p><table>")
    assert "<tr><th>coverage</th><td>1.0</td></tr>" in certificate._repr_html_()
    harmed = type(certificate)(certificate | {"tiling_exact": False, "not_exact_because": ["margin < reach"]})
    assert "<strong>NOT shown to equal the whole map: margin &lt; reach</strong>" in harmed._repr_html_()


def test_a_notebook_shows_what_an_unfinished_run_lacks(unfinished):
    shown = unfinished._repr_html_()
    assert "0 of 6 done" in shown
    assert "has no certificate yet: the run is not finished</td>" in shown


def test_the_wcs_is_that_of_the_survey(run):
    assert run.wcs.to_header() == run.survey.wcs.to_header()
    for card, value in sky_header((70, 90)).items():
        if card.startswith(("CRPIX", "CRVAL", "CDELT", "CTYPE")):
            assert run.wcs.to_header()[card] == value


def test_a_map_of_an_unknown_name_is_refused_with_the_known_ones(run):
    with pytest.raises(
        InputError, match="the run has no map modle: there are approx, best_iteration, best_scale, joined"
    ):
        run.map("modle")


def test_an_unfinished_run_says_so(unfinished):
    assert repr(unfinished).endswith("0 of 6 tiles done)")
    with pytest.raises(InputError, match="has no catalogue yet: the run is not finished"):
        _ = unfinished.catalogue
    with pytest.raises(InputError, match="has no certificate yet: the run is not finished"):
        _ = unfinished.certificate
    assert unfinished.model.shape == (70, 90)


def test_an_unfinished_run_goes_on(unfinished, run, survey, monkeypatch):
    monkeypatch.undo()
    again = run_survey(survey, unfinished.files.path, fits="no", **OPTIONS)
    assert again.certificate["digest_maps"] == run.certificate["digest_maps"]


@pytest.mark.parametrize(("content", "reason"), [("[]", r"\(it is no table\)"), ('{"coverage": ', r"\(Expecting")])
def test_a_damaged_certificate_is_named_and_made_again(survey, run, tmp_path, content, reason):
    path = shutil.copytree(run.files.path, tmp_path / "run")
    copy = SurveyRun.open(path)
    copy.files.certificate.write_text(content)
    with pytest.raises(RunError, match=f"certificate.json is damaged {reason}.*: delete it: the same run command"):
        _ = copy.certificate
    assert run_survey(survey, path, fits="no", **OPTIONS).certificate["n_iter"] == run.certificate["n_iter"]


def test_a_damaged_catalogue_is_named_and_made_again(survey, run, tmp_path):
    path = shutil.copytree(run.files.path, tmp_path / "run")
    copy = SurveyRun.open(path)
    copy.files.catalogue.write_bytes(b"\xff")
    with pytest.raises(RunError, match=r"catalogue\.ecsv is damaged \(.*\): delete it: the same run command"):
        _ = copy.catalogue
    assert len(run_survey(survey, path, fits="no", **OPTIONS).catalogue) == len(run.catalogue)


def lost(run, tmp_path, name):
    copy = SurveyRun.open(shutil.copytree(run.files.path, tmp_path / "run"))
    shutil.rmtree(copy.files.maps / name / "c")
    return copy


def test_maps_that_a_finished_run_has_lost_are_no_zeros(run, tmp_path):
    copy = lost(run, tmp_path, "significance")
    with pytest.raises(RunError, match=r"lost their chunk significance/c/\d/\d: cwt-dask verify says what else"):
        copy.significance.max().compute()
    with pytest.raises(RunError, match="cwt-dask verify"):
        copy.plot("significance")
    with pytest.raises(RunError, match="cwt-dask verify"):
        copy.cutout(copy.wcs.pixel_to_world(20, 20), "1 deg")
    # A run that is not finished has not got there yet.
    copy.files.certificate.unlink()
    assert copy.significance.max().compute() == 0


def test_kernels_may_be_given_as_such(run, survey, tmp_path):
    rest = {name: value for name, value in OPTIONS.items() if not name.endswith("scale")}
    again = run_survey(survey, tmp_path / "run", kernels=CWTKernels(2, 1.2, 1.5), fits="no", **rest)
    assert again.certificate["settings_digest"] == run.certificate["settings_digest"]
    assert again.certificate["digest_maps"] == run.certificate["digest_maps"]


def test_options_that_nobody_knows_are_refused(survey, tmp_path):
    with pytest.raises(SettingsError, match="unknown option tilesize: did you mean tile_size?"):
        run_survey(survey, tmp_path / "run", tilesize=40)
    assert not list(tmp_path.iterdir())


def test_the_python_api_and_the_command_line_make_the_same_run(run, survey, tmp_path):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    assert main(["run", str(survey), str(tmp_path / "run"), "--quiet", *options]) == 0
    again = SurveyRun.open(tmp_path / "run")
    assert again.certificate["settings_digest"] == run.certificate["settings_digest"]
    assert again.certificate["digest_maps"] == run.certificate["digest_maps"]


def test_python_callers_hear_nothing_unless_they_ask(survey, tmp_path, capsys):
    class Collected(Reporter):
        said = ()

        def message(self, text):
            self.said += (text,)

    run_survey(survey, tmp_path / "run", **OPTIONS)
    assert capsys.readouterr().out == ""
    listener = Collected()
    run_survey(survey, tmp_path / "run", progress=listener, **OPTIONS)
    assert listener.said[-1].endswith("all 6 tiles were done; checked, nothing to do")


@pytest.fixture
def extended(run, tmp_path):
    """A run with more in its group of maps than maps."""
    shutil.copytree(run.files.path, tmp_path / "run")
    extended = SurveyRun.open(tmp_path / "run")
    maps = open_group(extended.files.maps, writable=True)
    maps.require_group("pyramid")
    maps.create_array("other", shape=(2, 2), dtype="u1")
    return extended


@pytest.mark.parametrize("name", ["x", "scale", "pyramid", "other"])
def test_what_is_no_map_is_not_taken_for_one(extended, name):
    with pytest.raises(InputError, match=f"the run has no map {name}: there are approx, .*, trust$"):
        extended.map(name)


def test_what_the_package_does_not_have_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'cwt_dask' has no attribute 'run_surveys'"):
        _ = cwt_dask.run_surveys
