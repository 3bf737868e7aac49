"""The maps, reduced: the group `pyramid` of `maps.zarr`, whose levels are each half as fine as the one before.

Masked pixels take no part. A level holds, a block of pixels each: sums of `counts`, `background` and `model`, the mean
`residual`, the largest `significance`, whether any pixel is in the `support`, all `trust` flags, and how many pixels
are `used`. A chunk belongs to one task, which makes it at every level.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zarr.codecs import Crc32cCodec, ZstdCodec

from cwt_dask.config import digest
from cwt_dask.places import exists, remove_tree
from cwt_dask.report.reduction import FLAGS, IMAGES, reduce_chunk
from cwt_dask.report.residuals import N_BINS
from cwt_dask.stores import DAMAGE, create_group, open_group
from cwt_dask.tiling import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import zarr

    from cwt_dask.layout import RunDir
    from cwt_dask.results import SurveyRun
    from cwt_dask.stages import Stages
    from cwt_dask.tiling import TileGrid

VERSION = 1
# The finest level has at most so many pixels, so that a page can hold it, and sides that a browser can draw.
LARGEST_LEVEL = 1_500_000
LONGEST_SIDE = 8192
# There is no coarser level than one whose longer side is not above this.
SHORT_SIDE = 512
# Chunks of the finest level are at least so long: few files.
LEAST_CHUNK = 256
# Pixels of the map that are read at once; never more than a tile's box has, for which a worker has the memory.
PIXELS_AT_ONCE = 2**21


@dataclass(frozen=True)
class Pyramid:
    """Levels and chunks of the pyramid of a map.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the map.
    factors : tuple of int
        Pixels of the map along a side of a level's pixel, by level, the finest first; powers of two.
    region : tuple of int
        Rows and columns of the map that one chunk covers, at any level.
    at_once : int
        Pixels of the map that may be read at once.
    """

    shape: tuple[int, int]
    factors: tuple[int, ...]
    region: tuple[int, int]
    at_once: int

    @classmethod
    def of(cls, grid: TileGrid) -> Pyramid:
        """That of a run's tiles: a chunk covers at least a core, so there are no more of them than tiles."""
        shape = grid.map_box.shape
        finest = 1
        while math.prod(_reduced(shape, finest)) > LARGEST_LEVEL or max(_reduced(shape, finest)) > LONGEST_SIDE:
            finest *= 2
        factors = [finest]
        while max(_reduced(shape, factors[-1])) > SHORT_SIDE:
            factors.append(2 * factors[-1])
        coarsest = factors[-1]
        rows, columns = (-(-max(core, LEAST_CHUNK * finest) // coarsest) * coarsest for core in grid.core_shape)
        return cls(shape, tuple(factors), (rows, columns), min(PIXELS_AT_ONCE, math.prod(grid.box_shape)))

    def level_shape(self, factor: int) -> tuple[int, int]:
        """Rows and columns of a level; the last ones may stand for fewer pixels."""
        return _reduced(self.shape, factor)

    @property
    def n_chunks(self) -> int:
        """Number of chunks of each level."""
        rows, columns = self._chunks
        return rows * columns

    @property
    def _chunks(self) -> tuple[int, int]:
        return -(-self.shape[0] // self.region[0]), -(-self.shape[1] // self.region[1])

    def covered(self, number: int) -> Box:
        """Pixels of the map that a chunk stands for."""
        row, column = divmod(number, self._chunks[1])
        y0, x0 = row * self.region[0], column * self.region[1]
        return Box(y0, min(y0 + self.region[0], self.shape[0]), x0, min(x0 + self.region[1], self.shape[1]))

    def strips(self, box: Box) -> Iterator[Box]:
        """Cut what a chunk covers into rows that are read at once, whole blocks of every level each."""
        coarsest = self.factors[-1]
        rows = max(self.at_once // (box.x1 - box.x0) // coarsest, 1) * coarsest
        for y0 in range(box.y0, box.y1, rows):
            yield Box(y0, min(y0 + rows, box.y1), box.x0, box.x1)


def _reduced(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    return -(-shape[0] // factor), -(-shape[1] // factor)


def ensure_pyramid(run: SurveyRun, stages: Stages, *, anew: bool = False) -> Pyramid:
    """Make the pyramid of a finished run, unless it is there, or in any case.

    Raises
    ------
    RunError, InterruptedRun
        As `Stages.over`.
    """
    pyramid, wanted = Pyramid.of(run.stored.plan.grid), _identity(run.certificate)
    if not anew and _identity_of_stored(run.files) == wanted:
        return pyramid
    remove_tree(run.files.pyramid)
    _lay_out(create_group(run.files.pyramid), pyramid, run.stored.plan.kernels.n_scale)
    reduce = partial(reduce_chunk, run.files, run.stored.survey, pyramid)
    stages.over(reduce, range(pyramid.n_chunks), "maps reduced for the report")
    # Last: what bears it is whole.
    open_group(run.files.pyramid, writable=True).attrs["of"] = wanted
    return pyramid


def _identity(certificate: Mapping[str, Any]) -> str:
    """What tells the maps of one run from those of any other."""
    return digest([VERSION, *(certificate[name] for name in ("digest_maps", "input_digest", "settings_digest"))])


def _identity_of_stored(files: RunDir) -> str | None:
    with suppress(*DAMAGE):
        if exists(files.pyramid):
            identity: str | None = open_group(files.pyramid).attrs.get("of")
            return identity
    return None


def _lay_out(group: zarr.Group, pyramid: Pyramid, n_scale: int) -> None:
    for factor in pyramid.factors:
        level = group.create_group(str(factor), attributes={"factor": factor})
        shape = pyramid.level_shape(factor)
        chunk = tuple(min(side // factor, most) for side, most in zip(pyramid.region, shape, strict=True))
        for name, dtype in IMAGES.items():
            _create(level, name, shape, chunk, dtype, ("y", "x"))
        _create(level, "support", (n_scale, *shape), (n_scale, *chunk), "bool", ("scale", "y", "x"))
    n = pyramid.n_chunks
    _create(group, "residual_pixels", (n, N_BINS), (1, N_BINS), "int64", ("chunk", "bin"))
    _create(group, "expected_pixels", (n, N_BINS), (1, N_BINS), "float64", ("chunk", "bin"))
    _create(group, "flagged_pixels", (n, len(FLAGS)), (1, len(FLAGS)), "int64", ("chunk", "flag"))


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, axes: tuple[str, ...]
) -> None:
    compressors = [ZstdCodec(level=1), Crc32cCodec()]
    group.create_array(
        name, shape=shape, chunks=chunks, dtype=dtype, fill_value=0, compressors=compressors, dimension_names=axes
    )
