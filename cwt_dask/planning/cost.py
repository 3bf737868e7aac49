"""What tiles cost, in memory, time and disk, and the tiles that cost least.

The constants are measured (docs/performance.md) and the same everywhere: the answer must not depend on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.margins import STRIP_WIDTH
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.storage.schema import maps_from

# Automatic tiles are chosen for this many, never for the workers that a run has.
BALANCED_WORKERS = 8
# A map that is one small box gains nothing from being cut.
SINGLE_TILE_PIXELS = 2**20

# Python and its libraries, the compiler among them.
PROCESS_MEMORY = 300 * 2**20
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

# A tile that takes this many times as long as that, and longer than this in seconds, hangs.
LATE = 30
LEAST_DEADLINE = 600.0


def worker_memory(grid: TileGrid, n_scale: int) -> int:
    """Largest memory a worker needs for a tile of this grid, in bytes (tests measure it)."""
    per_pixel = BYTES_PER_PIXEL + BYTES_PER_PIXEL_AND_SCALE * n_scale
    return PROCESS_MEMORY + per_pixel * math.prod(grid.box_shape)


def tile_seconds(grid: TileGrid, n_scale: int, n_iter: int) -> float:
    """Rough time that one core of a machine takes for a tile of a grid, in `n_iter` iterations with `n_scale` scales.

    Parameters
    ----------
    grid : TileGrid
        The tiles.
    n_scale, n_iter : int
        Scales and iterations.
    """
    box, core = math.prod(grid.box_shape), math.prod(grid.core_shape)
    ffts = n_iter * (3 + 2 * n_scale)
    return box * (ffts * PER_FFT_PIXEL + PER_READ_PIXEL) + core * PER_CORE_PIXEL + PER_TILE


def disk(grid: TileGrid, n_scale: int, *, checkpoints: bool, islands: bool) -> int:
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
    needs = [(worker_memory(grid, kernels.n_scale), grid) for grid in grids]

    def cost(grid: TileGrid) -> float:
        rounds = -(-grid.n_tiles // BALANCED_WORKERS)
        # Few tiles leave workers idle, many read and compute their margins over and over: both count.
        return (rounds + grid.n_tiles / BALANCED_WORKERS) * tile_seconds(grid, kernels.n_scale, n_iter)

    def cheapest(target: int) -> TileGrid | None:
        return min((grid for memory, grid in needs if memory <= target), key=cost, default=None)

    target = memory_target
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
