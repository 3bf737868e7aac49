"""What a user gives as the point spread function: a width, a file, an array, an object of Gammapy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.units import Quantity

from cwt_dask.config.validation import SPREAD, shown
from cwt_dask.errors import InputError, SettingsError, SurveyError
from cwt_dask.psf.images import image_of, is_kernel_by_energy, is_map_of_profiles, read_image, read_map
from cwt_dask.psf.point_spread import PointSpread
from cwt_dask.psf.response import Spectrum, TargetMap
from cwt_dask.psf.tables import kind_of_table, read_table
from cwt_dask.storage.checksum import input_file
from cwt_dask.storage.paths import exists
from cwt_dask.survey.fits_file import FitsFile
from cwt_dask.survey.source import HDU_OR_BAND, IN_MEMORY_CARD, file_and_hdu

_WIDTH = re.compile(r"\s*[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf)\s*[A-Za-z]*\s*", re.IGNORECASE)
# What its file is called among those of a run.
OF_PSF = "point spread function"
_FORMATS = "PSFMap, PSFKernel, psf_table, psf_3gauss, psf_king, gtpsf, or an image"


def point_spread_of(given: Any, target: TargetMap, spectrum: Spectrum) -> PointSpread:
    """Read a point spread function for a map.

    Parameters
    ----------
    given : number, str, Quantity, path-like, array or object
        The width of a Gaussian, in pixels or as an angle; a file, or ``FILE[HDU]``; an image (y, x) with odd sides, on
        pixels of the map's size; Gammapy's `PSFMap` or `PSFKernel`.
    target : TargetMap
        The map.
    spectrum : Spectrum
        By which energies are weighted.

    Returns
    -------
    PointSpread
        On the map's pixels.

    Raises
    ------
    InputError
        If it is none of these, or none that fits the map.
    """
    spread = _read(given, target, spectrum)
    if spread.kind == "Gaussian":
        return spread
    # What is used now must be what is used later, as the run keeps it.
    return replace(PointSpread.from_content(spread.content, target.wcs), origin=spread.origin, files=spread.files)


class Own(NamedTuple):
    """The point spread function that lies in a survey's own file."""

    given: str  # As a user would give it.
    file: str  # What people call the file.


def own_of(survey: Path) -> Own | None:
    """Find the PSFMap or PSFKernel beside the maps of a survey, as Gammapy's datasets have them; None without one.

    Raises SurveyError if the file cannot be read, InputError if it has several, or only that cannot be read.
    """
    with FitsFile.open(survey) as file:
        try:
            kinds = (is_map_of_profiles, is_kernel_by_energy)
            found = [n for n, hdu in enumerate(file.hdus) if any(kind(hdu, file.hdus) for kind in kinds)]
        except SurveyError as error:
            raise InputError(str(error)) from error
        if len(found) > 1:
            raise InputError(f"{survey} holds {len(found)} point spread functions: name one, --psf '{survey}[HDU]'")
        called = "the dataset" if file.hdus[0].header.get(IN_MEMORY_CARD) is True else str(survey)
        return Own(f"{survey}[{found[0]}]", called) if found else None


def _read(given: Any, target: TargetMap, spectrum: Spectrum) -> PointSpread:
    if isinstance(given, int | float | np.number):
        return _gaussian(float(given), shown(given))
    if isinstance(given, Quantity) and given.isscalar:
        return _gaussian(_degrees(given) / target.pixel_deg, shown(given))
    if isinstance(given, str | PathLike):
        text = str(given)
        if _WIDTH.fullmatch(text) and not exists(file_and_hdu(text)[0]):
            return _of_width(text, target)
        path, hdu = file_and_hdu(given)
        with FitsFile.open(path, "a point spread function") as file:
            spread = _of_hdus(file.hdus, hdu, str(path), target, spectrum)
            return replace(spread, files=(input_file(OF_PSF, path, file.sha256()),))
    # A PSFKernel has its map, a PSFMap is written with its exposure.
    write = getattr(getattr(given, "psf_kernel_map", given), "to_hdulist", None)
    if write is not None:
        return _of_hdus(list(write()), "", type(given).__name__, target, spectrum)
    array = np.zeros(0)
    with suppress(ValueError, TypeError):
        array = np.asarray(given, np.float64)
    if array.ndim == 2:
        return image_of(array, "psf", target)
    raise InputError(f"psf is a {type(given).__name__}: it must be {SPREAD}")


def _of_width(text: str, target: TargetMap) -> PointSpread:
    try:
        pixels = float(text)
    except ValueError:
        try:
            pixels = _degrees(Quantity(text)) / target.pixel_deg
        except (TypeError, ValueError):
            pixels = np.nan
    return _gaussian(pixels, text)


def _degrees(width: Quantity) -> float:
    with suppress(ValueError, TypeError):
        return float(width.to_value("deg"))
    return np.nan


def _gaussian(pixels: float, given: str) -> PointSpread:
    if not (np.isfinite(pixels) and pixels > 0):
        raise SettingsError(
            f'psf is "{given}": it must be a width above 0, in pixels (2.4) or as an angle ("0.12deg"), or a file'
        )
    # As many digits as all machines agree on.
    spread = PointSpread.gaussian(float(f"{pixels:.9g}"))
    return replace(spread, origin="Gaussian")


def _of_hdus(hdus: Sequence[Any], named: str, path: str, target: TargetMap, spectrum: Spectrum) -> PointSpread:
    """Read the HDU that is named, or the only one that holds a point spread function."""
    hdu = _named(hdus, named, path) if named else _only(hdus, path)
    where = f"HDU {hdu.name or list(hdus).index(hdu)} of {path}"
    if is_map_of_profiles(hdu, hdus):
        return read_map(hdu, hdus, where).on(target, spectrum)
    if hdu.is_image and len(hdu.shape) > 1:
        return read_image(hdu, hdus, where, target, spectrum)
    if not hdu.is_image and kind_of_table(hdu):
        return read_table(hdu, hdus, where, target).on(target, spectrum)
    raise InputError(f"{where} holds no point spread function of a known format: {_FORMATS}")


def _named(hdus: Sequence[Any], name: str, path: str) -> Any:
    if HDU_OR_BAND.fullmatch(name) and int(name) < len(hdus):
        return hdus[int(name)]
    for hdu in hdus:
        if hdu.name.upper() == name.upper():
            return hdu
    present = ", ".join(f"{number} {hdu.name or '(no name)'}" for number, hdu in enumerate(hdus))
    raise InputError(f"{path} has no HDU {shown(name)}; it has {present}: name the one of the point spread function")


def _only(hdus: Sequence[Any], path: str) -> Any:
    found = [hdu for hdu in hdus if (is_map_of_profiles(hdu, hdus) if hdu.is_image else kind_of_table(hdu))]
    images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape or ()) > 1]
    found = found or (images if len(images) == 1 else [])
    if not found:
        raise InputError(f"{path} holds no point spread function of a known format: {_FORMATS}")
    if len(found) > 1:
        names = ", ".join(str(hdu.name or list(hdus).index(hdu)) for hdu in found)
        raise InputError(f"{path} holds {len(found)} point spread functions: name one, --psf '{path}[HDU]', of {names}")
    return found[0]
