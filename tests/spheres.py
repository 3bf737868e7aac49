"""Skies on the sphere, and the HEALPix files that they come in."""

import numpy as np
from astropy.io import fits
from scipy.spatial import cKDTree

from cwt_dask import run_survey
from cwt_dask.geometry.facets import pixel_of
from cwt_dask.geometry.healpix import centres_of, nested_of, numbers_at, order_of, ring_of


def scattered(centre, sigma, n, rng):
    """Unit vectors of `n` events about a position, Gaussian on the sphere."""
    east = np.cross([0.0, 0.0, 1.0] if abs(centre[2]) < 0.9 else [1.0, 0.0, 0.0], centre)
    east /= np.linalg.norm(east)
    a, b = rng.normal(size=(2, n, 1)) * sigma
    far = np.hypot(a, b)
    along = np.sinc(far / np.pi)
    return np.cos(far) * centre + along * (a * east + b * np.cross(centre, east))


def sky(nside, places, n_counts, *, level=0.5, sigma=1.5, seed=1):
    """Counts and background of a whole sky, by NESTED number: sources of so many expected counts at unit vectors."""
    rng, order = np.random.default_rng(seed), order_of(nside)
    z = centres_of(np.arange(12 * nside**2), order)[:, 2]
    background = level * (0.5 + np.exp(-np.abs(z) / 0.2))
    counts = rng.poisson(background).astype(float)
    for place, n in zip(places, np.broadcast_to(n_counts, len(places)), strict=True):
        events = scattered(np.asarray(place), sigma * pixel_of(nside), rng.poisson(n), rng)
        np.add.at(counts, numbers_at(events, order), 1)
    return counts, background


def table(name, values, nside, *, pixels=None, ring=False, columns="CHANNEL", **cards):
    """An HDU of maps by NESTED number, (pixel,) or (band, pixel); of some pixels it is EXPLICIT."""
    order = order_of(nside)
    numbers = np.arange(12 * nside**2) if pixels is None else np.asarray(pixels)
    if pixels is None:
        taken = nested_of(numbers, order) if ring else numbers
        found = []
    else:
        taken = numbers
        found = [fits.Column("PIX", "K", array=ring_of(numbers, order) if ring else numbers)]
    bands = np.atleast_2d(values)
    found += [fits.Column(f"{columns}{n}", "D", array=band[taken]) for n, band in enumerate(bands, 1)]
    hdu = fits.BinTableHDU.from_columns(found, name=name)
    hdu.header.update(PIXTYPE="HEALPIX", ORDERING="RING" if ring else "NESTED", NSIDE=nside, COORDSYS="GAL")
    hdu.header["INDXSCHM"] = "IMPLICIT" if pixels is None else "EXPLICIT"
    for key, value in cards.items():
        hdu.header[key] = value
        if value is None:
            del hdu.header[key]
    return hdu


def write(path, *hdus):
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def cap(nside, centre, radius):
    """Numbers of the pixels within so many degrees of a unit vector."""
    centres = centres_of(np.arange(12 * nside**2), order_of(nside))
    return np.flatnonzero(centres @ np.asarray(centre) > np.cos(np.radians(radius)))


def whole_sphere(counts, background, width, targets):
    """T and E of the first iteration with one scale at unit vectors: as published, but on the sphere itself.

    Both are sums over the pixels of the survey by the angles to their centres: without facets, projection or FFT.
    """
    nside = round(np.sqrt(len(counts) / 12))
    pixel, sky = pixel_of(nside), cKDTree(centres_of(np.arange(len(counts)), order_of(nside)))
    near = cKDTree(targets).sparse_distance_matrix(sky, 5 * width * pixel, output_type="coo_matrix").tocsr()
    u = (2 * np.arcsin(near.data / 2) / pixel) ** 2 / (2 * width**2)
    near.data = (1 - u) * np.exp(-u) / (np.pi * width**4)
    return near @ (counts - background), np.sqrt(near.power(2) @ background)


# A corner at which three cells meet.
CORNER = np.array([np.sqrt(5) / 3, 0.0, 2 / 3])


def small_run(folder, nside=32, **options):
    """A finished run on some degrees about that corner, in three facets, with a source there and an exposure."""
    counts, background = sky(nside, [CORNER], 300.0)
    maps = {"COUNTS": counts, "BACKGROUND": background, "EXPOSURE": 1e10 * background}
    hdus = [table(name, values, nside, pixels=cap(nside, CORNER, 9)) for name, values in maps.items()]
    options = {"n_scale": 2, "min_scale": 1.5, "step_scale": 1.5, "psf": 1.5, "max_iter": 2, "workers": 0} | options
    options |= {"exposure_unit": "cm2 s"}
    return run_survey(write(folder / "sky.fits", *hdus), folder / "run", fits="no", **options)
