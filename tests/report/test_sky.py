import numpy as np
import pytest
from astropy.wcs import WCS

from cwt_dask.report.sky import SkyGrid

PROJECTIONS = {
    "a strip of the plane": ("GLON-CAR", "GLAT-CAR", (0.0, 0.0), 0.1, (101, 2001)),
    "the whole sky": ("GLON-AIT", "GLAT-AIT", (0.0, 0.0), 2.0, (81, 163)),
    "a pole": ("RA---TAN", "DEC--TAN", (30.0, 89.5), 0.05, (80, 90)),
    "a small field": ("RA---TAN", "DEC--TAN", (83.6, 22.0), 0.002, (50, 60)),
    "half of a sky": ("ELON-SIN", "ELAT-SIN", (120.0, -20.0), 1.5, (90, 90)),
}


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_lines_of_coordinates_lie_where_they_say(kind):
    lon_type, lat_type, centre, pixel, shape = PROJECTIONS[kind]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = [lon_type, lat_type], centre, [-pixel, pixel]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    sky = SkyGrid.of(wcs, shape)
    for levels, axis in ((sky.meridians, 0), (sky.parallels, 1)):
        assert levels
        for line in (line for level in levels for line in level):
            value = float(line.label.removesuffix("°").replace("\N{MINUS SIGN}", "-"))
            world = np.array(wcs.all_pix2world(line.x, line.y, 0))
            world[axis] = value
            off = np.hypot(*(np.array(wcs.all_world2pix(*world, 0)) - [line.x, line.y]))
            # At the limb a rounded pixel may be off the sky, or beyond; at its ends a map goes on on the other side.
            assert np.count_nonzero(off > 0.1) <= 2
            assert 0 <= value < 360 or axis == 1
            assert -0.5 <= min(line.x) <= max(line.x) <= shape[1] - 0.5
    # Anywhere between directions the interpolated one is as near to the true one as the grid says.
    rng = np.random.default_rng(3)
    i, j = rng.integers(0, len(sky.x) - 1, 500), rng.integers(0, len(sky.y) - 1, 500)
    u, v = rng.uniform(0, 1, (2, 500, 1))
    corners = sky.directions[j, i] * (1 - u), sky.directions[j, i + 1] * u
    upper = sky.directions[j + 1, i] * (1 - u), sky.directions[j + 1, i + 1] * u
    between = sum(corners) * (1 - v) + sum(upper) * v
    step_x, step_y = sky.x[1] - sky.x[0], sky.y[1] - sky.y[0]
    lon, lat = np.radians(wcs.all_pix2world(sky.x[i] + u[:, 0] * step_x, sky.y[j] + v[:, 0] * step_y, 0))
    true = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    on_sky = np.isfinite(between).all(axis=1)
    assert on_sky.sum() > 200
    apart = np.linalg.norm(between / np.linalg.norm(between, axis=1, keepdims=True) - true, axis=1)[on_sky]
    assert np.degrees(apart.max()) <= 1.1 * sky.error + 1e-9
    # At a limb there is no bound.
    assert (sky.error < 0.1 * pixel) == (kind not in ("the whole sky", "half of a sky"))


def test_a_map_of_which_nothing_is_on_the_sky_has_no_lines():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crpix = ["GLON-SIN", "GLAT-SIN"], [-1, 1], [-500, -500]
    sky = SkyGrid.of(wcs, (5, 6))
    assert not [line for level in (*sky.meridians, *sky.parallels) for line in level]
    assert np.isnan(sky.directions).all()
