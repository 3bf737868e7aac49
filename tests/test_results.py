import json
import shutil

import numpy as np
import pytest
from reporters import Messages
from skies import sky_header

import cwt_dask
from cwt_dask import CWTKernels, SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import InputError, RunError
from cwt_dask.storage.zarr_io import open_group

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 3, "tile_size": 60, "workers": 0}


@pytest.fixture(scope="module")
def run(survey):
    return run_survey(survey, survey.with_name("run"), fits="no", **OPTIONS)


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, to be damaged."""
    return SurveyRun.open(shutil.copytree(run.files.path, tmp_path / "run"))


def test_maps_are_dask_arrays_whose_chunks_are_the_cores(run):
    for array in (run.model, run.approx, run.residual, run.significance):
        assert (array.dtype, array.chunks) == (np.float64, ((60, 30), (60, 60, 10)))
    assert (run.support.dtype, run.support.chunks) == (bool, ((2,), (60, 30), (60, 60, 10)))
    assert run.support.any().compute()
    np.testing.assert_array_equal(run.map("trust").compute(), run.map("trust")[:].compute())


def test_residual_is_counts_minus_model_and_approximation(run):
    residual = run.survey.counts - (run.model + run.approx)
    np.testing.assert_array_equal(residual.compute(), run.residual.compute())


def test_a_run_is_opened_again_as_it_was(run):
    again = SurveyRun.open(str(run.files.path))
    assert (again.certificate, again.stored) == (run.certificate, run.stored)
    assert list(again.catalogue["name"]) == list(run.catalogue["name"])
    assert repr(again) == f"SurveyRun('{run.files.path}': 6 of 6 tiles done)"
    assert again.promises_kept


def test_a_notebook_shows_runs_and_certificates_as_tables(run):
    shown = run._repr_html_()
    assert f"<tr><th>directory</th><td>{run.files.path}</td></tr>" in shown
    assert "<tr><th>tiles</th><td>6 of 6 done, cores of 60 x 60 pixels</td></tr>" in shown
    assert f"<tr><th>sources</th><td>{len(run.catalogue)}</td></tr>" in shown
    certificate = run.certificate
    assert isinstance(certificate, dict)
    assert json.loads(run.files.certificate.read_text()) == certificate
    assert certificate._repr_html_().startswith("<p><strong>the tiles did no harm</strong></p><table>")
    assert "<tr><th>coverage</th><td>1.0</td></tr>" in certificate._repr_html_()
    harmed = type(certificate)(certificate | {"tiling_exact": False, "not_exact_because": ["margin < reach"]})
    assert "<strong>NOT shown to equal the whole map: margin &lt; reach</strong>" in harmed._repr_html_()


def test_the_wcs_is_that_of_the_survey(run):
    assert run.wcs.to_header() == run.survey.wcs.to_header()
    for card, value in sky_header((90, 130)).items():
        if card.startswith(("CRPIX", "CRVAL", "CDELT", "CTYPE")):
            assert run.wcs.to_header()[card] == value


def test_an_unfinished_run_says_so(copy):
    for file in (copy.files.certificate, copy.files.catalogue, *copy.files.ledger.glob("tile-*")):
        file.unlink()
    assert repr(copy).endswith("0 of 6 tiles done)")
    for name in ("catalogue", "certificate"):
        with pytest.raises(InputError, match=f"has no {name} yet: the run is not finished"):
            getattr(copy, name)
    assert copy.model.shape == (90, 130)
    shown = copy._repr_html_()
    assert "0 of 6 done" in shown
    assert "has no certificate yet: the run is not finished; the command that began it, " in shown


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("certificate", b"[]", r"\(it is no table\)"), ("certificate", b"{", r"\(Expecting"), ("catalogue", b"\xff", "")],
)
def test_what_is_damaged_is_named(copy, name, content, reason):
    getattr(copy.files, name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}\.\w+ is damaged {reason}.*: delete it: the same run command"):
        getattr(copy, name)


def test_a_catalogue_is_the_one_that_the_certificate_has(copy):
    rows = len(copy.catalogue)
    path = copy.files.catalogue
    path.write_bytes(path.read_bytes().replace(b" 1 ", b" 2 ", 1))
    with pytest.raises(RunError, match=r"catalogue\.ecsv is damaged \(it is not as it was written\): delete it"):
        _ = copy.catalogue
    # A run that is not finished has nothing yet that shows it.
    copy.files.certificate.unlink()
    assert len(copy.catalogue) == rows


def test_maps_that_a_finished_run_has_lost_are_no_zeros(copy):
    shutil.rmtree(copy.files.maps / "significance" / "c")
    with pytest.raises(RunError, match=r"maps\.zarr/significance/c/\d/\d is lost: cwt-dask verify says what else"):
        copy.significance.max().compute()
    with pytest.raises(RunError, match="cwt-dask verify"):
        copy.plot("significance")
    with pytest.raises(RunError, match="cwt-dask verify"):
        copy.cutout(copy.wcs.pixel_to_world(20, 20), "1 deg")
    # A run that is not finished has not got there yet.
    copy.files.certificate.unlink()
    assert copy.significance.max().compute() == 0


def test_kernels_given_as_such_and_the_command_line_make_the_same_run(run, survey, tmp_path):
    rest = {name: value for name, value in OPTIONS.items() if not name.endswith("scale")}
    by_kernels = run_survey(survey, tmp_path / "kernels", kernels=CWTKernels(2, 1.2, 1.5), fits="no", **rest)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    assert main(["run", str(survey), str(tmp_path / "typed"), "--quiet", "--fits=no", *options]) == 0
    for again in (by_kernels, SurveyRun.open(tmp_path / "typed")):
        for digest in ("settings_digest", "digest_maps"):
            assert again.certificate[digest] == run.certificate[digest]


def test_python_callers_hear_nothing_unless_they_ask(survey, copy, capsys):
    copy.files.record(0).unlink()
    run_survey(survey, copy.files.path, fits="no", **OPTIONS)
    assert capsys.readouterr().out == ""
    listener = Messages()
    run_survey(survey, copy.files.path, progress=listener, fits="no", **OPTIONS)
    assert listener.texts[-1].endswith("all 6 tiles were done; checked, nothing to do")


def test_what_is_no_map_is_not_taken_for_one(copy):
    maps = open_group(copy.files.maps, writable=True)
    maps.require_group("pyramid")
    maps.create_array("other", shape=(2, 2), dtype="u1")
    for name in ("modle", "x", "scale", "pyramid", "other"):
        with pytest.raises(InputError, match=f"the run has no map {name}: there are approx, .*, trust$"):
            copy.map(name)


def test_what_the_package_does_not_have_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'cwt_dask' has no attribute 'run_surveys'"):
        _ = cwt_dask.run_surveys
