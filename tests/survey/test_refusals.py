"""What cannot be analysed is refused in the user's terms, and leaves nothing behind."""

import gzip
import os
import re

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table

from cwt_dask.errors import SurveyError
from cwt_dask.geometry.tiling import Box
from cwt_dask.survey import Survey, SurveySource, ingest, scan
from cwt_dask.survey.strips import OpenSurvey
from cwt_dask.survey.wcs import celestial_header


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


def test_no_fits(refused, tmp_path):
    path = tmp_path / "survey.fits"
    path.write_bytes(b"SIMPLE  = but no more")
    refused(r"survey\.fits is truncated, damaged or no FITS file \(.*\): get the file again", path)
    path.write_bytes(gzip.compress(b"not a map either"))
    refused(r"survey\.fits is truncated, damaged or no FITS file \(.*\): get the file again", path)
    path.write_bytes(gzip.compress(b"not a map either")[:12])
    refused(r"survey\.fits is truncated, damaged or no FITS file \(.*\): get the file again", path)


def as_it_is(content):
    return content


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("before", "after"), [(as_it_is, as_it_is), (gzip.compress, as_it_is), (as_it_is, gzip.compress)]
)
def test_truncated(refused, write, two, kept, before, after):
    path = write(**two)
    whole = before(path.read_bytes())
    path.write_bytes(after(whole[: int(kept * len(whole))]))
    refused("truncated", path)


def test_damaged_gzip(refused, write, two):
    path = write(**two)
    whole = bytearray(gzip.compress(path.read_bytes()))
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    refused("truncated|damaged", path)


def test_no_plane_is_lost_with_the_end_of_a_gzip_file(refused, write, planes):
    path = write(**planes)
    data = path.read_bytes()
    end = data.index(b"XTENSION", data.index(b"BACKGROUND"))
    path.write_bytes(gzip.compress(data, 0)[: end + 40])
    refused("truncated", path)


def test_files_that_shrink_while_they_are_read(write, two, monkeypatch):
    path = write(**two)
    check = celestial_header

    def shrink(*arguments):
        os.truncate(path, 10_000)
        return check(*arguments)

    monkeypatch.setattr("cwt_dask.survey.strips.celestial_header", shrink)
    with pytest.raises(SurveyError, match=r"HDU COUNTS of .* is truncated or damaged \(.*\): get the file again"):
        scan(SurveySource.of(path))


def touch(path):
    os.utime(path, ns=(0, 0))


def replace(path):
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("other").replace(path)


@pytest.mark.parametrize("change", [touch, replace, os.unlink])
def test_files_that_change_while_they_are_read(write, two, change):
    path = write(**two)
    with OpenSurvey.open(SurveySource.of(path)) as survey:
        strips = survey.strips()
        next(strips)
        change(path)
        with pytest.raises(SurveyError, match="changed while it was read"):
            list(strips)


@pytest.mark.parametrize("plane", ["counts", "background"])
def test_a_chunk_that_a_store_has_lost_is_not_taken_for_zeros(write, two, tmp_path, plane):
    store = ingest(SurveySource.of(write(**two | {"counts": np.zeros_like(two["counts"])})), tmp_path / "survey.zarr")
    box = Box(0, 2, 0, 2)
    assert not store.read("counts", box).any()
    (store.path / plane / "c" / "0" / "0").unlink()
    with pytest.raises(SurveyError, match=f"has lost its chunk {plane}/c/0/0: ingest the survey again"):
        Survey.open(store.path).read(plane, box)


def test_damaged_tiles(refused, write, two, tmp_path):
    with fits.open(write("plain.fits", **two)) as hdus:
        tiles = [fits.CompImageHDU(hdu.data, hdu.header, compression_type="GZIP_1", quantize_level=0) for hdu in hdus]
        fits.HDUList([fits.PrimaryHDU(), *tiles]).writeto(tmp_path / "survey.fits.fz")
    path = tmp_path / "survey.fits.fz"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\x1f\x8b\x08", b"\x1f\x8b\xff"))
    refused(r"HDU COUNTS of .* is truncated or damaged \(.*\): get the file again", path)
    path.write_bytes(whole[:-2880])
    refused("truncated", path)


