"""HEALPix files in every convention: each pixel's value is found at its place on the sky."""

import os
from contextlib import ExitStack

import numpy as np
import pytest
import spheres
from astropy.io import fits
from astropy.table import Table

from cwt_dask.errors import SurveyError
from cwt_dask.geometry.healpix import nested_of, numbers_in, order_of, pixels_about, ring_of, vectors_of
from cwt_dask.survey import Survey, healpix_plane, ingest
from cwt_dask.survey.fits_file import FitsFile
from cwt_dask.survey.healpix_plane import UNSEEN, HealpixPlane
from cwt_dask.survey.sphere import SkyImage, Sphere

NSIDE = 8
N = 12 * NSIDE**2
COUNTS = np.random.default_rng(3).poisson(3.0, N).astype(float)
BACKGROUND = np.linspace(2.0, 4.0, N)


def image_of(values):
    """The image of a sky of values by NESTED number."""
    return values[numbers_in(np.arange(12 * NSIDE)[:, np.newaxis], np.arange(NSIDE), NSIDE)]


def planes(tmp_path, *hdus, **options):
    path = spheres.write(tmp_path / "sky.fits", *hdus)
    survey = ingest(path, tmp_path / "sky.zarr", **options)
    return survey, {name: survey.array(name)[:] for name in ("counts", "background", "mask")}


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_whole_skies(tmp_path, ring, explicit):
    pixels = np.random.default_rng(1).permutation(N) if explicit else None
    hdus = [
        spheres.table(name, values, NSIDE, ring=ring, pixels=pixels)
        for name, values in (("COUNTS", COUNTS), ("BACKGROUND", BACKGROUND))
    ]
    survey, found = planes(tmp_path, *hdus)
    np.testing.assert_array_equal(found["counts"], image_of(COUNTS))
    np.testing.assert_array_equal(found["background"], image_of(BACKGROUND))
    assert found["mask"].all()
    assert survey.statistics.sphere == Sphere(NSIDE, tuple(range(12 * NSIDE**2)))
    assert survey.statistics.counts_sum == COUNTS.sum()
    assert SkyImage.of_text(survey.header_text) == SkyImage(NSIDE, "galactic")


def test_no_table_is_read_into_memory(tmp_path, monkeypatch):
    hdus = [spheres.table(name, values, NSIDE) for name, values in (("COUNTS", COUNTS), ("BACKGROUND", BACKGROUND))]
    path = spheres.write(tmp_path / "sky.fits", *hdus)
    monkeypatch.setattr(fits.BinTableHDU, "data", property(lambda _: pytest.fail("all rows are read at once")))
    assert ingest(path, tmp_path / "sky.zarr").statistics.counts_sum == COUNTS.sum()


def test_parts_of_a_sky_are_masked_elsewhere(tmp_path):
    pixels = spheres.cap(NSIDE, [0, 0, 1], 30)
    hdus = [spheres.table("COUNTS", COUNTS, NSIDE, pixels=pixels), spheres.table("BACKGROUND", BACKGROUND, NSIDE)]
    survey, found = planes(tmp_path, *hdus)
    inside = image_of(np.isin(np.arange(N), pixels))
    np.testing.assert_array_equal(found["mask"], inside)
    np.testing.assert_array_equal(found["counts"], np.where(inside, image_of(COUNTS), 0))
    assert survey.statistics.n_valid == len(pixels)
    assert survey.statistics.sphere.cells_of(0) == [0, 1, 2, 3]
    assert len(survey.statistics.sphere.cells_of(4)) == 4 * len(pixels)


