import shutil

import numpy as np
import pytest
from work import flip

from cwt_dask.errors import DamageError
from cwt_dask.measure.peaks import find_peaks
from cwt_dask.storage.layout import RunDir
from cwt_dask.tiles.sources import measure_tile, read_found


def test_measured_peaks_are_read_back_and_describe_the_maps(run):
    plan, counts = run.stored.plan, run.survey.counts.compute()
    names = ("significance", "trust", "best_scale", "best_iteration")
    significance, trust, best_scale, best_iteration = (run.map(name).compute() for name in names)
    support = run.support.compute().any(axis=0)
    rows, columns = np.indices(support.shape)
    n_peaks = 0
    for tile in plan.grid.tiles():
        measure_tile(run.files, "r", plan, run.survey.path, tile.id)
        labels, peaks = read_found(run.files, "r", tile.id)
        n_peaks += len(peaks.y)
        assert labels.n_pixels.sum() == support[tile.core.slices].sum()
        at = peaks.y, peaks.x
        assert support[at].all()
        assert (peaks.significance > 3).all()
        assert not peaks.exposure.any()
        np.testing.assert_array_equal(peaks.significance, significance[at])
        np.testing.assert_array_equal(peaks.flags, trust[at])
        np.testing.assert_array_equal(peaks.iteration, best_iteration[at])
        np.testing.assert_array_equal(peaks.best_scale, best_scale[at])
        for y, x, found in zip(*at, peaks.counts, strict=True):
            disc = np.hypot(rows - y, columns - x) <= np.sqrt(2) * plan.kernels.widths[best_scale[y, x]]
            assert found == counts[disc].sum()
    whole = np.where(support, significance, -np.inf)
    assert n_peaks == len(find_peaks(whole, plan.kernels.scales[best_scale])[0]) > 3


def test_detections_that_are_not_as_recorded_are_refused(run, tmp_path):
    files = RunDir(shutil.copytree(run.files.path, tmp_path / "run"))
    flip(files.detections(1))
    with pytest.raises(DamageError, match=rf"^{files.detections(1)} is damaged: the run's own command does the tile a"):
        measure_tile(files, "r", run.stored.plan, run.survey.path, 0)
