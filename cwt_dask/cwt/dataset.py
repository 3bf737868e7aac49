"""Maps that come together: Gammapy's datasets, and whatever looks like one. Gammapy itself is not needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cwt_dask.errors import InputError

PLANES = ("counts", "background", "exposure", "mask")


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
        Maps by their names in `PLANES`; exposure and mask only where there are any.

    Raises
    ------
    InputError
        If counts or background are missing, a key is unknown, or a map has no pixels on the sky's plane.
    """
    if isinstance(dataset, Mapping):
        maps = dict(dataset)
        if unknown := sorted(map(str, maps.keys() - set(PLANES))):
            raise InputError(f"there is no use for maps {', '.join(unknown)}: give {', '.join(PLANES)}")
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
    found = {name: maps[name] for name in PLANES if maps.get(name) is not None}
    for name, plane in found.items():
        geom = getattr(plane, "geom", None)
        if getattr(geom, "is_region", False) or getattr(geom, "is_hpx", False) or not getattr(geom, "is_regular", True):
            raise InputError(
                f"{name} is on a {type(geom).__name__} that has no rows and columns of pixels: reproject it to a "
                "regular WcsGeom"
            )
    return found
