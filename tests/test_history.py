"""The whole maps after every iteration, against those of the single image."""

import numpy as np
import pytest
import zarr
from skies import poisson_sky, write_survey

from cwt_dask import CWT, CWTData, CWTKernels, run_survey
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.storage.schema import HISTORY

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 45}


@pytest.fixture(scope="module")
def sky():
    return poisson_sky((90, 130), seed=3)


@pytest.fixture(scope="module")
def survey(sky, tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("history") / "survey.fits", *sky)


@pytest.fixture(scope="module")
def run(survey):
    # It stops at 7, within the block that ends at 8.
    return run_survey(survey, survey.with_name("run"), tol=9.5e-3, keep_history=True, **OPTIONS)


@pytest.fixture(scope="module")
def whole(sky):
    data = CWTData(*sky, n_scale=2)
    cwt = CWT(CWTKernels(2, 1.2, 1.5), tol=9.5e-3, keep_history=True)
    cwt.analyze(data)
    return cwt.history


def test_the_history_is_that_of_the_whole_map(run, whole):
    assert len(run.history) == len(whole) == 8
    for maps, expected in zip(run.history, whole, strict=True):
        np.testing.assert_allclose(maps.model.compute(), expected.model.data, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(maps.support.compute(), expected.support_3d.data)
        np.testing.assert_array_equal(maps.support_2d.compute(), expected.support_2d.data)
    np.testing.assert_array_equal(run.history[-1].model.compute(), run.model.compute())
    np.testing.assert_array_equal(run.history[-1].support.compute(), run.support.compute())
    assert not run.history[0].model.any().compute()
    assert not run.history[0].support.any().compute()


def test_differences_are_those_of_the_tutorial(run, whole, sky):
    found, expected = run.history[7] - run.history[3], whole[7] - whole[3]
    np.testing.assert_allclose(found.model.compute(), expected.model.data, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.support.compute(), expected.support_3d.data)
    np.testing.assert_array_equal(found.counts.compute(), sky[0])
    np.testing.assert_array_equal(found.background.compute(), sky[1])


def test_iterations_count_as_in_any_sequence(run):
    assert [len(part) for part in (run.history[:3], run.history[-2:])] == [3, 2]
    with pytest.raises(IndexError, match=r"iteration 8: the history has 0 \(the start\) to 7"):
        run.history[8]


def test_it_lies_in_the_maps_and_takes_little_space(run):
    history = zarr.open_group(run.files.maps, mode="r")[HISTORY]
    assert history.shape == (7, 90, 130)
    assert history.chunks == (1, 45, 45)
    # Most of a model is zeros.
    assert history.nbytes_stored() < history.nbytes / 2


def test_the_history_does_not_change_the_result(run, survey, tmp_path):
    plain = run_survey(survey, tmp_path / "plain", tol=9.5e-3, **OPTIONS)
    assert plain.certificate["digest_maps"] == run.certificate["digest_maps"]
    with pytest.raises(InputError, match="keeps no history: run with --keep-history"):
        _ = plain.history
    with pytest.raises(SettingsError, match="holds a run that keeps no history: leave out keep_history"):
        run_survey(survey, tmp_path / "plain", tol=9.5e-3, keep_history=True, **OPTIONS)
