"""Surveys in memory: what looks like a dataset of Gammapy. The real one: tests/gammapy."""

import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.wcs import WCS
from skies import poisson_sky, sky_header, write_survey

from cwt_dask import CWT, CWTData, CWTKernels, run_survey
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.reprocess import reprocess
from cwt_dask.run import plan_survey
from cwt_dask.survey import SurveySource, as_file, ingest

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 2, "tile_size": 100}
OPTIONS |= {"workers": 0, "no_report": True, "fits": "no"}
SHAPE = (40, 60)


def a_map(data, *, header=None, unit="", **geom):
    return SimpleNamespace(
        data=data, unit=unit, geom=SimpleNamespace(wcs=WCS(header or sky_header(data.shape[-2:])), **geom)
    )


@pytest.fixture(scope="module")
def sky():
    counts, background = poisson_sky(SHAPE, seed=8)
    mask = np.ones(SHAPE, dtype=bool)
    mask[5:9, 10:12] = False
    return counts, background, mask


@pytest.fixture
def dataset(sky):
    counts, background, mask = (a_map(plane[np.newaxis]) for plane in sky)
    return SimpleNamespace(
        counts=counts, background=a_map(7 * sky[1]), npred_background=lambda: background, mask_safe=mask, exposure=None
    )


def test_a_run_on_a_dataset_is_the_run_on_its_file(dataset, sky, tmp_path, monkeypatch):
    file = write_survey(tmp_path / "survey.fits", *sky)
    run = run_survey(dataset, tmp_path / "run", **OPTIONS)
    of_file = run_survey(file, tmp_path / "of_file", **OPTIONS)
    assert run.certificate["digest_maps"] == of_file.certificate["digest_maps"]
    np.testing.assert_array_equal(run.survey.mask, sky[2])
    # The same dataset again is the same run; nothing is left of the file.
    assert run_survey(dataset, tmp_path / "run", **OPTIONS).certificate == run.certificate
    assert plan_survey(dataset, **OPTIONS).survey_digest == run.survey.statistics.digest
    again = reprocess(dataset, run.files.path, tmp_path / "again", workers=0)
    assert again.certificate["digest_maps"] == run.certificate["digest_maps"]
    monkeypatch.setitem(sys.modules, "gammapy.maps", None)
    with pytest.raises(InputError, match=r"maps for Gammapy need Gammapy: pip install 'cwt_dask\[gammapy\]'"):
        run.to_gammapy()


def test_maps_may_come_by_name(sky, tmp_path):
    counts, background, mask = sky
    maps = {"counts": a_map(counts), "background": background, "mask": mask, "exposure": a_map(counts, unit="cm2 s")}
    survey = ingest(maps, tmp_path / "survey.zarr")
    assert survey.exposure is not None
    np.testing.assert_array_equal(survey.background, background * mask)
    with as_file(maps) as path:
        assert ingest(SurveySource.of(path), tmp_path / "of_file.zarr").statistics == survey.statistics
    assert not path.exists()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble, ">f8", np.int8, np.uint64])
def test_maps_may_hold_real_numbers_of_any_type(sky, tmp_path, kind):
    counts, background, _ = sky
    survey = ingest({"counts": a_map(counts.astype(kind)), "background": background}, tmp_path / "survey.zarr")
    np.testing.assert_array_equal(survey.counts, counts)


def test_of_energy_bins_one_is_chosen_or_all_are_summed(sky, tmp_path):
    counts, background, _ = sky
    cube = SimpleNamespace(counts=a_map(np.stack([counts, counts])), background=a_map(np.stack([background] * 2)))
    with pytest.raises(SurveyError, match="HDU COUNTS of the dataset is a cube of 2 planes: choose one with band"):
        ingest(cube, tmp_path / "none.zarr")
    assert ingest(cube, tmp_path / "one.zarr", band=1).statistics.counts_sum == counts.sum()
    assert ingest(cube, tmp_path / "all.zarr", band="sum").statistics.counts_sum == 2 * counts.sum()
    assert plan_survey(cube, band="sum", **OPTIONS).grid.map_box.shape == SHAPE


@pytest.mark.parametrize("misfit", ["shape", "planes", "sky", None])
def test_exposure_is_taken_where_it_lies_on_the_pixels_of_the_counts(dataset, tmp_path, caplog, misfit):
    header = sky_header(SHAPE)
    header["CRVAL1"] = 11.0 if misfit == "sky" else 10.0
    shape = {"shape": (1, 20, 30), "planes": (3, *SHAPE)}.get(misfit, (1, *SHAPE))
    dataset.exposure = a_map(np.ones(shape), header=header, unit="cm2 s")
    with caplog.at_level(logging.WARNING):
        survey = ingest(dataset, tmp_path / "survey.zarr")
    assert (survey.exposure is None) is bool(misfit)
    assert ("exposure does not lie on the pixels of the counts" in caplog.text) is bool(misfit)


ONES = np.ones(SHAPE)


@pytest.mark.parametrize(
    ("counts", "background", "message"),
    [
        (a_map(ONES), None, "the dataset has no background: counts and background are needed"),
        (a_map(ONES, is_hpx=True), ONES, "counts is on a SimpleNamespace that has no rows and columns of pixels"),
        (ONES.astype(complex), ONES, "counts of the dataset is an array of complex128: give an image of real numbers"),
        (ONES, 0.5, "background of the dataset is one value, 0.5: give an image"),
        ([[1, 2], [3]], ONES, "counts of the dataset is no array .*: give an image"),
    ],
)
def test_what_is_no_survey_is_refused(counts, background, message):
    with pytest.raises(InputError, match=message):
        plan_survey({"counts": counts, "background": background})
    with pytest.raises(InputError, match="there is no use for maps bkg: give counts, background, exposure, mask"):
        plan_survey({"counts": counts, "bkg": background})


def test_one_image_is_analysed_as_its_arrays_are(dataset, sky):
    counts, background, mask = sky
    kernels = CWTKernels(n_scale=2, min_scale=1.2, step_scale=1.5)
    data, expected = CWTData.from_dataset(dataset, n_scale=2), CWTData(counts, background, 2, mask)
    for each in (data, expected):
        CWT(kernels, max_iter=3).analyze(each)
    np.testing.assert_array_equal(data.model.data, expected.model.data)
    assert data.wcs.wcs.ctype[0] == "GLON-CAR"
    dataset.counts = a_map(np.ones((3, *SHAPE)))
    with pytest.raises(InputError, match=r"counts has shape \(3, 40, 60\): give an image"):
        CWTData.from_dataset(dataset, n_scale=2)