@pytest.mark.parametrize(("of_counts", "nside"), [(128, 128), (256, 128), (64, 64)])
def test_rows_of_a_part_of_the_sky_that_have_none_of_its_pixels_are_not_read(tmp_path, monkeypatch, of_counts, nside):
    # A quarter of base cell 5 alone: the first row of chunks begins without a pixel, and the second has none.
    def part(name, of_plane, *, ring):
        values, quarter = 1.0 + np.arange(12 * of_plane**2) % 7, of_plane**2 // 4
        return spheres.table(name, values, of_plane, ring=ring, pixels=np.arange(23 * quarter, 24 * quarter))

    def of_file(name, *, ring, more=()):
        hdus = part("COUNTS", of_counts, ring=ring), part("BACKGROUND", 128, ring=ring), *more
        (tmp_path / name).mkdir()
        return planes(tmp_path / name, *hdus, nside=nside)

    whole, expected = of_file("whole", ring=True)
    n_rows, read = [], HealpixPlane.read
    monkeypatch.setattr(HealpixPlane, "read", lambda plane, n: n_rows.append(n) or read(plane, n))
    survey, found = of_file("part", ring=False)
    assert n_rows == [64, 64]
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert (survey.statistics.planes, survey.moments) == (whole.statistics.planes, whole.moments)
    assert survey.statistics.n_off_sky == whole.statistics.n_off_sky == 47 * nside**2 // 4
    # An exposure is kept wherever it is.
    exposure = [spheres.table("EXPOSURE", np.full(12 * 64**2, 5.0), 64)]
    found = [of_file(f"exposed {ring}", ring=ring, more=exposure)[0].statistics for ring in (False, True)]
    assert found[0].planes == found[1].planes
    assert found[0].digest == found[1].digest


@pytest.mark.parametrize("nothing", [-1.6375e30, np.nan])
def test_pixels_without_a_value_are_masked(tmp_path, nothing):
    counts = np.where(np.arange(N) < 100, nothing, COUNTS)
    _, found = planes(
        tmp_path, *(spheres.table(n, v, NSIDE) for n, v in (("COUNTS", counts), ("BACKGROUND", BACKGROUND)))
    )
    np.testing.assert_array_equal(found["mask"], image_of(np.arange(N) >= 100))


def test_bands_are_summed_and_rows_may_hold_many_pixels(tmp_path):
    bands = np.stack([COUNTS, 2 * COUNTS, 5 * COUNTS])
    counts = spheres.table("COUNTS", bands, NSIDE)
    edges = fits.BinTableHDU.from_columns(
        [
            fits.Column("E_MIN", "D", unit="GeV", array=[1, 10, 100]),
            fits.Column("E_MAX", "D", unit="GeV", array=[10, 100, 1000]),
        ],
        name="EBOUNDS",
    )
    wide = fits.BinTableHDU.from_columns(
        [fits.Column("T", f"{N // 4}E", array=BACKGROUND.reshape(4, -1))], name="BACKGROUND"
    )
    wide.header.update(PIXTYPE="HEALPIX", ORDERING="NESTED", NSIDE=NSIDE, COORDSYS="G")
    path = spheres.write(tmp_path / "counts.fits", counts, edges)
    other = spheres.write(tmp_path / "background.fits", wide)
    with pytest.raises(SurveyError, match="has 1 band, but HDU COUNTS of .* has 3"):
        ingest(path, tmp_path / "out.zarr", background=other, emin="10GeV")
    three = spheres.write(tmp_path / "three.fits", spheres.table("BACKGROUND", np.stack([BACKGROUND] * 3), NSIDE))
    survey = ingest(path, tmp_path / "sky.zarr", background=three, emin="10GeV")
    np.testing.assert_array_equal(survey.array("counts")[:], image_of(7 * COUNTS))
    alone = spheres.write(tmp_path / "alone.fits", spheres.table("COUNTS", COUNTS, NSIDE))
    survey = ingest(alone, tmp_path / "wide.zarr", background=other)
    np.testing.assert_allclose(survey.array("background")[:], image_of(BACKGROUND), rtol=1e-7)


