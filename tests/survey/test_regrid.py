"""Exposures on other pixels than the counts are interpolated to theirs, as astropy has their positions."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from skies import sky_header

from cwt_dask.errors import SurveyError
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
