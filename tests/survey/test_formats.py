"""Every way to keep the same numbers in FITS gives the same survey."""

import gzip
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cwt_dask.cwt.image import SkyImage
from cwt_dask.errors import SurveyError
from cwt_dask.survey import SurveySource, ingest, scan
from cwt_dask.survey.fits_file import FitsFile
from cwt_dask.survey.fits_plane import FitsPlane


@pytest.fixture
def plain(write, two):
    return write(**two)


def digest(path, **options):
    return scan(SurveySource.of(path, **options)).digest


def test_values_and_types_of_the_file_are_kept(write, planes, tmp_path):
    source = SurveySource.of(write(**planes))
    survey = ingest(source, tmp_path / "out.zarr")
    assert survey.statistics == scan(source)
    used = planes["mask"] != 0
    for name in ("counts", "background"):
        stored = getattr(survey, name)
        assert stored.dtype == planes[name].dtype
        np.testing.assert_array_equal(stored.compute(), np.where(used, planes[name], 0))
    np.testing.assert_array_equal(survey.exposure.compute(), planes["exposure"])
    np.testing.assert_array_equal(survey.mask.compute(), used)
    assert survey.mask.dtype == np.uint8
    assert survey.statistics.n_masked == np.count_nonzero(~used)
    assert survey.statistics.n_nan == 0


def test_the_real_map_is_read_without_a_warning(shared_data):
    statistics = scan(SurveySource.of(shared_data / "fermi_survey.fits.gz"))
    assert (statistics.shape, statistics.counts_sum, statistics.pixel_scale_deg) == ((101, 2001), 61246, 0.1)
    assert statistics.warnings == ()


def gzipped(path):
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    return packed


def padding(path):
    """Bytes that fill the last block of a file."""
    with fits.open(path, disable_image_compression=True) as hdus:
        return -hdus[-1].size % 2880


END = b"END".ljust(80)
WHOLE = {
    "not padded": lambda content, padding: content[:-padding],
    "padded with text": lambda content, padding: content[:-padding] + b"\n" * padding,
    "END with zeros": lambda content, _: content.replace(END, END.replace(b" ", b"\0")),
    "zeros at the end": lambda content, _: content + bytes(3000),
    "text at the end": lambda content, padding: content[:-padding] + b"written by hand\n",
    "blanks at the end": lambda content, _: content + b" " * 2880,
    "a lone END at the end": lambda content, _: content + END * 36,
}


@pytest.mark.parametrize("change", WHOLE)
def test_what_is_whole_is_read_however_its_blocks_are_filled(write, two, plain, change):
    expected = digest(plain)
    tiles = write("tiles.fits.fz", tiles={}, **two)
    for path in (plain, tiles):
        path.write_bytes(WHOLE[change](path.read_bytes(), padding(path)))
        assert digest(path) == expected
    assert digest(gzipped(plain)) == expected


def test_cards_that_an_extension_inherits(tmp_path, write, planes, wcs_cards):
    """EXPOSURE has its unit, and all have their WCS, in the primary HDU; what INHERIT = F says holds as well."""
    expected = write("own.fits", wcs=wcs_cards(BUNIT="m2 s"), **planes)
    header = fits.Header(wcs_cards(BUNIT="m2 s", EXPOSURE=1e4, BSCALE=2.0))
    hdus = [fits.ImageHDU(plane, name=name.upper()) for name, plane in planes.items()]
    for inherit in (True, "T", False):
        for hdu in hdus:
            hdu.header["INHERIT"] = inherit
        path = tmp_path / f"{inherit}.fits"
        fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path)
        if inherit:
            assert scan(SurveySource.of(path)) == scan(SurveySource.of(expected))
            assert SkyImage.read(path, "COUNTS").center == SkyImage.read(expected, "COUNTS").center
        else:
            with pytest.raises(SurveyError, match="COUNTS of .* has no celestial WCS"):
                scan(SurveySource.of(path))


@pytest.mark.parametrize("dtype", ["<i2", ">i4", ">i8", "u1", "<u2", "u4", ">u8", "<f4", ">f8"])
def test_types_and_byte_orders(write, two, plain, dtype):
    path = write("typed.fits", counts=two["counts"].astype(dtype), background=two["background"])
    assert digest(path) == digest(plain)


@pytest.mark.parametrize("option", ["strip_header_whitespace", "extension_name_case_sensitive", "lazy_load_hdus"])
def test_what_a_file_holds_does_not_depend_on_the_configuration_of_astropy(write, planes, option):
    path = write(**planes)
    expected = scan(SurveySource.of(path))
    with fits.conf.set_temp(option, not getattr(fits.conf, option)):
        assert scan(SurveySource.of(path)) == expected


