"""Pixels of the sphere by HEALPix: their numbers, their centres, and the image that a whole sky is kept as.

Numbers are of the NESTED scheme. The image of a sky has the twelve base cells one above the other, each as nside x
nside pixels along its two edges: neighbours on the sky are neighbours in the image, but for the edges of base cells.
Positions are unit vectors, shape (..., 3), in the frame of the map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Floats, Ints

N_BASE = 12
# Finer pixels have no number in 64 bits that the library takes.
MOST_ORDER = 29
# Degrees.
_MOST_SEARCHED = 90.0


def order_of(nside: int) -> int:
    """Order of maps with 2**order pixels along the edge of a base cell.

    Raises ValueError if `nside` is no power of two, or too large.
    """
    order = nside.bit_length() - 1
    if nside < 1 or nside != 1 << order or order > MOST_ORDER:
        raise ValueError(f"nside is {nside}: it must be a power of two, at most 2**{MOST_ORDER}")
    return order


def numbers_in(rows: NDArray[Any], columns: NDArray[Any], nside: int) -> Ints:
    """Numbers of the pixels of a sky's image.

    Parameters
    ----------
    rows, columns : ndarray
        Of the image, which broadcast.
    nside : int
        Of the map.
    """
    base, y = np.divmod(np.asarray(rows, np.int64), nside)
    return np.asarray(base * nside * nside + (_spread(np.asarray(columns, np.int64)) | _spread(y) << 1))


def places_of(numbers: NDArray[Any], nside: int) -> tuple[Ints, Ints]:
    """Rows and columns, in the image of a sky, of pixels by their numbers."""
    base, inside = np.divmod(np.asarray(numbers, np.int64), nside * nside)
    return np.asarray(base * nside + _gathered(inside >> 1)), _gathered(inside)


def centres_of(numbers: NDArray[Any], order: int) -> Floats:
    """Unit vectors (n, 3) of the centres of pixels."""
    from cdshealpix.nested import healpix_to_lonlat  # noqa: PLC0415 - maps of the plane do without

    lon, lat = healpix_to_lonlat(np.asarray(numbers, np.uint64), order, num_threads=1)
    return vectors_of(lon.rad, lat.rad)


def numbers_at(vectors: Floats, order: int) -> Ints:
    """Numbers of the pixels in which unit vectors (n, 3) lie."""
    lon, lat = _angles(vectors)
    return number_of(lon, lat, order)


def number_of(lon: Any, lat: Any, order: int) -> Ints:
    """Numbers of the pixels in which positions lie.

    Parameters
    ----------
    lon, lat : Longitude, Latitude
        Of astropy, in the frame of the map.
    order : int
        Of the map.
    """
    from cdshealpix.nested import lonlat_to_healpix  # noqa: PLC0415 - as above

    return np.asarray(lonlat_to_healpix(lon, lat, order, num_threads=1), np.int64)


def interpolation_at(lon: Any, lat: Any, order: int) -> tuple[Ints, Floats]:
    """Numbers (n, 4) of the pixels between whose centres positions lie, and their weights there.

    Parameters
    ----------
    lon, lat : Longitude, Latitude
        As of `number_of`.
    order : int
        Of the map.
    """
    from cdshealpix.nested import bilinear_interpolation  # noqa: PLC0415 - as above

    numbers, weights = bilinear_interpolation(lon, lat, order, num_threads=1)
    # At the eight corners of three pixels one is lacking.
    lacking = np.ma.getmaskarray(weights) | np.ma.getmaskarray(numbers)
    return np.where(lacking, 0, np.ma.getdata(numbers)).astype(np.int64), np.where(lacking, 0.0, np.ma.getdata(weights))


def pixels_about(lon: float, lat: float, radius: float, order: int, *, by_centre: bool) -> Ints:
    """Numbers of the pixels with their centre, or any part, in a circle on the sphere; ascending.

    Parameters
    ----------
    lon, lat, radius : float
        Of its centre, and how far it reaches, in degrees.
    order : int
        Of the map.
    by_centre : bool
        Whether their centre must be in it.
    """
    from astropy.coordinates import Angle, Latitude, Longitude  # noqa: PLC0415 - as above
    from cdshealpix.nested import cone_search  # noqa: PLC0415 - as above

    if radius <= _MOST_SEARCHED:
        circle = Longitude(lon, "deg"), Latitude(lat, "deg"), Angle(radius, "deg")
        found = np.sort(np.asarray(cone_search(*circle, order, flat=True)[0], np.int64))
    else:
        # Of circles near to the whole sky the library leaves out a sixth.
        found = np.arange(N_BASE << 2 * order)
    centre, least = vectors_of(np.radians(np.array(lon)), np.radians(np.array(lat))), np.cos(np.radians(radius))
    inside = centres_of(found, order) @ centre >= least
    if not by_centre:
        # The library finds some that only come near.
        beside = found[~inside]
        touched = (edges_of(beside, order) @ centre >= least).any(axis=1)
        inside[~inside] = touched | (beside == numbers_at(centre[np.newaxis], order))
    return np.asarray(found[inside])


def edges_of(numbers: NDArray[Any], order: int, step: int = 16) -> Floats:
    """Unit vectors (n, 4 * step, 3) along the edges of pixels.

    Parameters
    ----------
    numbers : ndarray
        Of the pixels, (n,).
    order : int
        Of the map.
    step : int
        Points along each edge.
    """
    from cdshealpix.nested import vertices  # noqa: PLC0415 - as above

    lon, lat = vertices(np.asarray(numbers, np.uint64), order, step=step, num_threads=1)
    return vectors_of(lon.rad, lat.rad)


def nested_of(ring: NDArray[Any], order: int) -> Ints:
    """Numbers in the NESTED scheme of those of the RING scheme."""
    from cdshealpix import from_ring  # noqa: PLC0415 - as above

    return np.asarray(from_ring(np.asarray(ring, np.uint64), order, num_threads=1), np.int64)


def ring_of(nested: NDArray[Any], order: int) -> Ints:
    """Numbers in the RING scheme of those of the NESTED scheme."""
    from cdshealpix import to_ring  # noqa: PLC0415 - as above

    return np.asarray(to_ring(np.asarray(nested, np.uint64), order, num_threads=1), np.int64)


def vectors_of(lon: NDArray[Any], lat: NDArray[Any]) -> Floats:
    """Unit vectors (..., 3) of longitudes and latitudes in radians."""
    across = np.cos(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), np.sin(lat)], axis=-1)


def axes_at(vectors: Floats) -> tuple[Floats, Floats]:
    """Unit vectors (..., 3) towards east and towards north at others, none of which is a pole."""
    east = np.stack([-vectors[..., 1], vectors[..., 0], np.zeros(vectors.shape[:-1])], axis=-1)
    east /= np.linalg.norm(east, axis=-1, keepdims=True)
    return east, np.cross(vectors, east)


def beside(vectors: Floats, east: Floats, north: Floats, pixel: float) -> Floats:
    """Unit vectors (n, 3) at some distance from others.

    Parameters
    ----------
    vectors : ndarray
        (n, 3), none of which is a pole.
    east, north : ndarray
        Sines of the distances, in those of a pixel, (n,).
    pixel : float
        Sine of a pixel.
    """
    a, b = east * pixel, north * pixel
    along = (vectors, *axes_at(vectors))
    parts = (np.sqrt(np.maximum(1.0 - a * a - b * b, 0.0)), a, b)
    return np.asarray(sum(part[:, np.newaxis] * axis for part, axis in zip(parts, along, strict=True)))


def lon_lat_of(vectors: Floats) -> tuple[Floats, Floats]:
    """Longitudes, from 0 to 360, and latitudes of vectors (..., 3), in degrees."""
    x, y, z = np.moveaxis(np.asarray(vectors), -1, 0)
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _angles(vectors: Floats) -> Any:
    from astropy.coordinates import Latitude, Longitude  # noqa: PLC0415 - geometry does without, but for the library

    lon, lat = lon_lat_of(vectors)
    return Longitude(lon, "deg", copy=False), Latitude(lat, "deg", copy=False)


# Steps by which bits move apart, each half as far, and what is left of them.
_STEPS = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def _spread(values: Ints) -> Ints:
    """Put a zero between any two bits."""
    for by, kept in _STEPS:
        values = (values | values << by) & kept
    return values


def _gathered(values: Ints) -> Ints:
    """Drop every second bit."""
    values = values & _STEPS[-1][1]
    for (by, _), (_, kept) in zip(reversed(_STEPS), (*reversed(_STEPS[:-1]), (0, 0x00000000FFFFFFFF)), strict=True):
        values = (values | values >> by) & kept
    return np.asarray(values)
