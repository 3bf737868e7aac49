"""The published maps and seams: Zarr stores that the driver creates once, and of which each tile writes its chunks.

Two tasks that write one chunk lose data silently, and a chunk of fill values is not stored at all: so a chunk belongs
to one tile, and only the ledger says what is done.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import zarr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cwt_dask.cwt.iterate import State
    from cwt_dask.layout import RunDir
    from cwt_dask.tiling import Box, Tile, TileGrid

IMAGES = {
    "model": "float64",
    "approx": "float64",
    "residual": "float64",
    "significance": "float64",
    "transform_2d": "float64",
    "best_scale": "int16",
    "mask": "uint8",
    "trust": "uint8",
}
# What `digest_maps` covers, in this order.
DIGESTED = ("model", "approx", "support")

# Pixels on each side of a seam that both neighbours keep, to be compared.
STRIP_WIDTH = 2

# What damaged or missing files make Zarr and its codecs raise.
DAMAGE = (OSError, ValueError, RuntimeError, KeyError)
OPPOSITE = {"south": "north", "north": "south", "west": "east", "east": "west"}
SIDES = tuple(OPPOSITE)
STRIPS = ("own_model", "own_support", "beyond_model", "beyond_support")


def create_maps(run_dir: RunDir, grid: TileGrid, n_scale: int, header_text: str) -> None:
    """Create the arrays that tiles write: `maps.zarr` with images (y, x) and the support (scale, y, x), and seams."""
    shape, core = (grid.y.length, grid.x.length), grid.core_shape
    maps = zarr.create_group(run_dir.maps, attributes={"wcs_header": header_text})
    for name, dtype in IMAGES.items():
        _create(maps, name, shape, core, dtype, ("y", "x"))
    _create(maps, "support", (n_scale, *shape), (n_scale, *core), "bool", ("scale", "y", "x"))

    seams = zarr.create_group(run_dir.seams)
    pixels = STRIP_WIDTH * max(core)
    for whose in ("own", "beyond"):
        for name, dtype, strip in (("model", "float64", (pixels,)), ("support", "bool", (n_scale, pixels))):
            axes = ("tile", "side", *("scale",) * (len(strip) - 1), "pixel")
            sides = len(SIDES)
            _create(seams, f"{whose}_{name}", (grid.n_tiles, sides, *strip), (1, sides, *strip), dtype, axes)


def publish_core(maps: Path, core: Box, arrays: dict[str, NDArray[np.generic]]) -> dict[str, str]:
    """Write a tile's core, images (y, x) and cubes (scale, y, x), each as the one chunk it owns; digests by name."""
    group = zarr.open_group(maps, mode="r+")
    for name, values in arrays.items():
        group[name][(..., *core.slices)] = values
    return {name: digest_pixels(values) for name, values in arrays.items()}


def stored_digests(run_dir: RunDir, tile: Tile) -> dict[str, str]:
    """Digests by name of what a tile wrote, as it lies in the stores; what cannot be read is not among them."""
    digests = {}
    for name in (*IMAGES, "support"):
        with suppress(*DAMAGE):
            digests[name] = digest_pixels(zarr.open_group(run_dir.maps, mode="r")[name][(..., *tile.core.slices)])
    for name in STRIPS:
        with suppress(*DAMAGE):
            digests[name] = digest_pixels(zarr.open_group(run_dir.seams, mode="r")[name][tile.id])
    return digests


def digest_pixels(values: NDArray[np.generic]) -> str:
    """sha256 of pixels as little-endian bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data).hexdigest()


def publish_strips(seams: Path, grid: TileGrid, tile: Tile, state: State) -> dict[str, str]:
    """Keep what a tile holds on both sides of its seams, of its own core and beyond it; digests by name."""
    group = zarr.open_group(seams, mode="r+")
    digests = {}
    beyond = grid.strips(tile, STRIP_WIDTH)
    own = {
        side: grid.strips(neighbour, STRIP_WIDTH)[OPPOSITE[side]] for side, neighbour in grid.neighbours(tile).items()
    }
    for whose, strips in (("own", own), ("beyond", beyond)):
        for name, values in (("model", state.model), ("support", state.support)):
            array = group[f"{whose}_{name}"]
            kept = np.zeros(array.shape[1:], dtype=array.dtype)
            for side, box in strips.items():
                pixels = values[(..., *box.within(tile.box))]
                kept[SIDES.index(side), ..., : box.area] = pixels.reshape(*pixels.shape[:-2], -1)
            array[tile.id] = kept
            digests[f"{whose}_{name}"] = digest_pixels(kept)
    return digests


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, axes: tuple[str, ...]
) -> None:
    group.create_array(name, shape=shape, chunks=chunks, dtype=dtype, fill_value=0, dimension_names=axes)
