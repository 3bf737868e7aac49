"""The sky on a map: lines of coordinates, directions that the page interpolates, and the shape of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.wcs import WCS

# Spacings of lines in degrees, the widest first.
STEPS = (45.0, 30.0, 20.0, *(step * 10.0**power for power in range(1, -4, -1) for step in (1.0, 0.5, 0.2)))
# Number of lines over the map: fewer are too coarse for a view of the whole, more are of no use.
FEWEST, MOST = 4, 150
# Points along a line, and how far it may be from one drawn through fewer, over the map's longer side.
POINTS, STRAIGHT = 1001, 2e-4
DIRECTIONS = 96
# Positions along each axis at which the shape of pixels is measured; ratio of their sides that is worth a warning.
SHAPES, STRETCHED = 41, 2**0.5
CYLINDRICAL = ("CAR", "CEA", "MER", "CYP")

NAMES = {
    "GLON": ("Galactic longitude", "l", "Galactic latitude", "b"),
    "RA--": ("Right ascension", "RA", "Declination", "Dec"),
    "ELON": ("Ecliptic longitude", "λ", "Ecliptic latitude", "β"),
}


class Line(NamedTuple):
    """A piece of a line of equal longitude or latitude."""

    label: str  # Its degrees.
    # Pixels of the map.
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class SkyGrid:
    """Coordinates over a map."""

    # Names of the coordinates, in full and in short.
    longitude: str
    lon: str
    latitude: str
    lat: str
    # The widest spacing first, each finer.
    meridians: list[list[Line]]
    parallels: list[list[Line]]
    # Pixels between which directions are interpolated.
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    directions: NDArray[np.float64]  # Unit vectors (y, x, 3) there; NaN off the sky.
    # Largest distance in degrees, in the middle of four of them, between their mean direction and the true one.
    error: float

    @classmethod
    def of(cls, wcs: WCS, shape: tuple[int, int]) -> SkyGrid:
        """Make those of a map of `shape` (rows, columns)."""
        sky = _Projection(wcs, shape)
        names = NAMES.get(wcs.wcs.ctype[wcs.wcs.lng][:4], ("Longitude", "lon", "Latitude", "lat"))
        y, x = (np.linspace(-0.5, length - 0.5, min(DIRECTIONS, 4 * length + 1)) for length in shape)
        lon, lat = _world(wcs, *np.meshgrid(x, y))
        directions = _directions(lon, lat)
        middle = _directions(*_world(wcs, *np.meshgrid((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)))
        west, east, south, north = _extent(sky, lon, lat)
        along_lat, along_lon = np.linspace(south, north, POINTS), np.linspace(west, east, POINTS)
        # Each spacing has lines of the one before.
        meridian = cache(lambda value: list(sky.pieces(np.full(POINTS, value), along_lat)))
        parallel = cache(lambda value: list(sky.pieces(along_lon, np.full(POINTS, value))))
        meridians = [
            [line for value in values for line in meridian(value)]
            for values in _values(west, east, closed=east - west >= 360)
        ]
        parallels = [[line for value in values for line in parallel(value)] for values in _values(south, north)]
        return cls(*names, meridians, parallels, x, y, directions, _error_between(directions, middle))


def _directions(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors of positions in degrees, along a last axis."""
    a, b = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)


