"""Rectangles of a run's maps and survey by sky position, as FITS and as maps of Gammapy; all of it in xarray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError
from cwt_dask.geometry.healpix import N_BASE
from cwt_dask.products.files import SMALL_MAP_PIXELS, map_hdu
from cwt_dask.products.labelled import dataset_of
from cwt_dask.products.layers import Layer, layer_of
from cwt_dask.products.sampling import Sampler
from cwt_dask.products.source import MapSource
from cwt_dask.products.views import View, view_of
from cwt_dask.storage.schema import HISTORY, maps_in
from cwt_dask.survey.sphere import Sphere

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


class Cutouts:
    """Rectangles of a run: a part of `SurveyRun`."""

    @numpys_own
    def cutout(
        self: MapSource,
        center: SkyCoord | None,
        size: Any,
        filename: str | PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> Any:
        """Cut a rectangle out of the survey and its maps, as FITS; only chunks with pixels in it are read.

        Of the sphere it is for display: a plane about `center`, tangential up to 20 deg, else of equal area (ZEA), and
        the whole sky in the Mollweide projection where neither `center` nor `size` is given. A pixel shows that of the
        facet which owns its centre, or that of the survey's HEALPix map: some counts are in it twice, others not at
        all. A COMMENT in each header says so.

        Parameters
        ----------
        center : SkyCoord or None
            The middle, in any frame; that of the map where None, of the sphere longitude and latitude 0.
        size : Angle, Quantity or str
            Angular size such as ``"4 deg"``, one for a square, or (height, width). A rectangle may lie across the edge
            of a map with columns that close the circle.
        filename : path-like, optional
            File to write it to, too.
        overwrite : bool, optional
            Replace an existing file.

        Returns
        -------
        astropy.io.fits.HDUList
            Images COUNTS, BACKGROUND, EXPOSURE (if there is any), MODEL, APPROX, RESIDUAL, EXCESS_RESIDUAL,
            SIGNIFICANCE, SIGMA, MASK, TRUST and the cube SUPPORT, each with the WCS of the rectangle. Of a flat map it
            is a survey itself, too.

        Raises
        ------
        InputError
            If there is no such rectangle or it has more than `cwt_dask.products.files.SMALL_MAP_PIXELS` pixels, or the
            file exists or cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from cwt_dask import run_survey
        >>> from cwt_dask.simulate import simulate
        >>> folder = tempfile.mkdtemp()
        >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
        >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
        >>> cutout = run.cutout(None, ["1 deg", "2 deg"])
        >>> cutout["MODEL"].data.shape, cutout["EXPOSURE"].header["BUNIT"]
        ((10, 20), 'cm2 s')
        """
        view, images = _cut_out(self, center, size)
        scales = self.stored.plan.kernels.scales.tolist()
        units = {"exposure": self.survey.statistics.exposure_unit}
        hdus = (
            map_hdu(layer.name, pixels, view.header_text, scales, units.get(layer.name, "")) for layer, pixels in images
        )
        cutout = fits.HDUList([fits.PrimaryHDU(), *hdus])
        if filename is not None:
            try:
                cutout.writeto(filename, overwrite=overwrite)
            except OSError as error:
                raise InputError(f"{filename} is not written: {error}") from error
        return cutout

    @numpys_own
    def to_gammapy(
        self: MapSource, center: SkyCoord | None = None, size: Any = None, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Read images and cubes of the run as maps of Gammapy.

        Parameters
        ----------
        center : SkyCoord, optional
            The middle, in any frame; that of the map where not given.
        size : Angle, Quantity or str, optional
            Angular size as of `cutout`, and bounded as there; the whole map where neither it nor `center` is given, and
            of the sphere then all pixels of its HEALPix map.
        names : sequence of str, optional
            As `plot` has them; by default those of `cutout`.

        Returns
        -------
        dict of gammapy.maps.WcsNDMap or gammapy.maps.HpxNDMap
            By name, without units, since a count is one, but for the exposure. Cubes have an axis ``scale`` in pixels.
            Those of the whole sphere are HpxNDMap, NESTED.

        Raises
        ------
        InputError
            As `cutout`, or if Gammapy is not installed.

        Examples
        --------
        >>> maps = run.to_gammapy(center, "2 deg", names=["model", "support"])  # doctest: +SKIP
        >>> maps["support"].data.shape  # doctest: +SKIP
        (2, 20, 20)
        """
        sphere = self.survey.statistics.sphere if center is None and size is None else None
        try:
            # An extra; a module of this name may be no Gammapy.
            from gammapy.maps import HpxGeom, HpxNDMap, MapAxis, WcsGeom, WcsNDMap  # noqa: PLC0415

            if sphere:
                import healpy  # noqa: F401, PLC0415 - Gammapy's maps by HEALPix need it, and it does not bring it along
        except ImportError as error:
            needed = "Gammapy and healpy: pip install healpy" if sphere else "Gammapy: pip install"
            raise InputError(f"maps for Gammapy need {needed} 'cwt_dask[gammapy]'") from error
        if sphere:
            frame = self.survey.wcs.frame
            geom, kind = partial(HpxGeom, sphere.nside, nest=True, frame=frame), HpxNDMap
            images = _of_sphere(self, sphere, names)
        else:
            view, images = _cut_out(self, center, size, names)
            geom, kind = partial(WcsGeom, view.wcs, npix=view.shape[::-1]), WcsNDMap
        scales = MapAxis.from_nodes(self.stored.plan.kernels.scales, name="scale", unit="pix")
        made = {}
        for layer, pixels in images:
            axes = [scales] if layer.is_cube else []
            if layer.name == HISTORY:
                axes = [MapAxis.from_nodes(range(1, len(pixels) + 1), name="iteration")]
            unit = self.survey.statistics.exposure_unit if layer.name == "exposure" else ""
            made[layer.name] = kind(geom(axes=axes), data=pixels, unit=unit)
        return made

    def to_xarray(self: MapSource) -> Any:
        """Give all maps, and on a flat map the survey, as a dataset of xarray; nothing is read before it is asked for.

        Returns
        -------
        xarray.Dataset
            Dask arrays by name, as in `maps.zarr`, with their axes; besides these, longitude and latitude ``lon`` and
            ``lat`` in degrees, in the frame of the map, are coordinates of (y, x), computed chunk by chunk. Of the
            sphere all have an axis ``facet``, and the survey, which has other pixels, is left out.

        Raises
        ------
        InputError
            If xarray is not installed.

        Examples
        --------
        >>> maps = run.to_xarray()  # doctest: +SKIP
        >>> maps["model"].where(abs(maps["lat"]) < 1).sum().compute()  # doctest: +SKIP
        """
        return dataset_of(self)


