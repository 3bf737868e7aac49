"""An image that is taken to the sphere: every count goes, whole, to the pixel that holds the centre of its own."""

import cdshealpix
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from cwt_dask.cwt.spectra import fast_length
from cwt_dask.errors import MachineError, SurveyError
from cwt_dask.geometry.facets import FacetGrid, pixel_of
from cwt_dask.geometry.healpix import beside, centres_of, numbers_in, places_of, vectors_of
from cwt_dask.survey import moved as module
from cwt_dask.survey import outline_of, scan
from cwt_dask.survey.facets import FacetSurvey
from cwt_dask.survey.ingest import ingest
from cwt_dask.survey.moved import nside_for
from cwt_dask.survey.source import SurveySource

PIXEL = 3.0
SHAPE = (60, 120)
NSIDE = 16
FRAMES = {"GLON": ("GLAT", "galactic"), "RA--": ("DEC-", "icrs")}


def header(projection="CAR", lon="GLON", shape=SHAPE, **cards):
    found = {"CTYPE1": f"{lon}-{projection}", "CTYPE2": f"{FRAMES[lon][0]}-{projection}"}
    found |= {"CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2, "CRVAL1": 40.0, "CRVAL2": 0.0}
    return fits.Header(found | {"CDELT1": -PIXEL, "CDELT2": PIXEL, "CUNIT1": "deg", "CUNIT2": "deg"} | cards)


@pytest.fixture
def write(tmp_path):
    def write_fits(cards, **planes):
        hdus = [fits.ImageHDU(values, cards, name.upper()) for name, values in planes.items()]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "image.fits")
        return tmp_path / "image.fits"

    return write_fits


def images(shape=SHAPE, seed=1):
    rng = np.random.default_rng(seed)
    background = rng.uniform(0.5, 3, shape)
    return {"counts": rng.poisson(background).astype(np.int16), "background": background}


def by_hand(cards, values, nside, frame, used=True):
    """The image of the sky, of values on the sky, by astropy's positions and the library's numbers."""
    wcs = WCS(cards)
    y, x = np.indices(values.shape)
    on_sky = np.isfinite(wcs.all_pix2world(x, y, 0)).all(axis=0) & used
    there = wcs.pixel_to_world(x[on_sky], y[on_sky]).transform_to(frame).spherical
    numbers = cdshealpix.nested.lonlat_to_healpix(there.lon, there.lat, nside.bit_length() - 1).astype(int)
    image = np.zeros((12 * nside, nside))
    np.add.at(image, places_of(numbers, nside), values[on_sky])
    return image


@pytest.mark.parametrize("lon", FRAMES)
@pytest.mark.parametrize("given", [None, "gal", "icrs"])
@pytest.mark.parametrize("projection", ["CAR", "AIT", "MOL"])
def test_counts_and_background_go_whole_by_centres(tmp_path, write, projection, lon, given):
    planes, cards = images(), header(projection, lon)
    path = write(cards, **planes)
    survey = ingest(path, tmp_path / "s.zarr", sphere=True, nside=NSIDE, **({"frame": given} if given else {}))
    frame = {"gal": "galactic", "icrs": "icrs"}[given] if given else FRAMES[lon][1]
    assert survey.wcs.frame == frame
    counts = by_hand(cards, planes["counts"], NSIDE, frame)
    np.testing.assert_array_equal(survey.array("counts")[:], counts)
    np.testing.assert_allclose(survey.array("background")[:], by_hand(cards, planes["background"], NSIDE, frame))
    statistics = survey.statistics
    assert statistics.counts_sum == counts.sum()
    y, x = np.indices(SHAPE)
    on_sky = np.isfinite(WCS(cards).all_pix2world(x, y, 0)).all(axis=0)
    # What lies beyond the ellipse is nothing.
    lost = planes["counts"][~on_sky].sum()
    assert any(f"{lost} counts on" in text for text in statistics.warnings) == bool(lost)
    assert statistics.counts_sum + lost == planes["counts"].sum()
    # The areas are those of the whole sky; a cell at the border of an ellipse lies partly beyond it.
    assert survey.array("area")[:].sum() == pytest.approx(12 * NSIDE**2, rel=1e-3 if projection == "CAR" else 0.02)
    if projection == "CAR":
        assert survey.array("mask")[:].all()


def test_areas_are_those_of_the_pixels_at_poles_too(tmp_path, write):
    cards = header()
    path = write(cards, **images())
    survey = ingest(path, tmp_path / "s.zarr", sphere=True, nside=NSIDE)
    y, _ = np.indices(SHAPE)
    edges = np.radians(-90 + PIXEL * np.stack([y, y + 1]))
    sizes = np.radians(PIXEL) * (np.sin(edges[1]) - np.sin(edges[0])) / pixel_of(NSIDE) ** 2
    np.testing.assert_allclose(survey.array("area")[:], by_hand(cards, sizes, NSIDE, "galactic"), rtol=1e-3)


