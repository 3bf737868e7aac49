"""Where two neighbours computed the same pixels: how far do they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.margins import STRIP_WIDTH
from cwt_dask.storage.maps import OPPOSITE, SIDES, STRIPS
from cwt_dask.storage.zarr_io import open_group


class Seam(NamedTuple):
    """One tile's view of a neighbour's core, against the neighbour's own."""

    # The tile that looks, and the owner of the core.
    tile: int
    neighbour: int
    side: str  # On which side of the tile.
    n_pixels: int  # Pixels compared.
    model_difference: float  # Largest difference of the models, counts per pixel.
    support_flips: int  # Pixels of differing support, counted once a scale.


def compare_seams(seams: Path, grid: AnyGrid, tile_id: int) -> list[Seam]:
    """Compare what a tile computed beyond its core with what each neighbour published there.

    Parameters
    ----------
    seams : Path
        The store of the seams.
    grid : TileGrid or FacetGrid
        The tiles.
    tile_id : int
        Number of the tile.
    """
    group = open_group(seams)
    # To open an array takes longer than to read a strip.
    own_model, own_support, beyond_model, beyond_support = (group[name] for name in STRIPS)
    tile = grid.tile(tile_id)
    strips = grid.strips(tile, STRIP_WIDTH)
    found = []
    for side, neighbour in grid.neighbours(tile).items():
        mine, theirs = (tile.id, SIDES.index(side)), (neighbour.id, SIDES.index(OPPOSITE[side]))
        pixels = (..., slice(strips[side].area))
        model = np.abs(beyond_model[(*mine, *pixels)] - own_model[(*theirs, *pixels)])
        flips = beyond_support[(*mine, *pixels)] != own_support[(*theirs, *pixels)]
        difference, n_flips = float(model.max(initial=0)), int(np.count_nonzero(flips))
        found.append(Seam(tile.id, neighbour.id, side, model.size, difference, n_flips))
    return found


def seam_error(seam: Seam, model_max: Mapping[int, float]) -> float:
    """Model difference over the larger of the two tiles' model maxima; 0 where nothing was compared.

    A difference where both models are zero in their cores counts as 1: one tile has all of it, the other nothing.
    """
    largest = max(model_max[seam.tile], model_max[seam.neighbour])
    return seam.model_difference / largest if largest > 0 else float(seam.model_difference > 0)


def seam_model_error(seams: Iterable[Seam], model_max: Mapping[int, float]) -> float | None:
    """Largest error of all seams; None where nothing was compared."""
    errors = [seam_error(seam, model_max) for seam in seams if seam.n_pixels]
    # Not max(): NaN must show.
    return float(np.max(errors)) if errors else None