def test_maps_of_other_sizes_are_shared_summed_or_taken_over(tmp_path):
    coarse = BACKGROUND.reshape(-1, 4).sum(axis=1)
    fine = np.repeat(np.linspace(1e9, 2e9, N), 4)
    hdus = [
        spheres.table("COUNTS", COUNTS, NSIDE),
        spheres.table("BACKGROUND", coarse, NSIDE // 2, ring=True),
        spheres.table("EXPOSURE", fine, 2 * NSIDE, BUNIT="cm2 s"),
    ]
    survey, found = planes(tmp_path, *hdus)
    np.testing.assert_allclose(found["background"], image_of(np.repeat(coarse / 4, 4)))
    np.testing.assert_allclose(survey.array("exposure")[:], image_of(np.linspace(1e9, 2e9, N)))


def sparse(channel, pix, value, nsides):
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column("PIX", "K", array=pix),
            fits.Column("CHANNEL", "I", array=channel),
            fits.Column("VALUE", "D", array=value),
        ],
        name="SKYMAP",
    )
    hdu.header.update(PIXTYPE="HEALPIX", ORDERING="NESTED", COORDSYS="GAL", INDXSCHM="SPARSE", BANDSHDU="BANDS")
    n = len(nsides)
    bands = fits.BinTableHDU.from_columns(
        [
            fits.Column("NSIDE", "K", array=nsides),
            fits.Column("NPIX", "K", array=np.arange(n) + 1),
            fits.Column("E_MIN", "D", unit="keV", array=10.0 ** np.arange(6, 6 + n)),
            fits.Column("E_MAX", "D", unit="keV", array=10.0 ** np.arange(7, 7 + n)),
        ],
        name="BANDS",
    )
    return hdu, bands


def test_sparse_maps_are_zero_where_they_say_nothing_and_the_coarsest_band_decides(tmp_path):
    hdus = sparse([0, 0, 1, 1, 1], [3, 9, 12, 13, 40], [1.0, 2.0, 3.0, 4.0, 5.0], [NSIDE, 2 * NSIDE])
    path = spheres.write(tmp_path / "sparse.fits", *hdus)
    background = spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", np.stack([BACKGROUND] * 2), NSIDE))
    survey = ingest(path, tmp_path / "s.zarr", counts_hdu="SKYMAP", background=background, band="sum")
    wanted = np.zeros(N)
    wanted[[3, 9, 10]] = [1 + 7, 2, 5]
    np.testing.assert_array_equal(survey.array("counts")[:], image_of(wanted))


def test_names_of_columns_have_no_case(tmp_path):
    hdu, bands = sparse([0, 0, 1], [3, 9, 3], [1.0, 2.0, 3.0], [NSIDE, NSIDE])
    for name in ("PIX", "CHANNEL", "VALUE"):
        hdu.columns.change_name(name, name.capitalize())
    path = spheres.write(tmp_path / "sparse.fits", hdu, bands)
    background = spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", np.stack([BACKGROUND] * 2), NSIDE))
    survey = ingest(path, tmp_path / "s.zarr", counts_hdu="SKYMAP", background=background, band=0)
    wanted = np.zeros(N)
    wanted[[3, 9]] = 1, 2
    np.testing.assert_array_equal(survey.array("counts")[:], image_of(wanted))


def plain_sparse(pix, value, nside=NSIDE, npix=(), **cards):
    """A SPARSE table as the description of the format has it: bands one after the other, by NPIX."""
    columns = [fits.Column("PIX", "J", array=pix), fits.Column("VALUE", "E", array=value)]
    hdu = fits.BinTableHDU.from_columns(columns, name="COUNTS")
    hdu.header.update(PIXTYPE="HEALPIX", ORDERING="NESTED", NSIDE=nside, COORDSYS="GAL", INDXSCHM="SPARSE", **cards)
    bands = fits.BinTableHDU.from_columns([fits.Column("NPIX", "K", array=np.array(npix))], name="BANDS")
    return [hdu, bands] if len(npix) else [hdu]