def _error_between(directions: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    """Largest angle in degrees between the mean direction of four neighbours (y, x, 3) and the one in their middle."""
    total = directions[1:, 1:] + directions[1:, :-1] + directions[:-1, 1:] + directions[:-1, :-1]
    apart = np.linalg.norm(total / np.linalg.norm(total, axis=-1, keepdims=True) - middle, axis=-1)
    return float(np.degrees(np.max(apart, initial=0.0, where=np.isfinite(apart))))


def _world(wcs: WCS, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of pixels in degrees; NaN off the sky."""
    world = wcs.all_pix2world(x, y, 0)
    return world[wcs.wcs.lng], world[wcs.wcs.lat]


class _Projection:
    """A map's WCS, with longitude and latitude in this order."""

    def __init__(self, wcs: WCS, shape: tuple[int, int]) -> None:
        self.wcs, self.shape = wcs, shape

    def pixels(
        self, lon: NDArray[np.float64], lat: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels of positions; NaN where the map does not show them."""
        world: list[Any] = [lon, lat] if self.wcs.wcs.lng == 0 else [lat, lon]
        with np.errstate(all="ignore"):
            x, y = self.wcs.all_world2pix(*world, 0, quiet=True)
            back_lon, back_lat = _world(self.wcs, x, y)
            # Projections that show half a sky give the other half pixels, too.
            off = np.hypot(np.cos(np.radians(lat)) * ((back_lon - lon + 180) % 360 - 180), back_lat - lat)
            bad = ~(off < 1e-6)
        bad |= ~((x >= -0.5) & (x <= self.shape[1] - 0.5) & (y >= -0.5) & (y <= self.shape[0] - 0.5))
        return np.where(bad, np.nan, x), np.where(bad, np.nan, y)

    def pieces(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Iterator[Line]:
        """Parts of a line on the map: it is cut where it leaves the map, or jumps to the other side."""
        # Longitudes beyond the circle have the same label.
        value = lon[0] % 360 if lon[0] == lon[-1] else lat[0]
        x, y = self.pixels(lon, lat)
        step = np.hypot(np.diff(x), np.diff(y))
        there = step[np.isfinite(step)]
        if not there.size:
            return
        cut = ~(step <= 20 * max(float(np.median(there)), 1e-9))
        for piece in np.split(np.arange(len(x)), np.flatnonzero(cut) + 1):
            if len(piece) > 1:
                kept = _bends(x[piece], y[piece], STRAIGHT * max(self.shape))
                yield Line(_degrees(value), *(np.round(axis[piece][kept], 2).tolist() for axis in (x, y)))


def _degrees(value: float) -> str:
    """A multiple of a step, without digits that it does not need."""
    return f"{round(value, 6):g}".replace("-", "\N{MINUS SIGN}") + "°"


def _extent(sky: _Projection, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Range of longitudes, which may go beyond the circle, and latitudes on a map."""
    there = np.isfinite(lon)
    if not there.any():
        return 0.0, 0.0, 0.0, 0.0
    # A map's middle may be off the sky.
    middle = np.flatnonzero(there.ravel())[np.count_nonzero(there) // 2]
    from_middle = lon[there] - lon.ravel()[middle]
    around = (from_middle + 180) % 360 - 180
    west, east = float(around.min()), float(around.max())
    south, north = float(lat[there].min()), float(lat[there].max())
    for pole in (-90.0, 90.0):
        x, _ = sky.pixels(np.zeros(1), np.full(1, pole))
        if np.isfinite(x).any():
            south, north, west, east = min(south, pole), max(north, pole), -180.0, 180.0
    if east - west > 350:
        west, east = -180.0, 180.0
    return west + lon.ravel()[middle], east + lon.ravel()[middle], south, north


def _values(first: float, last: float, *, closed: bool = False) -> Iterator[list[float]]:
    """Multiples of ever smaller steps between two values; on a closed circle the last is the first again."""
    for step in STEPS:
        multiples = np.arange(np.ceil(first / step - 1e-9), np.floor(last / step + 1e-9) + 1)
        values = np.round(multiples * step, 9).tolist()
        if closed:
            values = values[: round(360 / step)]
        if FEWEST <= len(values) <= MOST:
            yield values


def _bends(x: NDArray[np.float64], y: NDArray[np.float64], tolerance: float) -> list[int]:
    """Points without which a line would be off by more than `tolerance` (Douglas and Peucker, 1973)."""
    kept, waiting = {0, len(x) - 1}, [(0, len(x) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        inner = slice(first + 1, last)
        along = x[last] - x[first], y[last] - y[first]
        length = max(float(np.hypot(*along)), 1e-12)
        off = np.abs((x[inner] - x[first]) * along[1] - (y[inner] - y[first]) * along[0]) / length
        farthest = int(np.argmax(off))
        if off[farthest] > tolerance:
            middle = first + 1 + farthest
            kept.add(middle)
            waiting += [(first, middle), (middle, last)]
    return sorted(kept)


def pixel_stretch(wcs: WCS, shape: tuple[int, int]) -> tuple[float, float]:
    """Compare the sides of pixels on the sky, by their ratio over that of the header's steps.

    Returns
    -------
    largest, share : float
        The largest ratio; the share of the map's pixels where it is above `STRETCHED`, as beyond a latitude of 45 deg
        of a plate carree.
    """
    y, x = (np.linspace(0, length - 1, SHAPES) for length in shape)
    ratio = _side(wcs, *np.meshgrid(x, y), 0.5, 0) / _side(wcs, *np.meshgrid(x, y), 0, 0.5)
    across, along = proj_plane_pixel_scales(wcs)
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)] * (along / across)
    ratio = np.maximum(ratio, 1 / ratio)
    return float(ratio.max(initial=1.0)), float(np.mean(ratio > STRETCHED)) if ratio.size else 0.0


def pixel_sizes(wcs: WCS, shape: tuple[int, int]) -> float:
    """Ratio of the largest to the smallest pixels of a cylindrical projection; 1 for others."""
    if wcs.wcs.ctype[0][5:8] not in CYLINDRICAL:
        return 1.0
    y = np.linspace(0, shape[0] - 1, SHAPES)
    x = np.full(SHAPES, (shape[1] - 1) / 2)
    size = np.sqrt(_side(wcs, x, y, 0.5, 0) * _side(wcs, x, y, 0, 0.5))
    size = size[np.isfinite(size) & (size > 0)]
    return float(size.max() / size.min()) if size.size else 1.0


def _side(wcs: WCS, x: NDArray[np.float64], y: NDArray[np.float64], dx: float, dy: float) -> NDArray[np.float64]:
    """Length of a pixel's side on the sky, in radians."""
    ends = (_directions(*_world(wcs, x + sign * dx, y + sign * dy)) for sign in (-1, 1))
    return np.asarray(np.linalg.norm(np.subtract(*ends), axis=-1), np.float64)