def _cut_out(
    run: MapSource, center: Any, size: Any, names: Sequence[str] | None = None
) -> tuple[View, Iterator[tuple[Layer, NDArray[Any]]]]:
    """Find a rectangle, and read layers of it, lazily; without names those of cutouts."""
    view = view_of(run, center, size)
    rows, columns = view.shape
    _refuse_many(rows * columns, f"{rows} x {columns} pixels (y, x)")
    return view, ((layer, view.read(layer)) for layer in _layers(run, names))


def _of_sphere(run: MapSource, sphere: Sphere, names: Sequence[str] | None) -> Iterator[tuple[Layer, NDArray[Any]]]:
    """Read layers at all pixels of the survey's HEALPix map, in the order of their numbers, lazily."""
    n = N_BASE * sphere.nside**2
    _refuse_many(n, f"{n} HEALPix pixels")
    sampler = Sampler(run, run.survey.wcs.of_numbers(np.arange(n)))
    return ((layer, sampler.values(layer)) for layer in _layers(run, names))


def _layers(run: MapSource, names: Sequence[str] | None) -> list[Layer]:
    names = [spec.name for spec in maps_in("cutout")] if names is None else names
    return [layer_of(run, name) for name in names if name != "exposure" or run.survey.exposure is not None]


def _refuse_many(n: int, what: str) -> None:
    if n > SMALL_MAP_PIXELS:
        raise InputError(
            f"{what} are more than the {SMALL_MAP_PIXELS} that are cut out at once: give a center and a smaller size, "
            "or read the arrays of the run piece by piece"
        )
