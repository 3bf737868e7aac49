import numpy as np

from cwt_dask.report import pyramid, rasters


def test_bytes_stand_for_values_and_masked_pixels_for_none(finished, mask):
    found = rasters.read_rasters(finished, pyramid.Pyramid.of(finished.stored.plan.grid))
    shown = {raster.name: raster for raster in found}
    assert list(shown) == ["counts", "model", "residual", "significance", "support"]
    for raster in shown.values():
        assert np.array_equal(raster.levels[0] == 0, ~mask)
    for name, values in (("counts", finished.survey.counts), ("significance", finished.significance)):
        raster, true = shown[name], values.compute(scheduler="synchronous").astype(float)[mask]
        decoded = np.array([np.nan, *raster.values[1:]])[raster.levels[0][mask]]
        np.testing.assert_allclose(decoded, true, rtol=0.03, atol=0.03 * true.std())
        assert all(byte in range(1, 256) for byte in raster.ticks)
        assert all(np.all(np.diff(places) >= 0) for places in raster.stretches.values())
    support = finished.support.compute(scheduler="synchronous")
    assert np.array_equal(shown["support"].levels[0][mask], (1 + 2 * support[0] + 4 * support[1])[mask])


def test_more_scales_than_bits_have_several_rasters():
    level = {"support": np.ones((9, 2, 3), bool)}
    first, second = rasters._support([level], [np.ones((2, 3), np.uint32)], np.arange(1.0, 10.0))
    assert (first.levels[0].max(), second.levels[0].max()) == (255, 7)
    assert (first.name, second.name) == ("support", "support7")
    assert second.scale_names == ["8", "9"]
