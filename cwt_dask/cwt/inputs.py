"""Maps that come together: datasets of Gammapy and similar objects. Gammapy itself is not needed for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.image import SkyImage
from cwt_dask.cwt.pixels import rounding_of
from cwt_dask.cwt.state import Field
from cwt_dask.errors import InputError

log = logging.getLogger(__name__)

MAPS = ("counts", "background", "exposure", "mask")
NEGATIVE_BY_ROUNDING = "background is negative by no more than rounding (pixels = %d, lowest = %.2g): taken as 0 there"
# Counts above it are none: float64 does not hold every whole number there.
LARGEST = 2.0**53
NO_EXCESS = "; if it is an excess map, give the counts, before anything was subtracted"


def is_dataset(source: Any) -> bool:
    """Whether it holds maps: a mapping of them, or an object with ``.counts``."""
    return isinstance(source, Mapping) or hasattr(source, "counts")


def maps_of(dataset: Any) -> dict[str, Any]:
    """Find the maps of a dataset.

    Parameters
    ----------
    dataset : mapping or object
        With counts and background, and optionally exposure and mask, by key; or with ``.counts`` and, tried in this
        order, ``.npred_background()`` and ``.background``; ``.mask_safe`` and ``.mask``; ``.exposure``.

    Returns
    -------
    dict
        Maps by their names in `MAPS`; exposure and mask only where there are any.

    Raises
    ------
    InputError
        If counts or background are missing, a key is unknown, or a map has no pixels on the sky's plane.
    """
    if isinstance(dataset, Mapping):
        maps = dict(dataset)
        if unknown := sorted(map(str, maps.keys() - set(MAPS))):
            raise InputError(f"there is no use for maps {', '.join(unknown)}: give {', '.join(MAPS)}")
    else:
        predicted = getattr(dataset, "npred_background", None)
        mask = getattr(dataset, "mask_safe", None)
        maps = {
            "counts": dataset.counts,
            "background": predicted() if predicted else getattr(dataset, "background", None),
            "exposure": getattr(dataset, "exposure", None),
            "mask": getattr(dataset, "mask", None) if mask is None and predicted is None else mask,
        }
    for name in ("counts", "background"):
        if maps.get(name) is None:
            raise InputError(f"the dataset has no {name}: counts and background are needed")
    found = {name: maps[name] for name in MAPS if maps.get(name) is not None}
    for name, image in found.items():
        geom = getattr(image, "geom", None)
        if getattr(geom, "is_region", False) or getattr(geom, "is_hpx", False) or not getattr(geom, "is_regular", True):
            raise InputError(
                f"{name} is on a {type(geom).__name__} that has no rows and columns of pixels: reproject it to a "
                "regular WcsGeom"
            )
    return found


def make_field(counts: SkyImage, background: SkyImage, mask: SkyImage | None) -> Field:
    """Check the images (y, x) against each other and set the pixels that take no part to zero.

    Parameters
    ----------
    counts, background : SkyImage
        Counts per pixel; pixels that are NaN in either take no part.
    mask : SkyImage or None
        Pixels where it is 0 or NaN take no part.

    Raises
    ------
    InputError
        If shapes differ, no pixel is left, or one that takes part is negative, infinite or above `LARGEST`.
    """
    for image in (background, mask):
        if image is not None and image.data.shape != counts.data.shape:
            raise InputError(
                f"counts has shape {counts.data.shape} (y, x), {image.name} {image.data.shape}: they must be the same"
            )
    valid = ~(np.isnan(counts.data) | np.isnan(background.data))
    if mask is not None:
        valid &= np.nan_to_num(mask.data) != 0
    if not valid.any():
        raise InputError("all pixels are masked or not a number: nothing is left to analyse")
    background = _without_rounding(background, valid)
    for image in (counts, background):
        bad = valid & ~((image.data >= 0) & (image.data <= LARGEST))
        if bad.any():
            y, x = np.argwhere(bad)[0]
            raise InputError(
                f"{image.name} is negative, infinite or absurdly large ({image.data[y, x]} at (y, x) = ({y}, {x}) is "
                f"the first of {np.count_nonzero(bad)}): correct them, or mask them{NO_EXCESS * (image is counts)}"
            )
    if n_masked := valid.size - np.count_nonzero(valid):
        log.warning("%d of %d pixels are masked or not a number: they take no part", n_masked, valid.size)
    used = [np.where(valid, image.data, 0).astype(np.float64, copy=False) for image in (counts, background)]
    return Field(used[0], used[1], valid)


def _without_rounding(background: SkyImage, valid: Bools) -> SkyImage:
    """Set negative pixels to zero where all of them are no more than somebody's rounding."""
    used = background.data[valid]
    n_negative, lowest = np.count_nonzero(used < 0), used.min()
    if not -rounding_of(used.dtype, used.max()) <= lowest < 0:
        return background
    log.warning(NEGATIVE_BY_ROUNDING, n_negative, lowest)
    return SkyImage(np.maximum(background.data, 0), background.wcs, background.name)
