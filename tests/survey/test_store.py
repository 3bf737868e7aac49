"""The store: windows, digests, several readers, bounded memory."""

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import zarr
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype

from cwt_dask.errors import SurveyError
from cwt_dask.geometry.tiling import Box
from cwt_dask.storage.zarr_io import create_group, open_group
from cwt_dask.survey import Survey, SurveySource, ingest, is_store

SHAPE = (1100, 1050)


@pytest.fixture(scope="module")
def big():
    rng = np.random.default_rng(2)
    mask = (rng.random(SHAPE) > 0.1).astype(np.uint8)
    return {
        "counts": (rng.poisson(1.0, SHAPE) * mask).astype(np.int32),
        "background": rng.uniform(0.5, 2, SHAPE).astype(np.float32) * mask,
        "mask": mask,
    }


@pytest.fixture(scope="module")
def survey(big, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    header = fits.Header({"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CDELT1": -0.001, "CDELT2": 0.001})
    hdus = [fits.ImageHDU(data, header, name=name) for name, data in big.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "survey.fits")
    return ingest(SurveySource.of(folder / "survey.fits"), folder / "survey.zarr")


def test_a_chunk_that_is_not_there_is_lost(tmp_path):
    create_group(tmp_path / "store")
    store = open_group(tmp_path / "store", whole="survey").store
    read = partial(store.get, prototype=default_buffer_prototype())
    assert asyncio.run(read("none/zarr.json")) is None
    with pytest.raises(SurveyError, match="has lost its chunk counts/c/0/0: ingest the survey again"):
        asyncio.run(read("counts/c/0/0"))


def test_planes_are_lazy_in_chunks_of_the_store(survey, big):
    assert survey.counts.chunks == ((1024, 76), (1024, 26))
    for name, plane in big.items():
        np.testing.assert_array_equal(getattr(survey, name).compute(scheduler="sync"), plane)
        box = Box(1000, 1100, 1000, 1050)
        np.testing.assert_array_equal(survey.read(name, box), plane[box.slices])
    assert survey.exposure is None
    assert survey.counts.name == Survey.open(survey.path).counts.name != survey.background.name


def test_the_store_is_compressed_and_checked(survey):
    for name in ("counts", "background", "mask"):
        array = zarr.open_group(survey.path, mode="r")[name]
        assert array.chunks == (1024, 1024)
        assert [type(codec).__name__ for codec in array.compressors] == ["BloscCodec", "Crc32cCodec"]
    assert json.loads((survey.path / "zarr.json").read_text())["zarr_format"] == 3
    assert [path.name for path in survey.path.parent.iterdir() if "partial" in path.name] == []


def test_damaged_chunks_are_noticed(survey, tmp_path):
    copy = shutil.copytree(survey.path, tmp_path / "copy.zarr")
    chunk = copy / "counts" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        Survey.open(copy).read("counts", Box(0, 1, 0, 1))


@given(
    window=st.tuples(*[st.integers(-30, 1130)] * 2, *[st.integers(-30, 1080)] * 2),
    grow=st.integers(0, 20),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_hold_the_pixels_of_window_and_map_only(survey, big, window, grow):
    y0, y1, x0, x1 = window
    check_window(survey, big, Box(min(y0, y1), max(y0, y1), min(x0, x1), max(x0, x1)), grow)


def check_window(survey, big, window, grow):
    box = window.grown(grow)
    read = survey.read_window(window, box)
    y, x = np.meshgrid(np.arange(box.y0, box.y1), np.arange(box.x0, box.x1), indexing="ij")
    seen = (y >= window.y0) & (y < window.y1) & (x >= window.x0) & (x < window.x1) & (y >= 0) & (y < SHAPE[0])
    if not survey.ring:
        seen &= (x >= 0) & (x < SHAPE[1])
    at = y.clip(0, SHAPE[0] - 1), x % SHAPE[1]
    for values, plane, dtype in (
        (read.counts, "counts", np.float64),
        (read.background, "background", np.float64),
        (read.valid, "mask", np.bool_),
    ):
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, np.where(seen, big[plane][at], 0).reshape(box.shape))


def test_digests_of_windows_see_their_own_pixels_only(survey):
    inside = survey.digest_window(Box(0, 50, 0, 60))
    assert (
        inside
        == survey.digest_window(Box(-10, 50, -5, 60))
        == Survey.open(survey.path).digest_window(Box(0, 50, 0, 60))
    )
    assert len({inside, survey.digest_window(Box(0, 51, 0, 60)), survey.digest_window(Box(1, 51, 0, 60))}) == 3


@given(
    window=st.tuples(*[st.integers(-30, 1130)] * 2, *[st.integers(-1300, 2300)] * 2),
    grow=st.integers(-20, 20),
)
@settings(max_examples=15)
def test_on_a_ring_columns_of_windows_count_modulo_the_width(survey, big, window, grow):
    y0, y1, x0, x1 = window
    window = Box(min(y0, y1), max(y0, y1) + 40, min(x0, x1), max(x0, x1) + 40)
    check_window(Survey.open(survey.path, ring=True), big, window, grow)


def test_digests_on_a_ring_are_of_what_a_window_holds(survey, big):
    ring = Survey.open(survey.path, ring=True)
    window = Box(-5, 50, -30, SHAPE[1] + 20)
    expected = hashlib.sha256()
    for name in ("counts", "background", "mask"):
        held = np.pad(big[name][:50], ((0, 0), (30, 20)), mode="wrap")
        expected.update(np.ascontiguousarray(held, getattr(survey, name).dtype.newbyteorder("<")).tobytes())
    assert ring.digest_window(window) == expected.hexdigest()
    assert ring.digest_window(window) == ring.digest_window(window.shifted(-2 * SHAPE[1]))
    assert ring.digest_window(window) != survey.digest_window(window)
    inside = Box(0, 50, 0, 60)
    assert ring.digest_window(inside) == survey.digest_window(inside)
    assert ring.ring
    assert not survey.ring


def test_processes_read_at_once(survey, big):
    command = f"""
from cwt_dask.survey import Survey
from cwt_dask.geometry.tiling import Box
box = Box(900, 1100, 900, 1050)
print(int(Survey.open({str(survey.path)!r}).read_window(box, box).counts.sum()))
"""
    other = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE)
    box, expected = Box(900, 1100, 900, 1050), big["counts"][900:1100, 900:1050].sum()
    while other.poll() is None:
        assert survey.read_window(box, box).counts.sum() == expected
    assert int(other.communicate()[0]) == expected


def test_stores_are_told_from_files(survey, tmp_path):
    assert is_store(survey.path)
    assert not is_store(survey.path.with_suffix(".fits"))
    assert not is_store(tmp_path / "nothing")


def test_what_is_no_survey_store_is_refused(tmp_path):
    with pytest.raises(SurveyError, match="is not a survey store: make one with cwt-dask ingest"):
        Survey.open(tmp_path)
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="f4")
    with pytest.raises(SurveyError, match=r"is no readable Zarr group \(.*\): ingest the survey again"):
        Survey.open(tmp_path / "array.zarr")
