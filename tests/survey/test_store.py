"""The store: windows, digests, damage."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import zarr
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from cwt_dask.errors import SurveyError
from cwt_dask.geometry.tiling import Box
from cwt_dask.storage.sealed import sealed
from cwt_dask.survey import Survey, SurveySource, ingest

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


def test_damaged_chunks_are_noticed(survey, tmp_path):
    copy = shutil.copytree(survey.path, tmp_path / "copy.zarr")
    chunk = copy / "counts" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    opened = Survey.open(copy)
    for read in (lambda: opened.read("counts", Box(0, 1, 0, 1)), opened.refuse_damaged_chunks):
        with pytest.raises(SurveyError, match=rf"^{chunk} is damaged \(its checksum does not fit\): ingest the survey"):
            read()


def test_a_sound_chunk_in_the_place_of_another_is_noticed(survey, tmp_path):
    copy = shutil.copytree(survey.path, tmp_path / "copy.zarr")
    shutil.copyfile(copy / "background/c/0/0", copy / "background/c/0/1")
    with pytest.raises(SurveyError, match=r"background/c/0/1 is damaged \(it is another chunk\): ingest the survey ag"):
        Survey.open(copy).refuse_damaged_chunks()


def _overwrite_checksum(copy):
    zarr.open_group(copy, mode="r+")["chunk_checksums"][0, 0, 0] = 7


def _take_another_table(copy):
    shutil.copyfile(copy / "counts_moments/c/0/0/0", copy / "chunk_checksums/c/0/0/0")


@pytest.mark.parametrize("damage", [_overwrite_checksum, _take_another_table])
def test_what_tells_chunks_apart_is_checked_too(survey, tmp_path, damage):
    copy = shutil.copytree(survey.path, tmp_path / "copy.zarr")
    damage(copy)
    with pytest.raises(SurveyError, match=r"chunk_checksums/c/0/0/0 is damaged \(it is not as it w"):
        Survey.open(copy).read("background", Box(0, 1, 0, 1))


def test_what_a_store_says_is_of_its_own_sky(survey, tmp_path):
    file = shutil.copytree(survey.path, tmp_path / "copy.zarr") / "zarr.json"
    content = json.loads(file.read_text())
    wcs = content["attributes"]["wcs"]
    content["attributes"] = sealed(content["attributes"] | {"wcs": wcs.replace("GLAT", "DEC-")})
    file.write_text(json.dumps(content))
    with pytest.raises(SurveyError, match=rf"^{file} is damaged \(its digest is of another WCS\): ingest the survey"):
        Survey.open(file.parent)


PLACES = ("CDELT1", "n_valid", "pixel_scale_deg", "brightest", "seal", 'counts": "', "version")


@pytest.mark.parametrize("place", PLACES)
def test_no_digit_of_what_a_store_says_can_change_unseen(survey, tmp_path, place):
    file = shutil.copytree(survey.path, tmp_path / "copy.zarr") / "zarr.json"
    content = file.read_text()
    at = content.index(place) + len(place)
    at += next(n for n, digit in enumerate(content[at:]) if digit.isdigit())
    file.write_text(f"{content[:at]}{(int(content[at]) + 1) % 10}{content[at + 1 :]}")
    with pytest.raises(SurveyError, match=rf"^{file} is damaged \(it is not as it was written\): ingest the survey"):
        Survey.open(file.parent)


def test_a_description_that_is_lost_is_named(survey, tmp_path):
    file = shutil.copytree(survey.path, tmp_path / "copy.zarr") / "counts_moments" / "zarr.json"
    file.unlink()
    with pytest.raises(SurveyError, match=rf"^{file} is lost: ingest the survey again"):
        Survey.open(tmp_path / "copy.zarr").refuse_damage()


@given(
    window=st.tuples(*[st.integers(-30, 1130)] * 2, *[st.integers(-1300, 2300)] * 2),
    grow=st.integers(-20, 20),
    ring=st.booleans(),
)
@settings(max_examples=40)
def test_windows_hold_the_pixels_of_window_and_map_only(survey, big, window, grow, ring):
    """On a ring columns count modulo the width."""
    y0, y1, x0, x1 = window
    window = Box(min(y0, y1), max(y0, y1) + 40, min(x0, x1), max(x0, x1) + 40)
    box = window.grown(grow)
    read = Survey.open(survey.path, ring=ring).read_window(window, box)
    y, x = np.meshgrid(np.arange(box.y0, box.y1), np.arange(box.x0, box.x1), indexing="ij")
    seen = (y >= window.y0) & (y < window.y1) & (x >= window.x0) & (x < window.x1) & (y >= 0) & (y < SHAPE[0])
    if not ring:
        seen &= (x >= 0) & (x < SHAPE[1])
    at = y.clip(0, SHAPE[0] - 1), x % SHAPE[1]
    for values, plane, dtype in (
        (read.counts, "counts", np.float64),
        (read.background, "background", np.float64),
        (read.valid, "mask", np.bool_),
    ):
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, np.where(seen, big[plane][at], 0).reshape(box.shape))


def test_digests_are_of_the_pixels_that_a_window_holds(survey, big):
    inside = survey.digest_window(Box(0, 50, 0, 60))
    assert inside == survey.digest_window(Box(-10, 50, -5, 60))
    assert len({inside, survey.digest_window(Box(0, 51, 0, 60)), survey.digest_window(Box(1, 51, 0, 60))}) == 3
    ring = Survey.open(survey.path, ring=True)
    assert ring.digest_window(Box(0, 50, 0, 60)) == inside
    window = Box(-5, 50, -30, SHAPE[1] + 20)
    expected = hashlib.sha256()
    for name in ("counts", "background", "mask"):
        held = np.pad(big[name][:50], ((0, 0), (30, 20)), mode="wrap")
        expected.update(np.ascontiguousarray(held, getattr(survey, name).dtype.newbyteorder("<")).tobytes())
    assert ring.digest_window(window) == expected.hexdigest()
    assert ring.digest_window(window) == ring.digest_window(window.shifted(-2 * SHAPE[1]))
    assert ring.digest_window(window) != survey.digest_window(window)


def test_what_is_no_survey_store_is_refused(tmp_path):
    with pytest.raises(SurveyError, match="is not a survey store: make one with cwt-dask ingest"):
        Survey.open(tmp_path)
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="f4")
    with pytest.raises(SurveyError, match=r"array.zarr/zarr.json describes no readable Zarr group \(.*\): ingest"):
        Survey.open(tmp_path / "array.zarr")


@pytest.mark.parametrize(
    ("there", "found"),
    [('"seal"', '"weal"'), ("{", "z"), ('"zarr_format": 3', '"zarr_format": 7'), ('"node_', '"jode_'), ('"g', '"f')],
)
def test_one_bit_of_what_describes_a_store_is_named_by_its_file(survey, tmp_path, there, found):
    path = shutil.copytree(survey.path, tmp_path / "survey.zarr", ignore=lambda *_: ["c"]) / "zarr.json"
    before, end = path.read_text().rsplit(there, 1)
    path.write_text(before + found + end)
    with pytest.raises(SurveyError, match=rf"^{path} is damaged \(.*\): ingest the survey again$"):
        Survey.open(path.parent)
