"""Images of a point spread function, Gammapy's PSFMap (an image for each energy and radius) and PSFKernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from cwt_dask.config.validation import counted
from cwt_dask.cwt.arrays import Floats
from cwt_dask.errors import InputError
from cwt_dask.psf.columns import Columns, energies_of, rings_of
from cwt_dask.psf.energies import energy_weights
from cwt_dask.psf.places import Places
from cwt_dask.psf.point_spread import PointSpread
from cwt_dask.psf.response import Energies, Response, Spectrum, TargetMap
from cwt_dask.survey.fits_file import has_name
from cwt_dask.survey.headers import damage_named

# Relative: pixel sizes are written with six digits, and change over a map.
_SAME_PIXELS = 0.01
# Pixels by which the centroid of an image may lie off its middle.
_OFF_CENTRE = 0.5


def bands_of(hdu: Any, hdus: Sequence[Any], where: str) -> Columns | None:
    """The table of a cube's planes; None where there is none.

    Parameters
    ----------
    hdu, hdus, where
        As of `read_map`.
    """
    names = {str(hdu.header.get("BANDSHDU", "")).upper(), f"{hdu.name}_BANDS".upper()} - {""}
    tables = [each for each in hdus if not each.is_image and each.name.upper() in names]
    return Columns(tables[0], where) if tables else None


def is_map_of_profiles(hdu: Any, hdus: Sequence[Any]) -> bool:
    """Whether an image is that of a PSFMap: planes by energy and radius, of which there are several."""
    if not hdu.is_image or len(hdu.shape or ()) != 4 or hdu.shape[1] < 2:
        return False
    bands = bands_of(hdu, hdus, hdu.name)
    return bands is not None and bands.radii() is not None and bands.energies() is not None


def is_kernel_by_energy(hdu: Any, hdus: Sequence[Any]) -> bool:
    """Whether an image is that of a PSFKernel, by its name: an image for each energy."""
    if not hdu.is_image or not has_name(hdu, "PSF") or len(hdu.shape or ()) != 3:
        return False
    bands = bands_of(hdu, hdus, hdu.name)
    return bands is not None and bands.energies() is not None


def read_map(hdu: Any, hdus: Sequence[Any], where: str) -> Response:
    """Read a PSFMap, weighted by its own exposure where it has one.

    Parameters
    ----------
    hdu, hdus
        Its image, and all HDUs of its file.
    where : str
        The image, for messages.

    Raises
    ------
    InputError
        If it is not as Gammapy writes it.
    """
    bands = bands_of(hdu, hdus, where)
    n_energies, n_radii, *plane = hdu.shape
    edges = [] if bands is None else [bands.energies(), bands.radii()]
    if not edges or any(pair is None or pair[0].size != n_energies * n_radii for pair in edges):
        raise InputError(f"{where} has no table of the energies and radii of its planes: write it with Gammapy")
    (low, high), (inner, outer) = (
        (each.reshape(n_energies, n_radii) for each in pair) for pair in edges if pair is not None
    )
    energies = energies_of(low[:, 0], high[:, 0], where)
    # (energy, radius, place), as the others have them.
    density = pixels_of(hdu, where).reshape(n_energies, n_radii, -1).transpose(2, 0, 1)
    with damage_named(f"the WCS of {where} cannot be used", "correct its header"):
        sky = WCS(hdu.header).celestial.pixel_to_world(*np.meshgrid(np.arange(plane[1]), np.arange(plane[0]))).icrs
        lon, lat = np.ravel(sky.ra.deg), np.ravel(sky.dec.deg)
    on_sky = np.isfinite(lon)
    # Edges between radii of which the first is 0 begin below it.
    radius, rings = rings_of(np.maximum(inner[0], 0.0), outer[0], density[on_sky], where)
    places = Places.around(lon[on_sky], lat[on_sky])
    recorded = _recorded(hdu, hdus, energies)
    if recorded is not None:
        recorded = np.broadcast_to(recorded, (on_sky.size, n_energies))[on_sky]
    return Response("PSFMap", where, energies, radius, rings, places, recorded)


def _recorded(hdu: Any, hdus: Sequence[Any], energies: Energies) -> Floats | None:
    """Exposure of a PSFMap's own, by place and energy, else that of its dataset, the mean of the map, by energy."""
    cubes = {each.name.upper(): each for each in hdus if each.is_image and len(each.shape or ()) >= 3}
    own = cubes.get(f"{hdu.name}_EXPOSURE".upper())
    others = next((cube for cube in cubes.values() if has_name(cube, "EXPOSURE")), None)
    if own is not None and own.shape == (hdu.shape[0], 1, *hdu.shape[2:]):
        return pixels_of(own, own.name).reshape(hdu.shape[0], -1).T
    bands = None if others is None else bands_of(others, hdus, others.name)
    pair = None if bands is None else bands.energies()
    if others is None or pair is None or len(pair[0]) != others.shape[0]:
        return None
    mean = np.nan_to_num(pixels_of(others, others.name)).reshape(len(pair[0]), -1).mean(axis=1)
    return np.asarray(np.interp(np.log(energies.nodes), np.log(pair[0] * pair[1]) / 2, mean)[np.newaxis])


