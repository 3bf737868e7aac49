import numpy as np
import pytest

from cwt_dask.report import figures, pyramid, rasters
from cwt_dask.report.residual import smooth_levels


def test_bytes_stand_for_values_and_masked_pixels_for_none(finished, mask):
    levels = pyramid.Pyramid.of(finished.stored.plan.grid)
    found = rasters.read_rasters(finished, levels, smooth_levels(finished, levels))
    shown = {raster.name: raster for raster in found}
    assert list(shown) == ["counts", "smoothed", "residual", "significance", "model", "support"]
    for raster in shown.values():
        assert np.array_equal(raster.levels[0] == 0, ~mask)
    for name, values in (("counts", finished.survey.counts), ("significance", finished.significance)):
        raster, true = shown[name], values.compute(scheduler="synchronous").astype(float)[mask]
        decoded = np.array([np.nan, *raster.values[1:]])[raster.levels[0][mask]]
        np.testing.assert_allclose(decoded, true, rtol=0.03, atol=0.03 * true.std())
        assert all(np.all(np.diff(places) >= 0) for places in raster.stretches.values())
    support = finished.support.compute(scheduler="synchronous")
    assert np.array_equal(shown["support"].levels[0][mask], (1 + 2 * support[0] + 4 * support[1])[mask])


def test_more_scales_than_bits_have_several_rasters():
    level = {"support": np.ones((9, 2, 3), bool)}
    first, second = rasters._support([level], [np.ones((2, 3), np.uint32)], np.arange(1.0, 10.0))
    assert (first.levels[0].max(), second.levels[0].max()) == (255, 7)
    assert (first.name, second.name) == ("support", "support7")
    assert second.scale_names == ["8", "9"]


def test_labels_of_a_colour_bar_are_where_their_values_are(finished):
    levels = pyramid.Pyramid.of(finished.stored.plan.grid)
    found = rasters.read_rasters(finished, levels, smooth_levels(finished, levels))
    for raster in found:
        for stretch, ticks in raster.ticks.items():
            values, places = np.array(raster.values[1:]), raster.stretches[stretch]
            labelled = [float(label.replace("\N{MINUS SIGN}", "-")) for _, label in ticks]
            assert len(ticks) >= 3
            assert [place for place, _ in ticks] == pytest.approx(np.interp(labelled, values, places), abs=1e-3)
            # They do not lie over each other, nor where all larger values have one colour.
            assert np.diff([place for place, _ in ticks]).min() >= 0.079
            assert values[np.flatnonzero(places == 0)[-1]] <= labelled[0]
            assert labelled[-1] <= values[np.flatnonzero(places == 1)[0]]


def test_excess_is_red_and_what_is_lacking_is_blue():
    low, zero, high = (figures.DIVERGING[i] for i in (0, 127, 254))
    red, blue = (lambda colour: int(colour[1:3], 16)), (lambda colour: int(colour[5:], 16))
    assert red(high) > blue(high)
    assert red(low) < blue(low)
    assert min(red(zero), blue(zero)) > 240
