"""Event lists over the whole sky, and the files that they come in."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table


def all_over(n, seed, frame="icrs"):
    """Positions over the sky, those of its poles and of round numbers among them."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    round_lon, round_lat = (grid.ravel() for grid in np.meshgrid(np.arange(0, 360, 7.5), np.arange(-90, 91, 7.5)))
    return SkyCoord(np.append(lon, round_lon), np.append(lat, round_lat), unit="deg", frame=frame)


def write_lists(folder, sky, energies, n_lists=3, shuffle=0):
    """Lists of events in the format of Fermi (FT1), of 32 bits."""
    paths = []
    for number, rows in enumerate(np.array_split(np.random.default_rng(shuffle).permutation(len(sky)), n_lists)):
        columns = {"ENERGY": energies[rows] * u.MeV, "RA": sky.icrs.ra[rows], "DEC": sky.icrs.dec[rows]}
        columns = {name: column.astype(np.float32) for name, column in columns.items()}
        hdu = fits.BinTableHDU(Table(columns), name="EVENTS")
        hdu.header["RADECSYS"], hdu.header["EQUINOX"] = "ICRS", 2000.0
        paths.append(folder / f"ft1-{shuffle}-{number}.fits")
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(paths[-1])
    return paths
