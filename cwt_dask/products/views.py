"""What plots and cutouts show: a rectangle of a flat map, pixel by pixel, or a plane onto which the sphere is drawn."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.products.layers import Layer, mask_of, ufunc_of
from cwt_dask.products.planes import Plane
from cwt_dask.products.sampling import Sampler
from cwt_dask.products.source import MapSource
from cwt_dask.survey import Region

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS

# By how much pixels of a plane may be larger than those that it shows, without that several are drawn as one.
_ALIKE = 1.001


class View(ABC):
    """Pixels (y, x) that are shown of a run."""

    shape: tuple[int, int]  # Rows and columns, where none are drawn as one.
    header_text: str  # FITS cards of their WCS, one a line.
    wcs: WCS
    factor = 1  # Pixels along a side of what is drawn as one pixel.
    is_whole_sky = False  # Whether it is the whole sky, in a plane of which it does not fill the corners.
    # Columns of a catalogue by which sources are placed.
    columns: tuple[str, ...]

    @abstractmethod
    def read(self, layer: Layer) -> NDArray[Any]:
        """Read a layer, (y, x) or (scale, y, x), in its own type; 0 where it has no pixel."""

    @abstractmethod
    def drawn(self, layer: Layer) -> Floats:
        """Read an image to draw it, (y, x), `factor` pixels a side as one; NaN where nothing is used."""

    @abstractmethod
    def place(self, *columns: Floats) -> tuple[Floats, Floats]:
        """Columns and rows of sources (n,), by `columns`."""


def view_of(run: MapSource, center: Any, size: Any, *, most: float = math.inf) -> View:
    """Find what a run shows of a rectangle.

    Parameters
    ----------
    run : MapSource
    center, size
        As of `Region.of`; of the sphere the whole sky where neither is given.
    most : float, optional
        Pixels along a side to draw at most.

    Raises
    ------
    InputError
        If it is no rectangle.
    """
    statistics = run.survey.statistics
    if not statistics.sphere:
        # By the sky: it does not matter whether tiles were laid out as a ring.
        header_text, wraps = run.survey.header_text, statistics.wraps
        return _OfMap(run, Region.of(header_text, statistics.shape, ring=wraps, center=center, size=size), most)
    pixel = statistics.pixel_scale_deg
    if center is None and size is None:
        return _OfSphere(run, Plane.whole_sky(pixel, most))
    return _OfSphere(run, Plane.around(center, size, run.survey.wcs.frame, pixel, most))


class _OfMap(View):
    """A rectangle of a flat map."""

    columns = ("x_peak", "y_peak")

    def __init__(self, run: MapSource, region: Region, most: float) -> None:
        self.run, self.region = run, region
        self.shape, self.header_text, self.wcs = region.box.shape, region.header_text, region.wcs
        self.factor = math.ceil(max(self.shape) / most) or 1

    def read(self, layer: Layer) -> NDArray[Any]:
        return layer.read(self.region.box, ring=self.region.ring)

    def drawn(self, layer: Layer) -> Floats:
        mask = mask_of(self.run, layer)
        if self.factor > 1:
            return layer.read_reduced(self.region.box, self.factor, ring=self.region.ring, mask=mask)
        return _blanked(self.read(layer), self.read(mask) if mask else None)

    def place(self, *columns: Floats) -> tuple[Floats, Floats]:
        x, y = columns[0] - self.region.box.x0, columns[1] - self.region.box.y0
        return x % self.run.survey.shape[1] if self.region.ring else x, y


class _OfSphere(View):
    """A plane onto which the sphere is drawn."""

    columns = ("x_peak", "y_peak", "facet")

    def __init__(self, run: MapSource, plane: Plane) -> None:
        self.run, self.plane = run, plane
        self.shape, self.header_text, self.wcs = plane.shape, plane.header_text, plane.wcs
        self.is_whole_sky = plane.is_whole_sky

    @cached_property
    def on_sky(self) -> Bools:
        """Which pixels of the plane show the sky; not asked of planes that are too large to be read."""
        return self.plane.sky[0]

    @cached_property
    def sampler(self) -> Sampler:
        """The pixels that they show."""
        return Sampler(self.run, self.plane.sky[1])

    def read(self, layer: Layer) -> NDArray[Any]:
        values = self.sampler.values(layer)
        image = np.zeros((*values.shape[:-1], *self.shape), values.dtype)
        image[..., self.on_sky] = values
        return image

    def drawn(self, layer: Layer) -> Floats:
        mask = mask_of(self.run, layer)
        if layer.parts:
            drawn: Floats = layer.derive(*map(self.drawn, layer.parts))
            return drawn
        there = np.zeros(self.shape, bool)
        there[self.on_sky] = self.sampler.pixels(3)[0]
        image = _blanked(self.read(layer), self.read(mask) * there if mask else there)
        if self.plane.pixel > _ALIKE * self.run.survey.statistics.pixel_scale_deg:
            reduced = self._reduced(layer, mask)
            # In the skewed pixels at the rim of the sky there may be the centre of none.
            image = np.where(np.isfinite(reduced), reduced, image)
        return image

    def _reduced(self, layer: Layer, mask: Layer | None) -> Floats:
        """Mean, largest or least value of the used pixels with their centre in each of the plane; NaN where none is."""
        ufunc, start = ufunc_of(layer.name)
        values, counted = np.full(self.on_sky.size, start), np.zeros(self.on_sky.size)
        for chunk in self._chunks(layer):
            index = chunk
            if mask is not None:
                used = mask.at(chunk) != 0
                index = tuple(axis[used] for axis in chunk)
            there, numbers = self.plane.pixels(self._sky(index))
            ufunc.at(values, numbers, layer.at(index)[there].astype(np.float64))
            counted += np.bincount(numbers, minlength=counted.size)
        if ufunc is np.add:
            values /= np.maximum(counted, 1)
        return np.where(counted > 0, values, np.nan).reshape(self.shape)

    def _chunks(self, layer: Layer) -> Iterator[tuple[NDArray[np.int64], ...]]:
        """Indices (n,) of all pixels of each chunk that the plane shows some of."""
        there, pixels = self.sampler.pixels(layer.n_axes)
        lengths, shape = layer.sources[0].chunks[-layer.n_axes :], layer.sources[0].shape[-layer.n_axes :]
        shown = [index[there] // length for index, length in zip(pixels, lengths, strict=True)]
        for chunk in np.unique(np.stack(shown), axis=1).T:
            ranges = zip(chunk, lengths, shape, strict=True)
            axes = [np.arange(n * length, min((n + 1) * length, end)) for n, length, end in ranges]
            yield tuple(axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))

    def _sky(self, index: tuple[NDArray[np.int64], ...]) -> SkyCoord:
        if len(index) == 2:
            return self.run.survey.wcs.pixel_to_world(index[1], index[0])
        return self._of_facet(*index)

    def _of_facet(self, facet: Any, y: Any, x: Any) -> SkyCoord:
        return self.run.wcs.pixel_to_world(x, facet * self.run.wcs.grid.side + y)

    def place(self, *columns: Floats) -> tuple[Floats, Floats]:
        x, y, facet = columns
        found_x, found_y = self.wcs.world_to_pixel(self._of_facet(facet, y, x))
        return found_x, found_y


def _blanked(pixels: NDArray[Any], used: NDArray[Any] | None) -> Floats:
    found = pixels.astype(np.float64)
    if used is not None:
        found[used == 0] = np.nan
    return found
