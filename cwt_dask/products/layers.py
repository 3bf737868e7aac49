"""Layers of a run: the images of its survey and its maps, by name, read box by box, or pixel by pixel.

On the sphere the survey's layers are images (y, x) of the whole sky, as `cwt_dask.geometry.healpix` keeps it, and maps
are images (facet, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import Ints
from cwt_dask.errors import InputError
from cwt_dask.geometry.tiling import Box, parts
from cwt_dask.geometry.windows import read_box
from cwt_dask.products.source import MapSource
from cwt_dask.storage.schema import maps_from, spec_of


@dataclass(frozen=True)
class Layer:
    """An image or a cube of a run, not read yet."""

    name: str
    sources: tuple[Any, ...]  # Arrays (..., y, x), or (..., facet, y, x), that it is made of.
    n_axes: int = 2  # Of an image: 3 where it has an axis of facets.
    # On the sphere: what it is made of, where that is of the survey and of maps, which have other pixels each.
    parts: tuple[Layer, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        shape: tuple[int, int] = self.sources[0].shape[-2:]
        return shape

    @property
    def is_cube(self) -> bool:
        """Whether it is a cube."""
        return not spec_of(self.name).derive and len(self.sources[0].shape) > self.n_axes

    def derive(self, *sources: NDArray[Any]) -> NDArray[Any]:
        """Its pixels, of those of its sources."""
        derive = spec_of(self.name).derive
        return derive(*sources) if derive else sources[0]

    def at(self, pixels: tuple[Ints, ...]) -> NDArray[Any]:
        """Read pixels (n,) by their indices along the axes of an image: (n,) or (scale, n).

        Only chunks that have some of them are read, one at a time.
        """
        found = [_pixels_of(source, pixels) for source in self.sources]
        return self.derive(*found)

    def read(self, box: Box, *, ring: bool) -> NDArray[Any]:
        """Read the pixels of a box, (y, x) or (scale, y, x); only chunks that have some of them."""
        found = [read_box(source, box, ring=ring) for source in self.sources]
        return self.derive(*found)

    def read_reduced(self, box: Box, factor: int, *, ring: bool, mask: Layer | None = None) -> NDArray[np.float64]:
        """Read a box in blocks of `factor` x `factor` pixels, holding one chunk at a time.

        Parameters
        ----------
        box : Box
            In pixels of the map.
        factor : int
            Pixels along a side of a block.
        ring : bool
            Whether the map's columns close the circle.
        mask : Layer, optional
            Pixels that are 0 in it are left out.

        Returns
        -------
        ndarray
            Means, or the largest or least values, as `MapSpec.reduced` has it; NaN where all pixels are left out. The
            last row and column may stand for fewer pixels.
        """
        ufunc, start = ufunc_of(self.name)
        reduced = np.full([math.ceil(length / factor) for length in box.shape], start)
        counted = np.zeros(reduced.shape)
        for piece, inside in self._chunks(box, ring=ring):
            rows = (np.arange(piece.y0, piece.y1) - box.y0) // factor
            columns = (np.arange(piece.x0, piece.x1) - box.x0) // factor
            pixels = self.read(inside, ring=False).astype(np.float64)
            used = np.ones(pixels.shape) if mask is None else (mask.read(inside, ring=False) != 0).astype(np.float64)
            pixels[used == 0] = start
            for values, whole, how in ((pixels, reduced, ufunc), (used, counted, np.add)):
                by_rows = how.reduceat(values, np.flatnonzero(np.diff(rows, prepend=-1)), axis=0)
                one = how.reduceat(by_rows, np.flatnonzero(np.diff(columns, prepend=-1)), axis=1)
                target = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                how(target, one, out=target)
        if ufunc is np.add:
            reduced /= np.maximum(counted, 1)
        return np.where(counted > 0, reduced, np.nan)

    def _chunks(self, box: Box, *, ring: bool) -> Iterator[tuple[Box, Box]]:
        """Parts of a box that lie in one chunk, and the same pixels on the map."""
        height, width = self.sources[0].chunks[-2:]
        for piece, inside in parts(box, self.shape, ring=ring):
            for y in range(inside.y0 // height * height, inside.y1, height):
                for x in range(inside.x0 // width * width, inside.x1, width):
                    chunk = Box(y, y + height, x, x + width).intersection(inside)
                    yield chunk.shifted(piece.x0 - inside.x0), chunk


def _pixels_of(array: Any, pixels: tuple[Ints, ...]) -> NDArray[Any]:
    n = len(pixels)
    found = np.zeros((*array.shape[:-n], len(pixels[0])), array.dtype)
    if not found.size:
        return found
    chunks = np.stack([index // length for index, length in zip(pixels, array.chunks[-n:], strict=True)])
    order = np.lexsort(chunks)
    starts = np.flatnonzero(np.diff(chunks[:, order], axis=1, prepend=-1).any(axis=0))
    for here in np.split(order, starts[1:]):
        of_chunk = [index[here] for index in pixels]
        first = [int(index.min()) for index in of_chunk]
        whole = tuple(slice(start, int(index.max()) + 1) for start, index in zip(first, of_chunk, strict=True))
        inside = tuple(index - start for start, index in zip(first, of_chunk, strict=True))
        found[..., here] = array[(..., *whole)][(..., *inside)]
    return found


class _ImageOfCube:
    """One image of a cube, not read yet."""

    def __init__(self, cube: Any, index: int) -> None:
        self.cube, self.index = cube, index
        self.shape, self.chunks, self.dtype = cube.shape[1:], cube.chunks[1:], cube.dtype

    def __getitem__(self, pixels: tuple[Any, ...]) -> Any:
        return self.cube[(self.index, *pixels)]


def ufunc_of(name: str) -> tuple[np.ufunc, float]:
    """What makes one pixel of many, a sum where it is the mean of them, and what it begins with."""
    # Of flags the largest is drawn.
    ufuncs = {"mean": np.add, "largest": np.maximum, "any": np.maximum, "least": np.minimum}
    ufunc = ufuncs[spec_of(name).reduced]
    return ufunc, {np.add: 0.0, np.maximum: -np.inf, np.minimum: np.inf}[ufunc]


def layer_of(run: MapSource, name: str, index: int | None = None) -> Layer:
    """Find a layer by name.

    Parameters
    ----------
    run : MapSource
    name : str
        counts, background or exposure of the survey, a map of `maps.zarr`, excess_residual, support_2d or
        model_plus_approx.
    index : int, optional
        Which image of a cube, from 0.

    Raises
    ------
    InputError
        If there is none of this name, or no image of this index.
    RunError
        If its metadata are damaged.
    """
    if not isinstance(name, str):
        raise InputError(f"name is {shown(name)}: it must be the name of a map, such as model")
    on_survey = spec_of(name).origin == "survey"
    n_axes, of = 2 if on_survey else len(run.stored.plan.grid.array_shape), spec_of(name).sources
    if n_axes > 2 and any(spec_of(source).origin == "survey" for source in of) and index is None:
        return Layer(name, (), n_axes, tuple(layer_of(run, source) for source in of))
    whole = Layer(name, _sources_of(run, name), n_axes)
    if index is None:
        return whole
    length = whole.sources[0].shape[0] if whole.is_cube else 0
    if not isinstance(index, Integral) or not 0 <= index < length:
        what = f"its images are 0 to {length - 1}" if length else "it is one image"
        raise InputError(f"{name} has no image {shown(index)}: {what}")
    return Layer(name, (_ImageOfCube(whole.sources[0], int(index)),), whole.n_axes)


def has_layer(run: MapSource, name: str) -> bool:
    """Whether a run has a layer of this name: those of earlier releases lack some."""
    with suppress(InputError):
        layer_of(run, name)
        return True
    return False


def mask_of(run: MapSource, layer: Layer) -> Layer | None:
    """The mask on a layer's pixels; None where all pixels are used, or it is the mask."""
    if layer.n_axes == 2 and run.survey.statistics.sphere:
        mask = run.survey.array("mask") if run.survey.statistics.n_masked else None
        return mask and Layer("mask", (mask,))
    has_mask = layer.n_axes > 2 or run.survey.statistics.n_masked
    return layer_of(run, "mask") if layer.name != "mask" and has_mask else None


def _sources_of(run: MapSource, name: str) -> tuple[Any, ...]:
    spec = spec_of(name)
    if spec.origin == "survey":
        array = run.survey.array(name)
        if array is None:
            raise InputError("the survey has no exposure")
        return (array,)
    if spec.sources:
        return tuple(array for source in spec.sources for array in _sources_of(run, source))
    try:
        return (run.stored_map(name),)
    except InputError as error:
        others = ", ".join(other.name for other in maps_from("survey", "derived"))
        raise InputError(f"{error}, {others}") from error