def test_scaled_integers_equal_the_floats_they_stand_for(tmp_path, write, two):
    background = np.arange(two["counts"].size).reshape(two["counts"].shape) * 0.25 + 8
    path = write("floats.fits", counts=two["counts"], background=background)
    with fits.open(path) as hdus:
        hdus["BACKGROUND"].scale("int16", bscale=0.25, bzero=8)
        hdus.writeto(tmp_path / "scaled.fits")
    assert fits.getheader(tmp_path / "scaled.fits", "BACKGROUND")["BSCALE"] == 0.25
    assert digest(tmp_path / "scaled.fits") == digest(path)


def test_blank_means_nothing_to_floats(write, two, plain, wcs_cards):
    path = write("float.fits", wcs=wcs_cards(BLENK=1), **two)
    before, _, after = path.read_bytes().rpartition(b"BLENK ")
    path.write_bytes(before + b"BLANK " + after)
    with pytest.warns(fits.verify.VerifyWarning, match="BLANK"):
        assert fits.getval(path, "BLANK", "BACKGROUND") == 1
    assert digest(path) == digest(plain)


@pytest.mark.parametrize(("dtype", "least"), [(np.uint16, 50_000), (np.uint32, 2**31)])
def test_tiles_of_scaled_unsigned_and_blank_integers(tmp_path, wcs_cards, dtype, least):
    cards = fits.Header(wcs_cards())
    counts = np.arange(2400, dtype=dtype).reshape(40, 60) + dtype(least)
    stored = np.arange(2400, dtype=np.int16).reshape(40, 60)
    background = fits.ImageHDU(stored, cards, name="BACKGROUND")
    background.header["BLANK"] = 7
    files = []
    for kind in (fits.ImageHDU, fits.CompImageHDU):
        hdus = [kind(counts, cards, name="COUNTS"), kind(stored, background.header, name="BACKGROUND")]
        files.append(tmp_path / f"{kind.__name__}.fits")
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(files[-1])
    plain, tiles = (ingest(SurveySource.of(path), path.with_suffix(".zarr")) for path in files)
    assert plain.statistics == tiles.statistics
    assert (tiles.statistics.n_nan, tiles.statistics.n_masked) == (1, 1)
    assert tiles.counts.dtype == plain.counts.dtype == dtype
    for survey in (plain, tiles):
        np.testing.assert_array_equal(survey.counts, np.where(stored == 7, 0, counts))
        np.testing.assert_array_equal(survey.background, np.where(stored == 7, 0, stored))


def test_quantised_tiles_give_what_astropy_gives(tmp_path, planes, plain):
    background = planes["background"].copy()
    background[2, 5] = np.nan
    with fits.open(plain) as original:
        comp = fits.CompImageHDU(background, original["BACKGROUND"].header, quantize_level=16)
        fits.HDUList([fits.PrimaryHDU(original[0].data, original[0].header), comp]).writeto(tmp_path / "q.fits.fz")
    survey = ingest(SurveySource.of(tmp_path / "q.fits.fz"), tmp_path / "out.zarr")
    expected = np.nan_to_num(fits.getdata(tmp_path / "q.fits.fz", "BACKGROUND"))
    assert not np.array_equal(expected, np.nan_to_num(background))
    np.testing.assert_array_equal(survey.background.compute(), expected)
    assert survey.statistics.n_nan == 1


def test_leading_axes_of_length_one_are_dropped(write, two, plain):
    cubes = {name: plane[np.newaxis, np.newaxis] for name, plane in two.items()}
    path = write("axes.fits", **cubes)
    assert digest(path) == digest(path, band=0) == digest(path, band="sum") == digest(plain) == digest(plain, band=0)
    with pytest.raises(SurveyError, match="has no band 1: it is one image"):
        digest(path, band=1)


GZIP = {"compression_type": "GZIP_2", "tile_shape": (1, 7, 13)}


@pytest.mark.parametrize(("tiles", "packed"), [(None, Path), (None, gzipped), ({}, Path), (GZIP, Path)])
def test_cubes(write, tiles, packed):
    rng = np.random.default_rng(8)
    cubes = {
        "counts": rng.poisson(3, (3, 40, 60)).astype(np.int16),
        "background": rng.integers(1, 9, (3, 40, 60)) / 4,
        "exposure": rng.integers(1, 9, (3, 40, 60)).astype(np.float32),
        "mask": (rng.random((3, 40, 60)) > 0.2).astype(np.uint8),
    }
    path = packed(write("cube.fits", tiles=tiles, **cubes))
    second = write("second.fits", **{name: cube[1] for name, cube in cubes.items()})
    assert digest(path, band=1) == digest(path, band="1") == digest(second)

    together = write(
        "sum.fits",
        # A band takes no part where its mask excludes it.
        counts=(cubes["counts"] * cubes["mask"]).sum(axis=0),
        background=(cubes["background"] * cubes["mask"]).sum(axis=0),
        exposure=cubes["exposure"].mean(axis=0, dtype=np.float64),
        mask=cubes["mask"].max(axis=0),
    )
    assert digest(path, band="sum") == digest(together)


