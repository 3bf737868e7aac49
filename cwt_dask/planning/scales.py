"""Which scales a run has: those that are given, those that follow from the point spread function, or the tutorial's."""

from __future__ import annotations

import math
from dataclasses import fields, replace

from cwt_dask.config.settings import Settings
from cwt_dask.errors import SettingsError
from cwt_dask.psf import PointSpread

STEP = 1.5
# Of the largest scale, in widths of the point spread function.
MOST_WIDTHS = 5.0
# Pixels below which a scale sees nothing.
FINEST = 1.0

ALL_GIVEN = frozenset(each.name for each in fields(Settings))
TUTORIALS = (
    "the scales, {scales} pixels, are the tutorial's, not those of these data: give the point spread function, such as "
    "--psf 0.1deg or --psf FILE, or --min-scale, which should be about its width (sigma)"
)


def with_scales(
    settings: Settings, given: frozenset[str], spread: PointSpread | None, shape: tuple[int, int], pixel_deg: float
) -> Settings:
    """Resolve the scales, in pixels.

    Parameters
    ----------
    settings : Settings
        As given.
    given : frozenset of str
        Names of those that the user gives; the others may follow from the point spread function.
    spread : PointSpread or None
        The point spread function, if there is one.
    shape : tuple of int
        Rows and columns of the map.
    pixel_deg : float
        Size of its pixels in degrees.

    Returns
    -------
    Settings
        `psf` is as the run keeps it, and `max_extent`, which has done its part, None.

    Raises
    ------
    SettingsError
        If an angle is none, or the number of scales is given twice.
    """
    resolved = settings.in_pixels(pixel_deg)
    extent = resolved.max_extent
    if spread is not None:
        resolved = replace(resolved, psf=spread.setting)
        width = float(spread.sigmas_on(shape).min())
        if "min_scale" not in given:
            # Six digits: more would be those of a machine.
            resolved = replace(resolved, min_scale=max(FINEST, float(f"{width:.6g}")))
        if "step_scale" not in given:
            resolved = replace(resolved, step_scale=STEP)
        if extent is None and "n_scale" not in given:
            extent = MOST_WIDTHS * max(width, FINEST)
    if extent is None:
        return resolved
    if settings.max_extent is not None and "n_scale" in given:
        raise SettingsError("max_extent and n_scale are both given: give one of them")
    steps = math.log(float(extent) / float(resolved.min_scale), resolved.step_scale)
    # The last scale is the one nearest to the extent.
    return replace(resolved, n_scale=1 + max(0, round(steps)), max_extent=None)
