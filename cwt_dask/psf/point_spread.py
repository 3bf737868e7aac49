"""A point spread function on the pixels of a map.

It is kept as shares: how much of a point source lies within each of some radii. So shares are exact at these radii,
whatever the steps between them; the density follows as the mean of each ring.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from cwt_dask.config.settings import digest
from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.psf.places import Places, unit_vectors

if TYPE_CHECKING:
    from astropy.wcs import WCS

# What a Gaussian has within its width.
SHARE_OF_SIGMA = 1 - math.exp(-0.5)
# Points of a map, along each axis, at which a profile is looked up to see which there are.
_GRID_POINTS = 257
# Of a Gaussian: widths, and steps of radius, beyond which nothing is kept; 1e-11 lie outside.
_WIDEST, _STEPS = 7.0, 1400
# A kernel is summed over parts of pixels, so many along each axis; of the core, which goes so many pixels beyond the
# middle one, by parts of a share of the width.
_PARTS, _CORE, _FINE, _MOST_PARTS = 5, 9, 12.0, 61


@dataclass(frozen=True, eq=False)
class PointSpread:
    """A point spread function on the pixels of a map, normalised to 1.

    Parameters
    ----------
    kind : str
        What it was read as, such as Gaussian or psf_table.
    radius : ndarray
        Rising from 0, in pixels of the map's centre, (radius,).
    within : ndarray
        Share of a point source within each of them, (profile, radius).
    places : Places, optional
        Where which profile holds; without it there is one.
    wcs : astropy.wcs.WCS, optional
        Of the map; needed with places.
    image : ndarray, optional
        Where the shape is no function of the radius: an image (y, x) with odd sides and a sum of 1, centred.
    origin : str, optional
        Where it comes from, for people.
    files : tuple of dict, optional
        The file it was read from, as of `cwt_dask.storage.checksum.input_file`.

    Examples
    --------
    >>> from cwt_dask.psf import PointSpread
    >>> spread = PointSpread.gaussian(2.0)
    >>> print(spread.sigmas.round(6), spread.containment(2.0).round(6))
    [2.] 0.393469
    >>> spread.kernel(0, 0, 17).shape
    (17, 17)
    """

    kind: str
    radius: Floats
    within: Floats
    places: Places | None = None
    wcs: WCS | None = field(default=None, repr=False)
    image: Floats | None = field(default=None, repr=False)
    origin: str = ""
    files: tuple[dict[str, str], ...] = ()

    @classmethod
    def gaussian(cls, sigma: float) -> PointSpread:
        """Make one of the width of a Gaussian, in pixels."""
        scaled = np.linspace(0, _WIDEST, _STEPS + 1)
        return cls("Gaussian", scaled * sigma, -np.expm1(-(scaled[np.newaxis] ** 2) / 2))

    @classmethod
    def of_image(cls, image: Floats) -> PointSpread:
        """Make one of an image (y, x) with odd sides, centred; it is normalised."""
        image = image / image.sum()
        y, x = (np.arange(length) - length // 2 for length in image.shape)
        distance, ring = np.unique(np.add.outer(y**2, x**2), return_inverse=True)
        n_pixels = np.bincount(ring.ravel(), minlength=len(distance)).cumsum()
        shares = np.bincount(ring.ravel(), image.ravel(), minlength=len(distance)).cumsum()
        # Pixels with centres within a radius have together the area of this circle.
        radius = np.sqrt(n_pixels / np.pi)
        return cls("image", np.append(0.0, radius), np.append(0.0, shares)[np.newaxis], image=image)

    def containment(self, radius: ArrayLike, x: ArrayLike = 0.0, y: ArrayLike = 0.0) -> Floats:
        """Share of a point source within radii.

        Parameters
        ----------
        radius : array-like
            In pixels.
        x, y : array-like, optional
            Where the source is: columns and rows of the map, from 0.

        Returns
        -------
        ndarray
            Shares, in the shape that the three have together.
        """
        radius, x, y = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (radius, x, y)))
        first, second, part = (each.reshape(radius.shape) for each in self._profiles(x.ravel(), y.ravel()))
        total = np.zeros(radius.shape)
        for nodes, parts in ((first, 1 - part), (second, part)):
            for node in np.unique(nodes):
                shares = np.interp(radius**2, self.radius**2, self.within[node])
                total += np.where(nodes == node, parts * shares, 0.0)
        return total

    def profile(self, x: float = 0.0, y: float = 0.0) -> tuple[Floats, Floats]:
        """Density by radius, for a source at column `x` and row `y`.

        Returns
        -------
        radius, density : ndarray
            In pixels and per pixel: means of rings at radii halfway across their areas.
        """
        return self._density(self._within(x, y))

    def profile_of(self, node: int) -> tuple[Floats, Floats]:
        """Density by radius, as of `profile`, of one of the profiles."""
        return self._density(self.within[node])

    def kernel(self, x: float = 0.0, y: float = 0.0, size: int = 1) -> Floats:
        """Expected share of a source at the centre of a pixel, by pixel around it.

        Parameters
        ----------
        x, y : float
            Where the source is: column and row of the map.
        size : int
            Side in pixels, odd.

        Returns
        -------
        ndarray
            (size, size); its sum is the share of the source in it.
        """
        half = size // 2
        if self.image is not None:
            reach = max(half, *(length // 2 for length in self.image.shape))
            whole = np.pad(self.image, [(reach - length // 2,) * 2 for length in self.image.shape])
        else:
            reach = max(half, _CORE)
            whole = self._summed(x, y, reach, _PARTS)
            core = slice(reach - _CORE, reach + _CORE + 1)
            whole[core, core] = self._summed(x, y, _CORE, max(_PARTS, min(math.ceil(_FINE / self.sigma), _MOST_PARTS)))
        return whole[reach - half : reach + half + 1, reach - half : reach + half + 1]

    def _summed(self, x: float, y: float, reach: int, parts: int) -> Floats:
        """Sum over so many parts of pixels, along each axis; `reach` is how many pixels lie beyond the middle one."""
        side = 2 * reach + 1
        along = (np.arange(side * parts) + 0.5) / parts - 0.5 - reach
        distance = np.hypot.outer(along, along)
        radius, density = self.profile(x, y)
        fine = np.interp(distance, radius, density, right=0.0)
        # Where the profile is steep, parts are coarse: what the largest circle inside holds is known.
        within = np.interp((reach + 0.5) ** 2, self.radius**2, self._within(x, y))
        fine *= within / fine[distance <= reach + 0.5].sum()
        return np.asarray(fine.reshape(side, parts, side, parts).sum(axis=(1, 3)))

    def on_map(self, shape: tuple[int, int]) -> PointSpread:
        """Leave out profiles that hold nowhere on a map of so many rows and columns."""
        if self.places is None or self.places.offsets is not None:
            return self
        used = np.unique(self._on_grid(shape)[0])
        return replace(self, within=self.within[used], places=Places(self.places.towards[used]))

    def sigmas_on(self, shape: tuple[int, int]) -> Floats:
        """Widths, as of `sigmas`, at points all over a map of so many rows and columns, (point,)."""
        first, second, part = self._on_grid(shape)
        return np.asarray((1 - part) * self.sigmas[first] + part * self.sigmas[second])

    def nearest(self, x: Floats, y: Floats) -> Ints:
        """Which profile holds, or nearly does, at columns and rows of the map, (n,)."""
        first, second, part = self._profiles(x, y)
        return np.where(part > 0.5, second, first)

    @cached_property
    def sigmas(self) -> Floats:
        """Widths of the profiles in pixels: radii of circles that hold what a Gaussian's holds within its sigma."""
        squared = self.radius**2
        return np.array([np.sqrt(np.interp(SHARE_OF_SIGMA, within, squared)) for within in self.within])

    @property
    def sigma(self) -> float:
        """The smallest of `sigmas`, in pixels."""
        return float(self.sigmas.min())

    @cached_property
    def content(self) -> dict[str, Any]:
        """All of it but the WCS, as JSON can hold it."""
        places = self.places
        arrays = {"radius": self.radius, "within": self.within, "image": self.image}
        arrays |= {} if places is None else {"towards": places.towards, "offsets": places.offsets}
        return {"kind": self.kind} | {name: _encoded(array) for name, array in arrays.items() if array is not None}

    @property
    def setting(self) -> float | str:
        """What resolved settings have of it: the width of a Gaussian in pixels, or a name that equal ones share."""
        if self.kind == "Gaussian":
            return float(f"{self.radius[-1] / _WIDEST:.9g}")
        return f"{self.kind} sha256:{digest(self.content)}"

    @classmethod
    def from_content(cls, content: Mapping[str, Any], wcs: WCS | None) -> PointSpread:
        """Make it again of `content`, on a map of this WCS."""
        arrays = {name: _decoded(array) for name, array in content.items() if name != "kind"}
        places = Places(arrays["towards"], arrays.get("offsets")) if "towards" in arrays else None
        return cls(str(content["kind"]), arrays["radius"], arrays["within"], places, wcs, arrays.get("image"))

    def _within(self, x: float, y: float) -> Floats:
        first, second, part = (each[0] for each in self._profiles(np.array([x]), np.array([y])))
        return np.asarray((1 - part) * self.within[first] + part * self.within[second])

    def _density(self, within: Floats) -> tuple[Floats, Floats]:
        squared = self.radius**2
        return np.sqrt((squared[:-1] + squared[1:]) / 2), np.diff(within) / (np.pi * np.diff(squared))

    def _on_grid(self, shape: tuple[int, int]) -> tuple[Ints, Ints, Floats]:
        y, x = (np.linspace(0, length - 1, min(length, _GRID_POINTS)) for length in shape)
        x, y = np.meshgrid(x, y)
        return self._profiles(x.ravel(), y.ravel())

    def _profiles(self, x: Floats, y: Floats) -> tuple[Ints, Ints, Floats]:
        """Which two profiles hold at pixels, and the share of the second; the first one where there is no sky."""
        first, second, part = np.zeros(len(x), np.int64), np.zeros(len(x), np.int64), np.zeros(len(x))
        if self.places is not None and self.wcs is not None:
            sky = self.wcs.pixel_to_world(x, y).icrs
            there = np.isfinite(sky.ra.deg)
            directions = unit_vectors(sky.ra.deg[there], sky.dec.deg[there])
            first[there], second[there], part[there] = self.places.of(directions)
        return first, second, part


def _encoded(array: Floats) -> dict[str, Any]:
    # float32: digits beyond it differ from machine to machine, and decide nothing.
    raw = np.ascontiguousarray(array, "<f4").tobytes()
    return {"shape": list(array.shape), "float32": base64.b64encode(raw).decode()}


def _decoded(array: Mapping[str, Any]) -> Floats:
    return np.frombuffer(base64.b64decode(array["float32"]), "<f4").reshape(array["shape"]).astype(np.float64)
