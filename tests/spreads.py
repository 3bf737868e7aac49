"""Files of point spread functions, in the formats of the field, made of formulas."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from skies import sky_header

from cwt_dask.psf import Spectrum, TargetMap

SHAPE = (60, 80)
# Pixels of 0.1 deg around l = 10, b = 0.
TARGET = TargetMap(WCS(sky_header(SHAPE)), SHAPE, 0.1)
ALL = Spectrum(2.0, None)
ENERGIES = np.geomspace(0.1, 10, 5)  # edges, in TeV
SIGMAS = np.array([0.30, 0.25, 0.20, 0.15])  # deg, of the bands between them


def gaussian(radius, sigma):
    """Density per square degree."""
    return np.exp(-(radius**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def share(radius, sigma):
    """What a Gaussian has within a radius."""
    return 1 - np.exp(-(radius**2) / (2 * sigma**2))


def king_share(radius, sigma, gamma):
    return 1 - (1 + radius**2 / (2 * gamma * sigma**2)) ** (1 - gamma)


def columns(units, **values):
    """A table of one row."""
    made = []
    for name, value in values.items():
        array = np.asarray(value, np.float32)
        dim = f"({','.join(map(str, array.shape[::-1]))})" if array.ndim > 1 else None
        made.append(fits.Column(name, f"{array.size}E", unit=units.get(name), dim=dim, array=array[np.newaxis]))
    return fits.BinTableHDU.from_columns(made)


def axes(offsets):
    return {"ENERG_LO": ENERGIES[:-1], "ENERG_HI": ENERGIES[1:], "THETA_LO": offsets, "THETA_HI": offsets}


UNITS = {"ENERG_LO": "TeV", "ENERG_HI": "TeV"} | dict.fromkeys(("THETA_LO", "THETA_HI", "RAD_LO", "RAD_HI"), "deg")


def psf_table(sigmas=SIGMAS, offsets=(0.0,), growth=0.0, density=None, **units):
    """Gaussians that grow by a share of their width with each degree of offset; or one density everywhere."""
    edges = np.linspace(0, 2.0, 401)
    middle = (edges[1:] + edges[:-1]) / 2
    wide = np.multiply.outer(1 + growth * np.array(offsets), sigmas)
    gaussians = gaussian(middle[:, np.newaxis, np.newaxis], wide)
    density = gaussians if density is None else np.full(gaussians.shape, density)
    return columns(
        UNITS | {"RPSF": "deg-2"} | units, **axes(offsets), RAD_LO=edges[:-1], RAD_HI=edges[1:], RPSF=density
    )


def effective_area(area, offsets=(0.0,)):
    table = columns(
        UNITS | {"EFFAREA": "m2"}, **axes(offsets), EFFAREA=np.broadcast_to(area, (len(offsets), len(area)))
    )
    table.name = "EFFECTIVE AREA"
    return table


def psf_3gauss(sigmas=SIGMAS, offsets=(0.0,)):
    """A Gaussian, and a third as much of one thrice as wide."""
    shape = (len(offsets), len(sigmas))
    widths = np.broadcast_to(sigmas, shape)
    none = np.zeros(shape)
    return columns(
        UNITS | dict.fromkeys(("SIGMA_1", "SIGMA_2", "SIGMA_3"), "deg"),
        **axes(offsets),
        SCALE=none + 1,
        SIGMA_1=widths,
        AMPL_2=none + 1 / 27,
        SIGMA_2=3 * widths,
        AMPL_3=none,
        SIGMA_3=none,
    )


def psf_king(sigmas=SIGMAS, gamma=2.5, offsets=(0.0,)):
    shape = (len(offsets), len(sigmas))
    units = UNITS | {"SIGMA": "deg"}
    return columns(units, **axes(offsets), GAMMA=np.full(shape, gamma), SIGMA=np.broadcast_to(sigmas, shape))


def gtpsf(energies, sigmas, exposure=None, backwards=False, **units):
    """Densities at angles, in a row for each energy in MeV."""
    theta = np.linspace(0, np.sqrt(3), 300)[:: -1 if backwards else 1] ** 2
    exposure = np.ones(len(energies)) if exposure is None else exposure
    density = gaussian(theta, np.asarray(sigmas)[:, np.newaxis])
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("Energy", "D", unit=units.get("Energy"), array=energies),
            fits.Column("Exposure", "D", array=exposure),
            fits.Column("Psf", "300D", array=density),
        ],
        name="PSF",
    )
    angles = fits.BinTableHDU.from_columns(
        [fits.Column("Theta", "D", unit=units.get("Theta"), array=theta)], name="THETA"
    )
    return table, angles


def without_rows(table):
    return fits.BinTableHDU(table.data[:0], table.header)


def without(table, name):
    """It without a column."""
    return fits.BinTableHDU.from_columns([column for column in table.columns if column.name != name])


def write(path, *hdus):
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return path


def psf_map(sigmas, exposure=None, name="PSF"):
    """A PSFMap (place, energy) as Gammapy writes one: places 2 degrees apart along longitude, from 8 deg on."""
    sigmas = np.asarray(sigmas, float)
    edges = np.linspace(0, 2.0, 401)
    n_places, n_energies = sigmas.shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["GLON-CAR", "GLAT-CAR"], [8.0, 0.0], [1.0, 1.0]
    wcs.wcs.cdelt = [2.0, 2.0]
    middle = (edges[1:] + edges[:-1]) / 2
    density = gaussian(middle[np.newaxis, :, np.newaxis, np.newaxis], sigmas.T[:, np.newaxis, np.newaxis, :])
    bands = np.geomspace(0.1, 10, n_energies + 1)
    image = fits.ImageHDU(density, wcs.to_header(), name)
    image.header["BANDSHDU"] = f"{name}_BANDS"

    def table(radii, of):
        low, high = (np.repeat(each, len(radii) - 1) for each in (bands[:-1], bands[1:]))
        columns = {
            "RAD_MIN": ("deg", np.tile(radii[:-1], n_energies)),
            "RAD_MAX": ("deg", np.tile(radii[1:], n_energies)),
        }
        columns |= {"ENERGY_TRUE_MIN": ("TeV", low), "ENERGY_TRUE_MAX": ("TeV", high)}
        made = [fits.Column(each, "D", unit=unit, array=values) for each, (unit, values) in columns.items()]
        return fits.BinTableHDU.from_columns(made, name=f"{of}_BANDS")

    hdus = [image, table(edges, name)]
    if exposure is not None:
        recorded = np.asarray(exposure, float).T.reshape(n_energies, 1, 1, n_places)
        hdus += [
            fits.ImageHDU(recorded, wcs.to_header(), f"{name}_EXPOSURE"),
            table(np.array([0, 2.0]), f"{name}_EXPOSURE"),
        ]
    return hdus