def read_image(hdu: Any, hdus: Sequence[Any], where: str, target: TargetMap, spectrum: Spectrum) -> PointSpread:
    """Read an image, or a cube of one for each energy.

    Parameters
    ----------
    hdu, hdus, where
        As of `read_map`.
    target : TargetMap
        The map.
    spectrum : Spectrum
        By which images of several energies are weighted.

    Raises
    ------
    InputError
        If it is no point spread function on pixels of the map's size.
    """
    pixels = pixels_of(hdu, where)
    with damage_named(f"the WCS of {where} cannot be used", "correct its header"):
        wcs = WCS(hdu.header)
        scale = float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs.celestial)))) if wcs.has_celestial else None
    if scale is not None and abs(scale / target.pixel_deg - 1) > _SAME_PIXELS:
        raise InputError(
            f"{where} has pixels of {scale:.4g} deg, the survey of {target.pixel_deg:.4g}: resample it to those, or "
            "give a table (gtpsf, psf_table, PSFMap)"
        )
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    if len(pixels) == 1:
        return image_of(pixels[0], where, target)
    bands = bands_of(hdu, hdus, where)
    pair = None if bands is None else bands.energies()
    if pair is None or len(pair[0]) != len(pixels):
        raise InputError(f"{where} has {counted(len(pixels), 'plane')}, of no known energies: give one of them")
    return image_of(averaged(pixels, pair, where, spectrum), where, target)


def averaged(planes: Floats, edges: tuple[Floats, Floats], where: str, spectrum: Spectrum) -> Floats:
    """Average planes, each normalised.

    Parameters
    ----------
    planes : ndarray
        (energy, y, x).
    edges : tuple of ndarray
        Their energies, in TeV.
    where, spectrum
        As of `read_image`.

    Raises
    ------
    InputError
        If their energies do not overlap with the survey's.
    """
    energies, whole = energies_of(*edges, where), planes.sum(axis=(1, 2))
    usable = np.isfinite(whole) & (whole > 0)
    try:
        weights = energy_weights(
            energies.nodes, energies.edges, np.ones(len(whole)), usable, band=spectrum.band, index=spectrum.index
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return np.asarray(np.tensordot(weights[usable] / whole[usable], planes[usable], 1))


def image_of(image: Floats, where: str, target: TargetMap) -> PointSpread:
    """Make a point spread function of an image on pixels of the map's size.

    Parameters
    ----------
    image : ndarray
        (y, x).
    where, target
        As of `read_image`.

    Raises
    ------
    InputError
        If it is none.
    """
    shape = " x ".join(map(str, image.shape))
    if any(length % 2 == 0 for length in image.shape):
        raise InputError(f"{where} has {shape} pixels: its sides must be odd, with the source on the middle pixel")
    if any(length > most for length, most in zip(image.shape, target.shape, strict=True)):
        of_map = " x ".join(map(str, target.shape))
        raise InputError(f"{where} has {shape} pixels, the map {of_map}: cut it around its middle")
    if n_bad := int(np.count_nonzero(~np.isfinite(image))):
        raise InputError(f"{where} has {counted(n_bad, 'pixel')} NaN or infinite: set them to what is expected there")
    if image.min() < 0:
        raise InputError(f"{where} has negative pixels, the lowest {image.min():g}: set to 0 what is noise")
    if not image.sum() > 0:
        raise InputError(f"{where} is 0 everywhere: give the image of a point source")
    y, x = (
        np.average(np.arange(length) - length // 2, weights=image.sum(axis=1 - axis))
        for axis, length in enumerate(image.shape)
    )
    if max(abs(y), abs(x)) > _OFF_CENTRE:
        raise InputError(
            f"{where} is not centred: its centroid lies {x:+.2f}, {y:+.2f} pixels (x, y) off the middle pixel"
        )
    return replace(PointSpread.of_image(image), origin=f"image of {where}")


def pixels_of(hdu: Any, where: str) -> Floats:
    """Pixels of an image, float64.

    Raises SurveyError if they cannot be read.
    """
    with damage_named(f"{where} cannot be read"):
        pixels = np.asarray(hdu.data, np.float64)
        return pixels * float(hdu.header.get("BSCALE", 1)) + float(hdu.header.get("BZERO", 0))
