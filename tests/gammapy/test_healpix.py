"""HEALPix files as Gammapy and healpy write them: each pixel has the value that the writer reads back there."""

import healpy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from gammapy.maps import HpxGeom, HpxNDMap, Map, MapAxis, WcsGeom

from cwt_dask.errors import SurveyError
from cwt_dask.survey import ingest

NSIDE = 16
AXIS = MapAxis.from_energy_edges([1, 3, 10, 100] * u.GeV)


def centres(survey):
    """Positions of all pixels of a survey of the sphere."""
    rows, columns = survey.shape
    return survey.wcs.pixel_to_world(*np.meshgrid(np.arange(columns), np.arange(rows)))


def background_for(path, nside, bands, frame):
    """A background of ones, by healpy."""
    maps = [np.ones(12 * nside**2)] * bands
    names = [f"CHANNEL{n}" for n in range(bands)]
    healpy.write_map(path, maps, column_names=names, coord="G" if frame == "galactic" else "C", dtype=np.float64)
    return path


def compare(survey, band, written):
    """Counts and mask are those of a map of Gammapy's, of one band."""
    sky = centres(survey)
    coordinates = {"skycoord": sky} | ({} if band is None else {"energy": AXIS.center[band]})
    values = written.get_by_coord(coordinates)
    inside = written.geom.contains(coordinates) & np.isfinite(values)
    mask = survey.array("mask")[:] > 0
    if str(written.geom.region).startswith("DISK_INC"):
        # healpy takes some pixels more that the circle does not touch; without counts they are none to us.
        assert (inside & ~mask).sum() <= 3
        inside &= mask | (values > 0)
    np.testing.assert_array_equal(mask, inside)
    np.testing.assert_array_equal(survey.array("counts")[:], np.where(inside, values, 0))
    assert inside.any()


@pytest.mark.parametrize("form", ["gadf", "fgst-ccube"])
@pytest.mark.parametrize("nest", [False, True])
@pytest.mark.parametrize("frame", ["galactic", "icrs"])
@pytest.mark.parametrize("region", [None, "DISK(110,-60,35)", "DISK_INC(110,89,30,4)"])
@pytest.mark.parametrize("sparse", [False, True])
def test_maps_of_gammapy(tmp_path, form, nest, frame, region, sparse):
    axes = [AXIS] if form == "fgst-ccube" or sparse else None
    geom = HpxGeom(NSIDE, nest=nest, frame=frame, region=region, axes=axes)
    written = HpxNDMap(geom, np.random.default_rng(1).poisson(1.0, geom.data_shape).astype(float))
    written.write(tmp_path / "map.fits", sparse=sparse, format=form)
    n_bands = len(AXIS.center) if axes else 1
    background = background_for(tmp_path / "b.fits", NSIDE, n_bands, frame)
    for band in range(n_bands) if axes else [None]:
        options = {"background": background, "band": band}
        survey = ingest(tmp_path / "map.fits", tmp_path / f"{band}.zarr", **options)
        assert survey.wcs.frame == frame
        compare(survey, band, written)


@pytest.mark.parametrize("nest", [False, True])
def test_bands_of_unlike_pixels(tmp_path, nest):
    geom = HpxGeom([NSIDE, 2 * NSIDE, NSIDE], nest=nest, frame="galactic", region="DISK(110,-60,35)", axes=[AXIS])
    written = HpxNDMap(geom, unit="")
    index = geom.get_idx(flat=True)
    written.set_by_idx(index, np.arange(len(index[0])) % 7)
    written.write(tmp_path / "map.fits")
    assert fits.getheader(tmp_path / "map.fits", 1)["INDXSCHM"] == "LOCAL"
    background = background_for(tmp_path / "b.fits", NSIDE, 3, "galactic")
    for band in (0, 2):
        survey = ingest(tmp_path / "map.fits", tmp_path / f"{band}.zarr", background=background, band=band)
        compare(survey, band, written)
    # Of the finer band four pixels are summed.
    survey = ingest(tmp_path / "map.fits", tmp_path / "1.zarr", background=background, band=1)
    values = np.full(12 * (2 * NSIDE) ** 2, np.nan)
    (pixels, _), of_band = index, index[1] == 1
    pixels = pixels[of_band] if nest else healpy.ring2nest(2 * NSIDE, pixels[of_band])
    values[pixels] = (np.arange(len(of_band)) % 7)[of_band]
    summed = values.reshape(-1, 4).sum(axis=1)
    sky = centres(survey)
    numbers = healpy.ang2pix(NSIDE, sky.l.deg, sky.b.deg, nest=True, lonlat=True)
    np.testing.assert_array_equal(survey.array("counts")[:], np.nan_to_num(summed)[numbers])
    np.testing.assert_array_equal(survey.array("mask")[:], np.isfinite(summed)[numbers])


