import logging

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS

from cwt_dask import CWT, CWTData, CWTKernels
from cwt_dask.cwt.image import SkyImage
from cwt_dask.errors import InputError

COMPUTED = ["model", "approx", "approx_bkg", "transform_2d"]
IMAGES = ["counts", "background", *COMPUTED, "model_plus_approx", "residual", "maximal", "support_2d"]
CUBES = ["transform_3d", "error", "support"]
SHAPE = (25, 30)


def sky():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [15.5, 13.0]
    wcs.wcs.cdelt = [-0.1, 0.1]
    wcs.wcs.crval = [83.6, 22.0]
    return wcs


def poisson_counts():
    counts = np.random.default_rng(5).poisson(0.5, SHAPE).astype(float)
    counts[12, 12] += 100
    return counts


def analyzed(max_iter=3):
    data = CWTData(SkyImage(poisson_counts(), sky()), np.full(SHAPE, 0.5), n_scale=2)
    CWT(CWTKernels(2, 1.2, 1.5), max_iter=max_iter).analyze(data)
    return data


@pytest.fixture(scope="module")
def data():
    return analyzed()


def blank(value=1.0):
    return np.full(SHAPE, value)


def test_the_images_and_cubes_by_name(data):
    assert list(data.images()) == IMAGES
    assert list(data.cubes()) == CUBES
    for name, image in {**data.images(), **data.cubes()}.items():
        assert image.name == name
        assert image.wcs is data.wcs
        np.testing.assert_array_equal(image.data, getattr(data, name).data)
        assert image.data.shape == ((2, *SHAPE) if name in CUBES else SHAPE)
        assert image.data.dtype == (bool if name.startswith("support") else np.float64)
    np.testing.assert_array_equal(data.support_3d.data, data.support.data)


def test_what_follows_from_what(data):
    assert data.model.data.max() > 0
    np.testing.assert_array_equal(data.model_plus_approx.data, data.model.data + data.approx.data)
    np.testing.assert_array_equal(data.residual.data, data.counts.data - (data.model.data + data.approx.data))
    np.testing.assert_array_equal(data.support_2d.data, data.support.data[0] | data.support.data[1])
    np.testing.assert_array_equal(
        data.maximal.data, np.maximum(*data.transform_3d.data) * (data.support.data[0] | data.support.data[1])
    )


def test_before_the_analysis_all_that_is_computed_is_zero():
    data = CWTData(poisson_counts(), blank(0.5), n_scale=2)
    assert (data.n_iter, data.converged) == (0, False)
    for name in [*COMPUTED, "maximal", "support_2d", *CUBES, "significance"]:
        assert not getattr(data, name).data.any()
    np.testing.assert_array_equal(data.residual.data, data.counts.data)
    assert (data.best_scale.data == -1).all()


def test_the_input_is_copied_and_may_be_of_any_dtype():
    counts, background = poisson_counts().astype(">i2"), blank(0.5).astype(">f4")
    data = CWTData(counts, background, n_scale=1)
    counts[:] = 7
    np.testing.assert_array_equal(data.counts.data, poisson_counts())
    assert data.counts.data.dtype == data.background.data.dtype == np.float64


def test_the_wcs_is_that_of_the_counts_or_else_of_the_background():
    wcs = sky()
    assert CWTData(SkyImage(blank(), wcs), blank(), 1).wcs is wcs
    assert CWTData(blank(), SkyImage(blank(), wcs), 1).model.wcs is wcs
    assert CWTData(blank(), blank(), 1).wcs is None


def test_masked_pixels_take_no_part(caplog):
    counts, background, mask = blank(3.0), blank(), np.ones(SHAPE)
    counts[0, 0], background[1, 1], mask[2, 2], mask[3, 3] = np.nan, np.nan, 0, np.nan
    counts[2, 2], background[3, 3] = np.inf, -5
    counts = NDData(counts, mask=np.arange(counts.size).reshape(SHAPE) == 5)
    with caplog.at_level(logging.WARNING, "cwt_dask"):
        data = CWTData(counts, background, n_scale=1, mask=mask)
    assert [record.getMessage() for record in caplog.records] == [
        "5 of 750 pixels are masked or not a number: they take no part"
    ]
    masked = np.zeros(SHAPE, dtype=bool)
    masked[[0, 1, 2, 3, 0], [0, 1, 2, 3, 5]] = True
    np.testing.assert_array_equal(data.mask.data, ~masked)
    np.testing.assert_array_equal(data.counts.data, np.where(masked, 0.0, 3.0))
    np.testing.assert_array_equal(data.background.data, np.where(masked, 0.0, 1.0))
    # The numbers of the tables are those of the pixels that take part.
    assert data.image_info("counts")["Source"][2:].tolist() == [0.0, 3.0, 3.0, 3.0, 3.0 * 745]
    caplog.clear()
    CWTData(blank(), blank(), n_scale=1, mask=np.ones(SHAPE, dtype=bool))
    assert not caplog.records


