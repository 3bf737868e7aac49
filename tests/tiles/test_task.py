import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from skies import write_survey

from cwt_dask import run_survey
from cwt_dask.errors import InputError
from cwt_dask.merge.seams import compare_seams
from cwt_dask.run import plan_survey
from cwt_dask.storage.ledger import read_records, read_run_id
from cwt_dask.tiles.sources import measure_tile
from cwt_dask.tiles.task import run_tile
from cwt_dask.trust import Trust


def job_of(run):
    return run.stored.plan.job(run.files, read_run_id(run.files), run.survey.path)


def test_no_array_travels_with_a_task_or_its_result(run):
    plan = run.stored.plan
    for task in (
        partial(run_tile, job_of(run)),
        partial(compare_seams, run.files.seams, plan.grid),
        partial(measure_tile, run.files, run.stored.run_id, plan, run.survey.path),
    ):
        assert len(pickle.dumps(task)) < 5000
        assert len(pickle.dumps(task(3))) < 1000


def test_a_tile_done_again_is_the_same_to_the_bit(run):
    first = read_records(run.files.ledger)[4]
    run_tile(job_of(run), 4)
    again = read_records(run.files.ledger)[4]
    varying = {"started": "", "seconds": 0.0, "peak_memory": 0}
    assert replace(again, **varying) == replace(first, **varying)


def test_a_survey_that_is_replaced_while_the_run_goes_on_is_noticed(run):
    job = replace(job_of(run), survey_digest="another")
    with pytest.raises(InputError, match="was replaced by another survey while the run went on: put the first one b"):
        run_tile(job, 4)


def test_a_record_says_what_was_done(run):
    records = read_records(run.files.ledger)
    residual, model = run.residual.compute(), run.model.compute()
    for tile in run.stored.plan.grid.tiles():
        record = records[tile.id]
        count, mean, squares = record.moments[-1]
        pixels = residual[tile.core.slices]
        assert (count, record.n_iter, len(record.moments)) == (pixels.size, 10, 10)
        assert mean == pytest.approx(pixels.mean())
        assert squares / count == pytest.approx(pixels.var())
        assert record.model_max == model[tile.core.slices].max()
        assert 2**26 < record.peak_memory < 2**34


def test_pixels_near_a_very_bright_source_whose_error_is_undefined_are_flagged(tmp_path, options):
    shape = (100, 100)
    y, x = np.mgrid[: shape[0], : shape[1]]
    background = np.full(shape, 0.3)
    expected = background + 1e5 * np.exp(-((y - 50) ** 2 + (x - 50) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    survey = write_survey(tmp_path / "s.fits", np.random.default_rng(1).poisson(expected), background)
    run = run_survey(survey, tmp_path / "run", **options | {"tile_size": 33})
    undefined = (run.map("trust").compute() & Trust.ERROR_UNDEFINED) != 0
    assert 0 < undefined.sum() == run.certificate["undefined_error_pixels"]
    radius = np.hypot(y - 50, x - 50)[undefined]
    assert radius.min() > 3
    assert radius.max() < 3 * run.stored.plan.kernels.reach


def test_planning_a_survey_gives_the_plan_that_a_run_follows(run, options):
    assert plan_survey(run.files.path.with_name("survey.fits"), **options) == run.stored.plan