@pytest.mark.parametrize("circle", ["DISK(30,85,20)", "disk( 30.0, 85.0, 20.0 )"])
def test_sparse_maps_of_a_region_are_masked_beyond_it(tmp_path, circle):
    inside = spheres.cap(NSIDE, vectors_of(np.radians(30), np.radians(85)), 20)
    beyond = np.setdiff1d(np.arange(N), inside)[0]
    counts = plain_sparse([inside[3], inside[5], beyond], [4, 2, 7], HPX_REG=circle)
    _, found = planes(tmp_path, *counts, spheres.table("BACKGROUND", BACKGROUND, NSIDE))
    wanted = np.zeros(N)
    wanted[[inside[3], inside[5], beyond]] = 4, 2, 7
    np.testing.assert_array_equal(found["counts"], image_of(wanted))
    # What the file names is there, be it beyond.
    np.testing.assert_array_equal(found["mask"], image_of(np.isin(np.arange(N), [*inside, beyond])))


@pytest.mark.parametrize(("radius", "pixels"), [(179.9, N), (180, N), (0.001, 1)])
def test_regions_of_any_size_with_all_pixels_that_they_touch(radius, pixels):
    found = pixels_about(45.0, 0.1, radius, order_of(NSIDE), by_centre=False)
    assert len(found) == pixels


def test_bands_of_a_sparse_map_lie_one_after_the_other(tmp_path):
    hdus = plain_sparse([5, 9, 5, 7, 8], [1, 2, 3, 4, 5], npix=(2, 3), BANDSHDU="BANDS")
    path = spheres.write(tmp_path / "sparse.fits", *hdus)
    background = spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", np.stack([BACKGROUND] * 2), NSIDE))
    survey = ingest(path, tmp_path / "s.zarr", background=background, band=1)
    wanted = np.zeros(N)
    wanted[[5, 7, 8]] = 3, 4, 5
    np.testing.assert_array_equal(survey.array("counts")[:], image_of(wanted))


@pytest.mark.parametrize("ring", [False, True])
def test_local_numbers_count_through_the_region_in_every_band(tmp_path, ring):
    centre = vectors_of(np.radians(200), np.radians(-60))
    nsides, bands = (NSIDE, 2 * NSIDE), []
    for nside in nsides:
        pixels = spheres.cap(nside, centre, 30)
        bands.append(np.sort(ring_of(pixels, order_of(nside))) if ring else pixels)
    n_rows = len(bands[1])
    # The value of a pixel is its number.
    columns = [fits.Column("PIX", "J", array=np.arange(n_rows))]
    for n, numbers in enumerate(bands, 1):
        values = np.append(numbers, np.full(n_rows - len(numbers), np.nan))
        columns.append(fits.Column(f"CHANNEL{n}", "D", array=values))
    hdu = fits.BinTableHDU.from_columns(columns, name="COUNTS")
    hdu.header.update(PIXTYPE="HEALPIX", ORDERING="RING" if ring else "NESTED", COORDSYS="GAL", INDXSCHM="LOCAL")
    hdu.header.update(HPX_REG="DISK(200,-60,30)", BANDSHDU="BANDS", NSIDE=2 * NSIDE)
    table = fits.BinTableHDU.from_columns([fits.Column("NSIDE", "I", array=np.array(nsides))], name="BANDS")
    path = spheres.write(tmp_path / "local.fits", hdu, table)
    background = spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", np.stack([BACKGROUND] * 2), NSIDE))
    for band, nside in enumerate(nsides):
        survey = ingest(path, tmp_path / f"{band}.zarr", background=background, band=band)
        every = np.arange(12 * nside**2)
        numbers = ring_of(every, order_of(nside)) if ring else every
        values = np.where(np.isin(every, spheres.cap(nside, centre, 30)), numbers, np.nan)
        values = image_of(values.reshape(N, -1).sum(axis=1))
        np.testing.assert_array_equal(survey.array("mask")[:], np.isfinite(values))
        np.testing.assert_array_equal(survey.array("counts")[:], np.nan_to_num(values))


def test_counts_are_summed_to_the_pixels_that_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(healpix_plane, "_AT_ONCE", 100)
    fine = np.random.default_rng(4).poisson(0.2, 16 * N).astype(float)
    path = spheres.write(tmp_path / "fine.fits", spheres.table("COUNTS", fine, 4 * NSIDE, ring=True))
    background = spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", BACKGROUND, NSIDE))
    survey = ingest(path, tmp_path / "s.zarr", background=background, nside=NSIDE)
    np.testing.assert_array_equal(survey.array("counts")[:], image_of(fine.reshape(N, 16).sum(axis=1)))
    assert survey.statistics.sphere.nside == NSIDE


