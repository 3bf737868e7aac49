"""A point spread function on a map's pixels: shares, densities and kernels against formulas."""

import math

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from scipy.special import erf
from spreads import TARGET, king_share, share

from cwt_dask.psf import PointSpread
from cwt_dask.psf.places import Places
from cwt_dask.psf.point_spread import SHARE_OF_SIGMA

RADII = np.array([0.3, 1.0, 2.0, 3.5, 7.0, 12.0])


@pytest.mark.parametrize("sigma", [0.6, 2.0, 9.0])
def test_a_gaussian_has_its_shares(sigma):
    spread = PointSpread.gaussian(sigma)
    np.testing.assert_allclose(spread.containment(RADII), share(RADII, sigma), atol=2e-6)
    assert spread.sigma == pytest.approx(sigma, rel=1e-9)
    radius, density = spread.profile()
    inside = radius < 4 * sigma
    expected = np.exp(-(radius**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    np.testing.assert_allclose(density[inside], expected[inside], rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.4, 1.2, 3.0])
def test_the_kernel_of_a_gaussian_is_its_integral_over_pixels(sigma):
    spread = PointSpread.gaussian(sigma)
    for size in (1, 5, 21):
        edges = np.arange(size + 1) - size / 2
        one = np.diff(erf(edges / (math.sqrt(2) * sigma))) / 2
        kernel = spread.kernel(size=size)
        np.testing.assert_allclose(kernel, np.outer(one, one), atol=1e-3 * one.max() ** 2)
        assert kernel.sum() == pytest.approx(one.sum() ** 2, abs=1e-3)


def test_of_a_profile_with_tails_the_shares_are_exact_and_the_kernel_holds_what_lies_in_it():
    radius = np.append(0, np.geomspace(0.01, 3000, 800))
    spread = PointSpread("psf_king", radius, king_share(radius, 1.5, 1.8)[np.newaxis])
    np.testing.assert_allclose(spread.containment(RADII), king_share(RADII, 1.5, 1.8), atol=1e-4)
    kernel = spread.kernel(size=41)
    fine = (np.arange(41 * 25) + 0.5) / 25 - 20.5
    density = (1 - 1 / 1.8) / (2 * math.pi * 1.5**2) * (1 + np.add.outer(fine**2, fine**2) / (2 * 1.8 * 1.5**2)) ** -1.8
    expected = density.reshape(41, 25, 41, 25).sum(axis=(1, 3)) / 25**2
    np.testing.assert_allclose(kernel, expected, rtol=2e-3)
    assert king_share(20.5, 1.5, 1.8) < kernel.sum() < king_share(20.5 * math.sqrt(2), 1.5, 1.8)


def test_an_image_is_its_own_kernel():
    y, x = np.mgrid[-8:9, -6:7]
    image = np.exp(-(x**2) / 2 - y**2 / 8)
    spread = PointSpread.of_image(image)
    image = image / image.sum()
    np.testing.assert_allclose(spread.kernel(size=17)[:, 2:-2], image)
    np.testing.assert_allclose(spread.kernel(size=5), image[6:11, 4:9])
    assert spread.kernel(size=25).sum() == pytest.approx(1)
    # Between the rings of pixels shares go on with the area.
    n_pixels = np.count_nonzero(np.hypot(x, y) <= 3)
    assert spread.containment(math.sqrt(n_pixels / math.pi)) == pytest.approx(image[np.hypot(x, y) <= 3].sum())
    assert 1.3 < spread.sigma < 1.6  # of widths 1 and 2


def three(places):
    sigmas = np.array([1.0, 2.0, 4.0])
    radius = np.linspace(0, 30, 3001)
    return PointSpread("PSFMap", radius, share(radius, sigmas[:, np.newaxis]), places, TARGET.wcs)


def test_the_nearest_profile_counts():
    sky = SkyCoord([7.1, 10.0, 12.9], [0, 0, 0], unit="deg", frame="galactic").icrs
    spread = three(Places.around(sky.ra.deg, sky.dec.deg))
    # Longitude falls with x, by a tenth of a degree a pixel, and is 10 in the middle.
    x = np.array([0, 24, 27, 39, 52, 55, 79])
    expected = share(3.0, np.array([4, 4, 2, 2, 2, 1, 1]))
    np.testing.assert_allclose(spread.containment(3.0, x, 30), expected, atol=1e-5)
    assert spread.profile(79, 30)[1][0] > 10 * spread.profile(0, 30)[1][0]
    assert spread.kernel(79, 30, 9).sum() > spread.kernel(0, 30, 9).sum()
    assert spread.sigmas_on((60, 80)).min() == pytest.approx(1)
    # A map of the western half, with the same WCS, has but two of them.
    here = spread.on_map((60, 40))
    np.testing.assert_allclose(here.sigmas, [2, 4], rtol=1e-5)
    np.testing.assert_array_equal(here.containment(3.0, x[:4], 30), spread.containment(3.0, x[:4], 30))


def test_between_offsets_profiles_are_mixed():
    centre = TARGET.wcs.pixel_to_world([39.5], [29.5]).icrs
    spread = three(Places.around(centre.ra.deg, centre.dec.deg, np.array([0.0, 1.0, 2.0])))
    within = share(3.0, np.array([1.0, 2.0, 4.0]))
    at = {0.0: within[0], 5: within[:2].mean(), 10: within[1], 12.5: 0.75 * within[1] + 0.25 * within[2], 35: within[2]}
    x = 39.5 + np.array(list(at))
    np.testing.assert_allclose(spread.containment(3.0, x, 29.5), list(at.values()), atol=1e-4)
    np.testing.assert_allclose(spread.containment(3.0, 39.5, 29.5), within[0], atol=1e-4)


def test_where_there_is_no_sky_the_first_profile_stands():
    aitoff = TARGET.wcs.deepcopy()
    aitoff.wcs.ctype = ["GLON-AIT", "GLAT-AIT"]
    aitoff.wcs.cdelt = [-6.0, 6.0]
    spread = three(Places.around(np.array([0.0, 90.0, 180.0]), np.zeros(3)))
    spread = PointSpread(spread.kind, spread.radius, spread.within, spread.places, aitoff)
    assert spread.containment(3.0, 0, 0) == pytest.approx(share(3.0, 1.0), abs=1e-5)


def test_what_is_kept_is_what_is_used():
    radius = np.linspace(0, 30, 301)
    places = Places.around(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    spread = PointSpread("PSFMap", radius, share(radius, np.array([[1.7], [2.9]])), places, TARGET.wcs)
    again = PointSpread.from_content(spread.content, TARGET.wcs)
    assert again.setting == spread.setting == PointSpread.from_content(again.content, None).setting
    assert again.setting.startswith("PSFMap sha256:")
    np.testing.assert_allclose(again.containment(RADII, 5, 5), spread.containment(RADII, 5, 5), atol=1e-6)
    other = PointSpread("PSFMap", radius, share(radius, np.array([[1.7], [2.8]])), places, TARGET.wcs)
    assert other.setting != spread.setting
    assert PointSpread.gaussian(2.4).setting == 2.4
    image = PointSpread.of_image(np.ones((3, 5)))
    np.testing.assert_allclose(PointSpread.from_content(image.content, None).kernel(size=3), np.full((3, 3), 1 / 15))


def test_a_gaussians_share_in_its_width():
    assert pytest.approx(0.3935, abs=1e-4) == SHARE_OF_SIGMA
