"""Memory that real processes take: of workers as planned, of ingest whatever the map's size."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from cases import EVERY
from reporters import Messages
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.errors import SettingsError
from cwt_dask.planning.cost import tile_memory
from cwt_dask.report.table import MOST_SOURCES
from cwt_dask.run import plan_survey


@pytest.mark.parametrize("n_scale", [1, 4] if EVERY else [4])
def test_predicted_memory_is_not_below_what_a_worker_takes(n_scale, tmp_path):
    # Boxes so large that the process does not count, and cores of two sizes.
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((1500, 2900), seed=1, n_sources=100))
    kernels = {"n_scale": n_scale, "min_scale": 1.2, "step_scale": 1.3, "significance_threshold": 3, "psf": 1.2}
    run = run_survey(survey, tmp_path / "run", workers=1, tile_size=1500, max_iter=3, tol=0, fits="no", **kernels)
    measured, plan = run.certificate["peak_memory"]["worker"], run.stored.plan
    assert measured <= tile_memory(plan.grid, n_scale) <= 1.5 * measured
    assert measured <= plan.worker_memory <= 1.75 * measured, "with what the compiler would take on a new machine"


def test_a_crowded_plane_takes_no_more_memory_than_was_planned(tmp_path):
    # One source in a hundred pixels.
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((500, 1000), seed=1, n_sources=5000))
    options = {"psf": 1.2, "n_scale": 2, "step_scale": 1.3, "tile_size": 500, "max_iter": 2, "fits": "no"}
    run = run_survey(survey, tmp_path / "run", workers=1, **options)
    assert len(run.catalogue) > 1000
    assert run.certificate["peak_memory"]["worker"] <= run.stored.plan.worker_memory


def test_a_worker_with_the_memory_of_its_plan_is_enough_where_nothing_is_compiled_yet(tmp_path, monkeypatch):
    tile_size = 700
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "compiled"))
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((tile_size * 2, tile_size * 3), seed=1, n_sources=100))
    options = {"n_scale": 3, "min_scale": 1.2, "step_scale": 1.5, "tile_size": tile_size, "psf": 1.2}
    plan, told = plan_survey(survey, **options), Messages()
    limit = plan.worker_memory
    run = run_survey(survey, tmp_path / "run", workers=1, memory_limit=limit, progress=told, **options)
    assert run.certificate["tiling_exact"]
    assert 0.8 * limit < run.certificate["peak_memory"]["worker"] <= limit, "less than where Dask would have it pause"
    assert not [text for text in told.texts if "failed" in text], told.texts
    with pytest.raises(SettingsError, match="a worker, the limit is .*: take a smaller tile_size"):
        run_survey(survey, tmp_path / "refused", workers=1, memory_limit=limit - 1, **options)
    assert not (tmp_path / "refused").exists()


def peak_of_ingest(rows, columns, folder):
    """Peak memory in bytes of a process that ingests a gzipped map."""

    folder.mkdir()
    header = fits.Header({"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CDELT1": -0.01, "CDELT2": 0.01})
    ones = np.ones((rows, columns), np.int32)
    hdus = fits.HDUList([fits.PrimaryHDU(ones, header), fits.ImageHDU(ones.astype(np.float32), header, "BACKGROUND")])
    hdus[0].header["EXTNAME"] = "COUNTS"
    with gzip.open(folder / "survey.fits.gz", "wb", 1) as file:
        hdus.writeto(file)
    command = f"""
from cwt_dask.survey import SurveySource, ingest
from cwt_dask.storage.provenance import peak_memory
ingest(SurveySource.of({str(folder / "survey.fits.gz")!r}), {str(folder / "out.zarr")!r})
print(peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    return int(done.stdout)


def test_memory_grows_neither_with_the_height_nor_with_the_width_of_the_map(tmp_path):
    low, high = (peak_of_ingest(rows, 1000, tmp_path / str(rows)) for rows in (1024, 8 * 1024))
    wide = peak_of_ingest(1024, 64 * 1024, tmp_path / "wide")
    assert high < 1.5 * low
    # A row of its chunks alone is 600 MB.
    assert wide < 2 * low


@pytest.mark.usefixtures("reported")
def test_the_largest_report_is_below_20_megabytes(tmp_path):
    # As many pixels as a page draws of any survey, and as many sources as it lists.
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((1220, 1220), seed=2))
    kernels = {"n_scale": 3, "min_scale": 1.2, "step_scale": 1.5, "significance_threshold": 2, "false_sources": 1e9}
    run = run_survey(survey, tmp_path / "run", workers=0, max_iter=4, fits="no", **kernels)
    assert len(run.catalogue) > MOST_SOURCES
    size = run.files.report.stat().st_size
    assert 5e6 < size < 20e6
