"""Flags that only the merge can set."""

import numpy as np
import pytest
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.geometry.margins import TOLERANCE
from cwt_dask.merge.seams import compare_seams, seam_error
from cwt_dask.storage.ledger import read_records
from cwt_dask.trust import Trust

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 41}
OPTIONS |= {"stopping": "fixed", "max_iter": 4, "no_report": True}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    counts, background = poisson_sky((120, 160), seed=4, brightest=1e4)
    mask = np.ones(counts.shape, dtype=bool)
    mask[38:44, 20:25] = False
    return write_survey(tmp_path_factory.mktemp("flags") / "survey.fits", counts, background, mask)


@pytest.fixture(scope="module")
def run(survey):
    return run_survey(survey, survey.with_name("run"), margin=6, **OPTIONS)


def test_pixels_within_reach_of_a_seam_that_differs_are_flagged_and_no_others(run):
    grid, reach = run.stored.plan.grid, run.stored.plan.kernels.reach
    model_max = {tile: record.model_max for tile, record in read_records(run.files.ledger).items()}
    expected = np.zeros(grid.map_box.shape, dtype=bool)
    for tile in grid.tiles():
        for seam in compare_seams(run.files.seams, grid, tile.id):
            if seam.support_flips == 0 and seam_error(seam, model_max) <= TOLERANCE:
                continue
            # Both cores, as far as the other is within reach.
            for one, other in ((tile, grid.tile(seam.neighbour)), (grid.tile(seam.neighbour), tile)):
                expected[other.core.grown(reach).intersection(one.core).slices] = True
    expected &= run.map("mask").compute() != 0
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal((run.map("trust").compute() & Trust.SEAM) != 0, expected)


def test_a_margin_below_the_contract_does_harm_and_the_certificate_says_so(run):
    assert run.certificate["margin"] == 6
    assert run.certificate["tiling_exact"] is False
    assert run.certificate["seam_model_error"] > TOLERANCE
    # No promise was made, so none is broken.
    assert run.promises_kept


def test_flags_of_the_merge_reach_the_catalogue(run):
    catalogue, trust = run.catalogue, run.map("trust").compute()
    of_pixels = catalogue["flags"] & sum(Trust)
    np.testing.assert_array_equal(of_pixels, trust[catalogue["y_peak"], catalogue["x_peak"]])
    assert (catalogue["flags"] & Trust.SEAM).any()


def test_a_flagged_run_is_as_recorded(run, survey):
    before = run.files.certificate.read_bytes()
    again = run_survey(survey, run.files.path, margin=6, **OPTIONS)
    assert again.files.certificate.read_bytes() == before