def test_a_plane_of_a_store_has_the_shape_of_all(write, two, tmp_path):
    store = ingest(SurveySource.of(write(**two)), tmp_path / "survey.zarr")
    zarr.open_array(store.path / "background", mode="r+").resize((40, 61))
    with pytest.raises(SurveyError, match=r"damaged \(its shape is \(40, 61\), not \(40, 60\)\): ingest the survey"):
        Survey.open(store.path).refuse_damage()


def test_a_header_says_one_thing_twice(refused, write, two):
    path = write(**two)
    # Of two cards of one keyword some of astropy takes the first, some the last.
    path.write_bytes(path.read_bytes().replace(b"CRPIX1  ", b"NAXIS1  ", 1))
    refused("HDU 0 of .* has NAXIS1 = 60 and 30: get the file again", path)


def test_tiles_inside_gzip(refused, write, two, tmp_path):
    with fits.open(write("plain.fits", **two)) as hdus:
        tiles = [fits.CompImageHDU(hdu.data, hdu.header) for hdu in hdus]
        fits.HDUList([fits.PrimaryHDU(), *tiles]).writeto(tmp_path / "survey.fits.fz")
    path = tmp_path / "survey.fits.gz"
    path.write_bytes(gzip.compress((tmp_path / "survey.fits.fz").read_bytes()))
    refused("COUNTS of .* is tile-compressed inside a gzip file: unpack the file with gunzip first", path)


def test_missing_hdus(refused, write, planes, two):
    counts = write("counts.fits", counts=planes["counts"])
    refused(r"counts.fits has no HDU BACKGROUND; it has 0 COUNTS: name the one to use", counts)
    refused(r"counts.fits has no HDU 3; it has 0 COUNTS", counts, counts_hdu="3")
    path = write(**two)
    refused("no HDU N_ON; it has 0 COUNTS, 1 BACKGROUND", path, counts_hdu="N_ON")
    refused("no HDU MASKED", path, mask_hdu="MASKED")
    refused("no HDU AEFF", path, exposure_hdu="AEFF")
    refused(r"counts.fits has no HDU ERROR; it has 0 COUNTS", path, background=f"{counts}[ERROR]")
    both = write("both.fits", on=planes["counts"], off=planes["counts"])
    refused("both.fits has no HDU BACKGROUND; it has 0 ON, 1 OFF", path, background=both)


def test_of_images_of_one_name_none_is_taken_unasked(refused, write, planes, two):
    path = write("thrice.fits", **planes)
    with fits.open(path, mode="update") as hdus:
        hdus["EXPOSURE"].header["EXTNAME"] = hdus["MASK"].header["EXTNAME"] = "Background"
        hdus.append(fits.BinTableHDU(Table({"a": [1]}), name="COUNTS"))
    numbers = "has 3 HDUs BACKGROUND, numbers 1, 2 and 3"
    refused(rf"thrice.fits {numbers}: give the number of one \(of counts: --counts-hdu 1\)", path)
    refused("has 3 HDUs background, numbers 1, 2 and 3", path, background=f"{path}[background]")
    # A table of that name is no rival of the image.
    assert scan(SurveySource.of(path, background_hdu="1")) == scan(SurveySource.of(write(**two)))


@pytest.mark.parametrize("hdu", ["BACKGROUND", "1", "9", "9" * 5000])
def test_a_name_that_cannot_be_read(refused, write, two, hdu):
    path = write(**two)
    content = path.read_bytes()
    place = content.index(b"'BACKGROUND'")
    path.write_bytes(content[:place] + b"\xff\xfe".ljust(12) + content[place + 12 :])
    refused(r"survey\.fits is truncated, damaged or no FITS file \(.*EXTNAME.*\)", path, background_hdu=hdu)


def test_no_hdu_has_so_large_a_number(refused, write, two):
    refused("has no HDU 9{200}[.]{3}; it has 0 COUNTS, 1 BACKGROUND", write(**two), counts_hdu="9" * 5000)


