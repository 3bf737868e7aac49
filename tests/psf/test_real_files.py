"""Point spread functions as the field's tools wrote them (../shared/data/real)."""

from math import inf

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from cwt_dask.psf import PointSpread, Spectrum, TargetMap, point_spread_of


def target_at(lon, lat, pixel=0.05, shape=(100, 100)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---CAR", "DEC--CAR"], [lon, lat], [50.5, 50.5]
    wcs.wcs.cdelt = [-pixel, pixel]
    return TargetMap(wcs, shape, pixel)


CRAB = target_at(83.63, 22.01)


def read(file, target=CRAB, index=2.0, band=None) -> PointSpread:
    return point_spread_of(file, target, Spectrum(index, band))


def radius_68(spread, x=49.5, y=49.5):
    """68 % containment radius in pixels of 0.05 deg."""
    radii = np.linspace(0, 40, 8001)
    return 0.05 * np.interp(0.68, spread.containment(radii, x, y), radii)


def test_gtpsf_narrows_with_energy_as_its_columns_say(real_data):
    file = real_data / "fermi_3fhl_psf_gtpsf.fits.gz"
    with fits.open(file) as hdus:
        theta, rows = hdus["THETA"].data["Theta"], hdus["PSF"].data
        energies, psf = rows["Energy"] / 1e6, rows["Psf"]
    areas = np.append(0, np.cumsum(np.diff(theta**2) * (psf[:, 1:] + psf[:, :-1])[3] / 2))
    within = read(file, band=(0.999999 * energies[3], 1.000001 * energies[3])).containment(theta / 0.05)
    np.testing.assert_allclose(within, areas / areas[-1], atol=2e-3)
    softer, harder = read(file, index=3.0), read(file, index=1.5)
    assert 0.11 < radius_68(harder) < radius_68(read(file)) < radius_68(softer) < 0.16
    # Above 100 GeV the LAT has 0.1 deg.
    assert 0.09 < radius_68(read(file, band=(0.1, inf))) < 0.11


def test_all_files_of_gadf_are_read(real_data):
    assert 0.1 < radius_68(read(real_data / "gadf_psf-fermi.fits")) < 0.25
    # It is flat: a toy.
    flat = read(real_data / "gadf_psf-histo-offset-energy.fits.gz")
    assert flat.containment(5 / 0.05) == pytest.approx((5 / 9.93344426) ** 2, abs=2e-3)


def test_hess_with_its_effective_area_around_its_pointing(real_data):
    file = real_data / "hess_dl3_023523.fits.gz"
    spread = read(file)
    assert "weighted by E^-2 and exposure" in spread.origin
    assert "centre" not in spread.origin
    assert 0.09 < radius_68(spread) < 0.13
    # 2 deg from the pointing it is wider, and of low energies, too.
    south, north = (radius_68(spread, 49.5, y) for y in (0, 99))
    assert north > south
    assert radius_68(read(file, band=(0.5, 0.8))) > radius_68(read(file, band=(2, 20)))
    assert read(f"{file}[PSF]").setting == spread.setting


def test_the_map_of_a_dataset_of_gammapy(real_data):
    file = real_data / "fermi_3fhl_crab_mapdataset.fits"
    spread = read(f"{file}[PSF]")
    assert spread.setting == read(file).setting
    # The same instrument as in the file of gtpsf.
    both = (read(each, band=(0.01, 2.0)) for each in (file, real_data / "fermi_3fhl_psf_gtpsf.fits.gz"))
    np.testing.assert_allclose(*map(radius_68, both), rtol=0.01)


def test_hawc_by_place_with_the_exposure_of_its_dataset(real_data):
    spread = read(real_data / "hawc_nhit5_mapdataset.fits.gz")
    assert "and exposure" in spread.origin
    assert 0.2 < radius_68(spread) < 0.3
    assert len(spread.within) > 10
