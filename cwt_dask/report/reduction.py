"""What one chunk of the pyramid is made of: pixels of the map, taken together in square blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.report.residuals import Expectation, count_residuals, residual_edges
from cwt_dask.stores import flushing_behind, open_group
from cwt_dask.survey import Survey
from cwt_dask.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from cwt_dask.layout import RunDir
    from cwt_dask.report.pyramid import Pyramid
    from cwt_dask.tiling import Box

SUMS = ("counts", "background", "model")
IMAGES = {**dict.fromkeys((*SUMS, "residual", "significance"), "float32"), "trust": "uint8", "used": "uint32"}
FLAGS = tuple(Trust)


def reduce_chunk(files: RunDir, survey_path: Path, pyramid: Pyramid, number: int) -> int:
    """Make one chunk of the pyramid at every level, and what is counted over its pixels."""
    survey, maps = Survey.open(survey_path), open_group(files.maps, whole="run")
    covered, finest = pyramid.covered(number), pyramid.factors[0]
    edges, expectation = residual_edges(survey.facts), Expectation()
    residuals, flagged = np.zeros(len(edges) + 1, np.int64), np.zeros(len(FLAGS), np.int64)
    strips = []
    for strip in pyramid.strips(covered):
        pixels = _read(survey, maps, strip)
        used = pixels["used"]
        # Summed over the map's pixels, divided by those that are used where it is written.
        strips.append(reduced(pixels, finest))
        excess = (pixels["residual"] - pixels["background"])[used]
        residuals += count_residuals(excess, edges)
        expectation.add(pixels["counts"][used] - excess)
        flagged += [np.count_nonzero(pixels["trust"] & flag) for flag in FLAGS]
    level = {name: np.concatenate([strip[name] for strip in strips], axis=-2) for name in strips[0]}

    group = open_group(files.pyramid, writable=True)
    with flushing_behind(group):
        for factor in pyramid.factors:
            if factor > finest:
                level = reduced(level, 2)
            y, x = covered.y0 // factor, covered.x0 // factor
            for name, values in level.items():
                place = (..., slice(y, y + values.shape[-2]), slice(x, x + values.shape[-1]))
                written = _mean(values, level["used"]) if name == "residual" else values
                _write(group[str(factor)][name], place, written)
        for name, counted in (
            ("residual_pixels", residuals),
            ("expected_pixels", expectation.histogram(edges)),
            ("flagged_pixels", flagged),
        ):
            _write(group[name], number, counted)
    return number


def _write(array: zarr.Array, place: Any, values: NDArray[Any]) -> None:
    # A chunk of zeros is written, too: one that is not there is lost.
    array.with_config({"write_empty_chunks": True})[place] = values.astype(array.dtype)


def _read(survey: Survey, maps: zarr.Group, box: Box) -> dict[str, NDArray[Any]]:
    """Pixels of some rows, by name of the level's array."""
    pixels = {name: survey.read(name, box).astype(np.float64) for name in ("counts", "background")}
    pixels |= {name: maps[name][box.slices] for name in ("model", "residual", "significance", "trust")}
    return pixels | {"support": maps["support"][(..., *box.slices)], "used": survey.read("mask", box) != 0}


def reduced(pixels: Mapping[str, NDArray[Any]], factor: int) -> dict[str, NDArray[Any]]:
    """Take pixels together in blocks of `factor` a side; the last ones may hold fewer.

    Parameters
    ----------
    pixels : mapping of ndarray
        Arrays (..., y, x) of a level or of the map; 0 where masked.
    factor : int
        Pixels along a block's side.

    Returns
    -------
    dict of ndarray
        `significance` is the largest, `trust` and `support` those of any pixel, all else is summed.
    """
    how = {"significance": np.maximum, "trust": np.bitwise_or, "support": np.logical_or}
    return {name: _blocks(values, factor, how.get(name, np.add)) for name, values in pixels.items()}


def _blocks(values: NDArray[Any], factor: int, combine: np.ufunc) -> NDArray[Any]:
    if combine is np.add and values.dtype == bool:
        # Whether a pixel is used becomes how many are.
        values = values.astype(np.int64)
    rows, columns = (np.arange(0, length, factor) for length in values.shape[-2:])
    # Rows first: whole ones are taken together at the speed of memory, and few pixels are left.
    by_rows = combine.reduceat(values, rows, axis=-2)
    whole: NDArray[Any] = combine.reduceat(by_rows, columns, axis=-1)
    return whole


def _mean(total: NDArray[Any], n: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over numbers; 0 where there are none."""
    mean: NDArray[np.float64] = np.divide(total, n, out=np.zeros(total.shape), where=n > 0)
    return mean
