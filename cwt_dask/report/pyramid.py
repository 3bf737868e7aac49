"""The maps, reduced: the group `pyramid` of `maps.zarr` with levels, each half as fine as the one before.

Masked pixels are left out. A level holds, a block of pixels each: sums of `counts`, `background` and `model`, the
largest `significance`, whether any pixel is in the `support`, all `trust` flags, and how many pixels are `used`. A
chunk belongs to one task, which makes it at every level. Of the sphere it is a plane of the whole sky, in one chunk,
and `own` says how many pixels of the survey have their centre in each of the plane's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from cwt_dask.config.settings import digest
from cwt_dask.errors import CwtDaskError
from cwt_dask.geometry.facets import AnyGrid, FacetGrid
from cwt_dask.geometry.tiling import Box
from cwt_dask.products.planes import Plane
from cwt_dask.report.sphere import on_plane, plane_of
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import backend_of, read_file, remove_folder
from cwt_dask.storage.schema import maps_in, spec_of
from cwt_dask.storage.sealed import SEAL, is_sound, sealed
from cwt_dask.storage.zarr_io import DAMAGE, create_array, create_group, flushing_behind, open_group
from cwt_dask.survey import Survey
from cwt_dask.trust import Trust

if TYPE_CHECKING:
    import zarr

VERSION = 2
# Bounds of the finest level: pixels that a page can hold, and sides that a browser can draw.
LARGEST_LEVEL = 1_500_000
LONGEST_SIDE = 8192
# The coarsest level is the first with a longer side of at most this.
SHORT_SIDE = 512
# Least side of the finest level's chunks, so that there are few files.
LEAST_CHUNK = 256
# Pixels of one map that are read at once, but at most twice those of a tile's box, for which a worker has the memory:
# a chunk that several reads share is decompressed in each.
PIXELS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Pyramid:
    """Levels and chunks of the pyramid of a map."""

    shape: tuple[int, int]  # Rows and columns of the map.
    # Pixels of the map along a side of a level's pixel, by level, the finest first; powers of two.
    factors: tuple[int, ...]
    region: tuple[int, int]  # Rows and columns of the map that one chunk covers, at any level.
    at_once: int  # Pixels of one map that may be read at once.
    # Of the sphere, its facets, and the plane that stands for the map.
    facets: FacetGrid | None = None
    plane: Plane | None = None

    @classmethod
    def of(cls, grid: AnyGrid) -> Pyramid:
        """That of a run's tiles: a chunk covers at least a core, so there are no more of them than tiles."""
        plane = plane_of(grid, 2 * math.isqrt(LARGEST_LEVEL // 2))
        shape = plane.shape if plane else grid.map_box.shape
        finest = 1
        while math.prod(_reduced(shape, finest)) > LARGEST_LEVEL or max(_reduced(shape, finest)) > LONGEST_SIDE:
            finest *= 2
        factors = [finest]
        while max(_reduced(shape, factors[-1])) > SHORT_SIDE:
            factors.append(2 * factors[-1])
        coarsest = factors[-1]
        if isinstance(grid, FacetGrid):
            rows, columns = (-(-length // coarsest) * coarsest for length in shape)
            return cls(shape, tuple(factors), (rows, columns), math.prod(shape), grid, plane)
        rows, columns = (-(-max(core, LEAST_CHUNK * finest) // coarsest) * coarsest for core in grid.core_shape)
        return cls(shape, tuple(factors), (rows, columns), min(PIXELS_AT_ONCE, 2 * math.prod(grid.box_shape)))

    @property
    def chunks(self) -> list[Box]:
        """Pixels of the map that each chunk stands for, at any level."""
        (height, width), (ny, nx) = self.region, self.shape
        starts = product(range(0, ny, height), range(0, nx, width))
        return [Box(y0, min(y0 + height, ny), x0, min(x0 + width, nx)) for y0, x0 in starts]

    def strips(self, box: Box) -> Iterator[Box]:
        """Cut what a chunk covers into rows that are read at once, whole blocks of every level each."""
        coarsest = self.factors[-1]
        rows = max(self.at_once // (box.x1 - box.x0) // coarsest, 1) * coarsest
        for y0 in range(box.y0, box.y1, rows):
            yield Box(y0, min(y0 + rows, box.y1), box.x0, box.x1)


def _reduced(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    """Rows and columns of a level; the last ones may stand for fewer pixels."""
    return -(-shape[0] // factor), -(-shape[1] // factor)


def ensure_pyramid(run: SurveyRun, stages: Stages, *, rebuild: bool = False) -> Pyramid:
    """Make the pyramid of a finished run, unless it exists.

    Parameters
    ----------
    run : SurveyRun
        Finished.
    stages : Stages
        Where chunks are made.
    rebuild : bool, optional
        Make it in any case.

    Raises
    ------
    RunError, InterruptedRun
        As `Stages.map_tiles`.
    """
    grid = run.stored.plan.grid
    pyramid = Pyramid.of(grid)
    wanted = _digest_of_maps(run, VERSION)
    if not rebuild and _attributes(run.files).get("of") == wanted and not damaged_pyramid(run):
        return pyramid
    remove_folder(run.files, run.files.pyramid)
    _lay_out(create_group(run.files.pyramid), pyramid, run.stored.plan.kernels.n_scale)
    reduce = partial(reduce_chunk, run.files, run.survey.path, pyramid)
    stages.map_tiles(reduce, range(len(pyramid.chunks)), "maps reduced for the report")
    names = sorted(backend_of(run.files.pyramid).entries(run.files.pyramid))
    digests = {name: sha256_of_file(run.files.pyramid / name) for name in names if name != _DESCRIPTION}
    # Last: it marks a complete pyramid.
    open_group(run.files.pyramid, writable=True).attrs.update(sealed({"of": wanted, "files": digests}))
    return pyramid


def _digest_of_maps(run: SurveyRun, version: int) -> str:
    """Digest that identifies the maps of a run, as a version of the pyramid reduces them."""
    return digest([version, *(run.certificate[name] for name in ("digest_maps", "input_digest", "settings_digest"))])


def damaged_pyramid(run: SurveyRun) -> list[Path]:
    """Files of a complete pyramid that are not as they were written; those of earlier releases cannot show it."""
    files = run.files
    found = _attributes(files)
    if not found.keys() - {"of"}:
        return []
    description = files.pyramid / _DESCRIPTION
    if not is_sound(found) or json.loads(read_file(description)) != _description(found):
        return [description]
    with suppress(CwtDaskError):
        # Of a run that has a certificate; those of earlier versions are what they were.
        if found["of"] not in [_digest_of_maps(run, version) for version in range(1, VERSION + 1)]:
            return [description]
    return [files.pyramid / name for name, digest in found["files"].items() if _digest_of(files, name) != digest]


def _attributes(files: RunDir) -> dict[str, Any]:
    """What the pyramid says of itself; no more than an empty mark where it cannot be read, nothing without any."""
    try:
        found: dict[str, Any] = json.loads(read_file(files.pyramid / _DESCRIPTION))["attributes"]
        return dict(found)
    except FileNotFoundError:
        return {}
    except DAMAGE:
        return {SEAL: ""}


def _digest_of(files: RunDir, name: str) -> str:
    with suppress(OSError):
        return sha256_of_file(files.pyramid / name)
    return ""


_DESCRIPTION = "zarr.json"


def _description(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"attributes": attributes, "zarr_format": 3, "node_type": "group"}


def _lay_out(group: zarr.Group, pyramid: Pyramid, n_scale: int) -> None:
    for factor in pyramid.factors:
        level = group.create_group(str(factor), attributes={"factor": factor})
        shape = _reduced(pyramid.shape, factor)
        chunk = tuple(min(side // factor, most) for side, most in zip(pyramid.region, shape, strict=True))
        for spec in maps_in("report"):
            depth = (n_scale,) if spec.axis else ()
            dtype = "float32" if spec.is_amount else spec.dtype
            _create(level, spec.name, (*depth, *shape), (*depth, *chunk), dtype, spec.axes)
        for name in ("used", "own") if pyramid.plane else ("used",):
            _create(level, name, shape, chunk, "uint32", ("y", "x"))
    _create(group, "flagged_pixels", (len(pyramid.chunks), len(FLAGS)), (1, len(FLAGS)), "int64", ("chunk", "flag"))


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, axes: tuple[str, ...]
) -> None:
    create_array(group, name, shape, chunks, dtype, axes=axes, compressors=(ZstdCodec(level=1),))


FLAGS = tuple(Trust)


def reduce_chunk(files: RunDir, survey_path: Path, pyramid: Pyramid, number: int) -> int:
    """Make one chunk of the pyramid at every level, and the numbers of its flagged pixels.

    Parameters
    ----------
    files, survey_path, pyramid
        Of the run.
    number : int
        Of the chunk.
    """
    survey = Survey.open(survey_path)
    covered, finest, flagged = pyramid.chunks[number], pyramid.factors[0], np.zeros(len(FLAGS), np.int64)

    def count(pixels: Mapping[str, NDArray[Any]]) -> None:
        flagged[:] += [np.count_nonzero(pixels["trust"] & flag) for flag in FLAGS]

    if pyramid.facets and pyramid.plane:
        level = on_plane(files, survey_path, pyramid.facets, pyramid.plane, count)
    else:
        maps, level = open_group(files.maps, whole="run"), {}
        for name in ("used", *(spec.name for spec in maps_in("report"))):
            strips = []
            for strip in pyramid.strips(covered):
                pixels = {name: _read(survey, maps, name, strip)}
                strips.append(reduced(pixels, finest)[name])
                if name == "trust":
                    count(pixels)
            level[name] = np.concatenate(strips, axis=-2)

    group = open_group(files.pyramid, writable=True)
    with flushing_behind(group):
        for factor in pyramid.factors:
            if factor > finest:
                level = reduced(level, 2)
            y, x = covered.y0 // factor, covered.x0 // factor
            for name, values in level.items():
                place = (..., slice(y, y + values.shape[-2]), slice(x, x + values.shape[-1]))
                _write(group[f"{factor}/{name}"], place, values)
        _write(group["flagged_pixels"], number, flagged)
    return number


def _write(array: zarr.Array, place: Any, values: NDArray[Any]) -> None:
    # Chunks of zeros are written, too: a missing chunk counts as lost.
    array.with_config({"write_empty_chunks": True})[place] = values.astype(array.dtype)


def _read(survey: Survey, maps: zarr.Group, name: str, box: Box) -> NDArray[Any]:
    """Pixels of some rows, by name of the level's array."""
    if name == "used":
        return np.asarray(survey.read("mask", box) != 0)
    if spec_of(name).origin == "survey":
        return survey.read(name, box).astype(float)
    return np.asarray(maps[name][(..., *box.slices)])


def reduced(pixels: Mapping[str, NDArray[Any]], factor: int) -> dict[str, NDArray[Any]]:
    """Combine pixels in blocks of `factor` x `factor`; the last ones may hold fewer.

    Parameters
    ----------
    pixels : mapping of ndarray
        Arrays (..., y, x) of a level or of the map; 0 where masked.
    factor : int
        Pixels along a block's side.

    Returns
    -------
    dict of ndarray
        As `MapSpec.reduced` has it; what is drawn by its mean is summed.
    """
    how = {"mean": np.add, "largest": np.maximum, "least": np.minimum, "any": np.bitwise_or}
    return {name: _blocks(values, factor, how[spec_of(name).reduced]) for name, values in pixels.items()}


def _blocks(values: NDArray[Any], factor: int, combine: np.ufunc) -> NDArray[Any]:
    if combine is np.add and values.dtype == bool:
        # Of used pixels, their number.
        values = values.astype(np.uint32)
    if factor == 1:
        return values
    for axis in (-2, -1):
        # Rows first: whole rows are combined at the speed of memory, four times as fast as by reduceat.
        lines = np.moveaxis(values, axis, 0)
        whole = lines[::factor].copy(order="K")
        for further in range(1, factor):
            part = lines[further::factor]
            combine(whole[: len(part)], part, out=whole[: len(part)])
        values = np.moveaxis(whole, 0, axis)
    return values
