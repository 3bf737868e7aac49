"""The maps of a run, a row each: all that is known of a map by its name.

A new map is a row here and the code that computes it; layout, attributes, digests, cutouts, pictures, files and
comparisons follow from the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from zarr.codecs import BloscCodec, ZstdCodec

from cwt_dask.geometry.margins import TOLERANCE

if TYPE_CHECKING:
    import zarr

Origin = Literal["survey", "tile", "history", "derived", "fits"]
Product = Literal["cutout", "fits", "report", "compare"]


@dataclass(frozen=True)
class MapSpec:
    """What is known of a map."""

    # For machines, and for people.
    name: str
    long_name: str = ""
    dtype: str = "float64"  # Of its pixels.
    # Where it comes from: read from the ``survey``; published by each ``tile`` in `maps.zarr`; the ``history`` there,
    # where it is kept; ``derived`` from `sources` when it is asked for; or made for the ``fits`` file alone.
    origin: Origin = "tile"
    unit: str = ""  # As astropy and FITS write it; empty where it has none, and for exposure: the survey has its unit.
    axis: Literal["", "scale", "iteration"] = ""  # Axis before (y, x): scale, iteration, or empty for an image.
    # Whether pixels differ everywhere. Measured (docs/performance.md): such a map loses a tenth of its size under any
    # codec, so it gets the fastest; what is mostly one value nearly vanishes under zstd.
    dense: bool = False
    signed: bool = False  # Whether zero is the middle of its values: it is drawn so.
    digested: bool = False  # Whether `digest_maps` covers it, in the order of the table.
    # What one pixel in place of many is: their ``mean``, ``largest`` or ``least``, or ``any`` flag of them.
    reduced: Literal["mean", "largest", "least", "any"] = "mean"
    # What it is part of: cutouts, `maps.fits`, the report, the comparison of two runs.
    products: tuple[Product, ...] = ()
    tolerance: float = 0.0  # How far it may differ, over its maximum, when it is computed again.
    sources: tuple[str, ...] = ()  # Maps that it is derived from.
    derive: Callable[..., Any] | None = None  # Makes it of the pixels of `sources`.

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        return (self.axis, "y", "x") if self.axis else ("y", "x")

    @property
    def is_amount(self) -> bool:
        """Whether pixels are amounts, and not marks, flags or numbers of something."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of its array: ``long_name`` and ``units``, where it has them."""
        return {key: text for key, text in (("long_name", self.long_name), ("units", self.unit)) if text}

    @property
    def codec(self) -> BloscCodec | ZstdCodec:
        """What compresses its chunks."""
        return BloscCodec(cname="lz4", clevel=5, shuffle="shuffle") if self.dense else ZstdCodec(level=0)


# The model after each iteration, by iteration - 1; only where the history is kept.
HISTORY = "history_model"

# What stands in maps where nothing is known; in others it is 0.
NOTHING = {"best_scale": -1}

# Version of the algorithm whose runs have the map `sigma`.
SIGMA_SINCE = 6

_REPORTED: tuple[Product, ...] = ("cutout", "fits", "report")

# fmt: off
MAPS = (
    MapSpec("counts", "counts per pixel", origin="survey", unit="count", products=_REPORTED),
    MapSpec("background", "expected background counts per pixel", origin="survey", unit="count", products=_REPORTED),
    MapSpec("exposure", "exposure", origin="survey", products=("cutout",)),
    MapSpec("model", "model: what was found significant, counts per pixel", unit="count", digested=True,
            products=(*_REPORTED, "compare"), tolerance=TOLERANCE),
    MapSpec("approx", "approximation: the smooth rest, counts per pixel", unit="count", dense=True, signed=True,
            digested=True, products=("cutout", "fits", "compare"), tolerance=TOLERANCE),
    MapSpec("residual", "counts minus model and approximation, counts per pixel; it holds the background",
            unit="count", dense=True, signed=True, products=("cutout", "fits"), tolerance=TOLERANCE),
    # T/E is good to fewer digits where hardly anything is expected (4e-10 measured on backgrounds of 0.001) and near
    # blind rings (1.8e-7, docs/design/0004-margins.md).
    MapSpec("significance", "largest T/E over scales and iterations, 0 where undefined", dense=True, reduced="largest",
            products=(*_REPORTED, "compare"), tolerance=1e-6),
    # S is kept to seven digits; where E² is near its floor its cumulants are good to four.
    MapSpec("sigma", "calibrated significance S in the first iteration, largest over scales, 0 where undefined",
            "float32", dense=True, reduced="largest", products=("cutout", "fits", "compare"), tolerance=1e-4),
    MapSpec("transform_2d", "sum of the transforms over the supports of their scales, counts per pixel", unit="count",
            signed=True, products=("fits",)),
    MapSpec("best_scale", "index of the scale of the largest T/E, -1 where none", "int16", reduced="largest",
            products=("fits",)),
    MapSpec("best_iteration", "iteration of the largest T/E, 0 where none", "uint16", reduced="largest",
            products=("fits",)),
    MapSpec("support", "pixels that were significant, by scale", "bool", axis="scale", digested=True, reduced="any",
            products=_REPORTED),
    MapSpec("mask", "1 where a pixel takes part", "uint8", reduced="least", products=("cutout", "fits")),
    MapSpec("trust", "flags of doubtful pixels", "uint8", reduced="any", products=_REPORTED),
    MapSpec("approx_bkg", "approximation of the background, counts per pixel", origin="fits", unit="count",
            products=("fits",)),
    MapSpec("model_plus_approx", "model plus approximation, counts per pixel", origin="derived", unit="count",
            products=("fits",), sources=("model", "approx"), derive=np.add),
    MapSpec("excess_residual", "counts minus model, approximation and background, counts per pixel", origin="derived",
            unit="count", signed=True, products=("cutout", "fits"), sources=("residual", "background"),
            derive=np.subtract),
    MapSpec("support_2d", "pixels that were significant at any scale", "bool", origin="derived", reduced="any",
            products=("fits",), sources=("support",), derive=partial(np.any, axis=0)),
    MapSpec("joined", "iteration at which a pixel joined the support, 0 where it never did", "uint16", axis="scale",
            reduced="largest"),
    MapSpec(HISTORY, "model after iteration index + 1, counts per pixel", origin="history", unit="count",
            axis="iteration", dense=True),
)
# fmt: on


def spec_of(name: str) -> MapSpec:
    """The row of a map; of a name that has none, one that says no more than the name."""
    return next((spec for spec in MAPS if spec.name == name), MapSpec(name))


def maps_from(*origins: Origin) -> list[MapSpec]:
    """Maps that come from there, in the order of the table."""
    return [spec for spec in MAPS if spec.origin in origins]


def maps_in(product: Product) -> list[MapSpec]:
    """Maps that are part of a product, in the order of the table."""
    return [spec for spec in MAPS if product in spec.products]


def is_map(array: Any) -> bool:
    """Whether a member of a group is an array with rows and columns as last axes; coordinates are none."""
    # Groups have other metadata.
    axes = getattr(array.metadata, "dimension_names", None) if array is not None else None
    return axes is not None and axes[-2:] == ("y", "x")


def map_names(maps: zarr.Group) -> list[str]:
    """Names of the maps in a group, sorted."""
    return sorted(name for name, array in maps.arrays() if is_map(array))
