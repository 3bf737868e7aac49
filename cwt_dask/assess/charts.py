"""Where sources lie in a survey: on the pixels of a flat map, or of the sphere, behind one interface.

Places are (y, x) pixels of a flat map, or unit vectors; pixels are rows and columns of the survey's store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.geometry.facets import pixel_of
from cwt_dask.geometry.healpix import MOST_ORDER, centres_of, lon_lat_of, numbers_at, numbers_in, order_of, places_of
from cwt_dask.geometry.tiling import Box
from cwt_dask.results import SurveyRun
from cwt_dask.survey.sphere import FacetSky, SkyImage

if TYPE_CHECKING:
    from astropy.wcs import WCS

Planes = dict[str, NDArray[Any]]
# Parts of a pixel along each axis that are looked at for the pixels of a sphere near a source.
_PARTS = 2


@dataclass(frozen=True)
class Near:
    """Pixels near a source: where they are, and how far from it."""

    rows: Ints
    columns: Ints
    dy: Floats  # Of their centres, in pixels.
    dx: Floats


class Chart(Protocol):
    """What a simulation has to know of the places and pixels of a survey."""

    def of_sky(self, sky: SkyCoord) -> Floats:
        """Places of positions."""

    def on_sky(self, places: Floats) -> SkyCoord:
        """Positions of places."""

    def drawn(self, box: Box, n: int, rng: np.random.Generator) -> Floats:
        """So many places in a box of pixels, each as likely as any other.

        Parameters
        ----------
        box : Box
            Rows and columns of the survey's store.
        n : int
            How many.
        rng : Generator
            What they are drawn with.
        """

    def pixels(self, places: Floats) -> tuple[Ints, Ints]:
        """Rows and columns of the pixels that hold places; -1 where none does."""

    def image_pixels(self, places: Floats) -> tuple[Floats, Floats]:
        """Rows and columns in the images of tiles, by which point spread functions are looked up."""

    def images(self, box: Box) -> Box:
        """Rows and columns of images, as of `image_pixels`, that the places in a box of pixels may have."""

    def near(self, place: Floats, half: int) -> Near:
        """Pixels no farther than so many to each side."""

    def in_pixels(self, places: Floats) -> Floats:
        """Coordinates (n, axis) in which distances are those in pixels."""

    def write(self, path: Path, box: Box, planes: Planes, unit: str) -> None:
        """Write a survey of a box of pixels as a FITS file.

        Parameters
        ----------
        path : Path
            The file.
        box : Box
            Rows and columns of the survey's store.
        planes : dict of ndarray
            Counts and the others, by name.
        unit : str
            Of the exposure; empty where it has none.
        """


@dataclass(frozen=True)
class _FlatChart:
    """Of a flat map."""

    wcs: WCS
    header_text: str
    width: int  # Columns of a ring, else 0.

    def of_sky(self, sky: SkyCoord) -> Floats:
        x, y = self.wcs.world_to_pixel(sky)
        x = (np.asarray(x) + 0.5) % self.width - 0.5 if self.width else np.asarray(x)
        return np.column_stack([np.atleast_1d(y), np.atleast_1d(x)])

    def on_sky(self, places: Floats) -> SkyCoord:
        return SkyCoord(self.wcs.pixel_to_world(places[:, 1], places[:, 0]))

    def drawn(self, box: Box, n: int, rng: np.random.Generator) -> Floats:
        low, high = np.array([box.y0, box.x0]) - 0.5, np.array([box.y1, box.x1]) - 0.5
        return np.asarray(rng.uniform(low, high, (n, 2)))

    def pixels(self, places: Floats) -> tuple[Ints, Ints]:
        known = np.asarray(np.isfinite(places).all(axis=1))
        rows, columns = np.rint(np.where(known[:, np.newaxis], places, -1.0)).astype(np.int64).T
        return rows, columns

    def image_pixels(self, places: Floats) -> tuple[Floats, Floats]:
        return places[:, 0], places[:, 1]

    def images(self, box: Box) -> Box:
        return box

    def near(self, place: Floats, half: int) -> Near:
        y, x = np.rint(place).astype(np.int64)
        rows, columns = (axis.ravel() for axis in np.mgrid[y - half : y + half + 1, x - half : x + half + 1])
        return Near(rows, columns, rows - place[0], columns - place[1])

    def in_pixels(self, places: Floats) -> Floats:
        return places

    def write(self, path: Path, box: Box, planes: Planes, unit: str) -> None:
        header = fits.Header.fromstring(self.header_text, sep="\n")
        header["CRPIX1"], header["CRPIX2"] = header["CRPIX1"] - box.x0, header["CRPIX2"] - box.y0
        hdus = [fits.ImageHDU(pixels, header, name.upper()) for name, pixels in planes.items()]
        for hdu in hdus:
            if hdu.name == "EXPOSURE" and unit:
                hdu.header["BUNIT"] = unit
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


@dataclass(frozen=True)
class _SphereChart:
    """Of a map of the sphere; the images of tiles are those of facets."""

    sky: SkyImage
    facets: FacetSky

    def of_sky(self, sky: SkyCoord) -> Floats:
        return self.sky.vectors_of_sky(sky)

    def on_sky(self, places: Floats) -> SkyCoord:
        return SkyCoord(*lon_lat_of(places), unit="deg", frame=self.sky.frame)

    def drawn(self, box: Box, n: int, rng: np.random.Generator) -> Floats:
        rows, columns = rng.integers([box.y0, box.x0], [box.y1, box.x1], (n, 2)).T
        # A place in a pixel is a pixel of a map that is much finer.
        finer = MOST_ORDER - order_of(self.sky.nside)
        numbers = numbers_in(rows, columns, self.sky.nside) << 2 * finer
        return centres_of(numbers + rng.integers(0, 4**finer, n), MOST_ORDER)

    def pixels(self, places: Floats) -> tuple[Ints, Ints]:
        return places_of(numbers_at(places, order_of(self.sky.nside)), self.sky.nside)

    def image_pixels(self, places: Floats) -> tuple[Floats, Floats]:
        return self._in_facets(places)[1:]

    def images(self, box: Box) -> Box:  # noqa: ARG002 - a field may lie in any facet
        return self.facets.grid.map_box

    def near(self, place: Floats, half: int) -> Near:
        facet, (y,), (x,) = self._in_facets(place[np.newaxis])
        frame, order = self.facets.grid.frame(max(int(facet[0]), 0)), order_of(self.sky.nside)
        y -= facet[0] * self.facets.grid.side
        steps = (np.arange(-half * _PARTS, half * _PARTS + 1)) / _PARTS
        at_y, at_x = (axis.ravel() for axis in np.meshgrid(y + steps, x + steps, indexing="ij"))
        seen = np.flatnonzero(frame.on_sky(at_x, at_y))
        numbers = np.unique(numbers_at(frame.vectors(at_x[seen], at_y[seen]), order))
        of_x, of_y = frame.pixels(centres_of(numbers, order))
        rows, columns = places_of(numbers, self.sky.nside)
        return Near(rows, columns, of_y - y, of_x - x)

    def in_pixels(self, places: Floats) -> Floats:
        return places / pixel_of(self.sky.nside)

    def write(self, path: Path, box: Box, planes: Planes, unit: str) -> None:
        rows, columns = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
        used = planes["mask"] > 0 if "mask" in planes else np.ones(box.shape, bool)
        numbers = numbers_in(rows[used], columns[used], self.sky.nside)
        order = np.argsort(numbers)
        hdus: list[Any] = [fits.PrimaryHDU()]
        for name, pixels in planes.items():
            if name == "mask":
                continue
            values = pixels[used][order]
            kind = {"i": "J", "f": "E"}[values.dtype.kind] if values.dtype.itemsize == 4 else "D"
            of_value = fits.Column("VALUE", kind, unit=unit if name == "exposure" else None, array=values)
            hdu = fits.BinTableHDU.from_columns([fits.Column("PIX", "K", array=numbers[order]), of_value], name=name)
            hdu.header.update(fits.Header.fromstring(self.sky.header_text, sep="\n"))
            hdu.header["INDXSCHM"] = "EXPLICIT"
            hdus.append(hdu)
        fits.HDUList(hdus).writeto(path)

    def _in_facets(self, places: Floats) -> tuple[Ints, Floats, Floats]:
        """Facets that own places, and rows and columns in the stack of all images."""
        grid, found = self.facets.grid, self.facets.facets_of(places)
        y, x = np.full((2, len(places)), np.nan)
        for facet in np.unique(found[found >= 0]):
            here = found == facet
            x[here], y[here] = grid.frame(int(facet)).pixels(places[here])
            y[here] += facet * grid.side
        return found, y, x


def chart_of(run: SurveyRun) -> Chart:
    """The chart of a run's survey."""
    text = run.survey.header_text
    if (sky := SkyImage.of_text(text)) is not None:
        return _SphereChart(sky, run.wcs)
    return _FlatChart(run.wcs, text, run.stored.plan.grid.width if run.stored.plan.grid.ring else 0)
