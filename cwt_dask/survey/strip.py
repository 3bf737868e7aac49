"""Some rows of a survey's planes, as they are measured and stored: masked where of no use, and free of NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats


@dataclass(frozen=True)
class Strip:
    """Some rows of all planes, free of NaN."""

    y0: int  # The first row.
    # (rows, columns): counts and background, 0 where masked; exposure, if there is any, 0 where it was NaN, infinite or
    # negative, all in the file's type and unit; and mask, uint8, 1 where the pixel is used.
    planes: dict[str, NDArray[Any]]
    n_off_sky: int  # Pixels off the sky, all of them masked.
    n_masked_with_counts: int  # Pixels on the sky with counts above 0 that are masked, by MASK or as NaN.
    n_negative: int  # Used pixels with a background that was negative, and is 0 in `planes`.
    lowest: tuple[float, int, int]  # The lowest of these values, its y and x.
    # (pixels,), what was above 0 of the counts that are masked because they lie off the sky, not by MASK.
    counts_off_sky: Floats
    n_nan: int  # Pixels masked because counts or background are NaN, neither by MASK nor because they lie off the sky.
    n_bad_exposure: int  # Used pixels with an exposure that was NaN, infinite or negative.
    counts_unexposed: Floats  # (pixels,), what is above 0 of the counts of used pixels whose exposure was 0.


def clean(y0: int, raw: Mapping[str, NDArray[Any]], sky: Bools) -> Strip:
    """Mask and clear rows.

    Parameters
    ----------
    y0 : int
        The first of them.
    raw : mapping of ndarray
        Planes (rows, columns) as the files give them.
    sky : ndarray of bool
        Whether a pixel lies on the sky.
    """
    counts, background = raw["counts"], raw["background"]
    used = np.nan_to_num(raw["mask"]) != 0 if "mask" in raw else np.ones(counts.shape, bool)
    lost = counts[used & ~sky & (counts > 0)]
    used &= sky
    nan = used & (np.isnan(counts) | np.isnan(background))
    valid = used & ~nan
    kept, n_bad_exposure, unexposed = {"counts": valid, "background": valid}, 0, counts[:0]
    if (exposure := raw.get("exposure")) is not None:
        kept["exposure"] = np.isfinite(exposure) & (exposure >= 0)
        n_bad_exposure = int(np.count_nonzero(valid & ~kept["exposure"]))
        unexposed = counts[valid & (exposure == 0) & (counts > 0)]
    planes = {name: np.where(good, raw[name], raw[name].dtype.type(0)) for name, good in kept.items()}
    n_off_sky, n_nan = int(np.count_nonzero(~sky)), int(np.count_nonzero(nan))
    planes["mask"] = valid.astype(np.uint8)
    n_negative, lowest = _clear_negative(planes["background"])
    return Strip(
        y0,
        planes,
        n_off_sky=n_off_sky,
        n_masked_with_counts=int(np.count_nonzero((counts > 0) & sky & ~valid)),
        n_negative=n_negative,
        lowest=(lowest[0], lowest[1] + y0, lowest[2]),
        counts_off_sky=lost.astype(np.float64),
        n_nan=n_nan,
        n_bad_exposure=n_bad_exposure,
        counts_unexposed=unexposed.astype(np.float64),
    )


def blank(y0: int, shape: tuple[int, int], dtypes: Mapping[str, np.dtype[Any]]) -> Strip:
    """Rows of which none lies on the sky.

    Parameters
    ----------
    y0 : int
        The first of them.
    shape : tuple of int
        Rows and columns.
    dtypes : mapping of dtype
        Types of the planes.
    """
    return Strip(
        y0,
        {name: np.broadcast_to(dtype.type(0), shape) for name, dtype in dtypes.items()},
        n_off_sky=math.prod(shape),
        n_masked_with_counts=0,
        n_negative=0,
        lowest=(0.0, y0, 0),
        counts_off_sky=np.empty(0),
        n_nan=0,
        n_bad_exposure=0,
        counts_unexposed=np.empty(0),
    )


def _clear_negative(background: NDArray[Any]) -> tuple[int, tuple[float, int, int]]:
    """Set what is negative, and finite, to 0; say how many pixels, and the lowest value with its y and x."""
    negative = background < 0
    if not negative.any():
        return 0, (0.0, 0, 0)
    negative &= np.isfinite(background)
    y, x = np.unravel_index(np.argmin(np.where(negative, background, 0)), background.shape)
    lowest = float(background[y, x]), int(y), int(x)
    background[negative] = 0
    return int(np.count_nonzero(negative)), lowest
