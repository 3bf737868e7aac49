"""The sky coordinates of maps of the sphere: of the image that a whole sky is kept as, and of facets.

Both do what the package asks of astropy's WCS of a flat map: positions of pixels, and pixels of positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.geometry.facets import FacetGrid, pixel_of
from cwt_dask.geometry.healpix import (
    N_BASE,
    centres_of,
    lon_lat_of,
    numbers_at,
    numbers_in,
    order_of,
    places_of,
    vectors_of,
)

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

# Frames by what files call them, and what FITS calls their coordinates.
FRAMES = {"GAL": "galactic", "G": "galactic", "CEL": "icrs", "C": "icrs", "EQU": "icrs"}
_AXES = {"galactic": ("GLON", "GLAT"), "icrs": ("RA--", "DEC-")}


# The plane of a survey that was taken to the sphere: how much sky each pixel got, in pixels of its size.
AREA = "area"
# And how far the mean place of what it got is from its centre, to the east and to the north, in pixels.
ASIDE = "east", "north"
# Order of the cells by which it is kept which parts of the sky a survey has.
COVERED_ORDER = 4


@dataclass(frozen=True)
class Sphere:
    """What a survey of the sphere covers."""

    nside: int  # Of its map.
    covered: tuple[int, ...] = ()  # Numbers of the cells, of `COVERED_ORDER` at most, that it has pixels in.

    @property
    def order(self) -> int:
        """Of the cells in `covered`."""
        return min(COVERED_ORDER, order_of(self.nside))

    def cells_of(self, order: int) -> list[int]:
        """Numbers of the cells of an order that the survey has pixels in, or may have; ascending."""
        if order <= self.order:
            return sorted({cell >> 2 * (self.order - order) for cell in self.covered})
        finer = 4 ** (order - self.order)
        return [cell * finer + part for cell in self.covered for part in range(finer)]


def covered_by(used: Bools, first: int, nside: int) -> set[int]:
    """Numbers of the cells, as of `Sphere`, of the used pixels in rows of the image of a sky.

    Parameters
    ----------
    used : ndarray of bool
        Rows (y, x), all of one row of cells or less.
    first : int
        Number of the first row.
    nside : int
        Of the map.
    """
    order = Sphere(nside).order
    size = nside >> order
    rows = np.arange(first, first + len(used)) // size
    by_column = used.reshape(len(used), -1, size).any(axis=2)
    y, x = np.nonzero(by_column)
    return set(numbers_in(rows[y], x, 1 << order).tolist())


class OnSphere(ABC):
    """Positions on the sky of pixels, x being a column and y a row of all; `frame` is astropy's name of theirs."""

    frame: str

    @abstractmethod
    def vectors(self, x: Floats, y: Floats) -> Floats:
        """Unit vectors (n, 3) in the map's frame; NaN where a pixel is not on the sky."""

    def all_pix2world(self, x: Any, y: Any, _origin: int) -> tuple[Floats, Floats]:
        """Longitudes and latitudes in degrees, NaN off the sky, as astropy's WCS gives them.

        Parameters
        ----------
        x, y : array-like
            Columns and rows, from 0.
        """
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        lon, lat = lon_lat_of(self.vectors(x.ravel(), y.ravel()))
        return lon.reshape(x.shape), lat.reshape(x.shape)

    def pixel_to_world(self, x: Any, y: Any) -> SkyCoord:
        """Positions on the sky."""
        from astropy.coordinates import SkyCoord  # noqa: PLC0415 - tiles do without

        return SkyCoord(*self.all_pix2world(x, y, 0), unit="deg", frame=self.frame)

    def vectors_of_sky(self, sky: SkyCoord) -> Floats:
        """Unit vectors (n, 3) of positions in the map's frame."""
        there = sky.transform_to(self.frame)
        lon, lat = there.spherical.lon.rad, there.spherical.lat.rad
        return vectors_of(np.atleast_1d(lon), np.atleast_1d(lat))


@dataclass(frozen=True)
class SkyImage(OnSphere):
    """The image that a whole sky is kept as: see `cwt_dask.geometry.healpix`."""

    nside: int
    frame: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return N_BASE * self.nside, self.nside

    @property
    def pixel_deg(self) -> float:
        """Size of a pixel: the root of its solid angle, in degrees, to six digits as of flat maps."""
        return float(f"{np.degrees(pixel_of(self.nside)):.6g}")

    @property
    def header_text(self) -> str:
        """Cards that say what it is, one a line."""
        cards = (
            ("PIXTYPE", "HEALPIX"),
            ("ORDERING", "NESTED"),
            ("NSIDE", self.nside),
            ("COORDSYS", "GAL" if self.frame == "galactic" else "CEL"),
        )
        return "\n".join(fits.Card(*card).image.rstrip() for card in cards)

    @classmethod
    def of_text(cls, text: str) -> SkyImage | None:
        """Read its cards; None of those of a flat map."""
        if "PIXTYPE" not in text:
            return None
        header = fits.Header.fromstring(text, sep="\n")
        return cls(int(header["NSIDE"]), FRAMES[header["COORDSYS"]])

    def vectors(self, x: Floats, y: Floats) -> Floats:
        """Unit vectors (n, 3) of the centres of the nearest pixels."""
        rows = np.clip(np.rint(y), 0, self.shape[0] - 1).astype(np.int64)
        columns = np.clip(np.rint(x), 0, self.shape[1] - 1).astype(np.int64)
        return centres_of(numbers_in(rows, columns, self.nside), order_of(self.nside))

    def of_numbers(self, numbers: Ints) -> SkyCoord:
        """Centres of pixels by their numbers."""
        from astropy.coordinates import SkyCoord  # noqa: PLC0415 - as above

        lon, lat = lon_lat_of(centres_of(numbers, order_of(self.nside)))
        return SkyCoord(lon, lat, unit="deg", frame=self.frame)

    def world_to_pixel(self, sky: SkyCoord) -> tuple[Ints, Ints]:
        """Columns and rows of the pixels that hold positions."""
        rows, columns = places_of(numbers_at(self.vectors_of_sky(sky), order_of(self.nside)), self.nside)
        return columns, rows


