"""Surveys in memory, such as Gammapy's datasets: written as the FITS files that surveys are read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.inputs import is_dataset, maps_of
from cwt_dask.cwt.pixels import celestial_of, pixels_of, refuse_other_wcs
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.storage.drafts import scratch_directory
from cwt_dask.survey.bands import axes_told, table_of_energies
from cwt_dask.survey.source import IN_MEMORY_CARD, OPTIONAL


@contextmanager
def as_file(survey: Any) -> Iterator[tuple[Any, dict[str, str]]]:
    """Give a survey as something that can be read: a dataset as a FITS file, as long as the block lasts.

    Parameters
    ----------
    survey : path-like, sequence of path-like, mapping or object
        Paths, which are passed on, or a dataset as `cwt_dask.cwt.inputs.maps_of` reads it. Pixels that its maps mask,
        as `cwt_dask.cwt.pixels.pixels_of` finds them, are masked.

    Yields
    ------
    path : path-like
        The file.
    options : dict
        Those of `SourceOptions` that ask for what a mapping names, which is not left out if it does not fit.

    Raises
    ------
    InputError
        If this is neither a path nor a dataset, or one of its maps does not hold real numbers.
    SurveyError
        If reading the survey fails; the message names the dataset in place of the file.
    """
    if not is_dataset(survey):
        _refuse_images(survey)
        yield survey, {}
        return
    maps = maps_of(survey)
    with scratch_directory() as scratch:
        path = scratch / "survey.fits"
        written = _write(path, maps, getattr(survey, "psf", None), dispersed=getattr(survey, "edisp", None) is not None)
        named = [name for name in OPTIONAL if name in written and isinstance(survey, Mapping)]
        # The file is read from now on: memory need not hold both.
        del maps
        try:
            yield path, {f"{name}_hdu": name.upper() for name in named}
        except SurveyError as error:
            raise SurveyError(str(error).replace(str(path), "the dataset")) from error


def _refuse_images(survey: Any) -> None:
    """Raise InputError about pixels where a path is wanted; what else is no path, the file system refuses."""
    pixels = hasattr(survey, "data") or hasattr(survey, "__array__")
    if pixels or (isinstance(survey, list | tuple) and not all(isinstance(each, str | PathLike) for each in survey)):
        raise InputError(
            f"{type(survey).__name__} is no survey: give the path of a file, or maps by name, "
            '{"counts": counts, "background": background}, where counts have a WCS, as '
            "cwt_dask.cwt.image.SkyImage(array, wcs) has"
        )


def _write(path: Path, maps: Mapping[str, Any], spread: Any, *, dispersed: bool) -> list[str]:
    """Write a FITS file, with Gammapy's point spread function if there is one, and give the names of its planes."""
    planes = _with_one_mask({name: _numbers(name, plane) for name, plane in maps.items()})
    wcs = {name: celestial_of(plane) for name, plane in maps.items()}
    for name, each in wcs.items():
        refuse_other_wcs(each, f"{name} of the dataset")
    if wcs["counts"] is None and (wcs := wcs | {"counts": wcs["background"]})["counts"] is None:
        raise InputError(
            "counts of the dataset have no WCS: give them as cwt_dask.cwt.image.SkyImage(counts, wcs), or analyse "
            "arrays by CWTData, CWT"
        )
    hdus = [fits.PrimaryHDU()]
    hdus[0].header[IN_MEMORY_CARD] = True
    for name, pixels in planes.items():
        hdus += _hdus(name, pixels, maps.get(name), wcs.get(name))
    if dispersed:
        hdus.append(fits.ImageHDU(name="EDISP"))  # It is not read, but told to be there.
    if hasattr(spread, "psf_map"):
        hdus += spread.to_hdulist()[1:]
    elif hasattr(spread, "psf_kernel_map"):
        hdus += spread.psf_kernel_map.to_hdulist(hdu="PSF")[1:]
    fits.HDUList(hdus).writeto(path)
    return list(planes)


def _numbers(name: str, given: Any) -> tuple[NDArray[Any], Bools | None]:
    """Pixels as an array of a type that FITS has, and which are masked."""
    pixels, masked = pixels_of(given, f"{name} of the dataset")
    if pixels.dtype.kind not in "biuf" or not pixels.ndim:
        kind = f"an array of {pixels.dtype}" if pixels.ndim else f"one value, {shown(pixels.item())}"
        raise InputError(f"{name} of the dataset is {kind}: give an image of real numbers")
    if pixels.dtype == bool:
        return pixels.astype(np.uint8), masked
    in_fits = pixels.dtype.kind in "iu" or pixels.dtype.itemsize in (4, 8)
    return pixels if in_fits else pixels.astype(np.float64), masked


def _with_one_mask(planes: Mapping[str, tuple[NDArray[Any], Bools | None]]) -> dict[str, NDArray[Any]]:
    """Put masks of counts and background into the mask; what is masked of exposure and mask is NaN."""
    pixels = {
        name: np.where(masked, np.nan, plane) if masked is not None and name in OPTIONAL else plane
        for name, (plane, masked) in planes.items()
    }
    for name in ("counts", "background"):
        masked = planes[name][1]
        if masked is None:
            continue
        mask = pixels.get("mask", np.ones(1, np.uint8))
        try:
            pixels["mask"] = np.where(masked, mask.dtype.type(0), mask)
        except ValueError as error:
            raise InputError(
                f"{name} of the dataset has shape {masked.shape}, its mask {mask.shape}: give maps of one shape"
            ) from error
    return pixels


def _hdus(name: str, pixels: NDArray[Any], plane: Any, wcs: Any) -> Iterator[Any]:
    """An image, and a table of the energies of its planes where these are known."""
    header = fits.Header() if wcs is None else wcs.to_header(relax=True)
    # Units of counts are no help: a count is one.
    if name == "exposure" and (unit := str(getattr(plane, "unit", "") or "")):
        header["BUNIT"] = unit
    if told := axes_told(getattr(plane, "header", {})):
        header["AXTYPE"] = told
    yield fits.ImageHDU(pixels, header, name.upper())
    axes = list(getattr(getattr(plane, "geom", None), "axes", None) or ())
    if len(axes) == 1:
        yield table_of_energies(axes[0], f"{name.upper()}_BANDS")