def test_a_flat_exposure_or_mask_serves_every_band_of_a_cube(write, planes):
    cubes = {name: np.stack([planes[name], planes[name] + 1]) for name in ("counts", "background")}
    flat = {name: plane for name, plane in planes.items() if name not in cubes}
    path = write(**cubes, **flat)
    single = write("flat.fits", **{name: cube[1] for name, cube in cubes.items()}, **flat)
    assert digest(path, band=1) == digest(single)


@pytest.mark.parametrize(("n_counts", "n_background"), [(5, 4), (1, 4), (5, 1)])
def test_counts_and_background_of_unlike_bands_are_refused(write, two, n_counts, n_background):
    cubes = {name: np.stack([two[name]] * n) for name, n in (("counts", n_counts), ("background", n_background))}
    message = f"has {n_background} bands?, but HDU .* has {n_counts}: give maps of the same"
    with pytest.raises(SurveyError, match=message):
        scan(SurveySource.of(write(**cubes), band="sum"))


def test_planes_in_files_of_their_own(write, planes):
    whole = write(**planes)
    counts = write("counts.fits", counts=planes["counts"])
    others = {
        name: write(f"{name}.fits", primary_first=False, **{name: planes[name]}) for name in planes if name != "counts"
    }
    for hdu in ("", "[{}]", "[1]"):
        assert digest(counts, **{name: f"{path}{hdu.format(name)}" for name, path in others.items()}) == digest(whole)


@pytest.mark.parametrize(("name", "plane"), [("unnamed.fits", "galprop"), ("b[1]", "background")])
def test_the_only_image_needs_no_name_and_a_file_may_have_brackets_in_its(write, two, plain, name, plane):
    counts = write("counts.fits", counts=two["counts"])
    assert digest(counts, background=write(name, **{plane: two["background"]})) == digest(plain)


def test_names_of_hdus_may_be_chosen(write, planes, plain):
    path = write("named.fits", n_on=planes["counts"], n_off=planes["background"])
    assert digest(path, counts_hdu="n_on", background_hdu="N_OFF") == digest(plain)
    assert digest(path, counts_hdu="0", background_hdu="1") == digest(plain)
    assert digest(f"{path}[n_on]", background_hdu="1") == digest(plain)
    # An option wins; and a file that is called so is that file.
    assert digest(f"{path}[1]", counts_hdu="0", background_hdu="1") == digest(plain)
    called = path.rename(f"{path}[1]")
    assert digest(called, counts_hdu="0", background_hdu="1") == digest(plain)


def test_masks_by_float_and_nan(write, two, planes):
    mask = planes["mask"].astype(np.float32)
    path = write("m.fits", **two, mask=mask)
    unknown = np.where(mask == 0, np.nan, mask)
    assert digest(write("n.fits", **two, mask=unknown)) == digest(path)


def test_more_than_two_gigabytes(tmp_path, wcs_cards):
    shape = (60_000, 12_000)
    path = tmp_path / "large.fits"
    header = fits.PrimaryHDU(header=fits.Header(wcs_cards(EXTNAME="COUNTS"))).header
    header["BITPIX"], header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 32, 2, shape[1], shape[0]
    size = 4 * shape[0] * shape[1]
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        data = file.tell()
        file.seek(data + size - 4)
        file.write(np.array(7, ">i4").tobytes())
        file.truncate(data + -(-size // 2880) * 2880)
        file.seek(0, 2)
        file.write(fits.ImageHDU(np.ones((2, 3)), name="BACKGROUND").header.tostring().encode())
        file.write(np.ones((2, 3), ">f8").tobytes().ljust(2880, b"\0"))
    # Both ends are found: the shape after 2.9 GB, and the last pixel.
    with pytest.raises(SurveyError, match=r"BACKGROUND .* is 2 x 3 pixels .* 60000 x 12000"):
        scan(SurveySource.of(path))

    with ExitStack() as stack:
        file = stack.enter_context(FitsFile.open(path))
        handle = file.new_handle(stack)
        file.new_handle = lambda _: handle
        plane = FitsPlane(file.hdus[0], file)
        plane.open(range(1), stack)
        handle.seek(4 * (shape[0] - 1) * shape[1], 1)
        assert plane.read(1)[0][0, -1] == 7
