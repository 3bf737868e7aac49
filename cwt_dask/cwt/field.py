"""From counts, background and mask to the pixels that take part."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from cwt_dask.cwt.state import Field
from cwt_dask.errors import InputError

if TYPE_CHECKING:
    from cwt_dask.cwt.image import SkyImage

log = logging.getLogger(__name__)


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
        If shapes differ, no pixel is left, or one that takes part is negative or infinite.
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
    for image in (counts, background):
        bad = valid & ~((image.data >= 0) & np.isfinite(image.data))
        if bad.any():
            y, x = np.argwhere(bad)[0]
            raise InputError(
                f"{image.name} is negative or infinite in {np.count_nonzero(bad)} pixels, first {image.data[y, x]} at "
                f"(y, x) = ({y}, {x}): correct them, or mask them"
            )
    n_masked = valid.size - np.count_nonzero(valid)
    if n_masked:
        log.warning("%d of %d pixels are masked or not a number: they take no part", n_masked, valid.size)
    return Field(
        counts=np.where(valid, counts.data, 0).astype(np.float64, copy=False),
        background=np.where(valid, background.data, 0).astype(np.float64, copy=False),
        valid=valid,
    )
