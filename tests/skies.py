"""Small surveys for tests."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from cwt_dask.cwt.state import rounding_level


def poisson_sky(shape, seed, *, brightest=300.0, n_sources=None, level=0.5):
    """Counts and background: sources of 10 to `brightest` counts on a level with a slope."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    background = level * (1 + 0.5 * y / shape[0])
    expected = background.copy()
    for _ in range(n_sources if n_sources is not None else max(shape[0] * shape[1] // 1500, 1)):
        y0, x0 = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        counts = 10 * (brightest / 10) ** rng.uniform()
        # Farther off it adds nothing that a float64 shows.
        near = tuple(slice(max(int(at) - 20, 0), int(at) + 21) for at in (y0, x0))
        squared = (y[near] - y0) ** 2 + (x[near] - x0) ** 2
        expected[near] += counts * np.exp(-squared / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    return rng.poisson(expected), background


def sky_header(shape, *, ring=False):
    """Pixels of 0.1 deg; on a ring as wide as it takes for the columns to close the circle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-CAR", "GLAT-CAR"]
    wcs.wcs.cdelt = [-360 / shape[1] if ring else -0.1, 0.1]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.crval = [10.0, 0.0]
    return wcs.to_header()


# In cm2 s, and exact in float32.
EXPOSURE = 2.0**35


def write_survey(path, counts, background, mask=None, *, exposure=None, ring=False, **cards):
    header = sky_header(counts.shape, ring=ring)
    header.update(cards)
    planes = {"COUNTS": counts, "BACKGROUND": background} | ({} if mask is None else {"MASK": mask.astype(np.uint8)})
    hdus = [fits.ImageHDU(plane, header, name) for name, plane in planes.items()]
    if exposure is not None:
        hdus.append(fits.ImageHDU(np.broadcast_to(exposure, counts.shape).astype(np.float32), header, "EXPOSURE"))
        hdus[-1].header["BUNIT"] = "cm2 s"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return path


def rounding_of(counts, background):
    return rounding_level(float(max(counts.max(), background.max())))
