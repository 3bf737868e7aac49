"""Tables of point spread functions: GADF's `psf_table`, `psf_3gauss`, `psf_king`, and what Fermi's gtpsf writes.

https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/psf/index.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.errors import InputError
from cwt_dask.psf.columns import Columns, energies_of, rings_of
from cwt_dask.psf.places import Places
from cwt_dask.psf.response import Response, TargetMap

# Radii for which formulas are tabulated: their number, the first one over the smallest width, the last in degrees, and
# what may lie beyond.
_N_RADII, _FIRST, _LARGEST, _BEYOND = 600, 0.01, 30.0, 1e-4
_THREE_GAUSSIANS = ("SCALE", "SIGMA_1", "AMPL_2", "SIGMA_2", "AMPL_3", "SIGMA_3")


def kind_of_table(hdu: Any) -> str:
    """Which of these a table is; empty if none."""
    names = {column.name.upper() for column in hdu.columns}
    if not {"ENERG_LO", "THETA_LO"} <= names:
        return "gtpsf" if {"ENERGY", "PSF"} <= names else ""
    kinds = {"psf_table": {"RPSF"}, "psf_3gauss": set(_THREE_GAUSSIANS), "psf_king": {"GAMMA", "SIGMA"}}
    return next((kind for kind, needed in kinds.items() if needed <= names), "")


def read_table(hdu: Any, hdus: Sequence[Any], where: str, target: TargetMap) -> Response:
    """Read one of these tables.

    Parameters
    ----------
    hdu, hdus
        The table, and all HDUs of its file.
    where : str
        The table, for messages.
    target : TargetMap
        The map; its centre is the pointing of a file that does not say where that was.

    Raises
    ------
    InputError
        If it is not as its format has it.
    """
    kind, columns = kind_of_table(hdu), Columns(hdu, where)
    if kind == "gtpsf":
        return _gtpsf(columns, hdus, target)
    low, high = (columns.first_in_unit(name, "TeV") for name in ("ENERG_LO", "ENERG_HI"))
    offsets = _offsets(columns)
    energies = energies_of(low, high, where)
    places, note = _around_pointing(offsets, columns, hdus, target)
    whole = None
    if kind == "psf_table":
        inner, outer = (columns.first_in_unit(name, "deg") for name in ("RAD_LO", "RAD_HI"))
        density = _shaped(columns, "RPSF", (len(outer), len(offsets), len(low)))
        radius, rings = rings_of(inner, outer, density.transpose(1, 2, 0), where)
    else:
        shape = (len(offsets), len(low))
        parts = _gaussians(columns, shape) if kind == "psf_3gauss" else _king(columns, shape)
        radius, rings, whole = parts
    recorded = _effective_area(hdus, energies.nodes, offsets)
    return Response(kind, where, energies, radius, rings, places, recorded, whole, note)


def _offsets(columns: Columns) -> Floats:
    return (columns.first_in_unit("THETA_LO", "deg") + columns.first_in_unit("THETA_HI", "deg")) / 2


def _shaped(columns: Columns, name: str, shape: tuple[int, ...], unit: str = "") -> Floats:
    """Values of the first row along their axes; files leave out axes of length 1."""
    values = columns.first_in_unit(name, unit) if unit else columns.first(name)
    if [length for length in values.shape if length > 1] != [length for length in shape if length > 1]:
        raise InputError(f"{columns.where}: {name} has shape {values.shape}, its axes {shape}: write the file again")
    return values.reshape(shape)


def _gtpsf(columns: Columns, hdus: Sequence[Any], target: TargetMap) -> Response:
    """Energies in rows, radii in a table of their own; or all in one row, and then by offset, too."""
    thetas = [each for each in hdus if not each.is_image and each.name.upper() == "THETA"]
    theta = columns if "THETA" in columns else Columns(thetas[0], columns.where) if thetas else None
    if theta is None or "THETA" not in theta:
        raise InputError(f"{columns.where} has no radii (column THETA, or a table of that name): get the file again")
    radius, density = theta.in_unit("THETA", "deg", "deg"), columns.values("PSF")
    low = columns.in_unit("ENERGY", "TeV", "MeV")
    recorded = columns.values("EXPOSURE") if "EXPOSURE" in columns else np.ones(low.shape)
    places, note = None, ""
    if low.ndim > 1:
        low, radius, recorded = low[0], radius[0], recorded[0]
        offsets = columns.first_in_unit("OFFSET", "deg") if "OFFSET" in columns else np.zeros(1)
        density = _shaped(columns, "PSF", (len(offsets), len(radius), len(low))).transpose(0, 2, 1)
        places, note = _around_pointing(offsets, columns, hdus, target)
    else:
        density = density[np.newaxis]
    if density.shape[1:] != (len(low), len(radius)):
        shape = density.shape[1:]
        raise InputError(
            f"{columns.where}: PSF has shape {shape}, its axes {(len(low), len(radius))}: write the file again"
        )
    energies = energies_of(low, low, columns.where)
    radius, rings = rings_of(radius, radius, density, columns.where)
    recorded = np.broadcast_to(recorded, rings.shape[:2])
    return Response("gtpsf", columns.where, energies, radius, rings, places, recorded, note=note)


def _gaussians(columns: Columns, shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
    """Radii, amounts between them, and the whole, of three Gaussians (offset, energy)."""
    second, third = (_shaped(columns, name, shape) for name in ("AMPL_2", "AMPL_3"))
    sigmas = [_shaped(columns, f"SIGMA_{number}", shape, "deg") for number in (1, 2, 3)]
    # The amplitude of a Gaussian without a width is no matter.
    areas = [np.where(sigma > 0, sigma, 0.0) ** 2 for sigma in np.nan_to_num(sigmas)]
    parts = [area * np.nan_to_num(height) for area, height in zip(areas, (np.ones(shape), second, third), strict=True)]
    radius = _radii(np.sqrt(areas), 6.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shares = [-np.expm1(-(radius**2) / (2 * area[..., np.newaxis])) for area in areas]
    within = sum(np.nan_to_num(part[..., np.newaxis] * share) for part, share in zip(parts, shares, strict=True))
    return radius, np.diff(within), np.asarray(sum(parts))


def _king(columns: Columns, shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
    """Radii, amounts between them, and the whole, of King profiles (offset, energy)."""
    gamma = np.nan_to_num(_shaped(columns, "GAMMA", shape))
    sigma = np.nan_to_num(_shaped(columns, "SIGMA", shape, "deg"))
    usable = (sigma > 0) & (gamma > 1)
    sigma, gamma = np.where(usable, sigma, 0.0), np.where(usable, gamma, 2.0)
    far = np.sqrt(2 * gamma * (_BEYOND ** (1 / (1 - gamma)) - 1))
    radius = _radii(sigma, float(np.where(usable, far, 0.0).max(initial=1.0)))
    scaled = radius**2 / (2 * gamma * np.where(usable, sigma, 1.0) ** 2)[..., np.newaxis]
    within = 1 - (1 + scaled) ** (1 - gamma[..., np.newaxis])
    return radius, np.diff(within) * usable[..., np.newaxis], usable.astype(np.float64)


def _radii(sigmas: Floats, widths: float) -> Floats:
    """Radii for formulas of these widths, as far as so many of the largest."""
    known = sigmas[sigmas > 0]
    smallest, largest = (known.min(), known.max()) if known.size else (1.0, 1.0)
    end = max(min(widths * largest, _LARGEST), 2 * smallest)
    return np.append(0.0, np.geomspace(_FIRST * smallest, end, _N_RADII))


def _around_pointing(
    offsets: Floats, columns: Columns, hdus: Sequence[Any], target: TargetMap
) -> tuple[Places | None, str]:
    """Where offsets are taken from: the pointing, or the map's centre."""
    if len(offsets) == 1:
        return None, ""
    if not (np.all(np.isfinite(offsets)) and np.all(np.diff(offsets) > 0)):
        raise InputError(f"{columns.where}: its offsets do not rise: correct them")
    y, x = ((length - 1) / 2 for length in target.shape)
    centre = target.wcs.pixel_to_world([x], [y]).icrs
    around_centre = Places.around(centre.ra.deg, centre.dec.deg, offsets)
    farthest = offsets[-1] + np.hypot(x, y) * target.pixel_deg
    why = "it says no pointing (RA_PNT)"
    for each in (columns.hdu, *(each for each in hdus if each.name.upper() == "EVENTS"), hdus[0]):
        lon, lat = (each.header.get(name) for name in ("RA_PNT", "DEC_PNT"))
        if isinstance(lon, int | float) and isinstance(lat, int | float):
            pointing = Places.around(np.array([lon]), np.array([lat]), offsets)
            if around_centre.distance(pointing) <= farthest:
                return pointing, ""
            why = "it points elsewhere"
    return around_centre, f", offsets from the map's centre, as {why}"


def _effective_area(hdus: Sequence[Any], energies: Floats, offsets: Floats) -> Floats | None:
    """Effective area of the same file at energies and offsets, (offset, energy); None where it has none."""
    for hdu in hdus:
        if hdu.is_image or not {"EFFAREA", "ENERG_LO", "THETA_LO"} <= {column.name.upper() for column in hdu.columns}:
            continue
        columns = Columns(hdu, hdu.name)
        low, high = (columns.first_in_unit(name, "TeV") for name in ("ENERG_LO", "ENERG_HI"))
        theta = _offsets(columns)
        area = _shaped(columns, "EFFAREA", (len(theta), len(low)))
        by_energy = [np.interp(np.log(energies), np.log(np.sqrt(low * high)), row) for row in area]
        return np.stack([np.interp(offsets, theta, row) for row in np.transpose(by_energy)], axis=1)
    return None