def test_where_the_mean_of_what_each_pixel_got_lies_is_kept_and_known_on_facets(tmp_path, write):
    cards = header()
    path = write(cards, **images())
    survey = ingest(path, tmp_path / "s.zarr", sphere=True, nside=NSIDE)
    lon, lat = np.radians(WCS(cards).all_pix2world(*np.indices(SHAPE)[::-1], 0))
    area = by_hand(cards, np.cos(lat), NSIDE, "galactic")
    wanted = np.stack(
        [by_hand(cards, np.cos(lat) * part, NSIDE, "galactic") for part in vectors_of(lon, lat).T.swapaxes(1, 2)]
    )
    wanted /= np.where(area > 0, area, np.nan)
    wanted /= np.linalg.norm(wanted, axis=0)
    rows, columns = np.nonzero(area)
    numbers = numbers_in(rows, columns, NSIDE)
    east, north = (survey.array(name)[:][rows, columns] for name in ("east", "north"))
    found = beside(centres_of(numbers, 4), east, north, pixel_of(NSIDE))
    # A mean of sines along the axes of a tangent plane, and one of vectors, differ in the second order of a pixel.
    np.testing.assert_allclose(found, wanted[:, rows, columns].T, atol=0.02 * pixel_of(NSIDE))
    assert not survey.array("east")[:][area == 0].any()

    grid = FacetGrid.plan(NSIDE, 2, range(192), 4, 4, fast_length)
    facets = FacetSurvey.of(tmp_path / "s.zarr", grid)
    for facet in (0, 100):
        size, (dy, dx) = facets.coverage(facet)
        side = grid.side_of(facet)
        x, y = grid.frame(facet).pixels(found)
        i, j = (np.rint(each).astype(int) for each in grid.frame(facet).pixels(centres_of(numbers, 4))[::-1])
        inside = (i >= 0) & (i < side) & (j >= 0) & (j < side) & (found @ grid.frame(facet).centre > 0)
        weights = area[rows, columns][inside]
        for offsets, far in ((dy, y - i), (dx, x - j)):
            total, of_area = np.zeros((2, side, side))
            np.add.at(total, (i[inside], j[inside]), (weights * far[inside]))
            np.add.at(of_area, (i[inside], j[inside]), weights)
            np.testing.assert_allclose(
                offsets[size > 0], (total / np.where(of_area > 0, of_area, 1))[size > 0], atol=2e-3
            )


def test_what_is_masked_is_not_taken_and_the_exposure_is_a_density(tmp_path, write):
    planes, cards = images(), header()
    planes["counts"] = planes["counts"].astype(np.float32)
    planes["counts"][10:20] = np.nan
    y, x = np.indices(SHAPE)
    planes |= {"exposure": 1e10 * (1 + y / 10), "mask": (x > 30).astype(np.uint8)}
    path = write(cards, **planes)
    survey = ingest(path, tmp_path / "s.zarr", sphere=True, nside=NSIDE, exposure_unit="cm2 s")
    used = (planes["mask"] > 0) & np.isfinite(planes["counts"])
    counts = np.nan_to_num(planes["counts"])
    np.testing.assert_array_equal(survey.array("counts")[:], by_hand(cards, counts, NSIDE, "galactic", used))
    mask, area, exposure = (survey.array(name)[:] for name in ("mask", "area", "exposure"))
    assert not area[mask == 0].any()
    assert 0.6 < mask.mean() < 0.75
    assert survey.statistics.n_masked == (mask == 0).sum()
    assert survey.statistics.n_off_sky == 0
    # Rows of the image are 3 deg high, and so are pixels of the sphere, nearly.
    rows, columns = np.nonzero(mask)
    lat = survey.wcs.all_pix2world(columns, rows, 0)[1]
    wanted = 1e10 * (1 + (lat + 90 - PIXEL / 2) / PIXEL / 10)
    assert np.abs(exposure[rows, columns] / wanted - 1).max() < 0.25
    assert np.mean(exposure[rows, columns] / wanted) == pytest.approx(1, abs=0.01)


def test_a_part_of_the_sky_is_masked_elsewhere(tmp_path, write):
    cards = header(shape=(20, 30))
    path = write(cards, **images((20, 30)))
    survey = ingest(path, tmp_path / "s.zarr", sphere=True)
    assert survey.statistics.sphere.nside == NSIDE
    mask = survey.array("mask")[:]
    assert survey.statistics.n_off_sky == (mask == 0).sum()
    assert mask.sum() == pytest.approx(20 * 30 * PIXEL**2 / np.degrees(pixel_of(NSIDE)) ** 2, rel=0.1)
    # What is planned is what is read.
    source = SurveySource.of(path, sphere=True)
    assert scan(source).digest == survey.statistics.digest
    assert outline_of(source).header_text == survey.header_text


@pytest.mark.parametrize(
    ("pixel", "nside"), [(0.1, 512), (0.125, 512), (0.05, 1024), (0.25, 256), (1.0, 64), (0.08, 512), (180.0, 1)]
)
def test_pixels_of_the_sphere_are_like_those_of_the_image(pixel, nside):
    assert nside_for(pixel) == nside


def test_larger_pixels_and_a_column_that_comes_twice_are_told(tmp_path, write):
    shape = (60, 121)
    path = write(header(shape=shape), **images(shape))
    warnings = ingest(path, tmp_path / "s.zarr", sphere=True, nside=32).statistics.warnings
    assert any("3 deg at its centre, are larger than those of NSIDE 32, 1.832 deg" in text for text in warnings)
    assert any("counts there are taken twice" in text for text in warnings)


def test_impossible_values_are_named_where_the_image_has_them(tmp_path, write):
    planes = images()
    planes["counts"][7, 5] = -3
    with pytest.raises(SurveyError, match="COUNTS of .* has 1 negative value, the first one -3 at x = 5, y = 7"):
        ingest(write(header(), **planes), tmp_path / "s.zarr", sphere=True)
    assert not (tmp_path / "s.zarr").exists()


def test_counts_that_are_lost_on_the_way_are_noticed(tmp_path, write, monkeypatch):
    path, add = write(header(), **images()), module._add

    def halved(sums, planes, *rest):
        add(sums, planes | {"counts": planes["counts"] // 2}, *rest)

    monkeypatch.setattr(module, "_add", halved)
    with pytest.raises(MachineError, match=r"of \d+ counts of the image \d+ are on the sphere"):
        ingest(path, tmp_path / "s.zarr", sphere=True)
    assert not (tmp_path / "s.zarr").exists()
