"""What the axes and arrays of `maps.zarr` are, for tools that read them by name: coordinates, long names, units.

A map is what has rows and columns: coordinates lie in the same group, and are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.codecs import Crc32cCodec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zarr
    from numpy.typing import NDArray

# Long name and unit; of arrays that are not here the name itself is all that is said.
_LABELS = {
    "counts": ("counts per pixel", "count"),
    "background": ("expected background counts per pixel", "count"),
    "model": ("model: what was found significant, counts per pixel", "count"),
    "approx": ("approximation: the smooth rest, counts per pixel", "count"),
    "approx_bkg": ("approximation of the background, counts per pixel", "count"),
    "model_plus_approx": ("model plus approximation, counts per pixel", "count"),
    "residual": ("counts minus model and approximation, counts per pixel", "count"),
    "significance": ("largest T/E over scales and iterations, 0 where undefined", ""),
    "transform_2d": ("sum of the transforms over the supports of their scales, counts per pixel", "count"),
    "best_scale": ("index of the scale of the largest T/E, -1 where none", ""),
    "best_iteration": ("iteration of the largest T/E, 0 where none", ""),
    "mask": ("1 where a pixel takes part", ""),
    "trust": ("flags of doubtful pixels", ""),
    "support": ("pixels that were significant, by scale", ""),
    "support_2d": ("pixels that were significant at any scale", ""),
    "joined": ("iteration at which a pixel joined the support, 0 where it never did", ""),
    "history_model": ("model after iteration index + 1, counts per pixel", "count"),
    "x": ("column, from 0; its centre is at its number", "pixel"),
    "y": ("row, from 0; its centre is at its number", "pixel"),
    "scale": ("scale of the kernel", "pixel"),
}


def unit_of(name: str) -> str:
    """Unit of an array, as astropy and FITS write it; empty where it has none."""
    return _LABELS.get(name, ("", ""))[1]


def attributes_of(name: str) -> dict[str, Any]:
    """Attributes of an array of this name: ``long_name`` and, where there is one, ``units``."""
    long_name, unit = _LABELS.get(name, (name.replace("_", " "), ""))
    return {"long_name": long_name} | ({"units": unit} if unit else {})


def lay_out_coordinates(maps: zarr.Group, shape: tuple[int, int], scales: Sequence[float]) -> None:
    """Create the arrays `y`, `x` (int64, pixels) and `scale` (float64, pixels) in a group of maps."""
    axes: dict[str, NDArray[Any]] = {
        "y": np.arange(shape[0]),
        "x": np.arange(shape[1]),
        "scale": np.asarray(scales, np.float64),
    }
    for name, values in axes.items():
        # Not compressed: what belongs into a damaged file is then known to the byte, whatever the library's version.
        array = maps.create_array(
            name,
            shape=values.shape,
            chunks=values.shape,
            dtype=values.dtype,
            fill_value=0,
            compressors=[Crc32cCodec()],
            dimension_names=(name,),
            attributes=attributes_of(name),
        )
        # A file that is not there would be one that is lost.
        array.with_config({"write_empty_chunks": True})[:] = values


def is_map(array: Any) -> bool:
    """Whether a member of a group is an array whose last axes are rows and columns."""
    # Groups have other metadata.
    axes = getattr(array.metadata, "dimension_names", None) if array is not None else None
    return axes is not None and axes[-2:] == ("y", "x")


def map_names(maps: zarr.Group) -> list[str]:
    """Names of the maps in a group, sorted."""
    return sorted(name for name, array in maps.arrays() if is_map(array))


IMAGES = {
    "model": "float64",
    "approx": "float64",
    "residual": "float64",
    "significance": "float64",
    "transform_2d": "float64",
    "best_scale": "int16",
    "best_iteration": "uint16",
    "mask": "uint8",
    "trust": "uint8",
}
# By scale: (scale, y, x). `joined` is the iteration at which a pixel joined the support, 0 where it never did.
CUBES = {"support": "bool", "joined": "uint16"}
# Model after each iteration, by iteration - 1: (iteration, y, x); only where the history is kept.
HISTORY = "history_model"
# Measured (docs/performance.md): images whose pixels differ everywhere lose a tenth of their size under any codec, so
# they get the fastest. What is mostly one value nearly vanishes under zstd.
DENSE = ("approx", "residual", "significance", HISTORY)
# What `digest_maps` covers, in this order.
DIGESTED = ("model", "approx", "support")
# What many pixels are drawn as one by: their mean, but for these.
LARGEST = ("significance", "best_scale", "best_iteration", "trust", "support", "support_2d", "joined")
LEAST = ("mask",)
# Made of two maps, or of all planes of one.
DERIVED = {"support_2d": ("support",), "model_plus_approx": ("model", "approx")}
OF_SURVEY = ("counts", "background", "exposure")
UNSCALED = ("best_scale", "best_iteration", "mask", "trust", "support", "support_2d", "joined")
CUT_OUT = (*OF_SURVEY, "model", "approx", "residual", "significance", "support", "mask", "trust")
