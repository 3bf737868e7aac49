"""The published maps and seams: Zarr stores that the driver creates once, and of which each tile writes its chunks.

Two tasks that write one chunk lose data silently, so a chunk belongs to one tile. A chunk that is there says nothing of
the others: only the ledger says what is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.state import State
from cwt_dask.errors import RunError
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.margins import STRIP_WIDTH
from cwt_dask.geometry.tiling import Box, Tile
from cwt_dask.geometry.windows import chunk_of
from cwt_dask.storage.checksum import crc32c, sha256_of_file
from cwt_dask.storage.joined import COPIES, digests_of_joined, joined_files
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_record
from cwt_dask.storage.paths import exists
from cwt_dask.storage.schema import HISTORY, NOTHING, MapSpec, maps_from, spec_of
from cwt_dask.storage.zarr_io import DAMAGE, create_array, create_group, described, flushing_behind, open_group

if TYPE_CHECKING:
    import zarr

OPPOSITE = {"south": "north", "north": "south", "west": "east", "east": "west"}
SIDES = tuple(OPPOSITE)
STRIPS = ("own_model", "own_support", "beyond_model", "beyond_support")


def create_maps(run_dir: RunDir, grid: AnyGrid, scales: Sequence[float], header_text: str, *, history: int = 0) -> None:
    """Create the arrays that tiles write: `maps.zarr` with images (y, x) and cubes (scale, y, x), and seams.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    grid : TileGrid or FacetGrid
        Its tiles; a core is a chunk.
    scales : sequence of float
        Scales of the kernels in pixels, coordinates of that axis; those of the others are pixels from 0.
    header_text : str
        FITS cards of the WCS, one a line.
    history : int, optional
        Number of iterations of which models can be kept.
    """
    maps, seams = create_group(run_dir.maps, wcs_header=header_text), create_group(run_dir.seams)
    with flushing_behind(maps), flushing_behind(seams):
        _lay_out_maps(maps, grid, scales, history)
        _lay_out_seams(seams, grid, len(scales))


def describe_maps(
    run_dir: RunDir, grid: AnyGrid, scales: Sequence[float], header_text: str, *, history: int = 0
) -> dict[Path, bytes]:
    """What `create_maps` writes, by file.

    Parameters
    ----------
    run_dir, grid, scales, header_text, history
        As of `create_maps`.
    """
    maps = described(lambda group: _lay_out_maps(group, grid, scales, history), wcs_header=header_text)
    seams = described(lambda group: _lay_out_seams(group, grid, len(scales)))
    return {
        store / name: content
        for store, files in ((run_dir.maps, maps), (run_dir.seams, seams))
        for name, content in files.items()
    }


def _lay_out_maps(maps: zarr.Group, grid: AnyGrid, scales: Sequence[float], history: int) -> None:
    shape, core, n_scale = grid.array_shape, grid.core_shape, len(scales)
    # Before (y, x) maps of the sphere have an axis of facets.
    facets, chunk_of_facet = (("facet",), (1,)) if len(shape) > 2 else ((), ())
    numbers = [("facet", "number of the facet, from 0", np.arange(shape[0]))] if facets else []
    for axis, long_name, pixels in (
        *numbers,
        ("y", "row, from 0; its centre is at its number", np.arange(shape[-2])),
        ("x", "column, from 0; its centre is at its number", np.arange(shape[-1])),
        ("scale", "scale of the kernel", np.asarray(scales, np.float64)),
    ):
        spec = MapSpec(axis, long_name, str(pixels.dtype), unit="" if axis == "facet" else "pixel")
        # Not compressed: what belongs into a damaged file is then known to the byte, for any version of the library.
        _create(maps, spec, pixels.shape, pixels.shape, (axis,))[:] = pixels
    lengths = {"": ((), ()), "scale": ((n_scale,), (n_scale,)), "iteration": ((history,), (1,))}
    for spec in maps_from("tile", "history") if history else maps_from("tile"):
        length, chunk = lengths[spec.axis]
        axes = (*spec.axes[:-2], *facets, *spec.axes[-2:])
        _create(maps, spec, (*length, *shape), (*chunk, *chunk_of_facet, *core), axes, spec.codec)


def _lay_out_seams(seams: zarr.Group, grid: AnyGrid, n_scale: int) -> None:
    pixels, sides = STRIP_WIDTH * max(grid.core_shape), len(SIDES)
    for name in STRIPS:
        spec = MapSpec(name, dtype="bool" if name.endswith("support") else "float64")
        axes, strip = (("scale", "pixel"), (n_scale, pixels)) if spec.dtype == "bool" else (("pixel",), (pixels,))
        shape, chunk = (grid.n_tiles, sides, *strip), (1, sides, *strip)
        _create(seams, spec, shape, chunk, ("tile", "side", *axes), spec.codec)


def _create(
    group: zarr.Group,
    spec: MapSpec,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    axes: tuple[str, ...],
    *codecs: Any,
) -> zarr.Array:
    return create_array(group, spec.name, shape, chunks, spec.dtype, axes=axes, compressors=codecs, **spec.attributes)


def publish_core(maps: Path, core: Box, arrays: Iterable[tuple[str, NDArray[np.generic]]]) -> dict[str, str]:
    """Write a tile's core, each array as the one chunk that the tile owns; digests by name.

    Parameters
    ----------
    maps : Path
        The store.
    core : Box
        Pixels of the map.
    arrays : iterable of (str, ndarray)
        Names, and images (y, x) or cubes (scale, y, x); each must last until the next is taken.
    """
    group = open_group(maps, writable=True)
    digests = {}
    with flushing_behind(group):
        for name, values in arrays:
            pixels = np.ascontiguousarray(values)
            # To look whether a chunk is empty takes longer than to compress it.
            where, filled = chunk_of(core, pixels, NOTHING.get(name, 0))
            group[name].with_config({"write_empty_chunks": True})[where] = filled
            digests[name] = digest_pixels(pixels, name)
    return digests


def publish_history(
    maps: Path, core: Box, iteration: int, model: NDArray[np.float64], checksum: int, *, onwards: bool = False
) -> int:
    """Write the model of a tile's core after an iteration; the checksum of all models so far.

    Parameters
    ----------
    maps : Path
        The store.
    core : Box
        Pixels of the map.
    iteration : int
        From 1.
    model : ndarray
        Pixels (y, x) of the core.
    checksum : int
        That of all models before.
    onwards : bool, optional
        Whether it stays so in all later iterations.
    """
    history = open_group(maps, writable=True)[HISTORY].with_config({"write_empty_chunks": True})
    n_kept = history.shape[0]
    # Where a run that had ended is repaired, it has no more than the iterations that were made.
    for kept in range(iteration, (n_kept if onwards else min(iteration, n_kept)) + 1):
        (_, *where), filled = chunk_of(core, model)
        history[(kept - 1, *where)] = filled
    # Of what was to be written, whatever becomes of it.
    return _checksum_of_model(model, checksum)


def digest_of_models(checksum: int) -> str:
    """Digest of models of which the checksum is known."""
    return f"crc32c:{checksum:08x}"


def _checksum_of_model(model: NDArray[np.float64], checksum: int) -> int:
    return crc32c(np.ascontiguousarray(model, "<f8"), checksum)


def digest_history(maps: Path, core: Box, n_iter: int, *, onwards: bool) -> str:
    """Digest of the models of a tile's core after each of its iterations.

    Raises DamageError if a chunk is damaged or lost.

    Parameters
    ----------
    maps : Path
        The store.
    core : Box
        Pixels of the map.
    n_iter : int
        How many iterations the tile has made.
    onwards : bool
        As of `publish_history`; the digest is empty where it is not so.
    """
    history = open_group(maps, whole="run")[HISTORY]
    checksum, last = 0, np.empty(0)
    for kept in range(history.shape[0] if onwards else n_iter):
        model = history[(kept, *core.slices)]
        if kept < n_iter:
            checksum, last = _checksum_of_model(model, checksum), model
        elif not np.array_equal(model, last):
            return ""
    return digest_of_models(checksum)


def has_history(run_dir: RunDir) -> bool:
    """Whether the model of every iteration is kept."""
    # Not what the store says of it: that may be damaged.
    return exists(run_dir.maps / HISTORY)


def cut_history(run_dir: RunDir, n_iter: int) -> None:
    """Leave out what tiles did after the iteration at which the whole map stopped."""
    history = open_group(run_dir.maps, writable=True)[HISTORY]
    history.resize((n_iter, *history.shape[1:]))


def digest_pixels(values: NDArray[np.generic], name: str) -> str:
    """Digest an array's pixels as little-endian bytes in C order.

    sha256 where `digest_maps` is made of it; else CRC32C, which finds damage in a third of the time.
    """
    pixels = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return hashlib.sha256(pixels.data).hexdigest() if spec_of(name).digested else f"crc32c:{crc32c(pixels):08x}"


def publish_strips(seams: Path, grid: AnyGrid, tile: Tile, state: State) -> dict[str, str]:
    """Keep what a tile holds on both sides of its seams, of its own core and beyond it; digests by name.

    Parameters
    ----------
    seams : Path
        The store.
    grid : TileGrid or FacetGrid
        The tiles.
    tile : Tile
        One of them.
    state : State
        What was computed in its box.
    """
    group = open_group(seams, writable=True)
    digests = {}
    beyond = grid.strips(tile, STRIP_WIDTH)
    own = {
        side: grid.strips(neighbour, STRIP_WIDTH)[OPPOSITE[side]] for side, neighbour in grid.neighbours(tile).items()
    }
    with flushing_behind(group):
        for place, strips in (("own", own), ("beyond", beyond)):
            for name, values in (("model", state.model), ("support", state.joined)):
                array = group[f"{place}_{name}"]
                kept = np.zeros(array.shape[1:], dtype=array.dtype)
                for side, box in strips.items():
                    pixels = values[(..., *box.within(tile.box))]
                    kept[SIDES.index(side), ..., : box.area] = pixels.reshape(*pixels.shape[:-2], -1)
                array[tile.id] = kept
                digests[f"{place}_{name}"] = digest_pixels(kept, f"{place}_{name}")
    return digests


def copy_strips(source: Path, target: Path, tile: int) -> dict[str, str]:
    """Copy what a tile kept of its seams; digests by name.

    Parameters
    ----------
    source, target : Path
        The stores.
    tile : int
        Number of the tile.
    """
    theirs, ours = open_group(source), open_group(target, writable=True)
    digests = {}
    with flushing_behind(ours):
        for name in STRIPS:
            kept = np.asarray(theirs[name][tile])
            ours[name][tile] = kept
            digests[name] = digest_pixels(kept, name)
    return digests


def changed_files(
    run_dir: RunDir, grid: AnyGrid, tile: int, recorded: Mapping[str, str], found: Mapping[str, str]
) -> list[str]:
    """Files of a tile of which pixels or bytes are not as they were recorded, each with what is wrong.

    Parameters
    ----------
    run_dir, grid, tile
        As of `published_digests`.
    recorded, found : mapping of str to str
        Digests by name: those of its record, and those of `published_digests`.
    """
    place = grid.tile(tile)
    files = {spec.name: run_dir.maps / spec.name / "c" for spec in maps_from("tile")}
    files = {
        name: (path / "0" if spec_of(name).axis else path) / str(place.row) / str(place.column)
        for name, path in files.items()
    }
    for name in STRIPS:
        inner = ("0", "0", "0") if name.endswith("support") else ("0", "0")
        files[name] = (run_dir.seams / name / "c" / str(tile)).joinpath(*inner)
    files |= joined_files(run_dir, tile) | {"detections": run_dir.detections(tile)}
    changed = [files[name] for name in files if recorded.get(name) != found.get(name)]
    faults = [f"{path} is {'damaged' if exists(path) else 'lost'}" for path in changed]
    if recorded.get(HISTORY) != found.get(HISTORY):
        faults.append(f"{run_dir.maps / HISTORY}/c/*/{place.row}/{place.column} is damaged or lost")
    return faults


def published_digests(run_dir: RunDir, grid: AnyGrid, tile: int) -> dict[str, str]:
    """Digests by name of all that a tile published, as it is now; what cannot be read is not among them.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    grid : TileGrid or FacetGrid
        Its tiles.
    tile : int
        Number of one.
    """
    digests, core = {}, grid.tile(tile).core
    for name in (spec.name for spec in maps_from("tile")):
        with suppress(*DAMAGE):
            maps = open_group(run_dir.maps, whole="run")
            digests[name] = digest_pixels(maps[name][(..., *core.slices)], name)
    for name in STRIPS:
        with suppress(*DAMAGE):
            digests[name] = digest_pixels(open_group(run_dir.seams)[name][tile], name)
    with suppress(*DAMAGE, RunError):
        record = read_record(run_dir.record(tile))
        if COPIES[0] in record.chunk_digests:
            digests |= digests_of_joined(run_dir, tile)
        if HISTORY in record.chunk_digests:
            digests[HISTORY] = digest_history(run_dir.maps, core, record.n_iter, onwards=record.converged)
    with suppress(OSError):
        digests["detections"] = sha256_of_file(run_dir.detections(tile))
    return digests
