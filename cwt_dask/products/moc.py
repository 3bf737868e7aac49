"""Multi-order coverage maps (MOC) of a run: the part of the sky that was surveyed, and that of the support."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.geometry.healpix import MOST_ORDER, number_of
from cwt_dask.products.source import MapSource

if TYPE_CHECKING:
    from mocpy import MOC

# Degrees.
_OF_ORDER_0 = math.degrees(math.sqrt(math.pi / 3))


def write_mocs(run: MapSource, folder: Path) -> None:
    """Write `survey.fits` and `support.fits`, in ICRS.

    A cell, two to four pixels wide, is in them if the centre of a pixel lies in it.

    Parameters
    ----------
    run : SurveyRun
        A finished one.
    folder : Path
        A directory.

    Raises ImportError without mocpy.
    """
    survey_moc(run).save(folder / "survey.fits", format="fits")
    _moc_of(run, run.wcs, _planes(run.stored_map("support"))).save(folder / "support.fits", format="fits")


def survey_moc(run: MapSource) -> MOC:
    """Coverage of the pixels that take part.

    Raises ImportError without mocpy.
    """
    return _moc_of(run, run.survey.wcs, _planes(run.survey.array("mask")))


def order_of_pixels(run: MapSource) -> float:
    """The order of HEALPix whose pixels are as wide as the map's: whole where it is of that kind itself."""
    # Pixel sizes are known to six digits.
    return round(math.log2(_OF_ORDER_0 / run.survey.statistics.pixel_scale_deg), 5)


def _planes(pixels: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """The first row, and whether any image of a cube is not 0, of each row of chunks: facets one above the other."""
    rows, columns = pixels.shape[-2:]
    step = pixels.chunks[-2]
    n_facets = pixels.shape[-3] if pixels.ndim == 4 else 1
    for facet in range(n_facets):
        for start in range(0, rows, step):
            place = (facet,) if pixels.ndim == 4 else ()
            read = pixels[(..., *place, slice(start, min(start + step, rows)), slice(None))]
            yield facet * rows + start, read.reshape(-1, read.shape[-2], columns).any(axis=0)


def _moc_of(run: MapSource, wcs: Any, planes: Iterator[tuple[int, NDArray[Any]]]) -> MOC:
    from mocpy import MOC  # noqa: PLC0415 - an extra

    # Cells are two pixels wide or more, so that each that lies in a region holds the centre of one.
    order = min(max(math.floor(order_of_pixels(run) - 1), 0), MOST_ORDER)
    found = MOC.new_empty(max_depth=order)
    for first, inside in planes:
        y, x = np.nonzero(inside)
        sky = wcs.pixel_to_world(x, y + first).icrs
        # Some pixels of a facet's image may not be on the sky.
        there = np.isfinite(sky.ra.deg)
        cells = np.unique(number_of(sky.ra[there], sky.dec[there], order))
        found = found.union(MOC.from_healpix_cells(cells.astype(np.uint64), np.uint8(order), np.uint8(order)))
    return found