@pytest.mark.parametrize("of_counts", [1, 2])
def test_a_pixel_is_used_where_all_that_lie_in_it_are(tmp_path, of_counts):
    # Counts are summed by --nside, or have larger pixels than the mask.
    fine = np.ones(4 * N)
    fine[[0, 5, 6]] = 0
    fine[8:12] = np.nan, 1, 1, 1
    fine[12:16] = 1, UNSEEN, 1, 1
    fine[16:20] = 1, -1, 1, -1
    tables = [spheres.table(n, np.ones(N * of_counts**2), of_counts * NSIDE) for n in ("COUNTS", "BACKGROUND")]
    _, found = planes(tmp_path, *tables, spheres.table("MASK", fine, 2 * NSIDE, ring=True), nside=NSIDE)
    np.testing.assert_array_equal(found["mask"], image_of(np.arange(N) > 3))


def test_rows_of_healpy_have_many_pixels_and_its_partial_skies_another_column(tmp_path):
    def as_healpy(name, columns, partial):
        hdu = fits.BinTableHDU.from_columns(columns, name=name)
        hdu.header.update(PIXTYPE="HEALPIX", ORDERING="RING", NSIDE=NSIDE, FIRSTPIX=0, LASTPIX=N - 1)
        hdu.header.update(INDXSCHM="EXPLICIT" if partial else "IMPLICIT", OBJECT="PARTIAL" if partial else "FULLSKY")
        return hdu

    of_ring = nested_of(np.arange(N), order_of(NSIDE))
    rows = COUNTS[of_ring].astype(np.float32).reshape(-1, 256)
    rows[0, 3] = UNSEEN
    full = as_healpy("xtension", [fits.Column("TEMPERATURE", "256E", array=rows)], partial=False)
    part = np.arange(100, 400)
    columns = [fits.Column("PIXEL", "J", array=part), fits.Column("SIGNAL", "E", array=BACKGROUND[of_ring[part]])]
    path = spheres.write(tmp_path / "map.fits", full)
    background = spheres.write(tmp_path / "b.fits", as_healpy("xtension", columns, partial=True))
    with pytest.raises(SurveyError, match="does not say its frame, COORDSYS: say it, --frame gal or --frame icrs"):
        ingest(path, tmp_path / "s.zarr", background=background)
    survey = ingest(path, tmp_path / "s.zarr", background=background, frame="icrs")
    used = np.isin(np.arange(N), of_ring[part]) & (np.arange(N) != of_ring[3])
    np.testing.assert_array_equal(survey.array("mask")[:], image_of(used))
    np.testing.assert_array_equal(survey.array("counts")[:], image_of(np.where(used, COUNTS, 0)))
    assert survey.wcs.frame == "icrs"


