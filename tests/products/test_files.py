import numpy as np
import oracle
import pytest
from astropy.io import fits

from cwt_dask import run_survey
from cwt_dask.products import files as products


@pytest.fixture(scope="module")
def maps(run):
    with fits.open(run.files.maps_fits, memmap=False) as hdus:
        hdus.verify("exception")
        return {hdu.name: (hdu.data, hdu.header) for hdu in hdus}


def test_images_are_those_of_the_run(run, sky, maps):
    counts, background, mask = sky
    expected = {"COUNTS": counts * mask, "BACKGROUND": background * mask}
    expected["MODEL_PLUS_APPROX"] = (run.model + run.approx).compute()
    expected["SUPPORT_2D"] = run.support.any(axis=0).compute()
    expected["EXCESS_RESIDUAL"] = (run.survey.counts - run.model - run.approx - run.survey.background).compute()
    np.testing.assert_allclose(maps["EXCESS_RESIDUAL"][0], expected.pop("EXCESS_RESIDUAL"), atol=1e-12)
    expected["EXCESS_RESIDUAL"] = run.map("excess_residual").compute()
    names = "model approx transform_2d residual significance sigma best_scale best_iteration support mask trust"
    expected |= {name.upper(): run.map(name).compute() for name in names.split()}
    assert maps.keys() == {"PRIMARY", "APPROX_BKG", *expected}
    for name, image in expected.items():
        np.testing.assert_array_equal(maps[name][0], image)
    np.testing.assert_array_equal(maps["MASK"][0], mask)
    assert all(np.isfinite(data).all() for data, _ in maps.values() if data is not None)


def test_the_smoothed_background_is_that_of_the_whole_map(sky, maps):
    counts, background, mask = sky
    settings = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 1}
    expected = oracle.analyze(counts, background, mask=mask, rounding=1e-12, **settings)
    np.testing.assert_allclose(maps["APPROX_BKG"][0], expected.approx_bkg, atol=1e-12 * expected.approx_bkg.max())


def test_large_maps_get_no_fits_unless_asked_and_small_ones_may_leave_it_out(run, ring, options, tmp_path, monkeypatch):
    assert products.is_small(run.stored.plan)
    assert not ring.files.maps_fits.exists()
    assert not list(ring.files.path.glob("*partial*"))
    monkeypatch.setattr(products, "SMALL_MAP_PIXELS", 70 * 90 - 1)
    assert not products.is_small(run.stored.plan)
    survey, one = run.files.path.with_name("survey.fits"), options | {"max_iter": 1, "tile_size": 90}
    assert not run_survey(survey, tmp_path / "auto", **one).files.maps_fits.exists()
    assert run_survey(survey, tmp_path / "yes", fits="yes", **one).files.maps_fits.exists()
