"""What cannot be analysed is refused in the user's terms, and leaves nothing behind."""

import bz2
import gzip
import lzma
import os
from functools import partial

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table

from cwt_dask.errors import SurveyError
from cwt_dask.geometry.tiling import Box
from cwt_dask.survey import Survey, SurveySource, ingest, scan
from cwt_dask.survey.strips import OpenSurvey


@pytest.fixture
def refused(tmp_path):
    """Check that neither scanning nor ingesting accepts a survey, and that nothing is left of the attempt."""

    def check(message, survey, **options):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(SurveyError, match=message):
            scan(SurveySource.of(survey, **options))
        with pytest.raises(SurveyError, match=message):
            ingest(SurveySource.of(survey, **options), tmp_path / "out.zarr")
        assert sorted(tmp_path.iterdir()) == before

    return check


def truncated(kept):
    return lambda content: content[: int(kept * len(content))]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


CUTS = [truncated(0.1), truncated(0.6), truncated(0.92)]


@pytest.mark.parametrize(
    "steps",
    [
        *((cut,) for cut in CUTS),
        *((gzip.compress, cut) for cut in CUTS),
        *((cut, gzip.compress) for cut in CUTS),
        (gzip.compress, flipped),
        (lambda _: gzip.compress(b"not a map either"), truncated(0.4)),
        # The file ends in the header of the last HDU, which astropy drops without a word.
        (lambda content: content[: content.rindex(b"XTENSION") + 40], partial(gzip.compress, compresslevel=0)),
    ],
)
def test_files_that_are_not_whole(refused, write, two, steps):
    path = write(**two)
    for step in steps:
        path.write_bytes(step(path.read_bytes()))
    refused("truncated|damaged", path)


