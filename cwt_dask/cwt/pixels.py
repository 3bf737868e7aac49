"""What is taken of anything that holds an image: pixels, the masks that libraries keep beside them, and the WCS."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.sky_cards import plainly_spelled
from cwt_dask.cwt.state import ROUNDING_FACTOR
from cwt_dask.errors import InputError


def pixels_of(source: Any, name: str) -> tuple[NDArray[Any], Bools | None]:
    """Take pixels and mask apart.

    Parameters
    ----------
    source : array_like, NDData, FITS HDU, or object with ``.data``
        Also masked: arrays of ``numpy.ma``, astropy's ``Masked``, ``NDData.mask``, Dask arrays of masked arrays.
    name : str
        What it is, for messages.

    Returns
    -------
    pixels : ndarray
        Of any shape and type.
    masked : ndarray of bool or None
        True where a pixel is masked, in the shape of `pixels`; None where none is.

    Raises
    ------
    InputError
        If there is no array, or its mask has another shape.
    """
    holder = hasattr(source, "data") and not isinstance(source, np.ndarray)
    try:
        pixels = _array(source.data if holder else source)
    # Rows of unlike lengths, and what is no number.
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is no array ({error}): give an image") from error
    masked = np.zeros(pixels.shape, bool)
    for mask in (getattr(each, "mask", None) for each in (pixels, source if holder else None)):
        if mask is None:
            continue
        shape = np.shape(mask)
        try:
            masked |= np.broadcast_to(_array(mask), pixels.shape).astype(bool)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"the mask of {name} has shape {shape}, its pixels {pixels.shape}: give one of True and False a pixel"
            ) from error
    return np.asarray(pixels), masked if masked.any() else None


def _array(given: Any) -> Any:
    """An array with its mask: `numpy.asarray` forgets masks."""
    if hasattr(given, "compute"):
        # Of Dask's arrays it is the chunks that are masked.
        given = given.compute()
    # Of a list numpy.ma alone asks what is in it.
    return np.ma.array(given) if isinstance(given, list | tuple) else np.asanyarray(given)


def rounding_of(dtype: np.dtype[Any], brightest: float) -> float:
    """How far below zero a background may be by the rounding of somebody's convolution, in counts a pixel.

    Parameters
    ----------
    dtype : dtype
        Type of the map: that of integers is taken for float64.
    brightest : float
        Its largest pixel. Rounding is relative to it, and to a single count where it is less.
    """
    of_map, of_counts = np.finfo(dtype if dtype.kind == "f" else np.float64).eps, np.finfo(np.float64).eps
    return float(ROUNDING_FACTOR * max(of_map * brightest, of_counts))


def celestial_of(source: Any) -> Any:
    """Celestial WCS, two axes of it, of anything that holds an image; None where it has none.

    What is no WCS of astropy is returned as it is.
    """
    wcs = _wcs_of(source)
    if not isinstance(wcs, WCS):
        return wcs
    if not wcs.has_celestial:
        return None
    return plainly_spelled_wcs(wcs if wcs.naxis == 2 else wcs.celestial)


def plainly_spelled_wcs(wcs: WCS) -> WCS:
    """The WCS, or a copy in which the names of frame and distortion are those that astropy knows."""
    cards = {f"CTYPE{axis}": kind for axis, kind in enumerate(wcs.wcs.ctype, 1)} | {"RADESYS": wcs.wcs.radesys}
    if wcs.sip is not None and wcs.sip.a is not None:
        cards["A_ORDER"] = wcs.sip.a_order
    plain = _spelled(fits.Header(cards))
    ctype, radesys = [plain["CTYPE1"], plain["CTYPE2"]], plain["RADESYS"]
    if wcs.wcs.lngtyp.strip() != "RA":
        # By the standard it means nothing there; given after the rest astropy takes it all the same.
        radesys = ""
    if ctype != list(wcs.wcs.ctype) or radesys != wcs.wcs.radesys:
        wcs = wcs.deepcopy()
        wcs.wcs.ctype, wcs.wcs.radesys = ctype, radesys
    return wcs


def _spelled(header: fits.Header) -> fits.Header:
    try:
        return plainly_spelled(header)
    except (InputError, fits.VerifyError) as error:
        raise InputError(f"the WCS of the image cannot be used ({error}): correct its header") from error


def refuse_other_wcs(wcs: Any, label: str) -> None:
    """Raise InputError unless a WCS is None or astropy's, of two celestial axes; `label` is the image, for messages."""
    if wcs is not None and not (isinstance(wcs, WCS) and wcs.naxis == 2 and wcs.has_celestial):
        raise InputError(
            f"the WCS of {label} is a {type(wcs).__name__}: give an astropy.wcs.WCS of two celestial axes, or None"
        )


def _wcs_of(source: Any) -> Any:
    if hasattr(source, "wcs"):
        return source.wcs
    if hasattr(source, "geom"):
        return source.geom.wcs
    if hasattr(source, "header"):
        with warnings.catch_warnings():
            # Old headers are the rule; the user need not know what wcslib corrects in their dates and units.
            warnings.simplefilter("ignore", FITSFixedWarning)
            return WCS(_spelled(source.header))
    return None
