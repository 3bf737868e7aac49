"""What tiles cost, in memory, time and disk, and the tiles that cost least.

The constants are measured (docs/performance.md) and the same everywhere: the answer must not depend on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.errors import SurveyError
from cwt_dask.geometry.facets import LEAST_CELL_ORDER, MOST_CELL_ORDER, AnyGrid, FacetGrid
from cwt_dask.geometry.healpix import order_of
from cwt_dask.geometry.margins import STRIP_WIDTH
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.storage.schema import maps_from
from cwt_dask.survey.sphere import Sphere

Grid = TypeVar("Grid", bound=AnyGrid)

# Automatic tiles are chosen for this many, never for the workers that a run has.
BALANCED_WORKERS = 8
# Pixels along a cell of the sphere that automatic facets have at least: finer ones are mostly margin.
LEAST_CELL = 64
# A map that is one small box gains nothing from being cut.
SINGLE_TILE_PIXELS = 2**20

# Python and its libraries, with all that is compiled loaded.
PROCESS_MEMORY = 360 * 2**20
# What compiling the fit takes besides, and keeps, in a worker that is the first of its machine to do so.
COMPILER_MEMORY = 320 * 2**20
# Of a box pixel: counts, background, validity, four spectra, model, approximation, sum of transforms and the pixels
# above the threshold; of a core pixel significance, scale and flags, and what is written, thrice; of a pixel of the
# support, taken to be every third, its position and values in several lists.
BYTES_PER_PIXEL = 132
BYTES_PER_PIXEL_AND_SCALE = 2

# Seconds, on one core: of an FFT and all that goes with it, of reading, of publishing, and of a task by itself.
PER_FFT_PIXEL = 11e-9
PER_READ_PIXEL = 40e-9
PER_CORE_PIXEL = 110e-9
PER_TILE = 0.1

# Of the fit of sources: bytes of a pixel of its window, and seconds a pixel of the map, on one core; and where it is as
# crowded as the Galactic plane, with one source in a hundred pixels.
BYTES_PER_FITTED_PIXEL = 90
PER_FITTED_PIXEL = 0.5e-6
PER_CROWDED_PIXEL = 50e-6

# Of facets besides, a pixel of an image: that the survey's pixels are found on it, read and cut to the cell, and that
# sources are fitted where counts lie in pixels, on the whole image. Images are mostly margin where a sky is coarse.
PER_FACET_PIXEL = 0.5e-6
PER_FITTED_FACET_PIXEL = 0.7e-6

# A tile that takes this many times as long as that, and longer than this in seconds, hangs; or than this many times the
# fit of a crowded one.
LATE = 30
LATE_WHERE_CROWDED = 5
LEAST_DEADLINE = 600.0


def tile_memory(grid: AnyGrid, n_scale: int) -> int:
    """Largest memory a worker needs for the iterations of a tile of this grid, in bytes (tests measure it)."""
    per_pixel = BYTES_PER_PIXEL + BYTES_PER_PIXEL_AND_SCALE * n_scale
    return PROCESS_MEMORY + per_pixel * math.prod(grid.box_shape)


def deadline(grid: AnyGrid, n_scale: int, n_iter: int) -> float:
    """Seconds that a task of a tile may take before it is late: generous, for the slowest of machines.

    Parameters
    ----------
    grid, n_scale, n_iter
        As of `tile_seconds`.
    """
    crowded = LATE_WHERE_CROWDED * PER_CROWDED_PIXEL * math.prod(grid.box_shape)
    return max(LEAST_DEADLINE, LATE * tile_seconds(grid, n_scale, n_iter), crowded)


def tile_seconds(grid: AnyGrid, n_scale: int, n_iter: int) -> float:
    """Rough mean time that one core takes for a tile of a grid, in `n_iter` iterations with `n_scale` scales.

    Parameters
    ----------
    grid : TileGrid
        The tiles.
    n_scale, n_iter : int
        Scales and iterations.
    """
    box, core = (pixels / grid.n_tiles for pixels in (grid.n_box_pixels, grid.n_pixels))
    ffts = n_iter * (3 + 2 * n_scale)
    return box * (ffts * PER_FFT_PIXEL + PER_READ_PIXEL) + core * PER_CORE_PIXEL + PER_TILE


def run_seconds(grid: AnyGrid, n_scale: int, n_iter: int) -> float:
    """Rough time that one core takes for the iterations of all tiles, with what facets take besides.

    Parameters
    ----------
    grid, n_scale, n_iter
        As of `tile_seconds`.
    """
    besides = PER_FACET_PIXEL * grid.n_pixels if isinstance(grid, FacetGrid) else 0.0
    return grid.n_tiles * tile_seconds(grid, n_scale, n_iter) + besides


def fit_seconds(grid: AnyGrid) -> tuple[float, float]:
    """Rough time of candidates and fits on one core, as usual, and where there are 10^4 sources in 10^6 pixels."""
    besides = PER_FITTED_FACET_PIXEL if isinstance(grid, FacetGrid) else 0.0
    return grid.n_pixels * (PER_FITTED_PIXEL + besides), grid.n_pixels * (PER_CROWDED_PIXEL + besides)


def fit_memory(grid: AnyGrid) -> int:
    """Largest memory a worker needs to fit sources, in windows of at most the boxes, in bytes (tests measure it)."""
    return PROCESS_MEMORY + COMPILER_MEMORY + BYTES_PER_FITTED_PIXEL * math.prod(grid.box_shape)


def disk(grid: AnyGrid, n_scale: int, *, checkpoints: bool, islands: bool) -> int:
    """Largest space of survey, maps, seams and what is kept between blocks of iterations, in bytes, uncompressed.

    Parameters
    ----------
    grid : TileGrid
        The tiles.
    n_scale : int
        Scales.
    checkpoints, islands : bool
        Whether tiles wait for each other between blocks, and store what is above the threshold.
    """
    pixel = sum(np.dtype(spec.dtype).itemsize * (n_scale if spec.axis else 1) for spec in maps_from("tile"))
    survey = 3 * 8 + 1
    seams = grid.n_tiles * 2 * 4 * STRIP_WIDTH * max(grid.core_shape) * (8 + n_scale)
    # Of the support, taken to be a tenth of the pixels, what peaks are found by.
    detections = grid.map_box.area * 40 // 10
    total = (pixel + survey) * grid.map_box.area + seams + detections
    if checkpoints:
        # Two blocks are there when it is most: the approximation in the box, and significance, scale and flags in the
        # core; the support's pixels, and with an island threshold those above the threshold.
        box, core = math.prod(grid.box_shape), math.prod(grid.core_shape)
        sparse = 8 + 2 * 8 + 2 * n_scale + (14 * n_scale if islands else 0)
        total += 2 * grid.n_tiles * (box * (8 + sparse // 10) + core * 17)
    return total


def least_disk(n_pixels: int) -> int:
    """Space that the maps can hardly do without for `n_pixels` that take part, in bytes.

    Three images of 8 bytes a pixel lose a tenth to compression; a quarter is left off, to be sure.
    """
    return 3 * 6 * n_pixels


def automatic_grid(
    map_shape: tuple[int, int], margin: int, kernels: CWTKernels, n_iter: int, *, memory_target: int, ring: bool = False
) -> TileGrid:
    """The grid that costs least among those that fit the memory target, by the work and by the time of eight workers.

    The target is doubled where nothing fits it, and once or twice more where that halves the cost: with kernels so
    wide that tiles would be mostly margin.

    Parameters
    ----------
    map_shape : tuple of int
        Rows and columns of the map.
    margin : int
        Pixels that windows have beyond cores.
    kernels : CWTKernels
        The kernels.
    n_iter : int
        Largest number of iterations.
    memory_target : int
        Bytes that a worker should need at most.
    ring : bool
        Whether the last column is the neighbour of the first.
    """
    whole = TileGrid.plan(map_shape, map_shape, margin, kernels.reach, fast_length, ring=ring)
    if math.prod(whole.box_shape) <= SINGLE_TILE_PIXELS:
        return whole
    grids = _grids(map_shape, margin, kernels.reach, ring=ring)
    return _cheapest(list(grids), kernels.n_scale, n_iter, memory_target)


def automatic_facets(
    sphere: Sphere, margin: int, kernels: CWTKernels, n_iter: int, *, memory_target: int, tile_size: int | str = "auto"
) -> FacetGrid:
    """The facets that cost least among those that fit the memory target, as of `automatic_grid`.

    Parameters
    ----------
    sphere : Sphere
        The survey's map.
    margin, kernels, n_iter, memory_target
        As of `automatic_grid`.
    tile_size : int or str
        Where it is a number, the cells are the largest that are no wider.

    Raises
    ------
    SurveyError
        If there are fewer pixels than cells.
    """
    if order_of(sphere.nside) < LEAST_CELL_ORDER:
        raise SurveyError(
            f"the survey has NSIDE = {sphere.nside}, pixels of {58.6 / sphere.nside:.0f} deg: facets are cells of "
            f"NSIDE {1 << LEAST_CELL_ORDER}, take a map that is at least as fine"
        )
    finest = order_of(sphere.nside) - (0 if tile_size != "auto" else LEAST_CELL.bit_length() - 1)
    orders = range(LEAST_CELL_ORDER, max(LEAST_CELL_ORDER, min(finest, MOST_CELL_ORDER)) + 1)
    if tile_size != "auto":
        orders = range(
            *(next((o for o in orders if sphere.nside >> o <= int(tile_size)), orders[-1]) + n for n in (0, 1))
        )
    grids = [
        FacetGrid.plan(sphere.nside, order, sphere.cells_of(order), margin, kernels.reach, fast_length)
        for order in orders
    ]
    return _cheapest(grids, kernels.n_scale, n_iter, memory_target)


def _cheapest(grids: Sequence[Grid], n_scale: int, n_iter: int, target: int) -> Grid:
    needs = [(tile_memory(grid, n_scale), grid) for grid in grids]

    def cost(grid: Grid) -> float:
        rounds = -(-grid.n_tiles // BALANCED_WORKERS)
        # Few tiles leave workers idle, many read and compute their margins over and over: both count.
        return (rounds + grid.n_tiles / BALANCED_WORKERS) * tile_seconds(grid, n_scale, n_iter)

    def cheapest(target: int) -> Grid | None:
        return min((grid for memory, grid in needs if memory <= target), key=cost, default=None)

    while (best := cheapest(target)) is None:
        target *= 2
    for _ in range(2):
        larger = cheapest(2 * target)
        if larger and 2 * cost(larger) <= cost(best):
            best, target = larger, 2 * target
    return best


def _grids(map_shape: tuple[int, int], margin: int, reach: int, *, ring: bool) -> Iterator[TileGrid]:
    longest = max(map_shape)
    seen = set()
    # Cores of equal size, but for what remains at the map's end.
    for n_longest in range(1, -(-longest // 32) + 1):
        core = -(-longest // n_longest)
        equal = tuple(-(-length // -(-length // core)) for length in map_shape)
        if equal not in seen:
            seen.add(equal)
            yield TileGrid.plan(map_shape, (equal[0], equal[1]), margin, reach, fast_length, ring=ring)