@pytest.mark.parametrize(
    ("cards", "given", "frame"),
    [
        ({"COORDSYS": "CEL"}, None, "icrs"),
        ({"COORDSYS": "C"}, None, "icrs"),
        ({"COORDSYS": "EQU"}, "icrs", "icrs"),
        ({"COORDSYS": "GAL"}, "gal", "galactic"),
        ({"COORDSYS": None, "HPX_CONV": "FGST-CCUBE"}, None, "galactic"),
        ({"COORDSYS": None, "HPX_CONV": "fgst_srcmap"}, None, "galactic"),
        ({"COORDSYS": None, "HPX_CONV": "FGST_BEXPCUBE"}, "icrs", "icrs"),
        ({"COORDSYS": None, "HPX_CONV": "GADF"}, "icrs", "icrs"),
        ({"COORDSYS": None}, "gal", "galactic"),
        ({"COORDSYS": " ", "ORDER": 3, "NSIDE": None}, "gal", "galactic"),
    ],
)
def test_frames(tmp_path, cards, given, frame):
    hdus = [spheres.table(n, v, NSIDE, **cards) for n, v in (("COUNTS", COUNTS), ("BACKGROUND", BACKGROUND))]
    survey, _ = planes(tmp_path, *hdus, **({"frame": given} if given else {}))
    assert survey.wcs.frame == frame


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h: h.data["PIX"].__setitem__(0, N),
            f"has a pixel of number {N}, and a sky of NSIDE = {NSIDE} has 0 to {N - 1}",
        ),
        (lambda h: h.data["PIX"].__setitem__(0, 2), "has pixel 2 twice"),
        (lambda h: h.header.__setitem__("NSIDE", 12), "NSIDE = 12, no power of two"),
        (lambda h: h.header.__setitem__("NSIDE", "x"), "NSIDE = x: correct its header"),
        (lambda h: h.header.__setitem__("ORDERING", ""), "ORDERING = .*: say RING or NESTED"),
        (lambda h: h.header.__setitem__("COORDSYS", "E"), "COORDSYS = E: GAL and CEL are read"),
        (lambda h: h.header.__delitem__("COORDSYS"), "does not say its frame, COORDSYS"),
        (lambda h: h.header.__setitem__("INDXSCHM", "LOCAL"), "INDXSCHM = LOCAL, and no HPX_REG that says which"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    hdu = spheres.table("COUNTS", COUNTS, NSIDE, pixels=[1, 2, 3])
    change(hdu)
    path = spheres.write(tmp_path / "sky.fits", hdu, spheres.table("BACKGROUND", BACKGROUND, NSIDE))
    with pytest.raises(SurveyError, match=message):
        ingest(path, tmp_path / "sky.zarr")
    assert not (tmp_path / "sky.zarr").exists()


def test_numbers_in_a_region_need_all_of_its_pixels_and_nobody_elses(tmp_path):
    inside = spheres.cap(NSIDE, vectors_of(np.radians(200), np.radians(-60)), 30)
    background = spheres.table("BACKGROUND", BACKGROUND, NSIDE)

    def local(rows, region):
        hdu = fits.BinTableHDU.from_columns([fits.Column("VALUE", "D", array=COUNTS[inside[:rows]])], name="COUNTS")
        hdu.header.update(PIXTYPE="HEALPIX", ORDERING="NESTED", NSIDE=NSIDE, COORDSYS="GAL", INDXSCHM="LOCAL")
        hdu.header["HPX_REG"] = region
        return spheres.write(tmp_path / f"{rows}{region[:8]}.fits", hdu, background)

    n = len(inside)
    survey = ingest(local(n, "DISK(200,-60,30)"), tmp_path / "s.zarr")
    wanted = np.where(np.isin(np.arange(N), inside), COUNTS, 0)
    np.testing.assert_array_equal(survey.array("counts")[:], image_of(wanted))
    with pytest.raises(SurveyError, match=f"has {n - 2} rows, and its region of NSIDE = {NSIDE} has {n} pixels"):
        ingest(local(n - 2, "DISK(200,-60,30)"), tmp_path / "t.zarr")
    with pytest.raises(
        SurveyError, match=r"LOCAL and HPX_REG = DISK_INC\(200,-60,30,4\), of which writers list unlike"
    ):
        ingest(local(n, "DISK_INC(200,-60,30,4)"), tmp_path / "u.zarr")


def test_other_numbers_of_pixels_than_a_sky_has_are_refused(tmp_path):
    hdu = spheres.table("COUNTS", COUNTS, NSIDE, NSIDE=2 * NSIDE)
    path = spheres.write(tmp_path / "sky.fits", hdu, spheres.table("BACKGROUND", BACKGROUND, NSIDE))
    with pytest.raises(SurveyError, match=f"has {N} pixels, and a whole sky of NSIDE = 16 has 3072"):
        ingest(path, tmp_path / "sky.zarr")


def test_a_table_without_pixels_and_mixed_kinds_are_refused(tmp_path):
    empty = spheres.table("COUNTS", COUNTS, NSIDE, pixels=np.zeros(0, int))
    path = spheres.write(tmp_path / "empty.fits", empty, spheres.table("BACKGROUND", BACKGROUND, NSIDE))
    with pytest.raises(SurveyError, match="holds no pixels"):
        ingest(path, tmp_path / "sky.zarr")
    flat = fits.ImageHDU(np.ones((12 * NSIDE, NSIDE)), name="BACKGROUND")
    path = spheres.write(tmp_path / "mixed.fits", spheres.table("COUNTS", COUNTS, NSIDE), flat)
    with pytest.raises(SurveyError, match="give maps of one kind"):
        ingest(path, tmp_path / "sky.zarr")


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path):
    path = spheres.write(tmp_path / "sky.fits", spheres.table("COUNTS", COUNTS, NSIDE))
    with FitsFile.open(path) as file, ExitStack() as stack:
        plane = HealpixPlane(file.hdus[1], file)
        os.truncate(path, 6000)
        with pytest.raises(SurveyError, match="is truncated or damaged: get the file again"):
            plane.open(range(1), stack)


