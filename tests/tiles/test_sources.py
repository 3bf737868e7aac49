import shutil

import numpy as np
import pytest
from work import flip

from cwt_dask.errors import DamageError
from cwt_dask.measure.candidates import LEAST_SIGMA, find_candidates
from cwt_dask.storage.layout import RunDir
from cwt_dask.tiles.sources import candidates_of, measure_tile, read_found
from cwt_dask.trust import SourceFlag


def test_candidates_are_read_back_and_describe_the_maps(run):
    plan, counts = run.stored.plan, run.survey.counts.compute()
    names = ("significance", "trust", "best_scale", "best_iteration", "sigma")
    significance, trust, best_scale, best_iteration, sigma = (run.map(name).compute() for name in names)
    support = run.support.compute().any(axis=0)
    rows, columns = np.indices(support.shape)
    scales = plan.kernels.scales
    shown = np.where(support, significance, -np.inf), scales[best_scale], np.where(sigma > LEAST_SIGMA, sigma, -np.inf)
    expected = find_candidates(*shown, scales[0])
    found = []
    for tile in plan.grid.tiles():
        measure_tile(run.files, "r", plan, run.survey.path, tile.id)
        labels, peaks = read_found(run.files, "r", tile.id)
        found += zip(peaks.y, peaks.x, peaks.y_start, peaks.x_start, peaks.label >= 0, strict=True)
        assert labels.n_pixels.sum() == support[tile.core.slices].sum()
        at = peaks.y, peaks.x
        np.testing.assert_array_equal(peaks.label >= 0, support[at])
        assert (peaks.significance[support[at]] > 3).all()
        assert not peaks.exposure.any()
        np.testing.assert_array_equal(peaks.significance, significance[at])
        late = (peaks.flags & SourceFlag.LATE) > 0
        np.testing.assert_array_equal(peaks.sigma, sigma[peaks.y_start, peaks.x_start])
        np.testing.assert_array_equal(peaks.sigma > LEAST_SIGMA, ~late)
        np.testing.assert_array_equal(peaks.flags & ~SourceFlag.LATE, trust[at])
        np.testing.assert_array_equal(peaks.iteration, best_iteration[at])
        np.testing.assert_array_equal(peaks.best_scale[support[at]], best_scale[at][support[at]])
        for y, x, scale, n in zip(*at, peaks.best_scale, peaks.counts, strict=True):
            disc = np.hypot(rows - y, columns - x) <= np.sqrt(2) * plan.kernels.widths[scale]
            assert n == counts[disc].sum()
    whole = zip(*(getattr(expected, name) for name in ("y", "x", "y_start", "x_start", "in_support")), strict=True)
    assert sorted(found) == list(whole)
    assert len(found) > 3


def test_detections_that_are_not_as_recorded_are_refused(run, tmp_path):
    files = RunDir(shutil.copytree(run.files.path, tmp_path / "run"))
    flip(files.detections(1))
    with pytest.raises(DamageError, match=rf"^{files.detections(1)} is damaged: the run's own command does the tile a"):
        candidates_of(files, run.stored.plan, run.survey.path, 0)
