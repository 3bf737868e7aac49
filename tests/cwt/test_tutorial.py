"""Every figure of the published tutorial, through the public interface."""

import numpy as np
import pytest
from astropy.coordinates import Angle

from cwt_dask import CWT, CWTData, CWTKernels
from cwt_dask.cwt.image import SkyImage


@pytest.fixture(scope="module")
def cutout(shared_data):
    path = shared_data / "fermi_survey.fits.gz"
    size = Angle([10, 20], "deg")
    images = (SkyImage.read(path, "COUNTS"), SkyImage.read(path, "BACKGROUND"))
    return tuple(image.cutout(position=image.center, size=size) for image in images)


@pytest.fixture(scope="module")
def cwt(cutout):
    counts, background = cutout
    data = CWTData(counts=counts, background=background, n_scale=2)
    cwt = CWT(
        kernels=CWTKernels(n_scale=2, min_scale=6.0, step_scale=1.3),
        max_iter=10,
        tol=1e-5,
        significance_threshold=2.0,
        significance_island_threshold=None,
        remove_isolated=True,
        keep_history=True,
    )
    cwt.analyze(data)
    assert data.n_iter == 10
    assert not data.converged
    return cwt


def test_the_cutout(cutout, shared_data):
    counts, background = cutout
    whole = SkyImage.read(shared_data / "fermi_survey.fits.gz")
    assert whole.data.shape == (101, 2001)
    np.testing.assert_array_equal(counts.data, whole.data[0:100, 900:1100])
    assert counts.data.sum() == 8889
    assert background.data.sum() == pytest.approx(9065.991225468248, rel=1e-12)


@pytest.mark.parametrize("iteration", [1, 10])
def test_reference_arrays(cwt, shared_data, iteration):
    kept = cwt.history[iteration]
    with np.load(shared_data / "tutorial_reference.npz") as reference:
        np.testing.assert_array_equal(kept.support_3d.data, reference[f"support_{iteration}"])
        expected = {name: reference[f"{name}_{iteration}"] for name in ("model", "approx", "transform", "error")}
        expected["approx_bkg"] = reference["approx_bkg"]
    for name, array in expected.items():
        found = (kept.transform_3d if name == "transform" else getattr(kept, name)).data
        np.testing.assert_allclose(found, array, rtol=0, atol=1e-12 * array.max(), err_msg=name)


@pytest.mark.parametrize(
    ("name", "after_1", "after_10"),
    [
        ("model", 9.11352812377282, 72.89076820149917),
        ("approx", -160.92220335552818, -225.5333204839756),
        ("approx_bkg", 8461.152949343777, 8461.152949343777),
        ("support", 5122, 5486),
        ("support_2d", 3350, 3576),
        ("residual", 9040.808675231756, 9041.642552282476),
        ("maximal", 6.87929327870489, 5.317025920395623),
        ("transform_3d", 0.21275846020597844, 0.10488884502288112),
        ("error", 15.115322818791197, 15.005029794595721),
    ],
)
def test_sums(cwt, name, after_1, after_10):
    # Sums of terms of both signs agree to the rounding of the terms, not of the sum.
    for iteration, expected in ((1, after_1), (10, after_10)):
        image = getattr(cwt.history[iteration], name).data
        assert image.sum() == pytest.approx(expected, rel=1e-12, abs=1e-14 * np.abs(image).sum())


def printed(value):
    """Figures as the tutorial prints them: about twelve digits."""
    return pytest.approx(value, rel=2e-11)


def test_image_info(cwt):
    table = cwt.history[1].image_info(name="approx_bkg")
    assert table.colnames == ["Metrics", "Source"]
    assert list(table["Metrics"]) == ["Name", "Shape", "Variance", "Mean", "Max value", "Min value", "Sum values"]
    assert list(table["Source"][:2]) == ["approx_bkg", "2D image"]
    assert list(table["Source"][2:]) == printed(
        [0.0800090238573, 0.423057647467, 1.21632073897, 0.0322794972041, 8461.15294934]
    )


def test_cube_info(cwt):
    difference = cwt.history[1] - cwt.history[0]
    for table in (cwt.history[1].cube_info(name="support", per_scale=False), difference.cube_info("support")):
        assert table.colnames == ["Metrics", "Source"]
        assert list(table["Source"][:2]) == ["support", "3D cube"]
        assert list(table["Source"][2:4]) == printed([0.1116531975, 0.12805])
        assert [str(value) for value in table["Source"][4:]] == ["True", "False", "5122"]


def test_cube_info_per_scale(cwt):
    table = cwt.history[1].cube_info(name="support", per_scale=True)
    assert table.colnames == ["Scale power", "Metrics", "Source"]
    assert table["Scale power"].tolist() == [1, *[None] * 6, 2, *[None] * 6]
    assert list(table["Source"][[1, 8]]) == ["2D image", "2D image"]
    assert list(table["Source"][[2, 3, 6]]) == printed([0.10030839, 0.1131, 2262])
    assert list(table["Source"][[9, 10, 13]]) == printed([0.122551, 0.143, 2860])


def test_info_table_of_a_difference(cwt):
    table = (cwt.history[1] - cwt.history[0]).info_table
    assert table.colnames == ["Name", "Shape", "Variance", "Mean", "Max value", "Min value", "Sum values"]
    rows = {row["Name"]: (row["Shape"], list(row)[2:]) for row in table}
    expected = {
        "support_2d": (0.13944375, 0.1675, 1.0, 0.0, 3350.0),
        "maximal": (1.27064959705e-06, 0.000343964663935, 0.0111684652858, 0.0, 6.8792932787),
        "approx": (0.00402266659823, -0.00804611016778, 0.271338582375, -0.251765384164, -160.922203356),
        "model": (2.46869845878e-06, 0.000455676406189, 0.0154327993377, 0.0, 9.11352812377),
        "approx_bkg": (0.0800090238573, 0.423057647467, 1.21632073897, 0.0322794972041, 8461.15294934),
        "background": (0.165220253511, 0.453299561273, 3.91485793084, 0.0938217013733, 9065.99122547),
        "transform_2d": (2.46869845878e-06, 0.000455676406189, 0.0154327993377, 0.0, 9.11352812377),
        "counts": (0.6672141975, 0.44445, 24.0, 0.0, 8889.0),
        "residual": (0.666300092318, 0.452040433762, 23.9435547617, -0.283584814746, 9040.80867523),
        "model_plus_approx": (0.00411546702714, -0.00759043376159, 0.285133242591, -0.251765384164, -151.808675232),
        "error": (4.42639782374e-08, 0.00037788307047, 0.00119109721276, 6.82653288761e-05, 15.1153228188),
        "support": (0.1116531975, 0.12805, 1.0, 0.0, 5122.0),
        "transform_3d": (1.51986805876e-06, 5.31896150515e-06, 0.0111684652858, -0.00859049127385, 0.212758460206),
    }
    assert rows.keys() == expected.keys()
    assert {table[name].dtype for name in table.colnames[2:]} == {np.dtype(float)}
    for name, figures in expected.items():
        shape, found = rows[name]
        assert shape == ("3D cube" if name in {"error", "support", "transform_3d"} else "2D image")
        assert found == printed(list(figures)), name