def test_what_is_no_image(refused, tmp_path):
    def file(hdu):
        hdu.header["EXTNAME"] = "COUNTS"
        path = tmp_path / "no_image.fits"
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
        return path

    refused("HDU COUNTS of .* is a table, not an image: name the HDU", file(fits.BinTableHDU(Table({"a": [1]}))))
    refused("HDU COUNTS of .* holds no data: name the HDU", file(fits.ImageHDU()))
    refused("HDU COUNTS of .* has one axis, NAXIS1 = 5: an image of two axes", file(fits.ImageHDU(np.ones(5))))


def test_a_cube_of_one_plane_has_no_other(refused, write, planes):
    one = write("one.fits", counts=planes["counts"][np.newaxis], background=planes["background"])
    refused("has no band 1: its bands are 0 to 0", one, band=1)


@pytest.mark.parametrize("band", ["all", "-1", -1, 1.5, ""])
def test_bands_are_numbers_or_sum(band):
    with pytest.raises(SurveyError, match=r'band is .*: give the number of a plane, from 0 on, or "sum"'):
        SurveySource.of("survey.fits", band=band)


@pytest.mark.parametrize("plane", ["counts", "background"])
@pytest.mark.parametrize(
    ("value", "kind"), [(-2.5, "negative"), (np.inf, "infinite"), (-np.inf, "negative"), (1e200, "absurdly large")]
)
def test_impossible_values(refused, write, two, plane, value, kind):
    two = {name: data.astype(np.float64) for name, data in two.items()}
    two[plane][7, 50] = value
    first = re.escape(f"the first one {value:g} at x = 50, y = 7 (from 0): correct or mask")
    message = f"HDU {plane.upper()} of .* has {{}}, {first}"
    refused(message.format(f"1 {kind} value"), write("one.fits", **two))
    two[plane][30:32, 2] = value
    refused(message.format(f"3 {kind} values"), write("more.fits", **two))


def test_infinities_of_both_signs(refused, write, two):
    counts = two["counts"].astype(np.float32)
    counts[3, :2] = np.inf, -np.inf
    refused("negative", write(counts=counts, background=two["background"]))


def test_impossible_values_far_down(refused, write):
    counts = np.ones((300, 8), np.int16)
    counts[299, 3] = counts[150, 4] = -1
    path = write(counts=counts, background=np.ones((300, 8), np.float32))
    refused("COUNTS .* has 2 negative values, the first one -1 at x = 4, y = 150", path)


def test_nothing_left_to_use(refused, write, two, wcs_cards):
    first_row = (np.arange(40) > 0).astype(np.uint8)[:, np.newaxis] * np.ones(60, np.uint8)
    message = "no pixel can be used: {} lie off the sky, {} are NaN in counts or background, {} masked by MASK"
    empty = np.full((40, 60), np.nan)
    refused(message.format(0, 2400, 0), write("nan.fits", counts=empty, background=two["background"]))
    refused(message.format(0, 0, 2400), write("mask.fits", **two, mask=np.zeros((40, 60), np.uint8)))
    beyond_the_pole = wcs_cards(CRPIX2=-2700.0, CDELT2=-1 / 30)
    refused(message.format(2400, 0, 0), write("off.fits", wcs=beyond_the_pole, **two))
    half = wcs_cards(CRPIX2=20.5 - 2700)
    refused(message.format(1200, 1140, 60), write("all.fits", wcs=half, **{**two, "counts": empty}, mask=first_row))


def test_outputs_are_never_overwritten(write, two, tmp_path):
    source = SurveySource.of(write(**two))
    out = tmp_path / "out.zarr"
    out.mkdir()
    with pytest.raises(SurveyError, match=r"out\.zarr exists: remove it or choose another name"):
        ingest(source, out)
    assert not list(out.iterdir())
    with pytest.raises(SurveyError, match="nowhere is not a directory: create it first"):
        ingest(source, tmp_path / "nowhere" / "out.zarr")


def test_nothing_is_left_of_an_interrupted_ingest(write, two, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    source = SurveySource.of(write(**two))
    monkeypatch.setattr("cwt_dask.survey.writer.StoreWriter.finish", interrupt)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        ingest(source, tmp_path / "out.zarr")
    assert sorted(tmp_path.iterdir()) == before