@dataclass(frozen=True)
class FacetSky(OnSphere):
    """The images of all facets, one above the other: see `cwt_dask.geometry.facets`."""

    grid: FacetGrid
    frame: str

    def vectors(self, x: Floats, y: Floats) -> Floats:
        """Unit vectors (n, 3), NaN where a position lies beyond the sky, or in no facet."""
        side = self.grid.side
        found = np.full((len(x), 3), np.nan)
        facets = np.floor((y + 0.5) / side)
        inside = np.isfinite(x + y) & (facets >= 0) & (facets < self.grid.n_tiles)
        for facet in np.unique(facets[inside]).astype(int):
            here = inside & (facets == facet)
            found[here] = self.grid.frame(facet).vectors(x[here], y[here] - facet * side)
        return found

    def world_to_pixel(self, sky: SkyCoord) -> tuple[Floats, Floats]:
        """Columns and rows of positions in the facets that own them; NaN where none does."""
        vectors = self.vectors_of_sky(sky)
        facets = self.facets_of(vectors)
        x, y = np.full(len(vectors), np.nan), np.full(len(vectors), np.nan)
        for facet in np.unique(facets[facets >= 0]):
            here = facets == facet
            x[here], y[here] = self.grid.frame(facet).pixels(vectors[here])
            y[here] += facet * self.grid.side
        return x, y

    def pixels_of(self, vectors: Floats) -> tuple[Ints, Ints, Ints]:
        """Facets, rows and columns of the published pixels nearest to unit vectors (n, 3), in the facets that own them.

        A facet publishes the pixels with a centre in its cell. Of a position next to the border the nearest pixel may
        have its centre beyond, where no map says anything. All are -1 where no facet owns a position.
        """
        facets = self.facets_of(vectors)
        rows, columns = np.full((2, len(vectors)), -1)
        for facet in np.unique(facets[facets >= 0]):
            here = np.flatnonzero(facets == facet)
            x, y = self.grid.frame(facet).pixels(vectors[here])
            rows[here], columns[here] = self._published(int(facet), y, x)
        return facets, rows, columns

    def _published(self, facet: int, y: Floats, x: Floats) -> tuple[Ints, Ints]:
        """Rows and columns of the nearest pixels that a facet publishes, of positions (n,) in its cell."""
        rows, columns = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
        beyond = np.flatnonzero(~self._is_published(facet, rows, columns))
        if beyond.size:
            dy, dx = (offsets.ravel() for offsets in np.indices((5, 5)) - 2)
            near_rows, near_columns = rows[beyond, np.newaxis] + dy, columns[beyond, np.newaxis] + dx
            apart = np.hypot(near_rows - y[beyond, np.newaxis], near_columns - x[beyond, np.newaxis])
            apart[~self._is_published(facet, near_rows, near_columns)] = np.inf
            nearest = np.arange(len(beyond)), apart.argmin(axis=1)
            rows[beyond], columns[beyond] = near_rows[nearest], near_columns[nearest]
        return rows, columns

    def _is_published(self, facet: int, rows: Ints, columns: Ints) -> Bools:
        vectors = self.grid.frame(facet).vectors(columns.astype(np.float64), rows.astype(np.float64))
        cells = self.grid.cells_at(vectors.reshape(-1, 3)).reshape(rows.shape)
        return np.asarray(cells == self.grid.cells[facet])

    def facets_of(self, vectors: Floats) -> Ints:
        """Numbers of the facets in whose cells unit vectors (n, 3) lie; -1 where a cell is none."""
        cells = np.array(self.grid.cells)
        found = np.zeros(len(vectors), np.int64) - 1
        known = np.isfinite(vectors).all(axis=1)
        wanted = self.grid.cells_at(vectors[known])
        places = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        found[known] = np.where(cells[places] == wanted, places, -1)
        return found

    def header_of(self, facet: int) -> fits.Header:
        """FITS WCS of the image of a facet."""
        frame = self.grid.frame(facet)
        lon, lat = (float(value) for value in lon_lat_of(frame.centre))
        c, s, step = np.cos(frame.turn), np.sin(frame.turn), float(np.degrees(frame.pixel))
        # Columns count on westwards where rows count on northwards.
        cards: dict[str, Any] = {f"CTYPE{n}": f"{axis}-ZEA" for n, axis in enumerate(axes_of(self.frame), 1)}
        cards |= {"CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": lon, "CRVAL2": lat}
        cards |= {"CRPIX1": frame.x + 1, "CRPIX2": frame.y + 1}
        cards |= {"CD1_1": -c * step, "CD1_2": s * step, "CD2_1": s * step, "CD2_2": c * step}
        cards |= {"LONPOLE": 180.0, "RADESYS": "ICRS"} if self.frame == "icrs" else {"LONPOLE": 180.0}
        return fits.Header(cards.items())


def axes_of(frame: str) -> tuple[str, str]:
    """What FITS calls the coordinates of a frame, as CTYPE begins."""
    return _AXES[frame]


def is_on_sphere(wcs: Any) -> bool:
    """Whether these are sky coordinates of the sphere, not of a flat map."""
    return isinstance(wcs, OnSphere)
