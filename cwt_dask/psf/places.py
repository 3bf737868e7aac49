"""Where on the sky which of several profiles holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwt_dask.cwt.arrays import Floats, Ints


@dataclass(frozen=True, eq=False)
class Places:
    """Where profiles hold: each about a direction, the nearest one counts; or at offsets from one direction.

    Between offsets profiles are mixed linearly; beyond the last one it is that.
    """

    # Directions (node, 3), of length 1 in ICRS; of offsets the one that they are taken from, (1, 3).
    towards: Floats
    offsets: Floats | None = None  # Rising, in degrees (node,).

    @classmethod
    def around(cls, lon: Floats, lat: Floats, offsets: Floats | None = None) -> Places:
        """Make them of positions.

        Parameters
        ----------
        lon, lat : ndarray
            Right ascensions and declinations in degrees, (node,).
        offsets : ndarray, optional
            As of the class.
        """
        return cls(unit_vectors(lon, lat), offsets)

    def distance(self, other: Places) -> float:
        """Degrees from the first direction to the first one of others."""
        return float(_distances(self.towards[:1], other.towards[:1])[0])

    def of(self, directions: Floats) -> tuple[Ints, Ints, Floats]:
        """Which two profiles hold in directions (n, 3), and the share of the second, (n,) each."""
        if self.offsets is None:
            from scipy.spatial import cKDTree  # noqa: PLC0415 - it takes longer to load than most calls need

            nearest = np.asarray(cKDTree(self.towards).query(directions)[1], np.int64)
            return nearest, nearest, np.zeros(len(nearest))
        position = np.interp(_distances(directions, self.towards), self.offsets, np.arange(len(self.offsets)))
        first = np.floor(position).astype(np.int64)
        return first, np.minimum(first + 1, len(self.offsets) - 1), position - first


def _distances(one: Floats, other: Floats) -> Floats:
    chords = np.linalg.norm(one - other, axis=1)
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(chords / 2, 0, 1))))


def unit_vectors(lon: Floats, lat: Floats) -> Floats:
    """Directions (n, 3) of longitudes and latitudes in degrees."""
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