def test_a_map_of_the_sphere_is_not_taken_to_one(tmp_path):
    tables = (spheres.table(n, v, NSIDE) for n, v in (("COUNTS", COUNTS), ("BACKGROUND", BACKGROUND)))
    with pytest.raises(SurveyError, match="sphere is given, and HDU COUNTS of .* is a map of the sphere already"):
        planes(tmp_path, *tables, sphere=True)


def test_frames_that_differ_are_refused(tmp_path):
    hdus = spheres.table("COUNTS", COUNTS, NSIDE), spheres.table("BACKGROUND", BACKGROUND, NSIDE, COORDSYS="CEL")
    path = spheres.write(tmp_path / "sky.fits", *hdus)
    with pytest.raises(SurveyError, match="cover different sky"):
        ingest(path, tmp_path / "sky.zarr")


@pytest.mark.parametrize(
    "name", ["cmap_explicit", "ccube_explicit", "ccube_implicit", "ccube_sparse0", "ccube_sparse1"]
)
def test_samples_of_gamma_astro_data_formats(tmp_path, real_data, name):
    path = real_data / f"gadf_hpx_{name}.fits"
    with fits.open(path) as hdus:
        rows, nsides = Table(hdus["SKYMAP"].data), hdus["BANDS"].data["NSIDE"].tolist()
    nside = min(nsides)
    wanted = np.zeros(12 * nside**2)
    # Each row by itself, in plain words.
    for row in rows:
        for column in (name for name in rows.colnames if name not in ("PIX", "CHANNEL")):
            band = row["CHANNEL"] if "CHANNEL" in rows.colnames else int(column.removeprefix("CHANNEL"))
            pixel = row["PIX"] if "PIX" in rows.colnames else row.index
            wanted[pixel // (nsides[band] // nside) ** 2] += row[column]
    centre = vectors_of(np.radians(260.05167), np.radians(57.91528))
    # A pixel is used if all that lie in it are.
    inside = np.ones(len(wanted), bool)
    if name != "ccube_implicit":
        for own in set(nsides):
            of_band = np.isin(np.arange(12 * own**2), spheres.cap(own, centre, 20))
            inside &= of_band.reshape(len(wanted), -1).all(axis=1)
    background = np.ones((len(nsides), len(wanted)))
    beside = spheres.write(tmp_path / "b.fits", spheres.table("BACKGROUND", background, nside))
    survey = ingest(path, tmp_path / "s.zarr", background=beside, band="sum")
    at = numbers_in(np.arange(12 * nside)[:, np.newaxis], np.arange(nside), nside)
    np.testing.assert_array_equal(survey.array("mask")[:], inside[at])
    np.testing.assert_array_equal(survey.array("counts")[:], np.where(inside, wanted, 0)[at])


def test_a_store_says_that_it_is_one_of_the_sphere(tmp_path):
    planes(tmp_path, *(spheres.table(n, v, NSIDE) for n, v in (("COUNTS", COUNTS), ("BACKGROUND", BACKGROUND))))
    assert Survey.open(tmp_path / "sky.zarr").statistics.sphere.nside == NSIDE