def one_bad(value):
    image = blank()
    image[3, 4] = value
    return image


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((blank(), np.ones((25, 31)), 1), r"counts has shape \(25, 30\) \(y, x\), background \(25, 31\): they must be"),
        ((blank(), blank(), 1, np.ones((2, 2))), r"counts has shape \(25, 30\) \(y, x\), mask \(2, 2\)"),
        (
            (one_bad(-1), blank(), 1),
            r"counts is negative, .* large \(-1.0 at \(y, x\) = \(3, 4\) is the first of 1\): .* excess map",
        ),
        ((blank(), one_bad(-1e-3), 1), r"background is negative, infinite or absurdly large \(-0.001 at .* mask them$"),
        ((one_bad(np.inf), blank(), 1), r"counts is negative, infinite or absurdly large \(inf at"),
        ((blank(), one_bad(1e296), 1), r"background is negative, infinite or absurdly large \(1e\+296 at"),
        ((blank(np.nan), blank(), 1), "all pixels are masked or not a number"),
        ((blank(), blank(), 1, np.zeros(SHAPE)), "all pixels are masked or not a number"),
        ((blank(), blank(), 0), "n_scale is 0: it must be a whole number of at least 1"),
        ((blank(), blank(), 1.5), "n_scale is 1.5: it must be a whole number"),
    ],
)
def test_bad_input_is_refused(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        CWTData(*arguments)


def test_a_difference_of_iterations(data):
    early = analyzed(1)
    before = {name: image.data.copy() for name, image in {**data.images(), **data.cubes()}.items()}
    difference = data - early
    for name in [*COMPUTED, "transform_3d", "error", "model_plus_approx"]:
        expected = getattr(data, name).data - getattr(early, name).data
        np.testing.assert_allclose(getattr(difference, name).data, expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(difference.support.data, data.support.data ^ early.support.data)
    for name in ["counts", "background", "significance", "best_scale", "best_iteration", "sigma"]:
        np.testing.assert_array_equal(getattr(difference, name).data, getattr(data, name).data)
    assert difference.n_iter == 3
    for name, image in before.items():
        np.testing.assert_array_equal(getattr(data, name).data, image)


def test_a_difference_of_unlike_data_is_refused():
    with pytest.raises(InputError, match=r"no difference of \(1, 25, 30\) and \(2, 25, 30\) \(scale, y, x\)"):
        _ = CWTData(blank(), blank(), 1) - CWTData(blank(), blank(), 2)


def test_tables_leave_out_what_is_not_a_number():
    # 10^5 counts blind the detector around them: the error is NaN there.
    counts = poisson_counts()
    counts[12, 12] = 1e5
    data = CWTData(counts, blank(0.5), n_scale=2)
    CWT(CWTKernels(2, 1.2, 1.5), max_iter=6, tol=0).analyze(data)
    error = data.error.data
    assert np.isnan(error).any()
    expected = [np.nanvar(error), np.nanmean(error), np.nanmax(error), np.nanmin(error), np.nansum(error)]
    assert data.cube_info("error")["Source"][2:].tolist() == pytest.approx(expected, rel=1e-12)
    (row,) = [row for row in data.info_table if row["Name"] == "error"]
    assert list(row)[2:] == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(data.significance.data).all()
    data.state.error[:] = np.nan
    assert np.isnan(data.cube_info("error")["Source"][2:].astype(float)).all()


def test_info_of_what_there_is_not():
    data = CWTData(blank(), blank(), 1)
    with pytest.raises(InputError, match="there is no 'flux': choose one of counts, background, model"):
        data.image_info("flux")
    with pytest.raises(InputError, match="there is no 'model': choose one of transform_3d, error, support"):
        data.cube_info("model")


def test_write(data, tmp_path):
    path = tmp_path / "cwt.fits.gz"
    data.write(path)
    with fits.open(path) as hdus:
        names = [hdu.name.lower() for hdu in hdus]
        assert names == ["primary", *IMAGES, *CUBES, "significance", "best_scale", "best_iteration", "sigma", "mask"]
        for name in names[1:]:
            image = getattr(data, name)
            np.testing.assert_array_equal(hdus[name].data, image.data)
            assert hdus[name].data.dtype.kind == ("u" if image.data.dtype == bool else image.data.dtype.kind)
            position = WCS(hdus[name].header).celestial.pixel_to_world(3, 4)
            assert position.separation(sky().pixel_to_world(3, 4)).deg < 1e-9


def test_write_without_a_wcs(tmp_path):
    CWTData(blank(), blank(), 1).write(str(tmp_path / "cwt.fits"))
    assert SkyImage.read(tmp_path / "cwt.fits", "counts").wcs is None


def test_a_file_that_exists_is_left_alone(data, tmp_path):
    path = tmp_path / "cwt.fits"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"cwt\.fits is not written: .*overwrite=True"):
        data.write(path)
    assert path.read_text() == "precious"
    data.write(path, True)
    np.testing.assert_array_equal(SkyImage.read(path, "model").data, data.model.data)