@pytest.mark.parametrize(("kept", "said"), [(-1921, "HDU 1 lack 1 of 9600"), (12_080, "HDU 0 lack 400 of 9600")])
def test_how_much_is_missing(refused, write, two, kept, said):
    path = write(**two)
    path.write_bytes(path.read_bytes()[:kept])
    refused(f"fits is truncated: the data of {said} bytes: get the file again", path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    refused(f"fits is truncated: the data of {said} bytes: get the file again", path)


OTHER_FILES = {
    "xz": (lzma.compress(b""), "is compressed with xz: unpack it with unxz"),
    "zstd": (b"(\xb5/\xfd", "is compressed with zstd: unpack it with unzstd"),
    "Z": (b"\x1f\x9d\x90", r"is compressed with compress \(.Z\): unpack it with uncompress"),
    "zip": (b"PK\x03\x04", "is a ZIP archive: unpack it with unzip"),
    "html": (b"<!DOCTYPE html>", "is a web page or another text: get the file again"),
    "gzip twice": (gzip.compress(gzip.compress(b"")), "unpacked, is a gzip file: unpack it with gunzip"),
    "bzip2, gzip": (gzip.compress(bz2.compress(b"")), "unpacked, is compressed with bzip2: unpack it with bunzip2"),
    "tar": (gzip.compress(b"folder/survey.fits".ljust(512, b"\0")), "unpacked, is not a FITS file"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_are_called_what_they_are(refused, tmp_path, kind):
    start, said = OTHER_FILES[kind]
    path = tmp_path / "survey.fits"
    path.write_bytes(start)
    refused(rf"survey\.fits,? {said}", path)


def touch(path):
    os.utime(path, ns=(0, 0))


def replace(path):
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("other").replace(path)


@pytest.mark.parametrize("change", [touch, replace, os.unlink, lambda path: os.truncate(path, 10_000)])
def test_files_that_change_while_they_are_read(write, two, change):
    path = write(**two)
    with OpenSurvey.open(SurveySource.of(path)) as survey:
        change(path)
        message = "changed while it was read|is truncated or damaged .*: get the file again"
        with pytest.raises(SurveyError, match=message):
            list(survey.strips())


@pytest.mark.parametrize("plane", ["counts", "background"])
def test_a_chunk_that_a_store_has_lost_is_not_taken_for_zeros(write, two, tmp_path, plane):
    store = ingest(SurveySource.of(write(**two | {"counts": np.zeros_like(two["counts"])})), tmp_path / "survey.zarr")
    box = Box(0, 2, 0, 2)
    assert not store.read("counts", box).any()
    (store.path / plane / "c" / "0" / "0").unlink()
    with pytest.raises(SurveyError, match=rf"survey\.zarr/{plane}/c/0/0 is lost: ingest the survey again"):
        Survey.open(store.path).read(plane, box)


def test_damaged_tiles(refused, write, two):
    path = write("survey.fits.fz", tiles={"compression_type": "GZIP_1"}, **two)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\x1f\x8b\x08", b"\x1f\x8b\xff"))
    refused(r"HDU COUNTS of .* is truncated or damaged \(.*\): get the file again", path)
    path.write_bytes(whole[:-2880])
    refused("truncated", path)
    path.write_bytes(gzip.compress(whole))
    refused("COUNTS of .* is tile-compressed inside a gzip file: unpack the file with gunzip first", path)


def test_a_plane_of_a_store_has_the_shape_of_all(write, two, tmp_path):
    store = ingest(SurveySource.of(write(**two)), tmp_path / "survey.zarr")
    zarr.open_array(store.path / "background", mode="r+").resize((40, 61))
    file = store.path / "background" / "zarr.json"
    with pytest.raises(SurveyError, match=rf"^{file} is damaged \(it is not as it was written\): ingest the survey"):
        Survey.open(store.path).refuse_damage()


def test_a_header_says_one_thing_twice(refused, write, two):
    path = write(**two)
    # Of two cards of one keyword some of astropy takes the first, some the last.
    path.write_bytes(path.read_bytes().replace(b"CRPIX1  ", b"NAXIS1  ", 1))
    refused("HDU 0 of .* has NAXIS1 = 60 and 30: get the file again", path)


def test_missing_hdus(refused, write, planes, two):
    counts = write("counts.fits", counts=planes["counts"])
    path = write(**two)
    refused("has no HDU 9{200}[.]{3}; it has 0 COUNTS, 1 BACKGROUND", path, counts_hdu="9" * 5000)
    refused("no HDU MASKED", path, mask_hdu="MASKED")
    refused("no HDU AEFF", path, exposure_hdu="AEFF")
    refused(r"counts.fits has no HDU ERROR; it has 0 COUNTS", path, background=f"{counts}[ERROR]")


def test_of_images_of_one_name_none_is_taken_unasked(refused, write, planes, two):
    path = write("thrice.fits", **planes)
    with fits.open(path, mode="update") as hdus:
        hdus["EXPOSURE"].header["EXTNAME"] = hdus["MASK"].header["EXTNAME"] = "Background"
        hdus.append(fits.BinTableHDU(Table({"a": [1]}), name="COUNTS"))
    numbers = "has 3 HDUs BACKGROUND, numbers 1, 2 and 3"
    refused(rf"thrice.fits {numbers}: give the number of one, such as --background-hdu 1", path)
    refused("has 3 HDUs background, numbers 1, 2 and 3", path, background=f"{path}[background]")
    # A table of that name is no rival of the image.
    assert scan(SurveySource.of(path, background_hdu="1")) == scan(SurveySource.of(write(**two)))


@pytest.mark.parametrize("hdu", ["BACKGROUND", "9"])
def test_a_name_that_cannot_be_read(refused, write, two, hdu):
    path = write(**two)
    content = path.read_bytes()
    place = content.index(b"'BACKGROUND'")
    path.write_bytes(content[:place] + b"\xff\xfe".ljust(12) + content[place + 12 :])
    refused(r"survey\.fits is truncated, damaged or no FITS file \(.*EXTNAME.*\)", path, background_hdu=hdu)


def test_what_is_no_image(refused, write, two):
    nothing = write("nothing.fits", counts=None, background=two["background"])
    refused("HDU COUNTS of .* holds no data: name the HDU", nothing)
    refused(
        "HDU COUNTS of .* has one axis, NAXIS1 = 5: name an HDU that holds an image of two axes",
        write(counts=np.ones(5)),
    )


@pytest.mark.parametrize("band", ["-1", 1.5, ""])
def test_bands_are_numbers_or_sum(band):
    with pytest.raises(SurveyError, match=r'band is .*: give the number of a plane, from 0 on, or "sum"'):
        SurveySource.of("survey.fits", band=band)


@pytest.mark.parametrize("plane", ["counts", "background"])
@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((-2.5, -1), "2 negative values, the (first|lowest) one -2.5"),
        ((np.inf, -np.inf), "2 infinite values, the first one inf"),
        # Of a row with both, although it comes after the other.
        (([-np.inf, np.inf],), "1 negative value, the first one -inf"),
        ((1e200,), "1 absurdly large value, the first one 1e.200"),
    ],
)
def test_impossible_values(refused, write, plane, values, found):
    two = {name: np.ones((300, 8)) for name in ("counts", "background")}
    # In two strips.
    for y, value in zip((150, 299), values, strict=False):
        two[plane][y, [3, 2][: np.size(value)]] = value
    refused(f"HDU {plane.upper()} of .* has {found} at x = 3, y = 150 .from 0.: correct or mask", write(**two))


def test_nothing_left_to_use(refused, write, two, wcs_cards):
    mask = (np.arange(40) > 0).astype(np.uint8)[:, np.newaxis] * np.ones(60, np.uint8)
    empty = {**two, "counts": np.full((40, 60), np.nan), "mask": mask}
    message = "no pixel can be used: 1200 lie off the sky, 1140 are NaN in counts or background, 60 masked by MASK"
    refused(message, write(wcs=wcs_cards(CRPIX2=20.5 - 2700), **empty))


def test_outputs_need_a_directory_and_replace_not_even_an_empty_one(write, two, tmp_path, monkeypatch):
    source, out = SurveySource.of(write(**two)), tmp_path / "out.zarr"
    out.mkdir()
    with pytest.raises(SurveyError, match=r"out\.zarr exists: remove it or choose another name"):
        ingest(source, out)
    assert not list(out.iterdir())
    with pytest.raises(SurveyError, match="nowhere is not a directory: create it first"):
        ingest(source, tmp_path / "nowhere" / "out.zarr")
    out = tmp_path / "late.zarr" / "of another"
    monkeypatch.setattr("cwt_dask.survey.writer.StoreWriter.finish", lambda *_: out.mkdir(parents=True))
    with pytest.raises(SurveyError, match=r"late\.zarr cannot be made .*: look whether something else has appeared"):
        ingest(source, out.parent)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_nothing_is_left_of_an_interrupted_ingest(write, two, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    source = SurveySource.of(write(**two))
    monkeypatch.setattr("cwt_dask.survey.writer.StoreWriter.finish", interrupt)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        ingest(source, tmp_path / "out.zarr")
    assert sorted(tmp_path.iterdir()) == before