def test_local_numbers_of_all_that_a_circle_touches_are_refused(tmp_path):
    geom = HpxGeom([NSIDE, 2 * NSIDE, NSIDE], frame="galactic", region="DISK_INC(110,-60,35,4)", axes=[AXIS])
    HpxNDMap(geom, unit="").write(tmp_path / "map.fits")
    background = background_for(tmp_path / "b.fits", NSIDE, 3, "galactic")
    with pytest.raises(SurveyError, match="has INDXSCHM = LOCAL and HPX_REG = DISK_INC.*: write it as EXPLICIT"):
        ingest(tmp_path / "map.fits", tmp_path / "s.zarr", background=background, band=0)


@pytest.mark.parametrize("nest", [False, True])
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("coord", ["G", "C", None])
@pytest.mark.parametrize("nside", [NSIDE, 64])
def test_maps_of_healpy(tmp_path, nest, partial, coord, nside):
    values = np.random.default_rng(2).poisson(2.0, 12 * nside**2).astype(np.float32)
    values[100:900] = healpy.UNSEEN
    healpy.write_map(tmp_path / "map.fits", values, nest=nest, partial=partial, coord=coord, dtype=np.float32)
    frame = {"G": "galactic", "C": "icrs", None: "icrs"}[coord]
    options = {} if coord else {"frame": "icrs"}
    background = background_for(tmp_path / "b.fits", nside, 1, frame)
    survey = ingest(tmp_path / "map.fits", tmp_path / "s.zarr", background=background, **options)
    assert survey.wcs.frame == frame
    there = centres(survey).spherical
    found = values[healpy.ang2pix(nside, there.lon.deg, there.lat.deg, nest=nest, lonlat=True)]
    seen = found != np.float32(healpy.UNSEEN)
    np.testing.assert_array_equal(survey.array("mask")[:], seen)
    np.testing.assert_array_equal(survey.array("counts")[:], np.where(seen, found, 0))


def test_an_exposure_of_the_sphere_on_a_flat_map_is_that_of_gammapy(tmp_path):
    exposure = Map.from_geom(HpxGeom(64, frame="galactic"), unit="cm2 s")
    sky = exposure.geom.get_coord().skycoord.galactic
    exposure.data = 1e10 * (2 + np.cos(sky.l.rad) * np.cos(sky.b.rad) + np.sin(sky.b.rad))
    geom = WcsGeom.create(npix=(40, 30), binsz=0.5, skydir=SkyCoord(80, 40, unit="deg", frame="galactic"), proj="TAN")
    ones = Map.from_geom(geom, data=np.ones((30, 40)))
    hdus = [fits.PrimaryHDU(), *(ones.to_hdu(hdu=name) for name in ("COUNTS", "BACKGROUND"))]
    fits.HDUList(hdus).writeto(tmp_path / "flat.fits")
    exposure.write(tmp_path / "exposure.fits")
    survey = ingest(tmp_path / "flat.fits", tmp_path / "s.zarr", exposure=tmp_path / "exposure.fits")
    # Both are bilinear, healpy along rings, we within cells: they differ by less than a pixel does from the next.
    ratio = survey.exposure.compute() / exposure.interp_by_coord(geom.get_coord())
    assert np.abs(ratio - 1).max() < 2e-3
    assert np.median(np.abs(ratio - 1)) < 1e-5
