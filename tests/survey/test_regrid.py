"""Exposures on other pixels than the counts are interpolated to theirs, as astropy has their positions."""

import numpy as np
import pytest
import spheres
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy_healpix import interpolate_bilinear_lonlat
from skies import sky_header

from cwt_dask.errors import SurveyError
from cwt_dask.geometry.healpix import centres_of, lon_lat_of
from cwt_dask.survey import SurveySource, ingest, regrid, scan

SHAPE = (20, 30)


def all_sky(first, step=1.0, frame=("GLON-CAR", "GLAT-CAR"), columns=360):
    """Header of a map of the whole sky, or of a part, with its first column's centre at some longitude."""
    cards = {"CTYPE1": frame[0], "CTYPE2": frame[1], "CUNIT1": "deg", "CUNIT2": "deg", "CDELT1": -step, "CDELT2": step}
    cards |= {"CRVAL1": first - step * (columns - 1) / 2, "CRVAL2": 0.0, "CRPIX1": (columns + 1) / 2, "CRPIX2": 91.0}
    return fits.Header(cards), (181, columns)


def smooth(coordinates):
    lon, lat = coordinates.galactic.l.rad, coordinates.galactic.b.rad
    return 1e10 * (2 + np.cos(lon) * np.cos(lat) + np.sin(lat))


def written(path, header, shape):
    x, y = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    fits.writeto(path, np.nan_to_num(smooth(WCS(header).pixel_to_world(x, y))), header)
    return path


@pytest.fixture
def counts(tmp_path):
    ones = np.ones(SHAPE)
    for name in ("counts", "background"):
        fits.writeto(tmp_path / f"{name}.fits", ones, fits.Header(sky_header(SHAPE)))
    return tmp_path / "counts.fits"


CENTRE = WCS(fits.Header(sky_header(SHAPE))).pixel_to_world(14.5, 9.5)


@pytest.mark.parametrize("first", [0.0, 180.0, CENTRE.l.deg, CENTRE.l.deg + 0.3, CENTRE.l.deg - 0.5])
@pytest.mark.parametrize("frame", [("GLON-CAR", "GLAT-CAR"), ("RA---CAR", "DEC--CAR")])
def test_a_map_of_the_whole_sky_serves_any(tmp_path, counts, first, frame):
    exposure = written(tmp_path / "sky.fits", *all_sky(first, frame=frame))
    store = ingest(counts, tmp_path / "s.zarr", background=tmp_path / "background.fits", exposure=exposure)
    x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    expected = smooth(store.wcs.pixel_to_world(x, y))
    # An interpolation by lines is off by an eighth of the square of a step, times the curvature, in each direction.
    np.testing.assert_allclose(store.exposure, expected, rtol=np.radians(1) ** 2)
    assert not [warning for warning in store.statistics.warnings if "exposure" in warning]
    assert store.statistics.origins[-1]["pixels"] == "interpolated"


def test_rows_are_those_of_the_map(tmp_path, counts, monkeypatch):
    exposure = written(tmp_path / "sky.fits", *all_sky(0.0))
    options = {"background": tmp_path / "background.fits", "exposure": exposure}
    expected = scan(SurveySource.of(counts, **options)).digest
    monkeypatch.setattr("cwt_dask.survey.strips.MOST_ROWS", 4)
    assert scan(SurveySource.of(counts, **options)).digest == expected


def test_a_map_that_does_not_cover_the_counts_is_refused(tmp_path, counts, monkeypatch):
    options = {"background": tmp_path / "background.fits"}
    part = written(tmp_path / "part.fits", *all_sky(CENTRE.l.deg + 0.7, columns=10))
    with pytest.raises(
        SurveyError, match=r"PRIMARY of .*part.fits is 181 x 10 pixels \(y, x\), but .* is 20 x 30: give"
    ):
        scan(SurveySource.of(counts, exposure=part, **options))
    whole = written(tmp_path / "whole.fits", *all_sky(CENTRE.l.deg + 5, columns=10))
    assert "exposure" in scan(SurveySource.of(counts, exposure=whole, **options)).planes
    monkeypatch.setattr(regrid, "LARGEST", 1809)
    with pytest.raises(SurveyError, match="is 181 x 10 pixels"):
        scan(SurveySource.of(counts, exposure=whole, **options))


def test_values_at_centres_are_kept(tmp_path, counts):
    header = fits.Header(sky_header(SHAPE))
    # The same pixels, and five more around them.
    header["CRPIX1"], header["CRPIX2"] = header["CRPIX1"] + 5, header["CRPIX2"] + 5
    pixels = np.random.default_rng(2).uniform(1, 2, (30, 40))
    fits.writeto(tmp_path / "wide.fits", pixels, header)
    store = ingest(
        counts, tmp_path / "s.zarr", background=tmp_path / "background.fits", exposure=tmp_path / "wide.fits"
    )
    np.testing.assert_allclose(store.exposure, pixels[5:-5, 5:-5], rtol=1e-9)


