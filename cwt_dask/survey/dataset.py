"""Surveys in memory, such as Gammapy's datasets: written as the FITS files that surveys are read from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.cwt.image import celestial_of
from cwt_dask.cwt.inputs import is_dataset, maps_of
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.survey.wcs import celestial_header, same_sky

log = logging.getLogger(__name__)


@contextmanager
def as_file(survey: Any) -> Iterator[Any]:
    """Give a survey as something that can be read: a dataset as a FITS file, as long as the block lasts.

    Parameters
    ----------
    survey : path-like, mapping or object
        A path, which is passed on, or a dataset as `cwt_dask.cwt.inputs.maps_of` reads it. Exposure that does not
        lie on the pixels of the counts, or has planes of its own, is left out of a dataset, with a warning in the log.

    Raises
    ------
    InputError
        If this is no dataset, or one of its maps does not hold real numbers.
    SurveyError
        If reading the survey fails; the message names the dataset in place of the file.
    """
    if not is_dataset(survey):
        yield survey
        return
    maps = maps_of(survey)
    with TemporaryDirectory(prefix="cwt_dask-") as directory:
        path = Path(directory, "survey.fits")
        hdus = {name: _hdu(name, plane) for name, plane in maps.items()}
        # Gammapy's datasets keep exposure in true energies, on a coarser grid; in a mapping it is given on purpose.
        if "exposure" in hdus and not isinstance(survey, dict) and not _fits(hdus["exposure"], hdus["counts"]):
            log.warning("the exposure does not lie on the pixels of the counts, one plane of it: it is left out")
            del hdus["exposure"]
        fits.HDUList([fits.PrimaryHDU(), *hdus.values()]).writeto(path)
        # The file is read from now on: memory need not hold both.
        del hdus, maps
        try:
            yield path
        except SurveyError as error:
            raise SurveyError(str(error).replace(str(path), "the dataset")) from error


def _hdu(name: str, plane: Any) -> fits.ImageHDU:
    pixels = _numbers(name, plane.data if hasattr(plane, "data") and not isinstance(plane, np.ndarray) else plane)
    wcs = celestial_of(plane)
    header = fits.Header() if wcs is None else wcs.to_header(relax=True)
    # Units of counts are no help: a count is one.
    if name == "exposure" and (unit := str(getattr(plane, "unit", "") or "")):
        header["BUNIT"] = unit
    return fits.ImageHDU(pixels, header, name.upper())


def _numbers(name: str, given: Any) -> NDArray[Any]:
    """Pixels as an array of a type that FITS has."""
    try:
        pixels = np.asarray(given)
    # Rows of unlike lengths.
    except ValueError as error:
        raise InputError(f"{name} of the dataset is no array ({shown(error)}): give an image") from error
    if pixels.dtype.kind not in "biuf" or not pixels.ndim:
        kind = f"an array of {pixels.dtype}" if pixels.ndim else f"one value, {shown(given)}"
        raise InputError(f"{name} of the dataset is {kind}: give an image of real numbers")
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    return pixels if pixels.dtype.kind in "iu" or pixels.dtype.itemsize in (4, 8) else pixels.astype(np.float64)


def _fits(exposure: fits.ImageHDU, counts: fits.ImageHDU) -> bool:
    """Whether exposure is one plane on the pixels of the counts."""
    shape = counts.shape[-2:]
    if exposure.shape[-2:] != shape or exposure.data.size != np.prod(shape):
        return False
    ours, theirs = (celestial_header(hdu.header, shape, hdu.name) for hdu in (counts, exposure))
    return ours is None or theirs is None or same_sky(ours, theirs, shape)
