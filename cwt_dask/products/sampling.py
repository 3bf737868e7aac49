"""Values of layers at positions on the sky, on flat maps and on the sphere alike: those of the pixels there.

On the sphere maps are read from the facet that owns a position, and the survey's layers from its own HEALPix pixels. No
value is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import Bools, Ints, numpys_own
from cwt_dask.errors import InputError
from cwt_dask.products.layers import Layer, layer_of
from cwt_dask.products.source import MapSource
from cwt_dask.storage.schema import maps_from, spec_of
from cwt_dask.survey.sphere import FacetSky, SkyImage
from cwt_dask.survey.wcs import frame_of

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import Table

# Positions of which pixels are found at once.
_AT_ONCE = 2**18


class Sampler:
    """Positions (n,) on the sky, and the pixels of a run that show them."""

    def __init__(self, run: MapSource, sky: SkyCoord) -> None:
        self.run, self.sky = run, sky
        self._found: dict[int, tuple[Bools, tuple[Ints, ...]]] = {}

    def values(self, layer: Layer) -> NDArray[Any]:
        """Read a layer: (n,), or (scale, n) of a cube, in its own type; 0 where it has no pixel."""
        if layer.parts:
            derived: NDArray[Any] = layer.derive(*map(self.values, layer.parts))
            return derived
        there, pixels = self.pixels(layer.n_axes)
        read = layer.at(tuple(index[there] for index in pixels))
        found = np.zeros((*read.shape[:-1], len(there)), read.dtype)
        found[..., there] = read
        return found

    def pixels(self, n_axes: int) -> tuple[Bools, tuple[Ints, ...]]:
        """Which positions (n,) have a pixel, and its indices (n,) along the axes of a layer; -1 where there is none.

        Parameters
        ----------
        n_axes : int
            As of `Layer`.
        """
        if n_axes not in self._found:
            wcs = self.run.wcs if n_axes > 2 or not self.run.survey.statistics.sphere else self.run.survey.wcs
            pixels = np.full((n_axes, len(self.sky)), -1)
            for start in range(0, len(self.sky), _AT_ONCE):
                here = slice(start, start + _AT_ONCE)
                pixels[:, here] = _pixels_at(self.run, wcs, self.sky[here])
            self._found[n_axes] = pixels[0] >= 0, tuple(pixels)
        return self._found[n_axes]


def _pixels_at(run: MapSource, wcs: Any, sky: SkyCoord) -> NDArray[np.int64]:
    if isinstance(wcs, FacetSky):
        return np.stack(wcs.pixels_of(wcs.vectors_of_sky(sky)))
    if isinstance(wcs, SkyImage):
        pixels = np.full((2, len(sky)), -1)
        # The library has no number for what is no position.
        known = np.isfinite(sky.spherical.lon.deg + sky.spherical.lat.deg)
        pixels[:, known] = wcs.world_to_pixel(sky[known])[::-1]
        return pixels
    x, y = (np.asarray(axis, np.float64) for axis in wcs.world_to_pixel(sky))
    rows, columns = run.survey.shape
    there = np.isfinite(x + y)
    pixels = np.full((2, len(x)), -1)
    pixels[:, there] = np.rint([y[there], x[there]])
    if run.survey.statistics.wraps:
        pixels[1] %= columns
    outside = ~there | (pixels < 0).any(axis=0) | (pixels[0] >= rows) | (pixels[1] >= columns)
    pixels[:, outside] = -1
    return pixels


class Positions:
    """Values of a run at positions: a part of `SurveyRun`."""

    @numpys_own
    def at(self: MapSource, lon: Any, lat: Any = None, names: Sequence[str] | None = None) -> Table:
        """Look up the survey and the maps at positions on the sky; only chunks with some of them are read.

        Values are those of the pixels that hold the positions. On the sphere maps are read from the facet that owns a
        position, and the survey's layers from its own HEALPix pixels.

        Parameters
        ----------
        lon : SkyCoord, float or array-like
            Positions in any frame; or longitudes in degrees, in the frame of the map.
        lat : float or array-like, optional
            Latitudes, where `lon` has longitudes.
        names : sequence of str, optional
            As `plot` has them; all of the survey and of `maps.zarr` by default, but for the history.

        Returns
        -------
        astropy.table.Table
            A row a position: ``lon`` and ``lat`` in the frame of the map, which is in ``meta["frame"]``; the pixel of
            the maps by its indices (``facet`` on the sphere, ``y``, ``x``); and each layer by name, of cubes a value a
            scale. What is not on the map is masked; masked pixels of it are 0, and so is their ``mask``.

        Raises
        ------
        InputError
            If these are no positions, or there is no such layer.

        Examples
        --------
        >>> import tempfile
        >>> from cwt_dask import run_survey
        >>> from cwt_dask.simulate import simulate
        >>> folder = tempfile.mkdtemp()
        >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
        >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
        >>> values = run.at([0.0, 1.5], [0.5, 0.0], names=["model", "support"])
        >>> values["support"].shape, bool(values["model"][0] == run.model[values["y"][0], values["x"][0]])
        ((2, 2), True)
        """
        from astropy.table import MaskedColumn, Table  # noqa: PLC0415 - a run does without

        frame = frame_of(self.wcs)
        sky = _positions(lon, lat, frame)
        sampler, grid = Sampler(self, sky), self.stored.plan.grid
        layers = [layer_of(self, name) for name in (_all_layers(self) if names is None else names)]
        there, pixels = sampler.pixels(len(grid.array_shape))
        table = Table({"lon": sky.spherical.lon.deg, "lat": sky.spherical.lat.deg}, units={"lon": "deg", "lat": "deg"})
        table.meta["frame"] = sky.frame.name
        for axis, index in zip(("facet", "y", "x")[-len(pixels) :], pixels, strict=True):
            table[axis] = MaskedColumn(index, mask=~there)
        units = {"exposure": self.survey.statistics.exposure_unit}
        for layer in layers:
            values = np.moveaxis(sampler.values(layer), -1, 0)
            outside = ~sampler.pixels(layer.n_axes)[0] | ~there
            mask = np.broadcast_to(outside.reshape(-1, *(1,) * (values.ndim - 1)), values.shape)
            unit = units.get(layer.name) or spec_of(layer.name).unit or None
            table[layer.name] = MaskedColumn(values, mask=mask.copy(), unit=unit)
        return table


def _positions(lon: Any, lat: Any, frame: Any) -> SkyCoord:
    from astropy.coordinates import SkyCoord  # noqa: PLC0415 - as above

    if isinstance(lon, SkyCoord) and lat is None:
        return lon.transform_to(frame).reshape(-1)
    given = f"lon is {shown(lon)}, lat is {shown(lat)}"
    try:
        # None would become NaN.
        lon, lat = (np.asarray(axis, np.float64) for axis in np.broadcast_arrays(lon, "none" if lat is None else lat))
        sky = SkyCoord(lon, lat, unit="deg", frame=frame).reshape(-1)
    except (ValueError, TypeError) as error:
        raise InputError(f"{given}: give a SkyCoord, or longitudes and latitudes in degrees") from error
    if not np.isfinite(lon + lat).all():
        raise InputError(f"{given}: give positions that are finite")
    return sky


def _all_layers(run: MapSource) -> list[str]:
    names = [spec.name for spec in maps_from("survey", "tile")]
    return [name for name in names if name != "exposure" or run.survey.exposure is not None]