def test_an_exposure_of_the_sphere_is_bilinear_between_its_centres(tmp_path, counts):
    nside, order = 64, 6
    lon, lat = lon_lat_of(centres_of(np.arange(12 * nside**2), order))
    values = smooth(SkyCoord(lon, lat, unit="deg", frame="galactic"))
    table = spheres.table("EXPOSURE", values, nside, ring=True, COORDSYS=None, BUNIT="cm2 s")
    exposure = spheres.write(tmp_path / "sky.fits", table)
    options = {"background": tmp_path / "background.fits", "exposure": exposure}
    store = ingest(counts, tmp_path / "s.zarr", **options, frame="gal")
    x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    there = store.wcs.pixel_to_world(x, y).galactic
    expected = interpolate_bilinear_lonlat(there.l, there.b, values, order="nested")
    # The other library has its lines along rings.
    np.testing.assert_allclose(store.exposure, expected, rtol=5e-5)
    assert store.statistics.origins[-1]["pixels"] == "interpolated"
    assert store.statistics.exposure_unit == "cm2 s"
    with pytest.raises(SurveyError, match="is a map of the sphere, the other an image"):
        ingest(counts, tmp_path / "t.zarr", background=exposure, background_hdu="EXPOSURE", frame="gal")


def test_corners_of_three_pixels_and_poles_have_an_exposure(tmp_path):
    # At the corner of three base cells, and at a pole.
    for n, (lon, lat) in enumerate(((0.0, np.degrees(np.arcsin(2 / 3))), (40.0, 90.0))):
        cards = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": lon, "CRVAL2": lat, "CDELT1": -1, "CDELT2": 1}
        header = fits.Header(cards | {"CRPIX1": 5, "CRPIX2": 5})
        image, sky = np.ones((9, 9)), spheres.table("EXPOSURE", np.full(12 * 4**2, 3e10), 4)
        images = [fits.ImageHDU(image, header, name) for name in ("COUNTS", "BACKGROUND")]
        path = spheres.write(tmp_path / f"{n}.fits", *images, sky)
        np.testing.assert_allclose(ingest(path, tmp_path / f"{n}.zarr").exposure, 3e10)


def test_counts_of_the_sphere_take_an_exposure_from_an_image(tmp_path):
    nside = 16
    tables = [spheres.table(name, np.ones(12 * nside**2), nside) for name in ("COUNTS", "BACKGROUND")]
    path = spheres.write(tmp_path / "sky.fits", *tables)
    exposure = written(tmp_path / "exposure.fits", *all_sky(0.0))
    store = ingest(path, tmp_path / "s.zarr", exposure=exposure)
    columns, rows = np.meshgrid(np.arange(nside), np.arange(12 * nside))
    expected = smooth(store.wcs.pixel_to_world(columns, rows))
    np.testing.assert_allclose(store.exposure, expected, rtol=2 * np.radians(1) ** 2)
    # And one that an image of the sky itself has takes that of the sphere on the way.
    header, shape = all_sky(0.0)
    images = [fits.ImageHDU(np.ones(shape), header, name) for name in ("COUNTS", "BACKGROUND")]
    both = spheres.write(tmp_path / "both.fits", *images, spheres.table("EXPOSURE", np.full(12 * 8**2, 5e9), 8))
    np.testing.assert_allclose(ingest(both, tmp_path / "m.zarr", sphere=True, nside=32).exposure, 5e9)


def test_a_small_exposure_serves_a_small_part_of_the_sphere(tmp_path):
    # Smaller than steps of some degrees: no grid over the whole sky has points in it.
    nside, lon, lat = 64, 33.5, 12.0
    cards = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": lon, "CRVAL2": lat, "CDELT1": -0.1, "CDELT2": 0.1}
    exposure = written(tmp_path / "e.fits", fits.Header(cards | {"CRPIX1": 20.5, "CRPIX2": 20.5}), (40, 40))
    centre = SkyCoord(lon, lat, unit="deg").cartesian.xyz.value
    for name, radius in (("within", 1.5), ("beyond", 5)):
        pixels = spheres.cap(nside, centre, radius)
        tables = [spheres.table(n, np.ones(12 * nside**2), nside, pixels=pixels) for n in ("COUNTS", "BACKGROUND")]
        path = spheres.write(tmp_path / f"{name}.fits", *tables)
        store = ingest(path, tmp_path / f"{name}.zarr", exposure=exposure, exposure_unit="cm2 s")
        used = store.array("mask")[:] > 0
        rows, columns = np.nonzero(used)
        position = store.wcs.pixel_to_world(columns, rows)
        found = store.array("exposure")[:][used]
        away = SkyCoord(lon, lat, unit="deg", frame="galactic").separation(position).deg
        np.testing.assert_allclose(found[away < 1.9], smooth(position)[away < 1.9], rtol=1e-4)
        # As far away as the corners of the image.
        assert not found[away > 2.9].any()
        assert (away > 2.9).any() == (name == "beyond")


def test_exposures_of_fermi_on_the_sphere_serve_a_flat_map(tmp_path, counts, real_data):
    exposure = real_data / "fermi_3fhl_exposure_cube_hpx.fits.gz"
    options = {"background": tmp_path / "background.fits", "exposure": exposure}
    with pytest.raises(SurveyError, match="has 18 bands"):
        ingest(counts, tmp_path / "s.zarr", **options)
    with fits.open(tmp_path / "counts.fits", mode="update") as hdus:
        hdus[0].header.update(DSTYP1="ENERGY", DSUNI1="GeV", DSVAL1="20:50")
    store = ingest(counts, tmp_path / "s.zarr", **options)
    low, high = (fits.getdata(exposure, 1)[f"ENERGY{n}"].min() for n in (1, 18))
    assert 0 < min(low, high) < store.exposure.mean().compute() < fits.getdata(exposure, 1)["ENERGY10"].max()
